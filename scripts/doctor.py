"""Checks machine, weights and data: `python -m scripts.doctor [--data F] [--weights F]`.

Prints one table: each row is ok, missing or wrong, with the remedy below it. Exits with 1 if the
main job cannot run. CUDA and MPI are never needed for it. Starts without any package, so argparse
reads its command line. Never imports Jittor, so nothing compiles.
"""

import argparse
import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from pathlib import Path

from data.few_shot_dataset import DataError, Sample, list_test_images, open_dataset
from runtime import PREPARED, cuda, onednn
from runtime.cuda13 import private_copy
from runtime.cuda13.edits import JITTOR_VERSION
from runtime.environment import restart_in_venv
from runtime.paths import ROOT
from runtime.table import table
from weight_files.hashing import sha256_of
from weight_files.known_weights import find_by_sha256

INSTALL = "pip install -r requirements.txt"
CPU_FLAGS = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2")
SUFFIXES = (".pkl", ".pt", ".pth", ".safetensors")
AUXILIARY = "res1000epoch.pkl"  # no CLIP; the main job also runs without the auxiliary encoder
PARTS = "test_pkl"  # folder of the trained parts
TEST_SETS = ("TestSetA", "TestSetB", "test")
SEE_README = "Dataset/README.md shows the tree"
FIND_WEIGHTS = (
    "put JCLIP's ViT-B-32.pkl or OpenAI's ViT-B-32.pt into the main folder, "
    "or name a file with --weights"
)


@dataclass(frozen=True)
class Finding:
    """One result of a check."""

    status: str  # "ok", "missing" or "wrong"
    value: str
    remedy: str = ""  # printed unless the status is "ok"


class Subject:
    """The data set and the weight files that the checks look at, each opened once.

    `weights` is the named weight file, or every one in the main folder. `parts` are the auxiliary
    encoder and the trained parts, if no file was named. `parameters` has the number of parameters
    of each file, or why it cannot be opened; it is empty without weights and without NumPy.
    """

    def __init__(self, data: Path, weights: Path | None):
        self.data, self.named_weights = data, weights
        files = [weights] if weights else [*_weight_files(ROOT), *_weight_files(ROOT / PARTS)]
        self.weights = [p for p in files if weights or (p.parent == ROOT and p.name != AUXILIARY)]
        self.parts = [path for path in files if path not in self.weights]
        self.has_weights = bool(self.weights) and all(path.is_file() for path in self.weights)
        self.parameters: dict[Path, int | ValueError] = {}
        if self.has_weights and _has("numpy"):
            from weight_files.reader import count_parameters, safe_load

            for path in files:
                try:
                    self.parameters[path] = count_parameters(safe_load(path))
                except ValueError as error:
                    self.parameters[path] = error
        self.dataset, self.data_error = None, ""
        try:
            self.dataset = open_dataset(data)
        except (DataError, OSError) as error:
            self.data_error = str(error)
        self.test_sets: dict[str, list[Sample] | DataError] = {}
        for name in TEST_SETS:
            if self.dataset and (self.dataset.root / name).is_dir():
                try:
                    self.test_sets[name] = list_test_images(self.dataset, name)
                except DataError as error:
                    self.test_sets[name] = error


def _weight_files(folder: Path) -> list[Path]:
    """Returns the weight files in a folder; none if it does not exist."""
    return sorted(p for p in folder.glob("*") if p.suffix in SUFFIXES and p.is_file())


def _has(*packages: str) -> bool:
    return all(importlib.util.find_spec(name) for name in packages)


# --- the machine: files and package metadata only; no check imports a package or compiles


def check_python(_: Subject) -> Iterator[Finding]:
    value = f"{platform.python_version()} ({sys.executable})"
    is_right = sys.version_info[:2] == (3, 11)
    yield Finding("ok" if is_right else "wrong", value, "use Python 3.11")


def check_compiler(_: Subject) -> Iterator[Finding]:
    path = shutil.which(os.environ.get("cc_path") or "g++")
    if path:
        yield Finding("ok", f"{_first_line([path, '-dumpfullversion'])} ({path})")
    else:
        yield Finding("missing", "not on the PATH", "apt-get install g++ (or its package here)")


