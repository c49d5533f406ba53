"""The edits for CUDA 13 fit the pinned Jittor, and the command that applies them fails clearly."""

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.cuda13 import private_copy, toolkit
from runtime.cuda13.edits import EDITS, JITTOR_VERSION, REMOVED, EditError, apply_edits
from runtime.paths import ROOT


@pytest.fixture
def site(tmp_path) -> Path:
    """Copies those files of the installed Jittor that the edits touch."""
    installed = Path(str(importlib.metadata.distribution("jittor").locate_file("")))
    for name in {edit.file for edit in EDITS} | set(REMOVED):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(installed / name, tmp_path / name)
    return tmp_path


def contents(site: Path) -> dict[str, str]:
    return {str(p.relative_to(site)): p.read_text() for p in site.rglob("*") if p.is_file()}


def test_the_edits_are_for_the_pinned_jittor():
    assert f"jittor=={JITTOR_VERSION}\n" in (ROOT / "requirements.txt").read_text()


def test_every_edit_applies_once(site):
    before = contents(site)
    apply_edits(site)
    after = contents(site)
    assert set(before) - set(after) == set(REMOVED)
    for edit in EDITS:
        assert before[edit.file].count(edit.before) == edit.count, edit.file
        assert edit.after not in before[edit.file], edit.file
        assert edit.after in after[edit.file], edit.file
    apply_edits(site)
    assert contents(site) == after


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.file.rsplit("/", 1)[1])
def test_a_missing_anchor_names_the_file(site, edit):
    path = site / edit.file
    path.write_text(path.read_text().replace(edit.before, ""))
    with pytest.raises(EditError, match=edit.file) as caught:
        apply_edits(site)
    assert f"jittor=={JITTOR_VERSION}" in str(caught.value)


def test_a_missing_file_is_named(site):
    (site / EDITS[0].file).unlink()
    with pytest.raises(EditError, match=EDITS[0].file):
        apply_edits(site)


@pytest.mark.skipif(toolkit.wheel_nvcc() is not None, reason="the CUDA 13 wheels are installed")
def test_without_the_wheels_the_command_names_them_and_leaves_nothing():
    shared = private_copy.folder().parent
    before = set(shared.iterdir()) if shared.is_dir() else set()
    command = [sys.executable, "-m", "runtime.cuda13", "--arch", "sm_90"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "requirements-cuda13.txt" in done.stderr
    assert (set(shared.iterdir()) if shared.is_dir() else set()) == before


@pytest.fixture
def wheels(tmp_path, monkeypatch) -> Path:
    """Makes the wheels' tree with empty files."""
    folder = tmp_path / "nvidia/cu13"
    for name in toolkit.HEADERS:
        (folder / "include" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "include" / name).touch()
    for name in ("bin/nvcc", *(f"lib/lib{name}.so.13" for name in toolkit.LIBRARIES)):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    monkeypatch.setattr(toolkit, "wheel_folders", lambda: [folder])
    return folder


def test_the_toolkit_has_the_shape_that_jittor_expects(wheels, tmp_path):
    assert toolkit.build(tmp_path / "cuda") == wheels / "bin/nvcc"
    nvcc = tmp_path / "cuda/bin/nvcc"
    assert not nvcc.is_symlink() and nvcc.stat().st_mode & 0o111
    assert f'exec "{wheels}/bin/nvcc" "$@"' in nvcc.read_text()
    for name in toolkit.LIBRARIES:
        for link in (f"lib{name}.so", f"lib{name}.so.13"):
            path = tmp_path / "cuda/lib64" / link
            assert path.resolve() == (wheels / f"lib/lib{name}.so.13").resolve()


def test_a_toolkit_that_is_not_whole_names_what_is_missing(wheels, tmp_path):
    (wheels / "include/cufft.h").unlink()
    (wheels / "lib/libcusparse.so.13").unlink()
    with pytest.raises(toolkit.ToolkitError, match=r"lack include/cufft\.h, lib64/libcusparse\.so"):
        toolkit.build(tmp_path / "cuda")


def test_the_remedies_name_files_that_exist():
    assert (ROOT / "requirements-cuda13.txt").is_file()
    assert "requirements-cuda13.txt" in toolkit.WHEELS
