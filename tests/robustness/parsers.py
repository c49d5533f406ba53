"""The readers of files from strangers, each as one function of a path, and their declared errors.

`fuzz.py` feeds them changed files, `test_fuzz_corpus.py` the files in `corpus/`.
"""

import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from baselines.datasets.cifar import open_cifar
from baselines.datasets.image_sets import ImageSet
from baselines.datasets.splits import read_image_split
from baselines.datasets.tiny_imagenet import open_tiny_imagenet
from data.decoding import BrokenImage, decode
from data.few_shot_dataset import FewShotDataset, Sample
from data.few_shot_splits import read_split
from data.label_space import LabelSpace
from data.lists import read_captions, read_classes, read_labels, read_rows
from fewshot.inference.submission import MEMBER, validate, validate_zip
from fewshot.text.negatives import load_negatives
from fewshot.text.prompt_files import load_templates, read_text_file
from weight_files.reader import safe_load

LONGEST = 2000  # characters in an error
KEYS = ("a/1.png", "a/2.png", "b/1.png")
LABELS, CLASSES = (0, 0, 1), ("a", "b")
IMAGES = ImageSet(tuple(map(Path, KEYS)), np.array(LABELS), CLASSES, KEYS, "data")
TREE = FewShotDataset(
    Path("data"),
    "list",
    False,
    LabelSpace.all_base(CLASSES),
    tuple(Sample(Path(key), key, label) for key, label in zip(KEYS, LABELS, strict=True)),
)


@dataclass(frozen=True)
class Parser:
    """Readers of one kind of file. Each takes the file's path and raises only `declared`."""

    readers: tuple[Callable[[Path], object], ...]
    declared: type[Exception] = ValueError
    file: str = "input"  # the file's name


def check(parser: Parser, data: bytes, folder: Path) -> None:
    """Runs all readers on a file that holds `data`, in a folder that may be reused.

    Passes other errors on. Raises AssertionError if a declared error is not one line of readable
    length that names the file.
    """
    path = folder / parser.file
    for reader in parser.readers:
        path.write_bytes(data)
        try:
            reader(path)
        except parser.declared as error:
            text = str(error)
            if str(folder) not in text or len(text) > LONGEST or not text.isprintable():
                raise AssertionError(f"an error that does not serve: {text[:300]!r}") from error


def torch_zip(path: Path) -> object:
    """Reads the file as the pickle in a zip of torch.save with four storages of 16 floats."""
    return _torch_zip(path, {})


def torch_script(path: Path) -> object:
    """Reads the file as the pickle in such a TorchScript file."""
    return _torch_zip(path, {"constants.pkl": b"\x80\x02)."})


def _torch_zip(path: Path, more: dict[str, bytes]) -> object:
    storages = {f"data/{number}": bytes(64) for number in range(4)}
    written = _zip(
        {f"x/{k}": v for k, v in ({"data.pkl": path.read_bytes()} | storages | more).items()}
    )
    path.write_bytes(written)
    return safe_load(path)


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def json_rows(path: Path) -> object:
    """Reads the file as a list of JSON lines."""
    return read_rows(path.replace(path.with_suffix(".jsonl")))


def json_captions(path: Path) -> object:
    """Reads the file as captions in JSON lines."""
    return read_captions(path.replace(path.with_suffix(".jsonl")))


def zipped_result(path: Path) -> None:
    """Validates the file as the result in a zip for the leaderboard."""
    path.write_bytes(_zip({MEMBER: path.read_bytes()}))
    validate_zip(path, KEYS, 10)


def cifar_batch(path: Path) -> object:
    """Reads the file as the test images of an unpacked CIFAR-10."""
    meta = {"label_names": [f"class {number}" for number in range(10)]}
    path.with_name("batches.meta").write_bytes(pickle.dumps(meta, 2))
    return open_cifar("cifar10", path.parent, "test")


def annotations(path: Path) -> object:
    """Reads the file as the labels of Tiny-ImageNet's test images."""
    root = path.parent
    (root / "val/images").mkdir(parents=True, exist_ok=True)
    (root / "wnids.txt").write_text("n01\nn02\n")
    for number in range(2):
        (root / f"val/images/val_{number}.JPEG").touch()
    path.replace(root / "val/val_annotations.txt")
    return open_tiny_imagenet(root, "test")


PARSERS = {
    "pickle": Parser((safe_load,)),
    "torch_zip": Parser((torch_zip, torch_script)),
    "safetensors": Parser((safe_load,)),
    "lists": Parser(
        (read_rows, json_rows, read_classes, read_labels, read_captions, json_captions)
    ),
    "splits": Parser(
        (
            lambda path: read_split(path, TREE),
            lambda path: read_image_split(path, IMAGES, ("train", "val")),
        )
    ),
    "prompts": Parser((read_text_file, load_templates, load_negatives)),
    "results": Parser(
        (
            lambda path: validate(path, KEYS, 10),
            lambda path: validate_zip(path, KEYS, 10),
            zipped_result,
        )
    ),
    "images": Parser((decode,), BrokenImage),
    "cifar": Parser((cifar_batch,), file="test_batch"),
    "annotations": Parser((annotations,)),
}
