"""Checks machine, weights and data: `python -m scripts.doctor [--data F] [--weights F]`.

Prints one table, each line ok, missing or wrong with the remedy, and exits with 1 where the main
job cannot run. CUDA and MPI are never needed for it. Jittor is not imported, so nothing compiles.
"""

import argparse
import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.environment import switch
from scripts.doctor_rows import Row, table
from scripts.doctor_system import CHECKS, ROOT

if TYPE_CHECKING:
    from PIL import Image

    from data.few_shot_dataset import FewShotDataset, Sample


SUFFIXES = (".pkl", ".pt", ".pth", ".safetensors")
OPTIONAL = "res1000epoch.pkl"  # the auxiliary encoder: no CLIP, and the main job runs without it
PARTS = "test_pkl"  # folder of the trained parts
TEST_SETS = ("TestSetA", "TestSetB", "test")
SEE_README = "Dataset/README.md shows the tree"
FIND_WEIGHTS = (
    "put JCLIP's ViT-B-32.pkl or OpenAI's ViT-B-32.pt into the main folder, "
    "or name a file with --weights"
)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.doctor", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "Dataset", help="the data set")
    parser.add_argument("--weights", type=Path, help="a weight file (default: all that lie there)")
    options = parser.parse_args(arguments)
    rows = [row for check in CHECKS for row in check()]
    rows += weights(options.weights)
    rows += data(options.data)
    print(table(rows))
    stops = [row.name for row in rows if row.needed and row.status != "ok"]
    if stops:
        print(f"\nThe main job cannot run: {', '.join(stops)}.")
        return 1
    print("\nThe main job can run.")
    return 0


def _has(*packages: str) -> bool:
    return all(importlib.util.find_spec(name) for name in packages)


def weights(named: Path | None) -> list[Row]:
    """The named file, or every weight file in the main folder and in test_pkl/, and their sum."""
    files, parts = [], []
    if named:
        files = [named]
    else:
        found = _weight_files(ROOT)
        files = [path for path in found if path.name != OPTIONAL]
        parts = [path for path in found if path.name == OPTIONAL]
        parts += _weight_files(ROOT / PARTS)
    if not files or not all(path.is_file() for path in files):
        value = f"no {named}" if named else f"no {' or '.join(SUFFIXES)} file in {ROOT}"
        return [Row("missing", "weights", value, FIND_WEIGHTS, needed=True)]
    if not _has("numpy"):
        value = ", ".join(path.name for path in files)
        return [Row("missing", "weights", f"{value}: not opened without NumPy", needed=True)]
    opened = [_weight_file(path, needed=path in files) for path in files + parts]
    total = sum(count for _, count in opened)
    return [row for row, _ in opened] + [Row("ok", "parameters", f"{total:,} in these files")]


def _weight_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file())


def _weight_file(path: Path, needed: bool) -> tuple[Row, int]:
    """The row of one file, and the number of its parameters (0 where it cannot be opened)."""
    from weight_files.hashing import sha256_of
    from weight_files.reader import count_numbers, safe_load

    try:
        count = count_numbers(safe_load(path))
    except ValueError as error:
        return Row("wrong", "weights", str(error), FIND_WEIGHTS, needed), 0
    if path.parent == ROOT / PARTS:
        return Row("ok", "part", f"{PARTS}/{path.name}: {count:,} parameters"), count
    digest = sha256_of(path)
    value = f"{path.name}: {_public_name(digest)}, {count:,} parameters, SHA-256 {digest}"
    return Row("ok", "weights", value), count


def _public_name(digest: str) -> str:
    """What the publisher calls the file with this SHA-256."""
    from weight_files.known_weights import known_by_content

    known = known_by_content(digest)
    return f"{known.name}, {known.what}" if known else "no public file that is known here"


