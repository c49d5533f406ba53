"""Finds NVIDIA's driver, devices and toolkit, and decides whether Jittor can use them.

Jittor dies at import where an `nvcc` is on the PATH but a library, the driver or a device is
missing, so CUDA is used only where all of it is found. Nothing here imports Jittor.
"""

import ctypes
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from runtime.cuda13 import private_copy
from runtime.onednn import jittor_home

Version = tuple[int, int]

NEWEST_STOCK = (12, 9)  # Jittor as it comes builds with CUDA up to 12 and cuDNN 8
OLDEST_DEVICE_13 = 75  # nvcc 13 compiles for sm_75 and newer
NEWEST_DEVICE_12 = 90  # Jittor as it comes compiles for sm_90 at most
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
    devices: tuple[int, ...]  # compute capability of each, 90 for sm_90
    reason: str  # why there is no device; "" where there is one

    @property
    def architectures(self) -> tuple[str, ...]:
        return tuple(f"sm_{capability}" for capability in self.devices)


@dataclass(frozen=True)
class Toolkit:
    """One CUDA toolkit: its compiler, version, cuDNN, and what of it Jittor would miss."""

    nvcc: Path
    version: Version | None
    cudnn: str  # "8.9.7", "" where unknown
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Cuda:
    """The decision, with the reason and the remedy where it is the CPU."""

    driver: Driver
    toolkit: Toolkit | None  # what was found, usable or not
    nvcc: Path | None  # what Jittor shall use, None for the CPU
    private: bool  # whether `nvcc` belongs to the private copy for CUDA 13
    reason: str
    remedy: str

    @property
    def usable(self) -> bool:
        return self.nvcc is not None

    @property
    def summary(self) -> str:
        """Version and architecture in words."""
        names = ", ".join(dict.fromkeys(self.driver.architectures)) or "no device"
        if self.toolkit is None:
            return names
        version = "{}.{}".format(*self.toolkit.version) if self.toolkit.version else "?"
        return f"CUDA {version}, cuDNN {self.toolkit.cudnn or 'not found'}, {names}"


def driver() -> Driver:
    """Asks libcuda; without a driver this costs well under a millisecond."""
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
    """Compute capability as one number; attributes 75 and 76 are its major and minor part."""
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
    library.cuDeviceGetAttribute(ctypes.byref(minor), 76, device)
    return major.value * 10 + minor.value


def toolkits() -> list[Path]:
    """Every nvcc where Jittor looks for one: its own download, the PATH, the usual folders."""
    found = sorted((jittor_home() / ".cache/jittor/jtcuda").glob("*/bin/nvcc"))
    on_path = shutil.which("nvcc")
    found += [Path(on_path)] if on_path else []
    found += [Path(p) for p in ("/usr/local/cuda/bin/nvcc", "/usr/bin/nvcc", "/opt/cuda/bin/nvcc")]
    return list({path.resolve(): path for path in reversed(found) if path.is_file()}.values())[::-1]


def inspect(nvcc: Path) -> Toolkit:
    """Version and completeness of the toolkit around `nvcc`, looked up where Jittor looks."""
    top = nvcc.resolve().parent.parent
    includes = [top / "include", top / "targets/x86_64-linux/include", Path("/usr/include")]
    places = [top / "lib64", top / "targets/x86_64-linux/lib", Path("/usr/lib/x86_64-linux-gnu")]
    places.append(Path("/usr/lib"))
    missing = [name for name in HEADERS if not any((f / name).is_file() for f in includes)]
    missing += [
        f"lib{n}.so" for n in LIBRARIES if not any((f / f"lib{n}.so").is_file() for f in places)
    ]
    return Toolkit(nvcc, _nvcc_version(nvcc), _cudnn_version(includes), tuple(missing))


def _nvcc_version(nvcc: Path) -> Version | None:
    try:
        said = subprocess.run(
            [nvcc, "--version"], capture_output=True, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    number = re.search(r"release (\d+)\.(\d+)", said)
    return (int(number[1]), int(number[2])) if number else None


def _cudnn_version(includes: list[Path]) -> str:
    for header in (folder / "cudnn_version.h" for folder in includes):
        if header.is_file():
            text = header.read_text(errors="replace")
            numbers = re.findall(r"#define CUDNN_(?:MAJOR|MINOR|PATCHLEVEL) (\d+)", text)
            return ".".join(numbers)
    return ""


def _fault(found: Toolkit, driver: Driver) -> str:
    """Why Jittor as it comes cannot use this toolkit with this driver; "" where it can."""
    if found.version is None:
        return f"{found.nvcc} does not say its version"
    name = "CUDA {}.{}".format(*found.version)
    if found.version > NEWEST_STOCK:
        return f"{name} ({found.nvcc}) is too new for Jittor as it comes"
    if found.missing:
        return f"{name} ({found.nvcc}) lacks {', '.join(found.missing)}"
    if found.cudnn.split(".")[0] != "8":
        return (
            f"cuDNN {found.cudnn or 'of unknown version'} beside {found.nvcc}, but Jittor needs 8"
        )
    if driver.version and found.version[0] > driver.version[0]:
        return (
            f"{name} is newer than the driver, which runs {driver.version[0]}.{driver.version[1]}"
        )
    if max(driver.devices) > NEWEST_DEVICE_12:
        return f"{name} with Jittor as it comes cannot compile for sm_{max(driver.devices)}"
    return ""


def find() -> Cuda:
    """Decides between the private copy for CUDA 13, a toolkit up to CUDA 12, and the CPU."""
    here = driver()
    found = sorted((inspect(nvcc) for nvcc in toolkits()), key=lambda kit: len(kit.missing))
    best = found[0] if found else None
    if not here.devices:
        return Cuda(here, best, None, False, here.reason, "")
    new = here.version is not None and here.version >= (13, 0)
    runs_13 = new and min(here.devices) >= OLDEST_DEVICE_13
    if runs_13 and private_copy.is_ready():
        kit = inspect(private_copy.nvcc())
        return Cuda(here, kit, kit.nvcc, True, "", "")
    faults = {kit: _fault(kit, here) for kit in found}
    if good := next((kit for kit, fault in faults.items() if not fault), None):
        return Cuda(here, good, good.nvcc, False, "", "")
    reason = faults[best] if best else "a device, but no CUDA toolkit"
    remedy = private_copy.COMMAND if runs_13 else STOCK_REMEDY
    return Cuda(here, best, None, False, reason, remedy)
