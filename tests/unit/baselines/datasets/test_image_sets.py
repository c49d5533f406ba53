"""Image sets: arrays and files behave alike, and what does not fit together is refused."""

import numpy as np
import pytest
from PIL import Image

from baselines.datasets.image_sets import ImageSet, folder_set
from data.lists import DataError
from tests.helpers.archives import jpeg
from tests.robustness import malformed

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
NAMES, KEYS = ("cat", "dog"), ("train/0", "train/1", "train/2", "train/3")


def array_set(**changed):
    fields = {"images": PIXELS, "labels": np.array([0, 1, 1, 0]), "class_names": NAMES}
    return ImageSet(**(fields | {"keys": KEYS, "source": "some.tar"} | changed))


def as_png(row):
    return malformed.encoded(Image.fromarray(PIXELS[row]), "PNG")


@pytest.fixture(params=["array", "files", "bytes"])
def four(request, tmp_path):
    """The same four images in each form."""
    if request.param == "array":
        return array_set()
    images = tuple(as_png(row) for row in range(4))
    if request.param == "files":
        for row in range(4):
            (tmp_path / f"{row}.png").write_bytes(images[row])
        images = tuple(tmp_path / f"{row}.png" for row in range(4))
    return array_set(images=images)


def test_all_forms_are_alike(four):
    assert len(four) == 4 and four.labels.dtype == np.int32
    for row in range(4):
        image = four.image(row)
        assert image.mode == "RGB" and np.array_equal(np.asarray(image), PIXELS[row])
    part = four.take([2, 0])
    assert part.keys == ("train/2", "train/0") and part.labels.tolist() == [1, 0]
    assert part.class_names == NAMES and part.source == "some.tar"
    assert np.array_equal(np.asarray(part.image(0)), PIXELS[2])
    assert four.take(np.array([True, False, False, True])).keys == ("train/0", "train/3")
    assert four.take(slice(1, 3)).keys == ("train/1", "train/2")
    assert len(four.take([])) == 0
    with pytest.raises(IndexError):
        four.take([4])
    for workers in (1, 3):
        loaded = four.in_memory(workers)
        assert np.array_equal(loaded.images, PIXELS) and loaded.keys == four.keys


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"labels": np.array([0, 1, 2, 0])},
            "some.tar: label 2 of train/2 is out of the range 0 to 1",
        ),
        ({"labels": np.array([0, -1, 1, 0])}, "label -1 of train/1 is out of"),
        ({"labels": np.array([0, 1, 1])}, "4 images, 3 labels and 4 keys"),
        ({"labels": np.zeros(4)}, "labels must be"),
        ({"labels": np.zeros((4, 1), int)}, "labels must be"),
        ({"keys": KEYS[:3]}, "4 images, 4 labels and 3 keys"),
        ({"keys": ("a", "b", "a", "c")}, "an image is listed twice"),
        ({"images": PIXELS.astype(np.float32)}, r"images are float32\[4, 6, 5, 3\]"),
        ({"images": PIXELS[..., 0]}, r"images are uint8\[4, 6, 5\]"),
    ],
)
def test_what_does_not_fit_together(changed, message):
    with pytest.raises(DataError, match=message):
        array_set(**changed)


def test_every_broken_file_is_named_and_every_good_one_read(tmp_path):
    files = malformed.make(tmp_path / "images")
    names = sorted(files)
    paths = tuple(tmp_path / "images" / name for name in names)
    keys = tuple(str(row) for row in range(len(names)))
    on_disk = ImageSet(paths, np.zeros(len(names), int), ("a",), keys)
    links = [row for row in range(len(names)) if not paths[row].is_file()]
    assert len(links) == 4
    for row in range(len(names)):
        answers = []
        forms = [on_disk]
        if row not in links:
            content = paths[row].read_bytes()
            forms.append(ImageSet((content,), np.zeros(1, int), ("a",), (keys[row],), "x.zip"))
        for form in forms:
            try:
                image = form.image(row if form is on_disk else 0)
                answers.append(np.asarray(image).tobytes())
                assert image.mode == "RGB"
            except DataError as error:
                answers.append(None)
                name = str(paths[row]) if form is on_disk else f"x.zip: {keys[row]}:"
                assert name in str(error).replace("\\\\", "\\") or "\\ud" in str(error)
                assert "replace this image" in str(error) and "BytesIO" not in str(error)
        assert len(set(answers)) == 1, names[row]
        if files[names[row]] is not None:
            assert (answers[0] is not None) == files[names[row]], names[row]


def test_sizes_that_differ_make_no_array(tmp_path):
    images = (as_png(0), jpeg(0, (9, 8)))
    odd = ImageSet(images, np.zeros(2, int), ("a",), ("first", "second"), "x.zip")
    with pytest.raises(DataError, match="x.zip: second has 9 x 8 pixels, first has 5 x 6"):
        odd.in_memory()
    with pytest.raises(DataError, match="holds no image"):
        odd.take([]).in_memory()


def test_class_folders(tmp_path):
    for name in ("dog/10.png", "dog/9.png", "cat/a b.PNG", "train/x.png", ".hidden/x.png"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_png(0))
    (tmp_path / "d/empty").mkdir()
    (tmp_path / "d/dog/notes.txt").write_text("x")
    images_by_class = folder_set(tmp_path / "d")
    assert images_by_class.class_names == ("cat", "dog", "train")
    assert images_by_class.keys == ("cat/a b.PNG", "dog/9.png", "dog/10.png", "train/x.png")
    assert images_by_class.labels.tolist() == [0, 1, 1, 2]
    assert folder_set(tmp_path / "d", skip=("dog",)).class_names == ("cat", "train")
    ordered = folder_set(tmp_path / "d", class_names=("train", "dog", "cat", "fox"))
    assert ordered.labels.tolist() == [2, 1, 1, 0]
    with pytest.raises(DataError, match="dog: the training images have no class of this name"):
        folder_set(tmp_path / "d", class_names=("cat", "train"))
    with pytest.raises(DataError, match="nowhere: holds no image"):
        folder_set(tmp_path / "nowhere")
