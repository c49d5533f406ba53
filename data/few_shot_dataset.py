"""Which images there are and what they show: contest trees, folders of classes, and lists.

`open_dataset` reads the labelled training images and the class names, `list_test_images` the
images to be
classified. Only text files are opened here; order never depends on the file system.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from data.folders import list_folder, natural_key, walk_images
from data.label_space import LabelSpace
from data.lists import DataError, Row, place_images, read_classes, read_labels, read_rows

__all__ = [
    "DataError",
    "Sample",
    "FewShotDataset",
    "open_dataset",
    "read_labels",
    "list_test_images",
]

OTHER_SPLITS = ("val", "test")  # beside train/ in a tree of folders


@dataclass(frozen=True)
class Sample:
    """One image: where it lies, its name in splits and results, and its class id where known."""

    path: Path
    name: str
    label: int | None


@dataclass(frozen=True)
class FewShotDataset:
    """A data set on disk.

    `train` is sorted by label, then by name in natural order.
    """

    root: Path
    kind: str  # "contest", "folders" or "list"
    nested: bool  # TrainSet/TrainSet/...
    label_space: LabelSpace
    train: tuple[Sample, ...]


def open_dataset(root: str | Path) -> FewShotDataset:
    """Reads the data set at `root`: a contest tree, a folder of one folder a class, or a list file.

    - Contest: `classes.txt`, perhaps `classes_b.txt`, `train.txt` and `TrainSet/` (also nested once
      more). Without any `TrainSet/`, `train` is empty, which is enough to classify a test set.
    - Folders: `<class>/*` or `train/<class>/*`; classes found only in `val/` or `test/` are new.
    - List: see `data.lists.read_rows`; paths are relative to the list, and a `classes.txt`
      beside it gives the ids.

    Raises `DataError` naming the file, the line and the remedy.
    """
    root = Path(root)
    if root.is_file():
        return _list_tree(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder or list; put the data there or name another place")
    folders, _ = list_folder(root)
    contest = any(name in folders for name in ("TrainSet", "TestSetA", "TestSetB"))
    if contest or all((root / name).is_file() for name in ("classes.txt", "train.txt")):
        return _contest_tree(root)
    return _folder_tree(root)


def list_test_images(root_or_tree: str | Path | FewShotDataset, split: str | Path) -> list[Sample]:
    """The images of a test set, in natural order of their names.

    `split` is a folder or list below the root ("TestSetA", "TestSetB", "test") or anywhere else. A
    flat folder gives base names without labels. Folders below it give relative paths as names, and
    labels where a folder is called like a class ("<class>/" or "<Domain>/<class>/") of the tree; a
    bare root knows no class. A list gives its own labels, and base names where these are distinct.
    """
    tree = root_or_tree if isinstance(root_or_tree, FewShotDataset) else None
    root = root_or_tree.root if isinstance(root_or_tree, FewShotDataset) else Path(root_or_tree)
    below = root / split
    place = next((path for path in (below, Path(split)) if path.exists()), None)
    if place is None:
        raise DataError(
            f"{below}: no such folder or list (nor {split}); put the test images there, or name "
            "another folder or list with --images"
        )
    ids = {name: i for i, name in enumerate(tree.label_space.names)} if tree else {}
    if place.is_file():
        return _listed_test_items(place, ids)
    folders, images = list_folder(place)
    if folders == [place.name] and not images:  # an archive unpacked into a folder of its own name
        place = place / place.name
    names = walk_images(place)
    if not names:
        raise DataError(f"{place}: holds no image; put the test images there")
    labels = (ids.get("_".join(PurePosixPath(name).parts[:-1])) for name in names)
    return [Sample(place / name, name, label) for name, label in zip(names, labels, strict=True)]


# pytest takes imported functions of this name for tests
list_test_images.__test__ = False  # type: ignore[attr-defined]  # a function takes any attribute


def _listed_test_items(path: Path, ids: dict[str, int]) -> list[Sample]:
    rows = read_rows(path)
    places = place_images(path, rows)
    names = [place.name for place in places]
    if len(set(names)) < len(names):
        names = [row.image for row in rows]
    items = []
    for row, place, name in zip(rows, places, names, strict=True):
        label = row.label
        if label is None and row.class_name is not None:
            label = ids.get(row.class_name)
        if label is not None and not 0 <= label < (len(ids) or label + 1):
            raise DataError(f"{path}:{row.line}: label {label} is no class id")
        items.append(Sample(place, name, label))
    return sorted(items, key=lambda item: natural_key(item.name))


def _contest_tree(root: Path) -> FewShotDataset:
    names, base = _class_lists(root)
    train_set, train_list = root / "TrainSet", root / "train.txt"
    if train_set.is_dir() and not train_list.is_file():
        raise DataError(f"{train_list}: is missing; put the list of training images there")
    nested = (train_set / "TrainSet").is_dir()
    rows = read_rows(train_list) if train_list.is_file() else []
    rows = [_canonical(train_list, row) for row in rows]
    labels = _labels(train_list, rows, names)
    train = []
    if train_set.is_dir():
        tops = (train_set, root) if nested else (root, train_set)
        places = place_images(train_list, rows, tops)
        images = zip(places, rows, labels, strict=True)
        train = [Sample(place, row.image, label) for place, row, label in images]
    return _tree(root, "contest", names, train, base | set(labels), nested)


def _classes_in(folder: Path) -> dict[str, list[str]]:
    """{class: base names of its images}, sorted, of a folder of one folder a class."""
    if not folder.is_dir():
        return {}
    classes = {name: list_folder(folder / name)[1] for name in list_folder(folder)[0]}
    return {name: classes[name] for name in sorted(classes) if classes[name]}


def _folder_tree(root: Path) -> FewShotDataset:
    classes, prefix = _classes_in(root / "train"), "train/"
    others: set[str] = set()
    if classes:
        others = {name for split in OTHER_SPLITS for name in _classes_in(root / split)}
    else:  # a class may itself be called "train"
        classes, prefix = _classes_in(root), ""
        classes = {name: images for name, images in classes.items() if name not in OTHER_SPLITS}
    if not classes:
        raise DataError(
            f"{root}: no data set found; expected classes.txt, train.txt and TrainSet/, "
            "or one folder of images a class"
        )
    names = (*classes, *sorted(others - set(classes)))
    train = []
    for label, (name, images) in enumerate(classes.items()):
        train += [Sample(root / prefix / name / i, f"{prefix}{name}/{i}", label) for i in images]
    return _tree(root, "folders", names, train, set(range(len(classes))))


def _list_tree(path: Path) -> FewShotDataset:
    rows = read_rows(path)
    if (path.parent / "classes.txt").is_file():
        names, base = _class_lists(path.parent)
    else:
        names, base = _names_from_rows(path, rows), set()
    labels = _labels(path, rows, names)
    images = zip(place_images(path, rows), rows, labels, strict=True)
    train = [Sample(place, row.image, label) for place, row, label in images]
    return _tree(path.parent, "list", names, train, base | set(labels))


def _tree(
    root: Path,
    kind: str,
    names: Iterable[str],
    train: list[Sample],
    base: set[int],
    nested: bool = False,
) -> FewShotDataset:
    names = tuple(names)
    base = base or set(range(len(names)))  # one class list, no training image: all are base
    train = sorted(train, key=lambda item: (item.label, natural_key(item.name)))
    label_space = LabelSpace(names, tuple(sorted(base)), has_domains=kind == "contest")
    return FewShotDataset(root, kind, nested, label_space, tuple(train))


def _class_lists(root: Path) -> tuple[list[str], set[int]]:
    """All class names, and the base ids where `classes_b.txt` adds new classes (else none)."""
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
    """Class names of a list without `classes.txt`: its own, or "0", "1", ... for bare labels."""
    if all(row.label is None for row in rows):
        return sorted({row.class_name for row in rows if row.class_name is not None})
    names: dict[int, str] = {}
    for row in rows:
        if row.label is None or row.label < 0:
            continue  # `_labels` refuses these
        name = str(row.label) if row.class_name is None else row.class_name
        if names.setdefault(row.label, name) != name:
            raise DataError(
                f"{path}:{row.line}: label {row.label} is {name!r} here, {names[row.label]!r} above"
            )
    missing = next((i for i in range(len(names)) if i not in names), None)
    if missing is not None:
        raise DataError(
            f"{path}: no image has label {missing}; name all classes in a classes.txt beside it"
        )
    return [names[i] for i in range(len(names))]


def _labels(path: Path, rows: list[Row], names: list[str]) -> list[int]:
    """The class id of each row, which must have one, and one of the class list."""
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


def _canonical(path: Path, row: Row) -> Row:
    """The row with "TrainSet/Animal/Bear/82.jpg", whatever stands before and however often."""
    parts = row.image.split("/")
    if "TrainSet" not in parts:
        raise DataError(f'{path}:{row.line}: expected "TrainSet/..." and a label: {row.image!r}')
    start = parts.index("TrainSet")
    while parts[start + 1 : start + 2] == ["TrainSet"]:
        start += 1
    return Row(row.line, "/".join(parts[start:]), row.label, row.class_name)
