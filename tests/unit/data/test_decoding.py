"""Decoding: broken files are values, workers change nothing, memory does not grow."""

import io
import os
import resource
import struct
import threading
import time
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from data import decoding as images
from data.decoding import BrokenImage, content_key, decode, load_images, summarize_skipped
from jclip.preprocess import make_preprocess


def to_array(image):
    return np.asarray(image.convert("RGB").resize((8, 8)), np.float32)


def noise(size=(40, 30), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return Image.fromarray(pixels)


def png_of(width, height):
    """A small PNG that claims to hold width x height grey pixels."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "gif", "tiff"])
def test_formats(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    noise().save(path)
    image = decode(path)
    path.unlink()  # fully loaded: the file is needed no more
    assert image.size == (40, 30)
    assert to_array(image).shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16", "I", "F"])
def test_modes_are_kept(tmp_path, mode):
    path = tmp_path / "a.tiff"
    image = Image.new(mode, (4, 4)) if mode in ("I;16", "LA") else noise().convert(mode)
    image.save(path)
    assert decode(path).mode == mode


def test_exif_orientation_is_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter
    noise().save(tmp_path / "a.jpg", exif=exif)
    assert decode(tmp_path / "a.jpg").size == (40, 30)


def broken_file(path, kind):
    buffer = io.BytesIO()
    noise((64, 64)).save(buffer, "PNG" if path.suffix == ".png" else "JPEG")
    content = buffer.getvalue()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("not an image")
    elif kind == "damaged":
        path.write_bytes(content[:40] + b"\xff" * 60 + content[100:])
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling":
        path.symlink_to("nowhere")


KINDS = ("truncated", "empty", "text", "folder", "pipe", "dangling", "missing")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_what_cannot_be_read_is_a_broken_image(tmp_path, kind, suffix):
    path = tmp_path / f"a.{suffix}"
    broken_file(path, kind)
    with pytest.raises(BrokenImage) as caught:
        decode(path)
    assert caught.value.path == path
    assert caught.value.cause and str(path) not in caught.value.cause
    assert str(caught.value) == f"{path}: {caught.value.cause}"


def test_a_damaged_png_is_broken(tmp_path):
    broken_file(tmp_path / "a.png", "damaged")
    with pytest.raises(BrokenImage):
        decode(tmp_path / "a.png")


def test_a_wrong_suffix_is_no_obstacle_but_postscript_is_never_run(tmp_path):
    noise().save(tmp_path / "a.jpg", "PNG")
    assert decode(tmp_path / "a.jpg").format == "PNG"
    noise().save(tmp_path / "b.jpg", "EPS")
    with pytest.raises(BrokenImage, match="cannot identify"):
        decode(tmp_path / "b.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_forbidden_file_is_broken(tmp_path):
    noise().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    with pytest.raises(BrokenImage, match="Permission denied"):
        decode(tmp_path / "a.png")


@pytest.mark.parametrize("side", [12_000, 40_000])  # Pillow warns of the first, refuses the second
def test_decompression_bombs_are_broken(tmp_path, side):
    (tmp_path / "a.png").write_bytes(png_of(side, side))
    with pytest.raises(BrokenImage, match="pixels"):
        decode(tmp_path / "a.png")


def test_pillows_warnings_do_not_leak(tmp_path):
    palette = noise().quantize(16)
    palette.info["transparency"] = bytes(range(16))
    palette.save(tmp_path / "palette.png")
    noise().save(tmp_path / "exif.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\0broken")
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        Image.open(tmp_path / "palette.png").convert("RGB")
        assert len(leaked) == 1  # Pillow does warn of this file
        leaked.clear()
        for name in ("palette.png", "exif.jpg"):
            list(load_images([tmp_path / name], to_array))
            decode(tmp_path / name).getexif()
        assert not leaked
        warnings.warn("ours", UserWarning, stacklevel=1)
        assert [str(w.message) for w in leaked] == ["ours"]


@pytest.fixture
def mixed(tmp_path):
    paths = []
    for i in range(40):
        path = tmp_path / f"{i}.{'png' if i % 2 else 'jpg'}"
        if i % 9 == 4:
            broken_file(path, KINDS[i % len(KINDS)])
        else:
            noise(seed=i).save(path)
        paths.append(path)
    return paths


def test_workers_change_nothing(mixed):
    inline = list(load_images(mixed, to_array))
    assert [index for index, _ in inline] == list(range(40))
    assert [i for i, x in inline if isinstance(x, BrokenImage)] == [4, 13, 22, 31]
    for workers, batch in ((1, 32), (2, 1), (3, 5), (2, 100)):
        threaded = list(load_images(mixed, to_array, workers, batch))
        assert [index for index, _ in threaded] == list(range(40))
        for (_, one), (_, other) in zip(inline, threaded, strict=True):
            if isinstance(one, BrokenImage):
                assert (one.path, one.cause) == (other.path, other.cause)
            else:
                np.testing.assert_array_equal(one, other)


def test_look_ahead_is_bounded(mixed):
    started = []

    def transform(image):
        started.append(1)
        return to_array(image)

    for workers in (0, 2):
        started.clear()
        loaded = load_images([mixed[0]] * 60, transform, workers, batch=8)
        next(loaded)
        time.sleep(0.1)
        assert len(started) <= 8
        loaded.close()


def test_threads_end_when_the_reader_stops(mixed):
    before = threading.active_count()
    loaded = load_images(mixed, to_array, workers=2)
    next(loaded)
    loaded.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_in_the_transform_passes_through(mixed, workers):
    def transform(image):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(load_images(mixed, transform, workers))


def test_no_images():
    assert list(load_images([], to_array, workers=2)) == []


def test_content_key_ignores_the_name(tmp_path):
    noise().save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.png").read_bytes())
    noise(seed=1).save(tmp_path / "c.png")
    keys = [content_key(tmp_path / name) for name in ("a.png", "b.jpg", "c.png")]
    assert keys[0] == keys[1] != keys[2]
    assert len(keys[0]) == 64


def test_skipped_images_summary():
    assert "could be read" in summarize_skipped([])
    skipped = [("a.jpg", "empty")]
    text = summarize_skipped(skipped)
    assert text == "1 image could not be read and was skipped: a.jpg (empty)."
    skipped += [(os.fsdecode(b"\xff%d.jpg" % i), "truncated") for i in range(11)]
    text = summarize_skipped(skipped)
    assert text.startswith("12 images") and text.endswith("; and 2 more.") and "\n" not in text
    assert text.isprintable() and text.isascii()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_transform_refuses_is_broken(tmp_path, workers):
    noise((20_000, 1)).save(tmp_path / "sliver.png")
    noise().save(tmp_path / "good.png")
    paths = [tmp_path / "sliver.png", tmp_path / "good.png"]
    (_, sliver), (_, good) = load_images(paths, make_preprocess(224), workers)
    assert isinstance(sliver, BrokenImage) and "too narrow" in sliver.cause
    assert good.shape == (3, 224, 224)


def test_a_passing_failure_is_not_the_files_fault(tmp_path):
    noise().save(tmp_path / "a.png")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files = []
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 5, limits[1])
        )
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                open_files.append(open(tmp_path / "a.png", "rb"))
        with pytest.raises(OSError, match="Too many open files"):
            decode(tmp_path / "a.png")
    finally:
        for file in open_files:
            file.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert decode(tmp_path / "a.png").size == (40, 30)


def test_a_link_to_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.jpg").symlink_to("pipe")
    with pytest.raises(OSError, match="is not a regular file"):
        content_key(tmp_path / "a.jpg")


def test_the_quiet_rule_is_added_once():
    with warnings.catch_warnings():
        images._quiet_pillow()
        rules = list(warnings.filters)
        images._quiet_pillow()
        assert warnings.filters == rules
