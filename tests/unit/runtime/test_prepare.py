"""What `import runtime` sets, keeps and repairs, in a fresh process with an empty home."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import cuda, onednn
from runtime.paths import ROOT

REPORT = """
import json, os, sys, runtime
print(json.dumps({"environ": dict(os.environ), "path": sys.path, "notes": runtime.PREPARED.notes,
                  "onednn": str(runtime.PREPARED.onednn), "jittor": "jittor" in sys.modules}))
"""
needs_wheels = pytest.mark.skipif(not onednn.wheel_files(), reason="the oneDNN wheels are missing")


def start(home: Path, script: str = REPORT, **variables: str) -> dict:
    """Runs `script` with HOME at `home` and these variables only; returns the JSON it prints."""
    environ = {"HOME": str(home), "PATH": os.environ["PATH"]} | variables
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_users_variables_are_left_alone(tmp_path):
    variables = {
        "OMP_NUM_THREADS": "1",
        "log_silent": "0",
        "cache_name": "mine",
        "gdb_path": "/x/gdb",
    }
    variables |= {"nvcc_path": "/opt/my/nvcc", "python_config_path": "/opt/my/python3-config"}
    report = start(tmp_path, **variables)
    assert {name: report["environ"][name] for name in variables} == variables
    assert any("/opt/my/nvcc" in note for note in report["notes"])


def test_defaults_are_set_and_jittor_is_not_imported(tmp_path):
    report = start(tmp_path)
    assert report["environ"]["log_silent"] == "1"
    assert int(report["environ"]["OMP_NUM_THREADS"]) == len(os.sched_getaffinity(0))
    assert not report["jittor"] and report["environ"]["use_mpi"] == "0"


def test_ranks_share_the_cores(tmp_path):
    number = {"OMPI_COMM_WORLD_SIZE": "200", "OMPI_COMM_WORLD_LOCAL_SIZE": "100"}
    report = start(tmp_path, **number)
    assert int(report["environ"]["OMP_NUM_THREADS"]) == max(1, os.cpu_count() // 100)
    assert report["environ"]["use_mpi"] == "1"


@pytest.mark.skipif(bool(cuda.find_driver().devices), reason="there is a CUDA device here")
def test_an_nvcc_without_a_driver_is_not_used(tmp_path):
    nvcc = tmp_path / "bin/nvcc"
    nvcc.parent.mkdir()
    nvcc.write_text("#!/bin/sh\necho 'Cuda compilation tools, release 12.2, V12.2.140'\n")
    nvcc.chmod(0o755)
    report = start(tmp_path, PATH=f"{nvcc.parent}:{os.environ['PATH']}")
    assert report["environ"]["nvcc_path"] == ""
    assert report["notes"][0].startswith("CPU: ")


@needs_wheels
def test_dangling_links_of_a_moved_environment_are_repaired(tmp_path):
    folder = tmp_path / ".cache/jittor/mkl" / onednn.FOLDER
    (folder / "lib").mkdir(parents=True)
    (folder / "include").symlink_to("/gone/include")
    (folder / "lib/libmkldnn.so").symlink_to("/gone/lib/libdnnl.so.2")
    report = start(tmp_path)
    include, library = onednn.wheel_files()
    assert (folder / "include").resolve() == include.resolve()
    assert (folder / "lib/libmkldnn.so").resolve() == library.resolve()
    assert report["onednn"] == str(library.resolve())


@needs_wheels
def test_a_real_onednn_folder_is_kept(tmp_path):
    folder = tmp_path / ".cache/jittor/mkl" / onednn.FOLDER
    (folder / "lib").mkdir(parents=True)
    (folder / "include").mkdir()
    shutil.copy(onednn.wheel_files()[1], folder / "lib/libmkldnn.so")
    report = start(tmp_path)
    assert not (folder / "include").is_symlink()
    assert not (folder / "lib/libmkldnn.so").is_symlink()
    assert report["onednn"] == str(folder / "lib/libmkldnn.so")


def test_a_stale_python_config_is_rewritten(tmp_path):
    name = f"python-config-{sys.version_info.major}.{sys.version_info.minor}"
    script = tmp_path / ".cache/jittor" / name
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh\necho -I/another/python\n")
    report = start(tmp_path)
    assert report["environ"]["python_config_path"] == str(script)
    done = subprocess.run([script, "--includes"], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip().removeprefix("-I"), "Python.h").is_file()


def test_the_first_import_of_jittor_announces_the_compilation(tmp_path):
    """Commands that do not need Jittor, such as the doctor, print nothing."""
    look = "import runtime, importlib.util; importlib.util.find_spec({!r})"
    run = [sys.executable, "-c"]
    environ = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    printed = {}
    for name in ("json", "jittor"):
        done = subprocess.run(
            [*run, look.format(name)], cwd=ROOT, env=environ, capture_output=True, text=True
        )
        printed[name] = done.stderr
    assert printed["json"] == ""
    assert "compiles itself" in printed["jittor"]


def test_the_rest_of_a_broken_download_is_named(tmp_path, monkeypatch):
    folder = tmp_path / ".cache/jittor/mkl" / onednn.FOLDER
    (folder / "include").mkdir(parents=True)
    monkeypatch.setenv("JITTOR_HOME", str(tmp_path))
    with pytest.raises(RuntimeError, match="broken download: delete that folder"):
        onednn.load()
