"""Archives that a stranger might send in the place of a data set's official one.

`make()` returns {name: Archive}. Each takes the place of `caltech101`'s tar or zip, or that of
`tiny_imagenet`'s or `cifar10`'s, with its MD5 taken for the official one unless `official` is
False: the readers must hold out by themselves.
"""

import gzip
import tarfile
import zlib
from dataclasses import dataclass

from tests.helpers.archive_kit import cifar_files, jpeg, tar_gz, zipped
from tests.robustness.hostile_weights import bomb, crowd, with_directory

TAR, ZIP = "101_ObjectCategories", "tiny-imagenet-200"
GOOD = {f"{TAR}/Faces/image_0001.jpg": jpeg(1), f"{TAR}/Faces/image_0002.jpg": jpeg(2)}
TINY = {f"{ZIP}/wnids.txt": b"n01\n", f"{ZIP}/words.txt": b"n01\tfish\n"}
TINY |= {f"{ZIP}/train/n01/images/n01_0.JPEG": jpeg(3)}
IMAGE = f"{ZIP}/train/n01/images/n01_0.JPEG"
MEGA = bytes(1 << 20)


@dataclass(frozen=True)
class Archive:
    """Bytes for a data set, and what the refusal must say; None where it is harmless to read."""

    content: bytes
    says: str | None
    name: str = "caltech101"
    which: int = 1  # of the official archives
    official: bool = True


