"""The choice between CUDA and the CPU, with a fake driver that answers from the environment."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.cuda13 import private_copy
from runtime.paths import ROOT

DRIVER = """
#include <cstdlib>
static int number(const char* name) { return atoi(getenv(name)); }
extern "C" {
int cuDriverGetVersion(int* version) { *version = number("STUB_VERSION"); return 0; }
int cuInit(unsigned) { return number("STUB_INIT"); }
int cuDeviceGetCount(int* count) { *count = 1; return 0; }
int cuDeviceGet(int* device, int index) { *device = index; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int) {
    int capability = number("STUB_DEVICE");
    *value = attribute == 75 ? capability / 10 : attribute == 76 ? capability % 10 : -1;
    return 0;
}
}
"""
DECIDE = """
import json, os, sys
sys.prefix = os.environ.get("STUB_PREFIX", sys.prefix)
from runtime import PREPARED, cuda
choice = cuda.choose()
print(json.dumps({"nvcc": str(choice.nvcc or ""), "summary": choice.summary,
                  "reason": choice.reason, "remedy": choice.remedy,
                  "first": sys.path[0], "notes": PREPARED.notes,
                  "nvcc_path": os.environ["nvcc_path"], "nccl": os.environ.get("nccl_lib_path")}))
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory) -> Path:
    """Builds a folder with a libcuda.so.1 that answers from the environment."""
    if not shutil.which("g++"):
        pytest.skip("g++ is missing")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.cc").write_text(DRIVER)
    build = ["g++", "-shared", "-fPIC", "-o", "libcuda.so.1", "driver.cc"]
    subprocess.run(build, cwd=folder, check=True)
    return folder


def make_toolkit(folder: Path, version: str = "12.2", cudnn: int = 8) -> Path:
    """Makes a toolkit's tree with empty libraries and returns its nvcc."""
    from runtime.cuda import HEADERS, LIBRARIES

    for name in ("bin", "include", "lib64"):
        (folder / name).mkdir(parents=True)
    for name in HEADERS:
        (folder / "include" / name).touch()
    for name in LIBRARIES:
        (folder / f"lib64/lib{name}.so").touch()
    numbers = f"#define CUDNN_MAJOR {cudnn}\n#define CUDNN_MINOR 9\n#define CUDNN_PATCHLEVEL 7\n"
    (folder / "include/cudnn_version.h").write_text(numbers)
    nvcc = folder / "bin/nvcc"
    nvcc.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version}, V{version}.1'\n")
    nvcc.chmod(0o755)
    return nvcc


def decide(
    driver: Path, home: Path, nvcc: Path | None, device: int = 90, version: int = 13000, **more: str
) -> dict:
    """Returns what `runtime` decides with this driver, and with `nvcc` first on the PATH."""
    path = f"{nvcc.parent}:{os.environ['PATH']}" if nvcc else os.environ["PATH"]
    environ = {"HOME": str(home), "PATH": path, "LD_LIBRARY_PATH": str(driver), "STUB_INIT": "0"}
    environ |= {"STUB_DEVICE": str(device), "STUB_VERSION": str(version)} | more
    done = subprocess.run(
        [sys.executable, "-c", DECIDE], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_whole_cuda_12_is_used(driver, tmp_path):
    nvcc = make_toolkit(tmp_path / "cuda")
    decision = decide(driver, tmp_path, nvcc)
    assert decision["nvcc"] == decision["nvcc_path"] == str(nvcc)
    assert decision["summary"] == "CUDA 12.2, cuDNN 8.9.7, sm_90"
    assert decision["notes"] == ["CUDA 12.2, cuDNN 8.9.7, sm_90."]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"device": 120}, "sm_120"),
        ({"version": 11080}, "newer than the driver"),
        ({"STUB_INIT": "100"}, "finds no device"),
    ],
)
def test_what_jittor_cannot_run_is_not_used(driver, tmp_path, change, word):
    decision = decide(driver, tmp_path, make_toolkit(tmp_path / "cuda"), **change)
    assert decision["nvcc_path"] == ""
    assert word in decision["reason"] and word in decision["notes"][0]


def test_what_a_toolkit_lacks_is_named(driver, tmp_path):
    nvcc = make_toolkit(tmp_path / "cuda")
    (tmp_path / "cuda/include/cufft.h").unlink()
    (tmp_path / "cuda/lib64/libcusparse.so").unlink()
    decision = decide(driver, tmp_path, nvcc)
    assert decision["nvcc_path"] == ""
    assert "lacks cufft.h, libcusparse.so" in decision["reason"]


def test_cudnn_9_needs_the_private_copy(driver, tmp_path):
    decision = decide(driver, tmp_path, make_toolkit(tmp_path / "cuda", cudnn=9))
    assert decision["nvcc_path"] == ""
    assert "cuDNN 9.9.7" in decision["reason"]
    assert "python -m runtime.cuda13" in decision["remedy"]


@pytest.mark.parametrize(
    ("version", "remedy"),
    [(13000, "python -m runtime.cuda13"), (12020, "python -m jittor_utils.install_cuda")],
)
def test_a_device_without_the_copy_gets_the_command(driver, tmp_path, version, remedy):
    nvcc = make_toolkit(tmp_path / "cuda", version="13.0", cudnn=9)
    decision = decide(driver, tmp_path, nvcc, version=version, STUB_PREFIX=str(tmp_path))
    assert decision["nvcc_path"] == ""
    assert remedy in decision["remedy"] and remedy in decision["notes"][0]


def make_copy(prefix: Path) -> Path:
    """Makes a copy under `prefix` that `is_ready` accepts, and returns its folder."""
    folder = prefix / "share/jittor-cuda13"
    nvcc = make_toolkit(folder / "cuda", version="13.0", cudnn=9)
    manifest = private_copy.identity() | {"nvcc": str(nvcc)}
    (folder / private_copy.MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_a_prepared_copy_is_used(driver, tmp_path):
    folder = make_copy(tmp_path)
    decision = decide(driver, tmp_path, None, STUB_PREFIX=str(tmp_path))
    assert decision["nvcc_path"] == str(folder / "cuda/bin/nvcc")
    assert decision["first"] == str(folder / "site")
    assert decision["nccl"] == str(folder / "cuda/lib64")
    assert decision["summary"] == "CUDA 13.0, cuDNN 9.9.7, sm_90"


def test_a_child_process_takes_its_parents_copy(driver, tmp_path):
    folder = make_copy(tmp_path)
    inherited = {"STUB_PREFIX": str(tmp_path), "nvcc_path": str(folder / "cuda/bin/nvcc")}
    assert decide(driver, tmp_path, None, **inherited)["first"] == str(folder / "site")


@pytest.mark.parametrize("key", ["jittor", "edits", "nvcc"])
def test_a_copy_that_no_longer_fits_is_not_used(driver, tmp_path, key):
    path = make_copy(tmp_path) / private_copy.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: "another"}))
    decision = decide(driver, tmp_path, None, STUB_PREFIX=str(tmp_path))
    assert decision["nvcc_path"] == ""
    assert "python -m runtime.cuda13" in decision["notes"][0]
