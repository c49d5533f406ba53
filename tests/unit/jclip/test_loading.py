"""Downloads from a server on this machine: complete, interrupted, wrong and missing files."""

import hashlib
import threading

import numpy as np
import pytest

from jclip import loading
from tests.helpers.file_server import serving
from weight_files.known_weights import find_by_sha256

FILE = np.random.default_rng(0).bytes(3 << 20)
SHA = hashlib.sha256(FILE).hexdigest()


@pytest.fixture
def server(monkeypatch, tmp_path):
    with serving(FILE) as running:
        monkeypatch.setattr(loading, "SITE", running.url)
        monkeypatch.setattr(loading, "MODELS", {"tiny": ("tiny.pt", SHA)})
        monkeypatch.setattr(loading, "OPENAI_FOLDER", tmp_path / "shared")
        yield running


def test_names_and_hashes():
    assert len(loading.available_models()) == 9 and "ViT-B/32" in loading.available_models()
    for name, (file, sha) in loading.MODELS.items():
        assert len(sha) == 64 and int(sha, 16) and file.endswith(".pt")
        assert find_by_sha256(sha).name == name


def test_downloads_once(server, tmp_path, capsys):
    path = loading.find_or_download("tiny", tmp_path / "new")
    assert path == tmp_path / "new/tiny.pt" and path.read_bytes() == FILE
    assert "tiny.pt: 100%" in capsys.readouterr().err
    assert loading.find_or_download("tiny", tmp_path / "new") == path
    assert server.requests == [None]
    assert [item.name for item in path.parent.iterdir()] == ["tiny.pt"]
    assert loading.sha256_of(path) == SHA


def test_goes_on_after_a_broken_connection(server, tmp_path):
    server.break_at = 1_000_000
    assert loading.find_or_download("tiny", tmp_path).read_bytes() == FILE
    assert server.requests == [None, "bytes=1000000-"]


def test_goes_on_with_what_an_earlier_run_left(server, tmp_path):
    (tmp_path / "tiny.pt.part").write_bytes(FILE[:2_000_000])
    assert loading.find_or_download("tiny", tmp_path).read_bytes() == FILE
    assert server.requests == ["bytes=2000000-"]
    (tmp_path / "tiny.pt").rename(tmp_path / "tiny.pt.part")  # complete but for its name
    assert loading.find_or_download("tiny", tmp_path).read_bytes() == FILE


def test_starts_again_where_the_server_knows_no_ranges(server, tmp_path):
    server.ranges = False
    (tmp_path / "tiny.pt.part").write_bytes(b"x" * 5_000_000)
    assert loading.find_or_download("tiny", tmp_path).read_bytes() == FILE


def test_wrong_content(server, tmp_path):
    server.data = FILE[:-1] + b"?"
    with pytest.raises(ValueError, match="has SHA-256") as error:
        loading.find_or_download("tiny", tmp_path)
    assert str(tmp_path / "tiny.pt") in str(error.value) and SHA in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_server_that_refuses(server, tmp_path):
    server.status = 404
    with pytest.raises(ValueError, match="404"):
        loading.find_or_download("tiny", tmp_path)


def test_offline_says_what_to_put_where(server, tmp_path):
    server.shutdown()
    server.server_close()
    with pytest.raises(ValueError, match="could not be downloaded") as error:
        loading.find_or_download("tiny", tmp_path)
    for part in (str(tmp_path / "tiny.pt"), SHA, "put that file at", loading.SITE):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_under_the_name_that_is_another(server, tmp_path):
    (tmp_path / "tiny.pt").write_bytes(b"mine")
    with pytest.raises(ValueError, match="is not OpenAI's tiny"):
        loading.find_or_download("tiny", tmp_path)
    assert (tmp_path / "tiny.pt").read_bytes() == b"mine" and server.requests == []


def test_the_shared_folder_is_used_if_right(server, tmp_path):
    shared = tmp_path / "shared/tiny.pt"
    shared.parent.mkdir()
    shared.write_bytes(FILE)
    assert loading.find_or_download("tiny", tmp_path) == shared and server.requests == []
    shared.write_bytes(b"half")
    assert loading.find_or_download("tiny", tmp_path) == tmp_path / "tiny.pt"


def test_two_at_once_download_once(server, tmp_path):
    threads = [
        threading.Thread(target=loading.find_or_download, args=("tiny", tmp_path)) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "tiny.pt").read_bytes() == FILE and server.requests == [None]


def test_unknown_name():
    with pytest.raises(ValueError, match="no model is named 'ViT-X'; there are RN50"):
        loading.find_or_download("ViT-X")