def header(name: str, size: int = 0, kind: bytes = b"0", link: str = "", **fields: bytes) -> bytes:
    """One block of a tar, its check sum right; `size_field` overwrites the size as it is stored."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, 0
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    stored = b"\x80" + size.to_bytes(11, "big")
    block[124:136] = fields.get("size_field", stored)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def file(name: str, content: bytes, kind: bytes = b"0") -> bytes:
    return header(name, len(content), kind) + content + bytes(-len(content) % 512)


def tar(*parts: bytes) -> bytes:
    """A tar.gz of two good images and then these blocks."""
    good = b"".join(file(name, content) for name, content in GOOD.items())
    return gzip.compress(good + b"".join(parts) + bytes(1024), 1)


def tar_bomb(*parts: tuple[bytes, int]) -> bytes:
    """A tar.gz of pieces, each so many times and packed but once."""
    packed = b"\x1f\x8b\x08" + bytes(7)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    for piece, count in parts:
        packed += (packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)) * count
    return packed + b"\x03\0" + bytes(8)


def pax(line: bytes) -> bytes:
    """A pax header of one line."""
    length = len(line) + 3
    length += len(str(length)) - 1
    return file("pax", b"%d %s\n" % (length, line), b"x")


def link(kind: bytes, target: str) -> bytes:
    return tar(header(f"{TAR}/Faces/image_0003.jpg", kind=kind, link=target))


def tars() -> dict[str, Archive]:
    """In the place of 101_ObjectCategories.tar.gz."""
    image, outside = f"{TAR}/Faces/image_0003.jpg", "../../outside.txt"
    many = file(f"{TAR}/Faces/x.txt", b"") * 2048
    images = [(header(f"{TAR}/Faces/{n}.jpg", 120 << 20), 1) for n in range(5)]
    images = [part for image_header in images for part in (image_header, (MEGA, 120))]
    long = tar(file("././@LongLink", b"a" * 5000 + b"\0", b"L"), file(image, b"x"))
    wrong, digits = bytearray(header(image)), b"1" * 60_000
    wrong[0] ^= 1
    folders = header(f"{TAR}/Faces", kind=b"2", link="/etc") + file(f"{TAR}/Faces/passwd.jpg", b"x")
    cases = {
        "member above": (tar(file("../evil.jpg", b"x")), "leads out"),
        "member far above": (tar(file(f"{TAR}/../../evil.jpg", b"x")), "leads out"),
        "absolute member": (tar(file("/evil.jpg", b"x")), "leads out"),
        "member of a drive": (tar(file("C:\\evil.jpg", b"x")), "leads out"),
        "pax name above": (tar(pax(b"path=../evil.jpg"), file(image, b"x")), "leads out"),
        "name with NUL": (tar(pax(b"path=a\0/../evil.jpg"), file(image, b"x")), "leads out"),
        "symbolic link": (link(b"2", outside), "is a link or a device"),
        "hard link": (link(b"1", "/etc/passwd"), "is a link or a device"),
        "character device": (link(b"3", ""), "is a link or a device"),
        "block device": (link(b"4", ""), "is a link or a device"),
        "pipe": (link(b"6", ""), "is a link or a device"),
        "file through a link": (tar(folders), None),
        "name of two lines": (tar(file(f"{TAR}/Faces/a\n\x1b[2J.jpg", b"x")), "control characters"),
        "name like an option": (
            tar(file(f"{TAR}/Faces/--checkpoint-action=exec=x.jpg", b"x")),
            None,
        ),
        "name that is not UTF-8": (tar(file(f"{TAR}/Faces/\udcff.jpg", b"x")), None),
        "names that clash by case": (tar(file(f"{TAR}/Faces/IMAGE_0001.JPG", b"x")), None),
        "name of 5000 letters": (long, "a name of 5000 characters"),
        "file twice": (tar(file(f"{TAR}/Faces/image_0001.jpg", b"x")), "comes twice"),
        "name of 8 GiB": (
            tar_bomb((header("././@LongLink", 1 << 33, b"L"), 1), (MEGA, 8192)),
            "extended header of 8589934592 bytes",
        ),
        "pax header of digits": (tar(file("pax", digits + b" ", b"x")), "damaged pax header"),
        "pax size below zero": (tar(pax(b"size=-512"), file(image, b"x")), "no number"),
        "size below zero": (
            tar(header(image, size_field=b"\xff" * 10 + b"\xfe\0")),
            "a size below zero",
        ),
        "size of 2**63": (tar(header(image, (1 << 63) - 1)), "more than is read"),
        "old sparse file": (tar(header(image, 512, tarfile.GNUTYPE_SPARSE)), "a sparse file"),
        "pax sparse file": (
            tar(pax(b"GNU.sparse.major=1"), file(image, b"1000000000\n")),
            "a sparse file",
        ),
        "image of 300 MB": (
            tar_bomb((header(image, 300 << 20), 1), (MEGA, 300)),
            "more than is read",
        ),
        "images of 600 MB": (tar_bomb(*images), "more than is read"),
        "unwanted file of 8 GiB": (
            tar_bomb((header("x", 1 << 33), 1), (MEGA, 8192)),
            "more than is read",
        ),
        "padding without end": (tar_bomb((file(image, b"x"), 1), (MEGA, 2048)), "unpacks to more"),
        "300000 members": (tar_bomb((many, 147)), "more than 262144 members"),
        "archive of an archive": (gzip.compress(tar()), "is damaged, cut off or no archive"),
        "damaged header": (tar(bytes(wrong)), "bad checksum"),
        "cut off": (tar()[:-100], "is damaged, cut off"),
    }
    named = {name: Archive(content, says) for name, (content, says) in cases.items()}
    return named | {"wrong MD5": Archive(tar(), "its MD5 is", official=False)}


def zips() -> dict[str, Archive]:
    """In the place of tiny-imagenet-200.zip."""
    good = zipped(TINY)
    other = f"{ZIP}/train/n01/images/n01_1.JPEG"
    device = with_directory(good, IMAGE, 38, (0o020666 << 16).to_bytes(4, "little"))
    encrypted = with_directory(good, IMAGE, 8, b"\x01")
    both = zipped(TINY | {other: jpeg(4)})
    start = good.index(IMAGE.encode()) - 30  # of the other image's own header
    overlapping = with_directory(both, other, 42, start.to_bytes(4, "little"))
    far, large = (0x7FFFFFFF).to_bytes(4, "little"), (300 << 20).to_bytes(4, "little")
    wrong = with_directory(good, IMAGE, 16, b"\0\0\0\0")
    cases = {
        "zip: member above": (zipped(TINY | {"../evil": b"x"}), "leads out"),
        "zip: member above, backslashes": (zipped(TINY | {"a\\..\\..\\evil": b"x"}), "leads out"),
        "zip: absolute member": (zipped(TINY | {"/evil": b"x"}), "leads out"),
        "zip: name with NUL": (
            zipped(TINY | {other.replace("_1", "_\1"): b"x"}).replace(b"_\1", b"_\0"),
            "leads out",
        ),
        "zip: name of two lines": (
            zipped(TINY | {f"{ZIP}/train/n01/images/a\nb.JPEG": b"x"}),
            "control characters",
        ),
        "zip: symbolic link": (zipped(TINY, {other: "/etc/passwd"}), "is a link or a device"),
        "zip: device": (device, "is a link or a device"),
        "zip: names that clash by case": (zipped(TINY | {other.lower(): jpeg(4)}), None),
        "zip: bomb that says it is small": (bomb(good, IMAGE, 1 << 31, 700), "Bad CRC"),
        "zip: image of 300 MB": (with_directory(good, IMAGE, 24, large), "more than is read"),
        "zip: overlapping members": (overlapping, "is damaged.*differ"),
        "zip: encrypted": (encrypted, "encrypted"),
        "zip: lzma": (with_directory(good, IMAGE, 10, b"\x0e"), "not supported"),
        "zip: list of a million members": (crowd(), "its list of members has"),
        "zip: member beyond the end": (with_directory(good, IMAGE, 42, far), "is damaged"),
        "zip: wrong check sum": (wrong, "Bad CRC"),
        "zip: cut off": (good[:-40], "is damaged, cut off"),
    }
    return {n: Archive(content, says, "tiny_imagenet", 0) for n, (content, says) in cases.items()}


def others() -> dict[str, Archive]:
    """A bomb in the place of the tar inside Caltech's zip, and pickles in CIFAR's."""
    inner = f"caltech-101/{TAR}.tar.gz"
    nested = bomb(zipped({"caltech-101/x": b"x", inner: b"x"}), inner, 1 << 31)
    call = b"cposix\nsystem\nX\x0c\0\0\0touch canary\x85R."
    batch = "cifar-10-batches-py/test_batch"
    hostile = tar_gz(cifar_files("cifar10", False) | {batch: b"\x80\x02" + call})
    return {
        "archive in an archive": Archive(nested, "is no archive", which=0),
        "cifar: call": Archive(hostile, "nothing in it was run .*posix.system", "cifar10", 0),
    }


def make() -> dict[str, Archive]:
    """All of them."""
    return tars() | zips() | others()
