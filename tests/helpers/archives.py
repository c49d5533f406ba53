"""Small archives in the layouts of the official ones, with Python 2's pickles for CIFAR."""

import io
import struct
import tarfile
import zipfile

import numpy as np
from PIL import Image

from baselines.datasets import archives
from tests.robustness.malformed import encoded, photo


def pickled(item) -> bytes:
    """Returns the pickle of Python 2's cPickle, protocol 2: byte strings instead of Unicode."""
    return b"\x80\x02" + _pickled(item) + b"."


def _pickled(item) -> bytes:
    if isinstance(item, dict):
        return b"}(" + b"".join(_pickled(k) + _pickled(v) for k, v in item.items()) + b"u"
    if isinstance(item, list):
        return b"](" + b"".join(map(_pickled, item)) + b"e"
    if isinstance(item, tuple):
        return b"(" + b"".join(map(_pickled, item)) + b"t"
    if isinstance(item, str):
        return b"U" + bytes([len(item)]) + item.encode()
    if isinstance(item, bytes):
        return b"T" + struct.pack("<i", len(item)) + item
    if isinstance(item, bool) or item is None:
        return {True: b"\x88", False: b"\x89", None: b"N"}[item]
    if isinstance(item, int):
        return b"J" + struct.pack("<i", item)
    assert item.dtype == np.uint8
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    kind = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R" + _pickled((3, "|", *[None] * 3, -1, -1, 0))
    kind += b"b"
    shape = _pickled(item.shape)
    return start + b"(K\x01" + shape + kind + b"\x89" + _pickled(item.tobytes()) + b"tb"


def tar_gz(files: dict[str, bytes]) -> bytes:
    """Returns a .tar.gz of these files, folders first."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for folder in sorted({name.rpartition("/")[0] for name in files} - {""}):
            info = tarfile.TarInfo(folder)
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files: dict[str, bytes]) -> bytes:
    """Returns a zip of these files."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def jpeg(seed: int, size=(10, 8)) -> bytes:
    """Returns a small JPEG."""
    return encoded(photo(size, seed), "JPEG")


def opened(content: bytes) -> np.ndarray:
    """Returns an encoded image as uint8[H,W,3]."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def put_official(monkeypatch, folder, archive: archives.Archive, content: bytes):
    """Writes `content` under the name of an official archive, and makes it count as that one.

    Returns its path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / archive.file
    path.write_bytes(content)
    md5_of = archives.md5_of

    def md5_or_official(file):
        return archive.md5 if file.read_bytes() == content else md5_of(file)

    monkeypatch.setattr(archives, "md5_of", md5_or_official)
    return path


CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()
CIFAR100 = [f"fine_{number:03}" for number in range(100)]


def cifar_pixels(part: str, count: int) -> np.ndarray:
    """Returns uint8[count,32,32,3], different for each part."""
    seed = {"train": 1, "test": 2}[part]
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), np.uint8)


def planes(pixels: np.ndarray) -> np.ndarray:
    """Returns images as rows of colour planes, as CIFAR stores them."""
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def cifar_files(name: str, binary: bool) -> dict[str, bytes]:
    """Returns {member: content} of an archive with 20 training and 4 test images."""
    train, test = planes(cifar_pixels("train", 20)), planes(cifar_pixels("test", 4))
    classes = 10 if name == "cifar10" else 100
    labels = {"train": [(7 * i) % classes for i in range(20)], "test": [3, 0, classes - 1, 3]}
    coarse = {part: [label // 5 for label in values] for part, values in labels.items()}
    if name == "cifar10":
        pieces = [(f"data_batch_{i + 1}", "train", slice(4 * i, 4 * i + 4)) for i in range(5)]
        pieces.append(("test_batch", "test", slice(0, 4)))
    else:
        pieces = [("train", "train", slice(0, 20)), ("test", "test", slice(0, 4))]
    top = {
        ("cifar10", False): "cifar-10-batches-py",
        ("cifar10", True): "cifar-10-batches-bin",
        ("cifar100", False): "cifar-100-python",
        ("cifar100", True): "cifar-100-binary",
    }[name, binary]
    files = {f"{top}/readme.html": b"<p>read me"}
    for file, part, rows in pieces:
        pixels, fine = {"train": train, "test": test}[part][rows], labels[part][rows]
        if binary:
            pairs = zip(coarse[part][rows], fine, strict=True)
            heads = [pair[1:] if classes == 10 else pair for pair in pairs]
            records = [bytes(h) + p.tobytes() for h, p in zip(heads, pixels, strict=True)]
            files[f"{top}/{file}.bin"] = b"".join(records)
            continue
        batch = {"batch_label": file, "data": pixels, "filenames": ["a.png"] * len(fine)}
        batch |= {"labels": fine} if classes == 10 else {"fine_labels": fine}
        batch |= {} if classes == 10 else {"coarse_labels": coarse[part][rows]}
        files[f"{top}/{file}"] = pickled(batch)
    names = CIFAR10 if classes == 10 else CIFAR100
    if binary:
        text = "\n".join(names) + "\n\n"
        files[f"{top}/{'batches.meta' if classes == 10 else 'fine_label_names'}.txt"] = (
            text.encode()
        )
    elif classes == 10:
        meta = {"num_cases_per_batch": 4, "label_names": names, "num_vis": 3072}
        files[f"{top}/batches.meta"] = pickled(meta)
    else:
        files[f"{top}/meta"] = pickled({"fine_label_names": names, "coarse_label_names": ["x"]})
    return files
