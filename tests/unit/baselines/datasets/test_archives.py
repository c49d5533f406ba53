"""Official archives: downloaded from a server on this machine, checked, and read in place."""

import dataclasses
import hashlib
import io
import os

import pytest

from baselines.datasets.archives import Archive, download, find_archive, read_tar, read_zip
from baselines.datasets.registry import DATASETS
from data.lists import DataError
from scripts import get_data
from tests.helpers.archives import cifar_files, put_official, tar_gz, zipped
from tests.helpers.file_server import serving

CONTENT = tar_gz(cifar_files("cifar10", False))
FILE = "cifar-10-python.tar.gz"
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
FILES = {"top/a.txt": b"first", "top/sub/b.txt": b"second", "other/a.txt": b"third"}


@pytest.fixture
def server():
    with serving(CONTENT) as running:
        running.archive = Archive(FILE, f"{running.url}/{FILE}", MD5, "cifar-10-batches-py")
        yield running


def test_the_official_archives():
    for name, entry in DATASETS.items():
        for archive in entry.archives:
            assert len(archive.md5) == 32 and int(archive.md5, 16), name
            assert archive.url.startswith("http") and archive.top
    assert DATASETS["cifar10"].archives[0].md5 == "c58f30108f718f92721af3b95e74349a"
    assert DATASETS["cifar100"].archives[0].md5 == "eb9058c3a382ffc7106e4002c42a8d85"


def test_downloads_once(server, tmp_path, capsys):
    path = download(server.archive, tmp_path / "new")
    assert path == tmp_path / "new" / FILE and path.read_bytes() == CONTENT
    assert download(server.archive, tmp_path / "new") == path
    assert server.requests == [None] and os.listdir(path.parent) == [FILE]
    assert capsys.readouterr().err == ""  # no bar without a terminal
    assert find_archive((server.archive,), path.parent) == (server.archive, path)


def test_the_tool_prints_the_place(server, tmp_path, capsys, monkeypatch):
    entry = dataclasses.replace(DATASETS["cifar10"], archives=(server.archive,))
    monkeypatch.setitem(DATASETS, "cifar10", entry)
    get_data.main(["cifar10", "--root", str(tmp_path)])
    assert capsys.readouterr().out == f"{tmp_path / FILE}\n"
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_completes_a_partial_file(server, tmp_path):
    server.break_at = 20_000
    assert download(server.archive, tmp_path / "a").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=20000-"]
    server.requests.clear()
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT[:30_000])
    assert download(server.archive, tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=30000-"]


def test_wrong_content_from_the_server(server, tmp_path):
    server.data = b"<html>moved</html>"
    with pytest.raises(ValueError, match="MD5"):
        download(server.archive, tmp_path)
    assert os.listdir(tmp_path) == []


def test_offline_says_what_to_put_where(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError) as error:
        download(server.archive, tmp_path)
    for part in (server.archive.url, MD5, str(tmp_path / FILE)):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_an_archive_that_is_not_the_official_one_is_not_opened(server, tmp_path):
    """Cut off, damaged or packed by somebody else: one line with both MD5s and the remedy."""
    path = tmp_path / FILE
    for content in (CONTENT[:-1] + b"?", CONTENT[: len(CONTENT) // 2], b"<html>404</html>", b""):
        path.write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        for call in (download, lambda archive, root: find_archive((archive,), root)):
            with pytest.raises(DataError) as error:
                call(server.archive, tmp_path)
            for part in (str(path), md5, MD5, server.archive.url, "unpack it"):
                assert part in str(error.value)
            assert "\n" not in str(error.value)
    assert server.requests == []
    path.write_bytes(CONTENT)  # a new version of the file is hashed again
    assert download(server.archive, tmp_path) == path


def test_a_file_of_any_name_is_known_by_its_md5(monkeypatch, tmp_path):
    archives = DATASETS["cifar10"].archives
    path = put_official(monkeypatch, tmp_path, archives[1], CONTENT)
    renamed = path.rename(tmp_path / "mine (1).tgz")
    assert find_archive(archives, renamed) == (archives[1], renamed)
    assert find_archive(archives, tmp_path) is None
    assert find_archive(archives, tmp_path / "nowhere") is None
    renamed.write_bytes(b"x")
    with pytest.raises(DataError, match=r"mine \(1\).tgz.*" + archives[1].md5):
        find_archive(archives, renamed)


def test_reads_the_wanted_files_below_the_top(tmp_path):
    (tmp_path / "a.tar.gz").write_bytes(tar_gz(FILES))
    (tmp_path / "a.zip").write_bytes(zipped(FILES))
    for read, name in ((read_tar, "a.tar.gz"), (read_zip, "a.zip")):
        path = tmp_path / name
        everything = read(path, "top", bool)
        assert everything == {"a.txt": b"first", "sub/b.txt": b"second"}
        assert read(path, "top", "sub/b.txt".__eq__) == {"sub/b.txt": b"second"}
        assert read(path, "nothing", bool) == {}
    assert read_tar(io.BytesIO(tar_gz(FILES)), "other", bool) == {"a.txt": b"third"}
