"""Atomic writing: the old content or all of the new, and nothing left beside it."""

import hashlib
import os

import pytest

from runtime.files import atomic_write, printable
from weight_files.hashing import sha256_of


def test_text_is_utf8_with_newlines(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_write(path) as file:
        file.write("é\nb\n")
        assert not path.exists()
    assert path.read_bytes() == "é\nb\n".encode()
    assert os.listdir(path.parent) == ["a.txt"]


def test_binary(tmp_path):
    with atomic_write(tmp_path / "a.bin", "wb") as file:
        file.write(b"\x00\xff")
    assert (tmp_path / "a.bin").read_bytes() == b"\x00\xff"


def test_an_error_leaves_the_old_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_names_that_are_not_utf8_keep_their_bytes(tmp_path):
    with atomic_write(tmp_path / "a.txt") as file:
        file.write(os.fsdecode(b"b\xe9r.jpg"))
    assert (tmp_path / "a.txt").read_bytes() == b"b\xe9r.jpg"


def test_a_link_stays_a_link_and_permissions_follow_the_umask(tmp_path):
    (tmp_path / "link").symlink_to("target")
    with atomic_write(tmp_path / "link") as file:
        file.write("x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "x"
    (tmp_path / "plain").write_text("x")
    assert (tmp_path / "target").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    path = tmp_path / "file" / "a.txt"
    with pytest.raises(OSError, match="cannot be written") as caught, atomic_write(path):
        pass
    assert caught.value.filename == str(path)


def test_a_mode_that_would_not_replace_is_refused(tmp_path):
    with pytest.raises(ValueError, match="mode is 'a'"), atomic_write(tmp_path / "a", "a"):
        pass


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc" * 1000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 1000).hexdigest()


def test_printable():
    assert printable("é.jpg") == "é.jpg"
    assert printable(os.fsdecode(b"\xff.jpg")) == "\\udcff.jpg"
