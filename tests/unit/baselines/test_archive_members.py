"""Reading members of archives that nobody vouches for."""

import io
import os
import tarfile
import zipfile

import pytest

from baselines.datasets import archive_members
from baselines.datasets.archive_members import open_in_zip, read_tar, read_zip
from data.lists import DataError
from tests.helpers.archive_kit import tar_gz, zipped

FILES = {"top/a.txt": b"first", "top/sub/b.txt": b"second", "other/a.txt": b"third"}
KINDS = [(tar_gz, read_tar), (zipped, read_zip)]


def everything(_: str) -> bool:
    return True


@pytest.fixture(params=KINDS, ids=["tar", "zip"])
def kind(request, tmp_path):
    """read(files, links, wanted): writes an archive and reads it back."""
    make, reader = request.param

    def read(files, links=None, wanted=everything, top="top"):
        path = tmp_path / "some.archive"
        path.write_bytes(make(files, links))
        return reader(path, top, wanted)

    return read


def test_reads_what_is_wanted_below_the_top(kind, tmp_path):
    assert kind(FILES) == {"a.txt": b"first", "sub/b.txt": b"second"}
    assert kind(FILES, wanted=lambda path: path == "sub/b.txt") == {"sub/b.txt": b"second"}
    assert kind(FILES, top="nothing") == {}
    assert kind({f"./{name}": content for name, content in FILES.items()}) == kind(FILES)
    assert len(kind(FILES, top="")) == 3
    assert os.listdir(tmp_path) == ["some.archive"]


@pytest.mark.parametrize(
    "name", ["../evil", "top/../../evil", "/evil", "top\\..\\..\\evil", "C:/x"]
)
def test_paths_that_lead_out(kind, name):
    with pytest.raises(DataError, match=r"some.archive: its member .* leads out") as error:
        kind(FILES | {name: b"x"})
    assert "\n" not in str(error.value)


def test_links_in_the_place_of_files(kind):
    with pytest.raises(DataError, match="member top/link.txt is a link"):
        kind(FILES, {"top/link.txt": "/etc/passwd"})
    assert len(kind(FILES, {"other/link.txt": "/etc/passwd"})) == 2  # not asked for, not followed


def test_hard_links_and_devices(tmp_path):
    for form in (tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        info = tarfile.TarInfo("top/odd")
        info.type, info.linkname = form, "top/a.txt"
        with tarfile.open(tmp_path / "odd.tar", "w") as archive:
            archive.addfile(info)
        with pytest.raises(DataError, match="member top/odd is a link or a device"):
            read_tar(tmp_path / "odd.tar", "top", everything)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_file_that_comes_twice(kind):
    with pytest.raises(DataError, match="member top/a.txt comes twice"):
        kind(FILES | {"./top/a.txt": b"again"})


def test_sizes_are_checked_before_memory_is_taken(monkeypatch, kind):
    monkeypatch.setattr(archive_members, "MAX_MEMBER", 1000)
    with pytest.raises(DataError, match="top/large has 1001 bytes"):
        kind(FILES | {"top/large": bytes(1001)})
    monkeypatch.setattr(archive_members, "MAX_TOTAL", 1500)
    with pytest.raises(DataError, match="top/large2 has 1000 bytes, 2011 with those before"):
        kind(FILES | {"top/large1": bytes(1000), "top/large2": bytes(1000)})


@pytest.mark.parametrize(("make", "reader"), KINDS)
def test_cut_off_and_damaged(tmp_path, make, reader):
    noise = os.urandom(3000)
    whole, path = make({"top/a": noise, "top/b": noise}), tmp_path / "x"
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    cuts = [whole[: len(whole) * percent // 100] for percent in (0, 10, 50, 90, 99)]
    for content in (*cuts, bytes(flipped), b"<html>not found</html>", bytes(5000)):
        path.write_bytes(content)
        try:
            found = reader(path, "top", everything)
        except DataError as error:
            assert str(error).startswith(f"{path}: is damaged, cut off or no archive (")
            assert "download it again" in str(error) and "\n" not in str(error)
        else:  # a tar of nothing but zeros is an empty one
            assert content == bytes(5000) and found == {}


def test_a_missing_archive_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_tar(tmp_path / "nowhere.tar", "top", everything)


def test_encrypted_zip(tmp_path):
    content = bytearray(zipped({"top/a": b"x"}))
    content[6] |= 1  # the flag of encryption, in the member and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match="x.zip: is damaged, .*encrypted"):
        read_zip(tmp_path / "x.zip", "top", everything)


def test_stops_once_all_is_there(tmp_path):
    whole = tar_gz({"top/a": b"x" * 10, "top/z": os.urandom(100_000)})
    (tmp_path / "cut.tar.gz").write_bytes(whole[:60_000])
    assert read_tar(tmp_path / "cut.tar.gz", "top", lambda path: path == "a", 1) == {"a": b"x" * 10}


def test_an_archive_in_an_archive(tmp_path):
    path = tmp_path / "outer.zip"
    path.write_bytes(zipped({"x/inner.tar.gz": tar_gz(FILES), "__MACOSX/x/inner.tar.gz": b""}))
    with open_in_zip(path, "inner.tar.gz") as file:
        assert read_tar(file, "top", everything, name="inner") == {
            "a.txt": b"first",
            "sub/b.txt": b"second",
        }
    with pytest.raises(DataError, match="holds 0 files other.tar.gz instead of one"):
        with open_in_zip(path, "other.tar.gz"):
            pass
    path.write_bytes(zipped({"x/inner.tar.gz": tar_gz(FILES)[:-50]}))
    with open_in_zip(path, "inner.tar.gz") as file:
        with pytest.raises(DataError, match="^inner: is damaged"):
            read_tar(file, "top", everything, name="inner")
    path.write_bytes(zipped({}, {"x/inner.tar.gz": "/etc/passwd"}))
    with pytest.raises(DataError, match="inner.tar.gz"):
        with open_in_zip(path, "inner.tar.gz"):
            pass


def test_stored_size_that_lies(tmp_path):
    """A member that unpacks to more than it declares ends at what it declares, and is refused."""
    content = bytearray(zipped({"top/a": bytes(1 << 20)}))
    place = content.index(b"PK\x01\x02") + 24
    content[place : place + 4] = (10).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        read_zip(tmp_path / "x.zip", "top", everything)
    assert zipfile.is_zipfile(io.BytesIO(content))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tars_of_every_format(tmp_path, form, mode):
    long, foreign = "top/" + "folder/" * 15 + "a.txt", os.fsdecode(b"top/\xfc.txt")
    files = {"top/a": b"", "top/b": b"x" * 512, long: b"y" * 1000, "top/\u732b": b"z"}
    files |= {} if form == tarfile.PAX_FORMAT else {foreign: b"old bytes"}
    with tarfile.open(tmp_path / "x", mode, format=form) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid = len(content), 1 << 20
            archive.addfile(info, io.BytesIO(content))
            folder = tarfile.TarInfo(f"{name}-folder")
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
    expected = {name.removeprefix("top/"): content for name, content in files.items()}
    assert read_tar(tmp_path / "x", "top", everything) == expected


def test_lzma_and_bzip2_are_not_read(tmp_path):
    for mode in ("w:xz", "w:bz2"):
        with tarfile.open(tmp_path / "x", mode):
            pass
        with pytest.raises(DataError, match="x: is damaged, cut off or no archive"):
            read_tar(tmp_path / "x", "top", everything)