def data(root: Path) -> list[Row]:
    """Layout, classes and images of the data set, its split files, and every unreadable image."""
    from data.few_shot_dataset import DataError, open_dataset

    try:
        tree = open_dataset(root)
    except (DataError, OSError) as error:
        status = "wrong" if (root / "classes.txt").exists() else "missing"
        return [Row(status, "data", str(error), SEE_README, needed=True)]
    layout = f"{tree.kind} tree{', with TrainSet/TrainSet/' if tree.nested else ''}"
    base, new = len(tree.label_space.base_ids), len(tree.label_space.new_ids)
    value = f"{root}: {layout}, {base} base and {new} new classes"
    rows = [Row("ok", "data", value), _group("train", tree.train)]
    test_rows, test_images = _test_sets(tree)
    rows += test_rows + _splits(root, tree)
    return rows + _unreadable([item.path for item in (*tree.train, *test_images)])


def _test_sets(tree: "FewShotDataset") -> tuple[list[Row], list["Sample"]]:
    """One row a test set, and all their images."""
    from data.few_shot_dataset import DataError, list_test_images

    rows, images = [], []
    for name in TEST_SETS:
        if not (tree.root / name).is_dir():
            continue
        try:
            items = list_test_images(tree, name)
        except DataError as error:
            rows.append(Row("wrong", name, str(error)))
            continue
        rows.append(_group(name, items))
        images += items
    none = Row("missing", "test images", f"none of {', '.join(TEST_SETS)} there", SEE_README)
    return rows or [none], images


def _group(name: str, items: Sequence["Sample"]) -> Row:
    if not items:
        return Row("missing", name, "no images", SEE_README, needed=True)
    labels = Counter(item.label for item in items if item.label is not None)
    value = f"{len(items)} images"
    if labels:
        value += f" of {len(labels)} classes, {_range(labels)} a class"
    return Row("ok", name, value)


def _range(counts: Counter) -> str:
    least, most = min(counts.values()), max(counts.values())
    return str(least) if least == most else f"{least} to {most}"


def _splits(root: Path, tree: "FewShotDataset") -> list[Row]:
    """One row a tracked split of these data, read against the tree."""
    from data.few_shot_dataset import DataError
    from data.few_shot_splits import SPLITS, default_split, read_split, split_path

    name = split_path(root).name.partition("_")[0]
    rows = []
    for path in sorted(SPLITS.glob(f"{name}*.jsonl")):
        try:
            shots = Counter(item.label for item in read_split(path, tree))
            value = f"{path.name}: {_range(shots)} shots of {len(shots)} classes"
            rows.append(Row("ok", "split", value))
        except DataError as error:
            rows.append(Row("wrong", "split", str(error), needed=True))
    try:
        default_split(root)
    except DataError as error:
        found, _, remedy = str(error).partition("; ")
        found += "; training draws one and keeps it there"
        rows.append(Row("missing", "split", found, f"or {remedy}"))
    return rows


def _unreadable(paths: list[Path]) -> list[Row]:
    """Decodes every image on all cores, with a progress bar on stderr."""
    if not _has("numpy", "PIL", "tqdm"):
        return [Row("missing", "unreadable", "not checked without NumPy, Pillow and tqdm")]
    from tqdm import tqdm

    from data.decoding import BrokenImage, load_images

    workers = len(os.sched_getaffinity(0))
    images = load_images(paths, _shrink, workers=workers)
    bar = tqdm(images, "decoding", len(paths), unit="image", file=sys.stderr, disable=None)
    broken = [image for _, image in bar if isinstance(image, BrokenImage)]
    if not broken:
        return [Row("ok", "unreadable", f"none of {len(paths)} images")]
    first = "; ".join(str(image) for image in broken[:5])
    value = f"{len(broken)} of {len(paths)}: {first}"
    return [
        Row("wrong", "unreadable", value, "copy these files again; a run skips and counts them")
    ]


def _shrink(image: "Image.Image") -> tuple[int, int]:
    """What is kept of a decoded image: its size."""
    return image.size


if __name__ == "__main__":
    switch()  # to what the kit's other commands run in
    sys.exit(main())