def check_headers(_: Subject) -> Iterator[Finding]:
    """Checks the headers of this very Python, against which Jittor compiles its operators."""
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if header.is_file():
        yield Finding("ok", str(header.parent))
    else:
        remedy = "apt-get install python{}.{}-dev".format(*sys.version_info)
        yield Finding("missing", f"no {header}", remedy)


def check_package(name: str, required: str, _: Subject) -> Iterator[Finding]:
    """Checks that a package is installed, in a version that starts with `required`."""
    version = _version(name)
    if not version:
        yield Finding("missing", "not installed", INSTALL)
    elif not version.startswith(required):
        yield Finding("wrong", f"{version}, needs {required}", INSTALL)
    elif name == "jittor" and PREPARED.cuda == str(private_copy.nvcc()):
        yield Finding("ok", f"{version} (private copy in {private_copy.folder()})")
    else:
        yield Finding("ok", version)


def check_other_packages(_: Subject) -> Iterator[Finding]:
    """Checks for the packages of requirements.txt, in any version."""
    text = (ROOT / "requirements.txt").read_text()
    names = re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE)
    absent = [name for name in names if not _version(name)]
    if absent:
        yield Finding("missing", ", ".join(absent), INSTALL)
    else:
        yield Finding("ok", f"all {len(names)} of requirements.txt")


def _version(package: str) -> str:
    """Returns the installed version by package metadata, "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_onednn(_: Subject) -> Iterator[Finding]:
    if PREPARED.onednn is None:
        yield Finding("missing", "not installed", onednn.REMEDY)
        return
    dnnl_version = ctypes.CDLL(str(PREPARED.onednn)).dnnl_version
    dnnl_version.restype = ctypes.POINTER(ctypes.c_int * 3)  # major, minor, patch
    version = list(dnnl_version().contents)
    value = f"{'.'.join(map(str, version))} ({PREPARED.onednn})"
    yield Finding("ok" if version[0] == 2 else "wrong", value, f"2.x fits: {onednn.REMEDY}")


def check_cpu(_: Subject) -> Iterator[Finding]:
    """Reports which matrix instructions of the CPU oneDNN can use."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    flags = text.partition("flags")[2].partition("\n")[0].split()
    usable = [name for name in CPU_FLAGS if name in flags]
    bf16 = "bf16" if "avx512_bf16" in usable else "no bf16"
    bf16 = "bf16 by AMX" if "amx_bf16" in usable else bf16
    yield Finding("ok", f"{bf16} ({', '.join(usable) or 'plain ' + platform.machine()})")


def check_threads(_: Subject) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    value = f"{PREPARED.threads} of {cores} cores"
    status = "ok" if PREPARED.threads <= cores else "wrong"
    yield Finding(status, value, f"unset OMP_NUM_THREADS or set it to {cores}")


def check_gpu_driver(_: Subject) -> Iterator[Finding]:
    driver = cuda.find_driver()
    if not driver.devices:
        yield Finding("missing", f"{driver.reason}: the CPU is used")
        return
    path = Path("/proc/driver/nvidia/version")
    number = re.search(r"\b\d{3}\.[\d.]+", path.read_text()) if path.is_file() else None
    name = f"{number[0]}, " if number else ""
    newest = "{}.{}".format(*driver.version) if driver.version else "?"
    yield Finding("ok", f"{name}runs CUDA up to {newest}; {', '.join(driver.architectures)}")


def check_cuda(_: Subject) -> Iterator[Finding]:
    """Reports the toolkit that Jittor uses, or why it uses none."""
    choice = cuda.choose()
    if PREPARED.cuda != str(choice.nvcc or ""):
        value = f"nvcc_path={PREPARED.cuda!r} is set in the environment and left as it is"
        yield Finding("ok", value)
    elif choice.nvcc:
        compiler = "private copy" if choice.private else str(choice.nvcc)
        yield Finding("ok", f"{choice.summary} ({compiler})")
    elif choice.toolkit is None:
        yield Finding("missing", "no toolkit", choice.remedy)
    else:
        value = f"{choice.summary} ({choice.toolkit.nvcc}), not used: {choice.reason}"
        yield Finding("wrong" if choice.driver.devices else "missing", value, choice.remedy)


