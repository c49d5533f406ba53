"""Two hundred files with image names that a test set should not hold, and what must happen to each.

`make(folder)` returns {name: readable}. True means that the file must be read, False that it must
be named as broken, and None that both are allowed, because damage does not always show.
"""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tiff": "TIFF"}


def photo(size=(48, 40), seed=0) -> Image.Image:
    """Returns a smooth picture with some noise, so that every format has something to store."""
    random = np.random.default_rng(seed)
    x, y = np.meshgrid(*(np.linspace(0, 1, side) for side in size))
    pixels = np.stack([x, y, 1 - x], axis=2) * 200 + random.integers(0, 55, (*x.shape, 3))
    return Image.fromarray(pixels.astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    """Returns the picture's bytes in a format of Pillow."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_claiming(width: int, height: int) -> bytes:
    """Returns a small PNG whose header claims another size."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def cut_short() -> dict[str, tuple[bytes, bool]]:
    """Returns files of every format that end too early, at most halfway."""
    files = {}
    for suffix, kind in SUFFIXES.items():
        whole = encoded(photo(), kind)
        for percent in (0, 1, 5, 10, 20, 30, 40, 50, 60, 75):
            files[f"cut{percent}.{suffix}"] = whole[: len(whole) * percent // 100], False
    return files


def damaged() -> dict[str, tuple[bytes, None]]:
    """Returns files with sixteen bytes replaced at random places."""
    files = {}
    for suffix, kind in SUFFIXES.items():
        for seed in range(9):
            random = np.random.default_rng(seed)
            content = bytearray(encoded(photo(seed=seed), kind))
            for place in random.integers(0, len(content), 16):
                content[place] = random.integers(256)
            files[f"damaged{seed}.{suffix}"] = bytes(content), None
    return files


def no_pictures() -> dict[str, tuple[bytes, bool]]:
    """Returns other contents under an image's name."""
    contents = {
        "text": b"this is no picture\n",
        "page": b"<!doctype html><title>404 Not Found</title>",
        "json": b'{"error": "quota"}',
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "zip": b"PK\x03\x04" + bytes(60),
        "program": b"\x7fELF" + bytes(60),
        "nul": bytes(300),
        "noise": np.random.default_rng(0).bytes(2000),
        "signature": b"\x89PNG\r\n\x1a\n",
        "postscript": encoded(photo(), "EPS"),
    }
    files = {
        f"{name}.{suffix}": (c, False) for name, c in contents.items() for suffix in ("jpg", "png")
    }
    return files | {
        "claims20000.png": (png_claiming(20_000, 20_000), False),
        "claims2000000000.png": (png_claiming(2**31 - 1, 2**31 - 1), False),
        "claims0.png": (png_claiming(0, 5), False),
    }


def unusual() -> dict[str, tuple[bytes, bool]]:
    """Returns readable pictures of unusual kinds."""
    image, files = photo(), {}
    for suffix, kind in SUFFIXES.items():
        wrong_suffix = "png" if suffix == "jpg" else "jpg"
        files[f"really_{suffix}.{wrong_suffix}"] = encoded(image, kind)
        files[f"one_pixel.{suffix}"] = encoded(image.resize((1, 1)), kind)
    for mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        stored = Image.new(mode, (40, 30), 7) if mode[0] == "I" else image.convert(mode)
        files[f"mode_{mode.replace(';', '')}.png"] = encoded(stored, "PNG")
    for mode in ("CMYK", "YCbCr", "F", "I", "I;16"):
        converted = (
            image.convert(mode) if mode in ("CMYK", "YCbCr") else Image.new(mode, (40, 30), 1)
        )
        files[f"mode_{mode.replace(';', '')}.tif"] = encoded(converted, "TIFF")
    files["cmyk.jpg"] = encoded(image.convert("CMYK"), "JPEG")
    files["grey.jpg"] = encoded(image.convert("L"), "JPEG")
    files["progressive.jpg"] = encoded(image, "JPEG", progressive=True)
    files["trailing.jpg"] = encoded(image, "JPEG") + b"more bytes after the end"
    files["transparent.gif"] = encoded(image.quantize(16), "GIF", transparency=0)
    for suffix, kind in (("gif", "GIF"), ("webp", "WEBP"), ("png", "PNG")):
        frames = [photo(seed=seed) for seed in (1, 2)]
        files[f"animated.{suffix}"] = encoded(image, kind, save_all=True, append_images=frames)
    for turn in range(9):
        exif = Image.Exif()
        exif[0x0112] = turn
        files[f"turned{turn}.jpg"] = encoded(image, "JPEG", exif=exif)
    files["bad_exif.jpg"] = encoded(image, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\0broken")
    for width, height in ((20_000, 1), (1, 20_000), (20_000, 30), (2, 1)):
        files[f"long{width}x{height}.png"] = encoded(image.resize((width, height)), "PNG")
    return {name: (content, True) for name, content in files.items()}


def odd_names() -> dict[str, tuple[bytes, bool]]:
    """Returns a good picture under names that break quoting, encodings and tables."""
    names = [os.fsdecode(b"\xff\xfe.jpg"), os.fsdecode("gr\xfcn.jpg".encode("latin-1"))]
    names += ["猫 🐈.jpg", "two words.jpg", "-dash.jpg", "$(touch owned).jpg", "a'b\"c.jpg"]
    names += ["<script>alert(1)</script>.jpg".replace("/", "∕"), "x" * 240 + ".jpg", "UPPER.JPG"]
    names += ["%s%d{0}.jpg", "1 2 3 4 5.jpg", "back\\slash.jpg", "semi;colon&amp.jpg"]
    return {name: (encoded(photo(seed=n), "JPEG"), True) for n, name in enumerate(names)}


def links(folder: Path) -> dict[str, bool]:
    """Makes links that lead nowhere or in circles, and one that is fine."""
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    (folder / "loop_a.jpg").symlink_to("loop_b.jpg")
    (folder / "loop_b.jpg").symlink_to("loop_a.jpg")
    (folder / "itself.png").symlink_to("itself.png")
    (folder / "linked.png").symlink_to("really_jpg.png")
    names = ("dangling.jpg", "loop_a.jpg", "loop_b.jpg", "itself.png")
    return {name: False for name in names} | {"linked.png": True}


def make(folder: Path) -> dict[str, bool | None]:
    """Writes all of them to `folder`."""
    folder.mkdir(parents=True)
    files = cut_short() | damaged() | no_pictures() | unusual() | odd_names()
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: readable for name, (_, readable) in files.items()} | links(folder)
