"""Finds NVIDIA's driver, devices and toolkit, and decides whether Jittor can use them.

Jittor dies at import if an `nvcc` is on the PATH but a library, the driver or a device is missing.
So CUDA is used only if all of it is there. Nothing here imports Jittor.
"""

import ctypes
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runtime.onednn import jittor_home

Version = tuple[int, int]

NEWEST_STOCK = (12, 9)  # the installed Jittor builds with CUDA up to 12 and cuDNN 8
OLDEST_DEVICE_13 = 75  # nvcc 13 compiles for sm_75 and newer
NEWEST_DEVICE_12 = 90  # the installed Jittor compiles for sm_90 at most
LIBRARIES = ("cudart", "cublas", "cublasLt", "cudnn", "curand", "cufft", "cusparse")
HEADERS = ("cuda_runtime.h", "cublas.h", "cudnn.h", "curand.h", "cufft.h", "cusparse.h", "npp.h")
STOCK_REMEDY = (
    "update the driver to 580 or newer, "
    "or `python -m jittor_utils.install_cuda` (CUDA 12.2 with cuDNN 8)"
)


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver as this process sees it."""

    version: Version | None  # the newest CUDA that it runs
    devices: tuple[int, ...]  # compute capability of each device, 90 for sm_90
    reason: str  # why there is no device; "" if there is one

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(f"sm_{capability}" for capability in self.devices)


@dataclass(frozen=True)
class Toolkit:
    """One CUDA toolkit: its compiler, version, cuDNN, and the files that Jittor would miss."""

    nvcc: Path
    version: Version | None
    cudnn: str  # "8.9.7"; "" if unknown
    missing: tuple[str, ...]


@dataclass(frozen=True)
class CudaChoice:
    """The decision between CUDA and the CPU, with reason and remedy if it is the CPU."""

    driver: Driver
    toolkit: Toolkit | None  # the best one on this machine, usable or not
    nvcc: Path | None = None  # the compiler that Jittor shall use; None for the CPU
    private: bool = False  # whether `nvcc` belongs to the private copy for CUDA 13
    reason: str = ""
    remedy: str = ""

    @property
    def summary(self) -> str:
        """Version and architecture in words."""
        architectures = ", ".join(dict.fromkeys(self.driver.architectures)) or "no device"
        if self.toolkit is None:
            return architectures
        version = "{}.{}".format(*self.toolkit.version) if self.toolkit.version else "?"
        return f"CUDA {version}, cuDNN {self.toolkit.cudnn or 'not found'}, {architectures}"


def find_driver() -> Driver:
    """Asks libcuda; without a driver this takes well under a millisecond."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Driver(None, (), "no NVIDIA driver (libcuda.so.1 is not installed)")
    number = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(number))
    version = (number.value // 1000, number.value % 1000 // 10)
    if code := library.cuInit(0):
        return Driver(version, (), f"the NVIDIA driver finds no device (cuInit answers {code})")
    library.cuDeviceGetCount(ctypes.byref(number))
    devices = tuple(_capability(library, index) for index in range(number.value))
    return Driver(version, devices, "" if devices else "the NVIDIA driver shows no device")


def _capability(library: ctypes.CDLL, index: int) -> int:
    """Returns the compute capability as one number, from attributes 75 (major) and 76 (minor)."""
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    library.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return major.value * 10 + minor.value


def find_compilers() -> list[Path]:
    """Returns every nvcc in the places where Jittor looks: its download, the PATH, /usr."""
    candidates = sorted((jittor_home() / ".cache/jittor/jtcuda").glob("*/bin/nvcc"))
    usual = ("/usr/local/cuda/bin/nvcc", "/usr/bin/nvcc", "/opt/cuda/bin/nvcc")
    candidates += map(Path, (shutil.which("nvcc") or "", *usual))
    by_target: dict[Path, Path] = {}
    for path in filter(Path.is_file, candidates):
        by_target.setdefault(path.resolve(), path)
    return list(by_target.values())


def inspect_toolkit(nvcc: Path) -> Toolkit:
    """Reads version and completeness of the toolkit around `nvcc`, in Jittor's search path."""
    top = nvcc.resolve().parent.parent
    includes = [top / "include", top / "targets/x86_64-linux/include", Path("/usr/include")]
    folders = [top / "lib64", top / "targets/x86_64-linux/lib", Path("/usr/lib/x86_64-linux-gnu")]
    folders.append(Path("/usr/lib"))
    libraries = [f"lib{name}.so" for name in LIBRARIES]
    missing = [name for name in HEADERS if not any((f / name).is_file() for f in includes)]
    missing += [name for name in libraries if not any((f / name).is_file() for f in folders)]
    return Toolkit(nvcc, _nvcc_version(nvcc), _cudnn_version(includes), tuple(missing))


def _nvcc_version(nvcc: Path) -> Version | None:
    try:
        done = subprocess.run([nvcc, "--version"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    number = re.search(r"release (\d+)\.(\d+)", done.stdout)
    return (int(number[1]), int(number[2])) if number else None


def _cudnn_version(includes: list[Path]) -> str:
    headers = [folder / "cudnn_version.h" for folder in includes]
    text = next((path.read_text(errors="replace") for path in headers if path.is_file()), "")
    return ".".join(re.findall(r"#define CUDNN_(?:MAJOR|MINOR|PATCHLEVEL) (\d+)", text))


def _obstacle(toolkit: Toolkit, driver: Driver) -> str:
    """Returns why the installed Jittor cannot use this toolkit with this driver; "" if it can."""
    if toolkit.version is None:
        return f"{toolkit.nvcc} does not tell its version"
    name = "CUDA {}.{}".format(*toolkit.version)
    if toolkit.version > NEWEST_STOCK:
        return f"{name} ({toolkit.nvcc}) is too new for the installed Jittor"
    if toolkit.missing:
        return f"{name} ({toolkit.nvcc}) lacks {', '.join(toolkit.missing)}"
    if toolkit.cudnn.split(".")[0] != "8":
        version = toolkit.cudnn or "of unknown version"
        return f"cuDNN {version} next to {toolkit.nvcc}, but Jittor needs 8"
    if driver.version and toolkit.version[0] > driver.version[0]:
        newest = "{}.{}".format(*driver.version)
        return f"{name} is newer than the driver, which runs {newest}"
    if max(driver.devices) > NEWEST_DEVICE_12:
        return f"{name} with the installed Jittor cannot compile for sm_{max(driver.devices)}"
    return ""


def choose() -> CudaChoice:
    """Decides between the private copy for CUDA 13, a toolkit up to CUDA 12, and the CPU."""
    driver = find_driver()
    toolkits = [inspect_toolkit(nvcc) for nvcc in find_compilers()]
    toolkits.sort(key=lambda toolkit: len(toolkit.missing))
    best = toolkits[0] if toolkits else None
    if not driver.devices:
        return CudaChoice(driver, best, reason=driver.reason)
    from runtime.cuda13 import private_copy  # most machines have no device

    runs_13 = (driver.version or (0, 0)) >= (13, 0) and min(driver.devices) >= OLDEST_DEVICE_13
    if runs_13 and private_copy.is_ready():
        toolkit = inspect_toolkit(private_copy.nvcc())
        return CudaChoice(driver, toolkit, toolkit.nvcc, private=True)
    for toolkit in toolkits:
        if not _obstacle(toolkit, driver):
            return CudaChoice(driver, toolkit, toolkit.nvcc)
    reason = _obstacle(best, driver) if best else "a device, but no CUDA toolkit"
    remedy = private_copy.COMMAND if runs_13 else STOCK_REMEDY
    return CudaChoice(driver, best, reason=reason, remedy=remedy)
