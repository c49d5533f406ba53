"""Writes the embedded demo: scikit-learn's 1,797 handwritten digits as a small contest.

    python -m scripts.make_demo Dataset/demo        (about 3 s, 1.5 MB)

Half of the digits is for pre-training, with captions: `captions.jsonl` and `PretrainSet/`. The
other half is the contest: `classes.txt`, `classes_b.txt`, `train.txt`, `TrainSet/` and `TestSetB/`.
The labels of the test images lie apart in `TestSetB_labels.txt`. No image is in two parts, and new
classes are in the test set only. The contest's images look unlike those of pre-training
(`contest_look`), as a contest's photos differ from the web's. The few shots can teach that.
"""

import hashlib
import json
import math
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.environment import ensure_environment

ensure_environment()

import numpy as np
import PIL
from PIL import Image
from sklearn.datasets import load_digits
from tyro.conf import Positional

from engine.config import parse
from engine.session import exit_on_error
from weight_files.hashing import sha256_of

MARKER = "made_by_make_demo.json"  # lists what this script wrote: nothing else is ever deleted
DOMAIN = "Digit"
BASE = ("zero", "one", "two", "four", "five", "seven", "eight")  # class ids 0..6
NEW = ("three", "six", "nine")  # class ids 7..9
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TRAIN_IMAGES = 12  # per base class
SIZE = 32  # side of every image in pixels
MARGIN = 2  # pixels around the digit
CAPTIONS = (
    "a photo of the digit {}.",
    "a photo of the number {}.",
    "a scan of a handwritten {}.",
    "the number {}, written by hand.",
    "somebody wrote a {} here.",
    "a small picture of a {}.",
)

# The contest's images have tinted paper, grey-blue ink, and digits that are a little turned and off
# the centre. Those of pre-training have none of this. The paper matters most. A CLIP pre-trained on
# the plain look without crops is right on about 94 % of the plain digits. On this paper zero-shot
# falls to about 72 %, and on paper of 0.48 to 27 %. With the random crops of `train.sh --demo` it
# falls to 81 % only, and four shots per class bring 92 %.
PAPER = np.array([0.36, 0.30, 0.22])  # red, green and blue of the background, 0 to 1
INK = np.array([0.15, 0.20, 0.35])  # how much darker than white full ink is
TILT_SPREAD = 3.0  # degrees, standard deviation between images
OFFSET_SPREAD = 0.3  # pixels, standard deviation in x and in y


def plain_look(digit: np.ndarray) -> Image.Image:
    """Returns a digit [8,8] of 0..16 as white ink on black, [32,32] grey."""
    pixels = Image.fromarray(np.rint(digit * (255 / 16)).astype(np.uint8))
    inner = SIZE - 2 * MARGIN
    image = Image.new("L", (SIZE, SIZE))
    image.paste(pixels.resize((inner, inner), Image.Resampling.BICUBIC), (MARGIN, MARGIN))
    return image