def check_mpi(_: Subject) -> Iterator[Finding]:
    absent = [name for name in ("mpirun", "mpicc") if not shutil.which(name)]
    if absent:
        remedy = "for several processes: apt-get install openmpi-bin libopenmpi-dev"
        yield Finding("missing", f"no {' and no '.join(absent)}", remedy)
    else:
        yield Finding("ok", _first_line(["mpirun", "--version"]) or str(shutil.which("mpirun")))


def _first_line(command: list[str]) -> str:
    """Returns the first line that a command prints, "" if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


# --- the weight files


def check_weights(subject: Subject) -> Iterator[Finding]:
    """Names each weight file by its content and counts its parameters."""
    if not subject.has_weights:
        named = subject.named_weights
        value = f"no {named}" if named else f"no {' or '.join(SUFFIXES)} file in {ROOT}"
        yield Finding("missing", value, FIND_WEIGHTS)
    elif not subject.parameters:
        names = ", ".join(path.name for path in subject.weights)
        yield Finding("missing", f"{names}: not opened without NumPy")
    else:
        yield from (_describe(path, subject.parameters[path]) for path in subject.weights)


def check_parts(subject: Subject) -> Iterator[Finding]:
    if subject.parameters:
        yield from (_describe(path, subject.parameters[path]) for path in subject.parts)


def check_parameters(subject: Subject) -> Iterator[Finding]:
    if subject.parameters:
        counts = [count for count in subject.parameters.values() if isinstance(count, int)]
        yield Finding("ok", f"{sum(counts):,} in these files")


def _describe(path: Path, count: int | ValueError) -> Finding:
    if isinstance(count, ValueError):
        return Finding("wrong", str(count), FIND_WEIGHTS)
    if path.parent == ROOT / PARTS:
        return Finding("ok", f"{PARTS}/{path.name}: {count:,} parameters")
    digest = sha256_of(path)
    value = f"{path.name}: {public_name(digest)}, {count:,} parameters, SHA-256 {digest}"
    return Finding("ok", value)


def public_name(digest: str) -> str:
    """Returns what the publisher calls the file with this SHA-256."""
    known = find_by_sha256(digest)
    return f"{known.name}, {known.what}" if known else "no public file that is known here"


# --- the data set; if it cannot be opened, only `check_data` reports


def check_data(subject: Subject) -> Iterator[Finding]:
    dataset = subject.dataset
    if not dataset:
        status = "wrong" if (subject.data / "classes.txt").exists() else "missing"
        yield Finding(status, subject.data_error, SEE_README)
        return
    layout = f"{dataset.kind} tree{', with TrainSet/TrainSet/' if dataset.nested else ''}"
    base, new = len(dataset.label_space.base_ids), len(dataset.label_space.new_ids)
    yield Finding("ok", f"{subject.data}: {layout}, {base} base and {new} new classes")


def check_training_images(subject: Subject) -> Iterator[Finding]:
    if subject.dataset:
        yield _count(subject.dataset.train)


def check_test_set(name: str, subject: Subject) -> Iterator[Finding]:
    images = subject.test_sets.get(name)
    if isinstance(images, DataError):
        yield Finding("wrong", str(images))
    elif images is not None:
        yield _count(images)


def check_test_sets(subject: Subject) -> Iterator[Finding]:
    if subject.dataset and not subject.test_sets:
        yield Finding("missing", f"none of {', '.join(TEST_SETS)} there", SEE_README)


def _count(images: Sequence[Sample]) -> Finding:
    if not images:
        return Finding("missing", "no images", SEE_README)
    labels = Counter(image.label for image in images if image.label is not None)
    value = f"{len(images)} images"
    if labels:
        value += f" of {len(labels)} classes, {_range(labels)} per class"
    return Finding("ok", value)


def check_splits(subject: Subject) -> Iterator[Finding]:
    """Reads every tracked split of these data against the data set."""
    if not subject.dataset or not _has("numpy", "PIL"):
        return
    from data.few_shot_splits import SPLITS, read_split, split_path

    name = split_path(subject.data).name.partition("_")[0]
    for path in sorted(SPLITS.glob(f"{name}*.jsonl")):
        try:
            shots = Counter(image.label for image in read_split(path, subject.dataset))
            yield Finding("ok", f"{path.name}: {_range(shots)} shots of {len(shots)} classes")
        except DataError as error:
            yield Finding("wrong", str(error))


def check_default_split(subject: Subject) -> Iterator[Finding]:
    if not subject.dataset or not _has("numpy", "PIL"):
        return
    from data.few_shot_splits import find_default_split, split_path

    try:
        find_default_split(subject.data)
    except DataError:
        value = f"{split_path(subject.data)}: no such split; training draws it and keeps it there"
        remedy = f"or draw it now: python -m scripts.make_split --data {subject.data}"
        yield Finding("missing", value, remedy)


def check_decoding(subject: Subject) -> Iterator[Finding]:
    """Decodes every image on all cores, with a progress bar on stderr."""
    if not subject.dataset:
        return
    if not _has("numpy", "PIL", "tqdm"):
        yield Finding("missing", "not checked without NumPy, Pillow and tqdm")
        return
    from tqdm import tqdm

    from data.decoding import BrokenImage, load_images

    images = list(subject.dataset.train)
    for test_images in subject.test_sets.values():
        images += [] if isinstance(test_images, DataError) else test_images
    paths = [image.path for image in images]
    decoded = load_images(paths, attrgetter("size"), workers=len(os.sched_getaffinity(0)))
    bar = tqdm(decoded, "decoding", len(paths), unit="image", file=sys.stderr, disable=None)
    broken = [image for _, image in bar if isinstance(image, BrokenImage)]
    if broken:
        value = f"{len(broken)} of {len(paths)}: {'; '.join(map(str, broken[:5]))}"
        yield Finding("wrong", value, "copy these files again; a run skips and counts them")
    else:
        yield Finding("ok", f"none of {len(paths)} images")


def _range(counts: Counter) -> str:
    least, most = min(counts.values()), max(counts.values())
    return str(least) if least == most else f"{least} to {most}"


CHECKS: dict[str, Callable[[Subject], Iterator[Finding]]] = {
    "Python": check_python,
    "g++": check_compiler,
    "Python headers": check_headers,
    "NumPy": partial(check_package, "numpy", "1."),
    "Jittor": partial(check_package, "jittor", JITTOR_VERSION),
    "Pillow": partial(check_package, "pillow", ""),
    "other packages": check_other_packages,
    "oneDNN": check_onednn,
    "CPU": check_cpu,
    "threads": check_threads,
    "GPU driver": check_gpu_driver,
    "CUDA": check_cuda,
    "MPI": check_mpi,
    "weights": check_weights,
    "part": check_parts,
    "parameters": check_parameters,
    "data": check_data,
    "train": check_training_images,
    **{name: partial(check_test_set, name) for name in TEST_SETS},
    "test images": check_test_sets,
    "split": check_splits,
    "default split": check_default_split,
    "unreadable": check_decoding,
}
# If one of these is not ok, the main job cannot run.
NEEDED = {"Python", "g++", "Python headers", "NumPy", "Jittor", "Pillow", "other packages"}
NEEDED |= {"oneDNN", "weights", "data", "train", "split"}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.doctor", description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "Dataset", help="the data set")
    parser.add_argument("--weights", type=Path, help="a weight file (default: all that lie there)")
    options = parser.parse_args(arguments)
    subject = Subject(options.data, options.weights)
    rows, stops = [], []
    for name, check in CHECKS.items():
        for finding in check(subject):
            rows.append((finding.status, name, finding.value))
            if finding.status != "ok" and finding.remedy:
                rows.append(("", "", f"-> {finding.remedy}"))
            if finding.status != "ok" and name in NEEDED and name not in stops:
                stops.append(name)
    print(table(rows))
    if stops:
        print(f"\nThe main job cannot run: {', '.join(stops)}.")
        return 1
    print("\nThe main job can run.")
    return 0


if __name__ == "__main__":
    restart_in_venv()  # which is the environment that the kit's other commands run in
    sys.exit(main())
