"""Links NVIDIA's CUDA 13 wheels into one toolkit folder of the shape that Jittor expects.

Jittor wants `bin/nvcc`, `include/` and `lib64/lib<name>.so` next to each other, in real folders.
The wheels have cuDNN and NCCL in other folders and only versioned names (`libcublas.so.13`).
"""

import importlib.util
import subprocess
from pathlib import Path

WHEELS = "pip install -r requirements-cuda13.txt"
HEADERS = ["cuda_runtime.h", "cublas_v2.h", "cudnn.h", "curand.h", "cufft.h", "cusparse.h"]
HEADERS += ["math_constants.h", "cccl/cub/cub.cuh", "nccl.h"]
LIBRARIES = ("cudart", "cublas", "cublasLt", "cudnn", "curand", "cufft", "cusparse", "nccl")

PROBE = """
#include <cuda_runtime.h>
#include <cublas_v2.h>
#include <cudnn.h>
#include <curand.h>
#include <cufft.h>
#include <cusparse.h>
#include <cub/cub.cuh>
__global__ void sum(const float* in, float* out) {
    __shared__ typename cub::BlockReduce<float, 128>::TempStorage storage;
    float total = cub::BlockReduce<float, 128>(storage).Sum(in[threadIdx.x]);
    if (threadIdx.x == 0) *out = total;
}
extern "C" void probe(const float* in, float* out) { sum<<<1, 128>>>(in, out); cudnnGetVersion(); }
"""


class ToolkitError(RuntimeError):
    """The toolkit is incomplete or does not compile. The message says why."""


def wheel_folders() -> list[Path]:
    """Returns the folders of the installed wheels with `include/` and `lib/`, the toolkit first."""
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in spec.submodule_search_locations or ()] if spec else []
    folders = [root / part for part in ("cu13", "cudnn", "nccl") for root in roots]
    return [folder for folder in folders if folder.is_dir()]


def wheel_nvcc() -> Path | None:
    """Returns the compiler of the wheels; None if they are not installed."""
    return next((f / "bin/nvcc" for f in wheel_folders() if (f / "bin/nvcc").is_file()), None)


def build(folder: Path) -> Path:
    """Builds the toolkit in the new `folder` and returns the wheels' nvcc.

    Raises ToolkitError if the wheels are not installed or incomplete.
    """
    nvcc = wheel_nvcc()
    if nvcc is None:
        raise ToolkitError(f"the CUDA 13 wheels are not installed: {WHEELS}")
    for name in ("bin", "include", "lib64"):
        (folder / name).mkdir(parents=True)
    for wheel in wheel_folders():
        for header in (wheel / "include").iterdir():
            _link(header, folder / "include" / header.name)
        for library in (wheel / "lib").glob("lib*"):
            _link(library, folder / "lib64" / library.name)
            if ".so." in library.name:
                _link(library, folder / "lib64" / (library.name.split(".so.")[0] + ".so"))
    script = folder / "bin/nvcc"  # no link: Jittor resolves links and looks next to the target
    script.write_text(f'#!/bin/sh\nexec "{nvcc}" "$@"\n')
    script.chmod(0o755)
    needed = [f"include/{name}" for name in HEADERS] + [f"lib64/lib{n}.so" for n in LIBRARIES]
    missing = [name for name in needed if not (folder / name).is_file()]
    if missing:
        raise ToolkitError(f"the CUDA 13 wheels lack {', '.join(missing)}: {WHEELS}")
    return nvcc


def _link(target: Path, link: Path) -> None:
    if not link.is_symlink():
        link.symlink_to(target)


def probe(folder: Path, architecture: str, compiler: str) -> None:
    """Compiles and links a small kernel that uses every library, for `architecture` ("sm_90").

    Raises ToolkitError with the compiler's message.
    """
    source, library = folder / "probe.cu", folder / "probe.so"
    source.write_text(PROBE)
    number = architecture.removeprefix("sm_")
    command = [str(folder / "bin/nvcc"), str(source), "-o", str(library), "-ccbin", compiler]
    command += ["-std=c++17", "-w", "-shared", "-Xcompiler", "-fPIC", "--cudart=shared"]
    command += [f"-arch=compute_{number}", f"-code=sm_{number}"]
    command += [f"-I{folder / 'include'}", f"-L{folder / 'lib64'}"]
    command += [f"-l{name}" for name in LIBRARIES]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    finally:
        source.unlink()
    if done.returncode:
        message = (done.stderr or done.stdout).strip()[-600:]
        raise ToolkitError(f"{folder / 'bin/nvcc'} cannot compile for {architecture}: {message}")
    library.unlink()
