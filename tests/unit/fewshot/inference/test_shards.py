"""Chunks of a test set: shared out without gaps, stored whole, refused where one is missing."""

from dataclasses import replace

import numpy as np
import pytest

from data.few_shot_dataset import Sample
from fewshot.inference.predictions import ARRAY_FIELDS, Predictions, concatenate
from fewshot.inference.shards import CHUNK_SIZE, ChunkStore, select_shard, split_into_chunks


def outcome(names, seed=0):
    random = np.random.default_rng(seed)
    count = len(names)
    return Predictions(
        names=list(names),
        ids=random.integers(0, 9, (count, 5)).astype(np.int32),
        probabilities=random.random((count, 5)).astype(np.float32),
        ood_log_odds=np.where(np.arange(count) == 1, np.nan, 2).astype(np.float32),
        routed_to_base=random.random(count) < 0.5,
        view_weights=random.random((count, 3)).astype(np.float32),
        skipped=[(names[1], "is no image")],
        top1_among={
            "zero_shot": random.integers(0, 9, (count, 3)),
            "lora": np.zeros((count, 3), int),
        },
    )


def assert_same(one, other):
    assert one.names == other.names and one.skipped == other.skipped
    assert list(one.top1_among) == list(other.top1_among)
    for name in ARRAY_FIELDS:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    for id, best in one.top1_among.items():
        assert best.tobytes() == other.top1_among[id].tobytes()


@pytest.fixture
def items(tmp_path):
    made = []
    for number in range(CHUNK_SIZE + 5):
        path = tmp_path / f"{number}.jpg"
        path.write_text(str(number))
        made.append(Sample(path, path.name, None))
    return made


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_shards_share_all_chunks_out_once(items, count):
    chunks = split_into_chunks(items * 6)
    assert [len(chunk) for chunk in chunks] == [CHUNK_SIZE] * 6 + [6 * 5]
    shares = [select_shard(chunks, f"{number}/{count}") for number in range(1, count + 1)]
    places = sorted(id(chunk) for share in shares for chunk in share)
    assert places == sorted(map(id, chunks)) and select_shard(chunks, "") == chunks


@pytest.mark.parametrize("shard", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", " 1/2", "²/3"])
def test_what_is_no_shard_is_refused(shard):
    with pytest.raises(ValueError, match="i/n is needed, such as 1/4"):
        select_shard([], shard)


def test_an_outcome_comes_back_as_it_was_under_todays_names(tmp_path):
    store, path = ChunkStore(tmp_path, {}), tmp_path / "chunk.npz"
    before = outcome(["a", "b", "c"])
    store.save(path, before)
    assert_same(store.load(path, ["a", "b", "c"]), before)
    renamed = store.load(path, ["x", "y", "z"])
    assert renamed.names == ["x", "y", "z"] and renamed.skipped == [("y", "is no image")]


def test_a_chunk_is_known_by_its_images_and_the_setup(items, tmp_path):
    store = ChunkStore(tmp_path / "shards", {"seed": 1})
    place = store.path(items)
    other_names = [replace(item, name=f"x{item.name}") for item in items]
    assert store.path(other_names) == place
    assert store.path(items[::-1]) != place
    assert ChunkStore(tmp_path / "shards", {"seed": 2}).path(items) != place
    for changed in (items[3], items[-1]):
        before = changed.path.read_text()
        changed.path.write_text("other bytes")
        assert store.path(items) != place
        changed.path.write_text(before)
    assert store.path(items) == place


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_damaged_chunk_is_named(tmp_path, size):
    store, path = ChunkStore(tmp_path, {}), tmp_path / "chunk.npz"
    store.save(path, outcome(["a", "b", "c"]))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match="chunk.npz: is damaged .*; delete it and run again"):
        store.load(path, ["a", "b", "c"])


def test_merging_checks_that_all_is_there(items, tmp_path):
    store = ChunkStore(tmp_path / "shards", {})
    chunks = split_into_chunks(items)
    made = [outcome([item.name for item in chunk], seed) for seed, chunk in enumerate(chunks)]
    store.save(store.path(chunks[0]), made[0])
    message = f"5 images in 1 of 2 chunks are missing, the first of them {CHUNK_SIZE}.jpg"
    with pytest.raises(ValueError, match=message):
        list(store.load_all(chunks))
    store.save(store.path(chunks[1]), made[1])
    whole = concatenate(list(store.load_all(chunks)))
    assert whole.names == [item.name for item in items] and len(whole) == len(items)
    assert whole.skipped == [("1.jpg", "is no image"), (f"{CHUNK_SIZE + 1}.jpg", "is no image")]
    expected = np.concatenate([chunk.top1_among["zero_shot"] for chunk in made])
    assert (whole.top1_among["zero_shot"] == expected).all()
    assert (whole.ids == np.concatenate([chunk.ids for chunk in made])).all()


def test_an_unreadable_image_is_a_chunk_of_its_own(items, tmp_path):
    store = ChunkStore(tmp_path, {})
    place = store.path(items[:2])
    items[1].path.unlink()
    assert store.path(items[:2]) != place
