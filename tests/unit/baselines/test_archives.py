"""Official archives: fetched from a real server on this machine, never from the makers' sites."""

import os

import pytest

from baselines.datasets import archives
from baselines.datasets.archives import ARCHIVES, download, find_archive
from data.lists import DataError
from tests.helpers.archive_kit import accept, cifar_files, tar_gz
from tests.helpers.file_server import serving
from tests.helpers.kit import script

CONTENT = tar_gz(cifar_files("cifar10", False))
FILE = "cifar-10-python.tar.gz"


@pytest.fixture
def server(monkeypatch):
    with serving(CONTENT) as running:
        accept(monkeypatch, "cifar10", 0, CONTENT, f"{running.url}/{FILE}")
        yield running


def test_the_list():
    for name, forms in ARCHIVES.items():
        for archive in forms:
            assert len(archive.md5) == 32 and int(archive.md5, 16), name
            assert archive.url.startswith("http") and archive.top
    assert ARCHIVES["cifar10"][0].md5 == "c58f30108f718f92721af3b95e74349a"
    assert ARCHIVES["cifar100"][0].md5 == "eb9058c3a382ffc7106e4002c42a8d85"


def test_downloads_once(server, tmp_path, capsys):
    path = download("cifar10", tmp_path / "new")
    assert path == tmp_path / "new" / FILE and path.read_bytes() == CONTENT
    assert download("cifar10", tmp_path / "new") == path
    assert server.requests == [None] and os.listdir(path.parent) == [FILE]
    assert capsys.readouterr().err == ""  # no bar where there is no terminal
    assert find_archive("cifar10", path.parent) == (ARCHIVES["cifar10"][0], path)


def test_the_tool_prints_the_place(server, tmp_path, capsys, monkeypatch):
    tool = script("scripts/get_data.py")
    monkeypatch.setattr("sys.argv", ["get_data.py", "cifar10", "--root", str(tmp_path)])
    tool.main()
    assert capsys.readouterr().out == f"{tmp_path / FILE}\n"
    assert (tmp_path / FILE).read_bytes() == CONTENT


def test_goes_on_where_it_was_interrupted(server, tmp_path):
    server.break_at = 20_000
    assert download("cifar10", tmp_path / "a").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=20000-"]
    server.requests.clear()
    (tmp_path / f"{FILE}.part").write_bytes(CONTENT[:30_000])
    assert download("cifar10", tmp_path).read_bytes() == CONTENT
    assert server.requests == ["bytes=30000-"]


def test_wrong_content_from_the_server(server, tmp_path):
    server.data = b"<html>moved</html>"
    with pytest.raises(ValueError, match="what came has MD5"):
        download("cifar10", tmp_path)
    assert os.listdir(tmp_path) == []


def test_offline_says_what_to_put_where(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match="cifar10 could not be downloaded") as error:
        download("cifar10", tmp_path)
    archive = ARCHIVES["cifar10"][0]
    for part in (archive.url, archive.md5, f"put that file at {tmp_path / FILE} yourself (MD5"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_of_the_name_that_is_another(server, tmp_path):
    (tmp_path / FILE).write_bytes(CONTENT[:-1] + b"?")
    for call in (download, find_archive):
        with pytest.raises(DataError, match="its MD5 is .* move it away and fetch"):
            call("cifar10", tmp_path)
    assert server.requests == []
    (tmp_path / FILE).write_bytes(CONTENT)  # a new version of the file is read anew
    assert download("cifar10", tmp_path) == tmp_path / FILE


def test_nothing_found(tmp_path):
    assert find_archive("cifar10", tmp_path) is None
    (tmp_path / "other.tgz").write_bytes(b"x")
    assert find_archive("cifar10", tmp_path / "other.tgz") is None
    assert find_archive("cifar10", tmp_path / "nowhere") is None


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="no archive is known of 'mnist'; there are cifar10"):
        archives.download("mnist", tmp_path)
