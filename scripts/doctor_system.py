"""The doctor's checks of the machine: Python, compiler, packages, oneDNN, CPU, CUDA, MPI.

Every check reads files and package metadata only: it imports no package and compiles nothing.
"""

import ctypes
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from runtime import PREPARED, cuda, onednn
from runtime.cuda13 import private_copy
from runtime.paths import ROOT
from scripts.doctor_rows import Row

INSTALL = "pip install -r requirements.txt"
CPU_FLAGS = ("amx_bf16", "amx_tile", "avx512_bf16", "avx512f", "avx2")


def pins() -> dict[str, str]:
    """Package name to pinned version, as requirements.txt has them."""
    text = (ROOT / "requirements.txt").read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, flags=re.MULTILINE))


def python() -> list[Row]:
    version = platform.python_version()
    value = f"{version} ({sys.executable})"
    if sys.version_info[:2] != (3, 11):
        return [Row("wrong", "Python", value, "use Python 3.11", needed=True)]
    return [Row("ok", "Python", value)]


def compiler() -> list[Row]:
    """g++ and the headers of this very Python: Jittor compiles its operators with them."""
    path = shutil.which(os.environ.get("cc_path") or "g++")
    remedy = "apt-get install g++ (or your system's package of it)"
    rows = [Row("missing", "g++", "not on the PATH", remedy, needed=True)]
    if path:
        rows = [Row("ok", "g++", f"{_said([path, '-dumpfullversion'])} ({path})")]
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    if header.is_file():
        return rows + [Row("ok", "Python headers", str(header.parent))]
    remedy = f"apt-get install python{sys.version_info.major}.{sys.version_info.minor}-dev"
    return rows + [Row("missing", "Python headers", f"no {header}", remedy, needed=True)]


def _said(command: list[str]) -> str:
    """The first line that a command prints, "" where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""


def _version(package: str) -> str:
    """Installed version by package metadata, "" where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def packages() -> list[Row]:
    """NumPy, Jittor and Pillow by name, all other pinned packages in one row."""
    pinned = pins()
    jittor = pinned.pop("jittor")
    rows = [
        _package("NumPy", "numpy", lambda version: version.startswith("1."), "1.x"),
        _package("Jittor", "jittor", lambda version: version == jittor, jittor, _which_jittor()),
        _package("Pillow", "pillow", lambda version: True, ""),
    ]
    absent = [name for name in pinned if not _version(name)]
    if absent:
        return rows + [Row("missing", "other packages", ", ".join(absent), INSTALL, needed=True)]
    return rows + [Row("ok", "other packages", f"all {len(pinned)} of requirements.txt")]


def _package(
    label: str, name: str, fits: Callable[[str], bool], wanted: str, more: str = ""
) -> Row:
    version = _version(name)
    if not version:
        return Row("missing", label, "not installed", INSTALL, needed=True)
    if not fits(version):
        return Row("wrong", label, f"{version}, needs {wanted}", INSTALL, needed=True)
    return Row("ok", label, version + more)


def _which_jittor() -> str:
    private = PREPARED.cuda == str(private_copy.nvcc())
    return f" (private copy in {private_copy.folder()})" if private else " (as installed)"


class _DnnlVersion(ctypes.Structure):
    """The head of oneDNN's `dnnl_version_t`."""

    _fields_ = [("major", ctypes.c_int), ("minor", ctypes.c_int), ("patch", ctypes.c_int)]


def one_dnn() -> list[Row]:
    if PREPARED.onednn is None:
        return [Row("missing", "oneDNN", "not installed", onednn.REMEDY, needed=True)]
    ask = ctypes.CDLL(str(PREPARED.onednn)).dnnl_version
    ask.restype = ctypes.POINTER(_DnnlVersion)
    found = ask().contents
    value = f"{found.major}.{found.minor}.{found.patch} ({PREPARED.onednn})"
    if found.major != 2:
        return [Row("wrong", "oneDNN", f"{value}, needs 2.x", onednn.REMEDY, needed=True)]
    return [Row("ok", "oneDNN", value)]


def cpu() -> list[Row]:
    """Which of the CPU's matrix instructions oneDNN can use, and the threads that it runs on."""
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    flags = set(text.partition("flags")[2].partition("\n")[0].split())
    has = [name for name in CPU_FLAGS if name in flags]
    cores = len(os.sched_getaffinity(0))
    bf16 = "bf16 by AMX" if "amx_bf16" in has else "bf16" if "avx512_bf16" in has else "no bf16"
    rows = [Row("ok", "CPU", f"{bf16} ({', '.join(has) or 'plain ' + platform.machine()})")]
    value = f"{PREPARED.threads} of {cores} cores"
    if PREPARED.threads > cores:
        return rows + [
            Row("wrong", "threads", value, f"unset OMP_NUM_THREADS or set it to {cores}")
        ]
    return rows + [Row("ok", "threads", value)]


def gpu() -> list[Row]:
    """Driver, device and toolkit, or why the CPU is used; the CPU does the main job too."""
    found = cuda.find()
    names = ", ".join(found.driver.architectures)
    rows = [Row("missing", "GPU driver", f"{found.driver.reason}: the CPU is used")]
    if found.driver.devices:
        version = found.driver.version
        runs = "{}.{}".format(*version) if version else "?"
        rows = [Row("ok", "GPU driver", f"{_driver_name()}runs CUDA up to {runs}; {names}")]
    kit = found.toolkit
    if PREPARED.cuda != str(found.nvcc or ""):
        value = f"nvcc_path={PREPARED.cuda!r} is set in the environment and left as it is"
        return rows + [Row("ok", "CUDA", value)]
    if found.usable:
        where = "private copy" if found.private else str(found.nvcc)
        return rows + [Row("ok", "CUDA", f"{found.summary} ({where})")]
    if kit is None:
        return rows + [Row("missing", "CUDA", "no toolkit", found.remedy)]
    value = "CUDA {}.{}".format(*kit.version) if kit.version else "CUDA of unknown version"
    value += f" ({kit.nvcc}), cuDNN {kit.cudnn or 'not found'}, not used"
    reason = f": {found.reason}" if found.driver.devices else ""
    status = "wrong" if found.driver.devices else "missing"
    return rows + [Row(status, "CUDA", value + reason, found.remedy)]


def _driver_name() -> str:
    """The driver's own version and a comma, as its kernel module says; "" where it does not."""
    path = Path("/proc/driver/nvidia/version")
    number = re.search(r"\b\d{3}\.[\d.]+", path.read_text()) if path.is_file() else None
    return f"{number[0]}, " if number else ""


def mpi() -> list[Row]:
    """mpirun and mpicc, for training on several processes; never needed."""
    absent = [name for name in ("mpirun", "mpicc") if not shutil.which(name)]
    if absent:
        remedy = "for several processes: apt-get install openmpi-bin libopenmpi-dev"
        return [Row("missing", "MPI", f"no {' and no '.join(absent)}", remedy)]
    return [Row("ok", "MPI", _said(["mpirun", "--version"]) or str(shutil.which("mpirun")))]


CHECKS = (python, compiler, packages, one_dnn, cpu, gpu, mpi)