def contest_look(digit: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Returns a digit [8,8] as the contest shows it: askew, in tinted ink on paper, [32,32,3]."""
    angle = math.radians(TILT_SPREAD * rng.standard_normal())
    shift = OFFSET_SPREAD * rng.standard_normal(2)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    centre = np.full(2, (SIZE - 1) / 2)
    offset = centre - turn @ (centre + shift)  # output to input pixels
    rows = np.column_stack([turn, offset]).ravel()
    moved = plain_look(digit).transform(
        (SIZE, SIZE), Image.Transform.AFFINE, tuple(rows), Image.Resampling.BICUBIC
    )
    amount = np.asarray(moved, np.float64)[..., None] / 255  # of ink, [32,32,1]
    colours = PAPER + amount * (1 - INK - PAPER)  # [32,32,3]
    return Image.fromarray(np.rint(255 * colours.clip(0, 1)).astype(np.uint8))


def divide(labels: np.ndarray, rng: np.random.Generator) -> tuple[list[int], ...]:
    """Returns the rows for pre-training, training and test.

    These are half of each digit, 12 of each base class, and the rest.
    """
    pretrain, train, test = [], [], []
    for value, word in enumerate(WORDS):
        rows = rng.permutation(np.flatnonzero(labels == value)).tolist()
        half = len(rows) // 2
        end = half + (TRAIN_IMAGES if word in BASE else 0)
        pretrain += rows[:half]
        train += rows[half:end]
        test += rows[end:]
    return pretrain, train, test


def write_pretraining(folder: Path, rows: list[int], digits, rng: np.random.Generator) -> None:
    """Writes `PretrainSet/N.png` in shuffled order, and `captions.jsonl` with drawn captions."""
    (folder / "PretrainSet").mkdir()
    lines = []
    for number, row in enumerate(rng.permutation(rows), 1):
        name = f"PretrainSet/{number}.png"
        plain_look(digits.images[row]).save(folder / name)
        caption = str(rng.choice(CAPTIONS)).format(WORDS[digits.target[row]])
        lines.append(json.dumps({"image": name, "caption": caption}))
    write_lines(folder / "captions.jsonl", lines)


def write_contest(
    folder: Path, train: list[int], test: list[int], digits, rng: np.random.Generator
) -> None:
    """Writes class lists, training images and their list, test images and their labels."""
    ids = {word: i for i, word in enumerate(BASE + NEW)}
    classes = [f"{DOMAIN}_{word} {i}" for word, i in ids.items()]
    write_lines(folder / "classes_b.txt", classes)
    write_lines(folder / "classes.txt", classes[: len(BASE)])

    lines = []
    for number, row in enumerate(sorted(train, key=lambda row: ids[WORDS[digits.target[row]]]), 1):
        word = WORDS[digits.target[row]]
        name = f"TrainSet/{DOMAIN}/{word}/{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        contest_look(digits.images[row], rng).save(folder / name)
        lines.append(f"{name} {ids[word]}")
    write_lines(folder / "train.txt", lines)

    (folder / "TestSetB").mkdir()
    lines = []
    for number, row in enumerate(rng.permutation(test), 1):
        suffix = rng.choice(["jpg", "jpeg", "png"])
        name = f"image_{number}.{suffix}"
        options: dict[str, Any] = {} if suffix == "png" else {"quality": 95}
        contest_look(digits.images[row], rng).save(folder / "TestSetB" / name, **options)
        lines.append(f"{name} {ids[WORDS[digits.target[row]]]}")
    write_lines(folder / "TestSetB_labels.txt", lines)


def write_lines(path: Path, lines: list[str]) -> None:
    """Writes a text file of these lines."""
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def files_below(folder: Path) -> list[str]:
    """Returns the sorted relative paths of all files and links.

    Leaves out the marker and files that desktops write.
    """
    paths = []
    for parent, folders, names in os.walk(folder):
        names += [name for name in folders if Path(parent, name).is_symlink()]
        names = [n for n in names if n not in (".DS_Store", "Thumbs.db") and n[:2] != "._"]
        paths += [Path(parent, name).relative_to(folder).as_posix() for name in names]
    return sorted(name for name in paths if name != MARKER)


def recipe(seed: int) -> str:
    """Returns a hash of everything that the demo's bytes depend on."""
    versions = f"{seed} {np.__version__} {PIL.__version__}"
    return hashlib.sha256(versions.encode() + Path(__file__).read_bytes()).hexdigest()


def build(folder: Path, seed: int) -> None:
    """Writes the whole demo into an empty folder; the same seed gives the same bytes."""
    digits = load_digits()
    rng = np.random.default_rng(seed)
    pretrain, train, test = divide(digits.target, rng)
    write_pretraining(folder, pretrain, digits, rng)
    write_contest(folder, train, test, digits, rng)
    hashes = {name: sha256_of(folder / name) for name in files_below(folder)}
    marker = {"recipe": recipe(seed), "files": hashes}
    write_lines(folder / MARKER, [json.dumps(marker, indent=1, sort_keys=True)])


def is_current(folder: Path, seed: int) -> bool:
    """Returns whether the folder holds exactly this demo.

    Raises ValueError if a rebuild would lose files that this script has not written.
    """
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        marker = {"recipe": "", "files": {}}
    present = files_below(folder)
    whole = set(marker["files"]) <= set(present) and all(
        sha256_of(folder / name) == digest for name, digest in marker["files"].items()
    )
    if whole and marker["recipe"] == recipe(seed):
        return True
    foreign = [name for name in present if name not in marker["files"]]
    if foreign:
        raise ValueError(
            f"{folder}: holds {foreign[0]}, which is not the demo's ({len(foreign)} such files); "
            "nothing was changed; name another folder, or move them away"
        )
    return False


def make(folder: Path, seed: int) -> bool:
    """Builds the demo next to `folder`, then moves it there. Returns False if it was up to date.

    Raises ValueError if `folder` is a file or holds files that this script has not written.
    """
    folder = Path(os.path.realpath(folder))
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder}: is a file; name a folder for the demo")
    if folder.exists() and is_current(folder, seed):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".demo-", dir=folder.parent) as beside:
        fresh = Path(beside, "new")
        fresh.mkdir()
        build(fresh, seed)
        if folder.exists():
            folder.rename(Path(beside, "old"))
        fresh.rename(folder)
    return True


@dataclass(frozen=True)
class Config:
    """Writes the embedded demo as a contest tree."""

    folder: Positional[Path]
    """folder of its own, such as Dataset/demo"""
    seed: int = 0
    """seed of the division and of the contest's look"""


def main(arguments: list[str]) -> None:
    """Writes the demo, unless it is there already."""
    config = parse(Config, arguments, "make_demo")
    with exit_on_error("make_demo"):
        is_new = make(config.folder, config.seed)
    print(f"make_demo: {config.folder} {'written' if is_new else 'is up to date'}")


if __name__ == "__main__":
    main(sys.argv[1:])
