"""Data sets on disk: contest trees, folders of classes, and lists.

`open_dataset` finds the labelled training images and the class names, `list_test_images` the images
to classify. Only text files are opened here. The order of the images never depends on the file
system.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.folders import class_folders, list_folder, natural_key, walk_images
from data.label_space import LabelSpace
from data.lists import DataError, Row, locate_images, read_classes, read_rows

OTHER_SPLITS = ("val", "test")  # folders next to train/


@dataclass(frozen=True)
class Sample:
    """One image: its path, its name in splits and results, and its class id if known."""

    path: Path
    name: str
    label: int | None


@dataclass(frozen=True)
class FewShotDataset:
    """A data set on disk. `train` is sorted by label, then by name in natural order."""

    root: Path
    kind: str  # "contest", "folders" or "list"
    nested: bool  # whether the images are in TrainSet/TrainSet/
    label_space: LabelSpace
    train: tuple[Sample, ...]


def open_dataset(root: str | Path) -> FewShotDataset:
    """Opens the data set at `root`: a contest tree, a folder with one folder per class, or a list.

    - Contest: `classes.txt`, optionally `classes_b.txt`, `train.txt` and `TrainSet/` (or
      `TrainSet/TrainSet/`). Without `TrainSet/`, `train` is empty, which is enough to classify a
      test set.
    - Folders: `<class>/*` or `train/<class>/*`; classes found only in `val/` or `test/` are new.
    - List: see `data.lists.read_rows`; paths are relative to the list, and a `classes.txt` next to
      it gives the ids.

    Raises `DataError` naming the file, the line and the remedy.
    """
    root = Path(root)
    if root.is_file():
        return _open_list(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder or list; put the data there or name another path")
    folders, _ = list_folder(root)
    contest = any(name in folders for name in ("TrainSet", "TestSetA", "TestSetB"))
    if contest or all((root / name).is_file() for name in ("classes.txt", "train.txt")):
        return _open_contest(root)
    return _open_folders(root)


def list_test_images(data: str | Path | FewShotDataset, split: str | Path) -> list[Sample]:
    """Returns the images of a test set, in natural order of their names.

    `data` is a data set or its root; `split` is a folder or list below the root ("TestSetA",
    "TestSetB", "test") or anywhere else. Images of a flat folder are named by their base names and
    have no labels. Images in folders below it are named by their relative paths; they have labels
    if the folder is called like a class of the data set ("<class>/" or "<Domain>/<class>/"). A list
    gives its own labels, and base names if these are distinct.
    """
    ids: dict[str, int] = {}
    if isinstance(data, FewShotDataset):
        ids = {name: i for i, name in enumerate(data.label_space.names)}
    root = data.root if isinstance(data, FewShotDataset) else Path(data)
    below_root = root / split
    path = next((path for path in (below_root, Path(split)) if path.exists()), None)
    if path is None:
        raise DataError(
            f"{below_root}: no such folder or list (nor {split}); put the test images there, "
            "or name another folder or list with --images"
        )
    if path.is_file():
        return _list_test_images_of_file(path, ids)
    folders, images = list_folder(path)
    if folders == [path.name] and not images:  # an archive unpacked into a folder of its own name
        path = path / path.name
    names = walk_images(path)
    if not names:
        raise DataError(f"{path}: holds no image; put the test images there")
    labels = (ids.get("_".join(PurePosixPath(name).parts[:-1])) for name in names)
    return [Sample(path / name, name, label) for name, label in zip(names, labels, strict=True)]


def _list_test_images_of_file(path: Path, ids: dict[str, int]) -> list[Sample]:
    rows = read_rows(path)
    images = locate_images(path, rows)
    names = [image.name for image in images]
    if len(set(names)) < len(names):
        names = [row.image for row in rows]
    samples = []
    for row, image, name in zip(rows, images, names, strict=True):
        label = row.label
        if label is None and row.class_name is not None:
            label = ids.get(row.class_name)
        if label is not None and not 0 <= label < (len(ids) or label + 1):
            raise DataError(f"{path}:{row.line}: label {label} is no class id")
        samples.append(Sample(image, name, label))
    return sorted(samples, key=lambda sample: natural_key(sample.name))


def _open_contest(root: Path) -> FewShotDataset:
    names, base = _class_lists(root)
    train_set, train_list = root / "TrainSet", root / "train.txt"
    if train_set.is_dir() and not train_list.is_file():
        raise DataError(f"{train_list}: is missing; put the list of training images there")
    nested = (train_set / "TrainSet").is_dir()
    rows = read_rows(train_list) if train_list.is_file() else []
    rows = [_trim_image_path(train_list, row) for row in rows]
    labels = _labels_of_rows(train_list, rows, names)
    train = []
    if train_set.is_dir():
        roots = (train_set, root) if nested else (root, train_set)
        train = _make_samples(locate_images(train_list, rows, roots), rows, labels)
    return _make_dataset(root, "contest", names, train, base | set(labels), nested)


def _make_samples(images: list[Path], rows: list[Row], labels: list[int]) -> list[Sample]:
    triples = zip(images, rows, labels, strict=True)
    return [Sample(image, row.image, label) for image, row, label in triples]


def _open_folders(root: Path) -> FewShotDataset:
    classes, prefix = class_folders(root / "train"), "train/"
    new_classes: set[str] = set()
    if classes:
        new_classes = {name for split in OTHER_SPLITS for name in class_folders(root / split)}
    else:  # a class may itself be called "train"
        classes, prefix = class_folders(root), ""
        classes = {name: images for name, images in classes.items() if name not in OTHER_SPLITS}
    if not classes:
        raise DataError(
            f"{root}: no data set found; expected classes.txt, train.txt and TrainSet/, "
            "or one folder of images per class"
        )
    names = (*classes, *sorted(new_classes - set(classes)))
    train = []
    for label, (name, images) in enumerate(classes.items()):
        folder = f"{prefix}{name}"
        train += [Sample(root / folder / image, f"{folder}/{image}", label) for image in images]
    return _make_dataset(root, "folders", names, train, set(range(len(classes))))


def _open_list(path: Path) -> FewShotDataset:
    rows = read_rows(path)
    if (path.parent / "classes.txt").is_file():
        names, base = _class_lists(path.parent)
    else:
        names, base = _names_from_rows(path, rows), set()
    labels = _labels_of_rows(path, rows, names)
    train = _make_samples(locate_images(path, rows), rows, labels)
    return _make_dataset(path.parent, "list", names, train, base | set(labels))


def _make_dataset(
    root: Path,
    kind: str,
    names: Iterable[str],
    train: list[Sample],
    base: set[int],
    nested: bool = False,
) -> FewShotDataset:
    names = tuple(names)
    base = base or set(range(len(names)))  # with one class list and no training image, all are base
    train = sorted(train, key=lambda sample: (sample.label, natural_key(sample.name)))
    label_space = LabelSpace(names, tuple(sorted(base)), has_domains=kind == "contest")
    return FewShotDataset(root, kind, nested, label_space, tuple(train))


def _class_lists(root: Path) -> tuple[list[str], set[int]]:
    """Returns all class names, and the base ids if `classes_b.txt` adds new classes, else none."""
    first, second = root / "classes.txt", root / "classes_b.txt"
    if not first.is_file():
        raise DataError(f'{first}: is missing; put the list of classes there, "Domain_Name id"')
    names = read_classes(first)
    if not second.is_file():
        return names, set()
    all_names = read_classes(second)
    if all_names[: len(names)] != names:
        raise DataError(f"{second}: must hold all classes of {first.name} under the same ids")
    return all_names, set(range(len(names))) if len(all_names) > len(names) else set()


def _names_from_rows(path: Path, rows: list[Row]) -> list[str]:
    """Returns the class names in a list without `classes.txt`, or "0", "1", ... for bare labels."""
    if all(row.label is None for row in rows):
        return sorted({row.class_name for row in rows if row.class_name is not None})
    names: dict[int, str] = {}
    for row in rows:
        if row.label is None or row.label < 0:
            continue  # `_labels_of_rows` refuses these
        name = str(row.label) if row.class_name is None else row.class_name
        if names.setdefault(row.label, name) != name:
            both = f"{name!r} here, {names[row.label]!r} above"
            raise DataError(f"{path}:{row.line}: label {row.label} is {both}")
    missing = next((i for i in range(len(names)) if i not in names), None)
    if missing is not None:
        raise DataError(f"{path}: no image has label {missing}; name all classes in a classes.txt")
    return [names[i] for i in range(len(names))]


def _labels_of_rows(path: Path, rows: list[Row], names: list[str]) -> list[int]:
    """Returns the class id of each row. Raises `DataError` for a row without a known class."""
    ids = {name: i for i, name in enumerate(names)}
    labels = []
    for row in rows:
        label, name, where = row.label, row.class_name, f"{path}:{row.line}"
        if name is not None and name not in ids:
            raise DataError(f"{where}: class {name!r} is not in the class list")
        if label is None:
            if name is None:
                raise DataError(f"{where}: {row.image} has no label; training images need one")
            label = ids[name]
        if not 0 <= label < len(names):
            last = len(names) - 1
            raise DataError(f"{where}: label {label} is out of range; there are 0 to {last}")
        if name is not None and names[label] != name:
            raise DataError(f"{where}: label {label} is {names[label]!r}, not {name!r}")
        labels.append(label)
    return labels


def _trim_image_path(path: Path, row: Row) -> Row:
    """Returns the row with an image path like "TrainSet/Animal/Bear/82.jpg".

    Drops what precedes "TrainSet", and further "TrainSet" that follow it directly.
    """
    parts = row.image.split("/")
    if "TrainSet" not in parts:
        raise DataError(f'{path}:{row.line}: expected "TrainSet/..." and a label: {row.image!r}')
    start = parts.index("TrainSet")
    while parts[start + 1 : start + 2] == ["TrainSet"]:
        start += 1
    return Row(row.line, "/".join(parts[start:]), row.label, row.class_name)
