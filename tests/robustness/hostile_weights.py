"""Hostile weight files: some run code, others ask for more memory or time than they hold.

`make()` returns {name: (content, a pattern of the refusal)}. A file that runs code writes a file
`canary` to the current folder, if Python's own unpickler opens it.
"""

import io
import json
import os
import pickle
import struct
import subprocess
import zipfile
import zlib

import numpy as np

MERSENNE = (1 << 61) - 1  # Python's hash of any multiple of it is 0
LEGACY = b"".join(
    pickle.dumps(item, 2)
    for item in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
)
Cases = dict[str, tuple[bytes, str]]


class Calls:
    """An object that pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def text(value: str) -> bytes:
    """Returns the opcode of a text."""
    data = value.encode("utf-8")
    return b"X" + len(data).to_bytes(4, "little") + data


def number(value: int) -> bytes:
    """Returns the opcode of a whole number of at most 10 bytes."""
    return b"\x8a\x0a" + value.to_bytes(10, "little", signed=True)


def tupled(*values: int) -> bytes:
    """Returns the opcodes of a tuple of whole numbers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def doubled(times: int, start: bytes = b")") -> bytes:
    """Returns a tuple of two tuples of two tuples ..., of depth `times` and 2 ** times items."""
    return start + b"2\x86" * times


def zeros(count: int) -> bytes:
    """Returns that many deflated zeros (a multiple of 1 MiB), without making them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    mega = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return mega * (count >> 20) + b"\x03\x00"


def zipped(files: dict[str, bytes], deflated: bool = False) -> bytes:
    """Returns a zip of these files."""
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if deflated else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def with_directory(data: bytes, member: str, place: int, value: bytes) -> bytes:
    """Returns the zip with these bytes at `place` of a member's entry in its directory."""
    changed, start = bytearray(data), data.index(b"PK\x01\x02")
    while not data.startswith(member.encode(), start + 46):
        start = data.index(b"PK\x01\x02", start + 1)
    changed[start + place : start + place + len(value)] = value
    return bytes(changed)


def bomb(data: bytes, member: str, size: int, declared: int | None = None) -> bytes:
    """Returns the zip with `size` zeros as the content of its last member.

    The member may declare a smaller size.
    """
    start, end = data.rindex(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    packed = zeros(size)
    head = start + 30 + len(member)
    moved = data[:head] + packed + data[end:]
    moved = with_directory(moved, member, 20, len(packed).to_bytes(4, "little"))
    declared = size if declared is None else declared
    moved = bytearray(with_directory(moved, member, 24, declared.to_bytes(4, "little")))
    moved[-6:-2] = (head + len(packed)).to_bytes(4, "little")
    return bytes(moved)


def crowd() -> bytes:
    """Returns a zip that lists 800,000 members in 37 MB."""
    listed = (b"PK\x01\x02" + bytes(42)) * 800_000
    return b"PK\x03\x04" + listed + struct.pack("<4s8xLL2x", b"PK\x05\x06", len(listed), 4)


def tensor(arguments: bytes, numel: int = 4, key: bytes = text("0")) -> bytes:
    """Returns a pickle {"w": float32 tensor of storage `key`}, rebuilt with these arguments."""
    storage = text("storage") + b"ctorch\nFloatStorage\n" + key + text("cpu") + number(numel)
    start = b"\x80\x02}" + text("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(("
    return start + storage + b"tQ" + arguments + b"\x89)tRs."


WHOLE = tensor(number(0) + tupled(4) + tupled(1))


def torch_zip(pickled: bytes = WHOLE, stored: bytes = bytes(16), deflated: bool = False) -> bytes:
    """Returns a torch zip of one pickle and one storage."""
    return zipped({"x/data.pkl": pickled, "x/data/0": stored}, deflated)


def calls() -> Cases:
    """Returns every way in which a pickle can name something and call it."""
    shell = "touch canary"
    command = text(shell)
    system = text("w") + b"cposix\nsystem\n" + command + b"\x85Rs."
    inner = LEGACY + b"cposix\nsystem\n" + command + b"\x85R." + pickle.dumps([], 2)
    nested = b"ctorch.storage\n_load_from_bytes\nB" + len(inner).to_bytes(4, "little") + inner
    popen = b"\x80\x02csubprocess\nPopen\n((" + text("touch") + text("canary") + b"lt"
    writes = "open('canary', 'w').close()"
    steps = b"\x80\x04" + text("builtins") + text("getattr") + b"\x93" + text("importlib")
    return {
        "reduce": (pickle.dumps({"w": Calls(os.system, shell)}), "posix.system"),
        "reduce, text": (pickle.dumps(Calls(eval, writes), 0), "builtin.*eval"),
        "reduce in a list": (pickle.dumps([Calls(exec, writes)]), "builtins.exec"),
        "reduce, popen": (pickle.dumps(Calls(subprocess.Popen, ("touch", "canary"))), "Popen"),
        "inst": (b"(S'" + shell.encode() + b"'\niposix\nsystem\n.", "INST posix.system"),
        "obj": (b"(cposix\nsystem\n" + command + b"o.", "posix.system"),
        "newobj": (popen + b"\x81.", "subprocess.Popen"),
        "newobj_ex": (b"\x80\x04c_codecs\nencode\n)}\x92.", "NEWOBJ_EX"),
        "build": (b"\x80\x02cnumpy\nndarray\n}" + command + b"Nsb.", "sets the state of Allowed"),
        "stack global": (steps + text("import_module") + b"\x86R.", "builtins.getattr"),
        "name over two lines": (
            b"\x80\x04" + text("os\n\x1b[2J") + text("a" * 5000) + b"\x93.",
            r"os\\n\\x1b\[2J",
        ),
        "extension code": (b"\x80\x02\x84\x01\x02\x03\x04.", "EXT4"),
        "text reference": (b"P" + shell.encode() + b"\n.", "PERSID"),
        "hub": (b"\x80\x02ctorch.hub\nload\n" + command + b"\x85R.", "torch.hub.load"),
        "object array": (pickle.dumps({"w": np.array([Calls(os.system, shell)])}), "dtype of O8"),
        "in a torch zip": (torch_zip(b"\x80\x02}" + system), "posix.system"),
        "in an old torch file": (LEGACY + b"\x80\x02}" + system, "posix.system"),
        "in a nested storage": (b"\x80\x03}" + text("w") + nested + b"\x85Rs.", "posix.system"),
    }


def endless() -> Cases:
    """Returns small pickles that expand without end, or take forever to compare, hash or print."""
    laughs = b"\x80\x02}" + text("w") + doubled(60) + b"s."
    pair = doubled(60) + doubled(60, b"]\x85")
    keys = b"".join(number_long(n * MERSENNE) + b"N" for n in range(1, 50_001))
    puts = b"".join(b"p%d\n" % (n * MERSENNE) for n in range(1, 50_001))
    deep = b")" + b"\x85" * 200_000
    return {
        "tuples of tuples": (laughs, "far too often"),
        "dictionary in itself": (b"\x80\x02}q\x00" + text("w") + b"h\x00s.", "deeper than"),
        "deep lists": (b"\x80\x02}" + text("w") + b"]" * 20_000 + b"a" * 19_999 + b"s.", "deep"),
        "deep number type": (b"\x80\x02cnumpy\ndtype\n" + deep + b"K\x00K\x01\x87R.", "of tuple"),
        "endless number type": (b"\x80\x02cnumpy\ndtype\n" + doubled(60) + b"\x85R.", "of tuple"),
        "endless storage key": (
            torch_zip(tensor(number(0) + tupled(4) + tupled(1), key=doubled(60))),
            "tuple instead of str",
        ),
        "endless codec": (
            b"\x80\x02c_codecs\nencode\n" + text("x") + doubled(60) + b"\x86R.",
            "to tuple",
        ),
        "endless sorting": (LEGACY + b"\x80\x02}.\x80\x02](" + pair + b"e.", "key of a storage"),
        "keys of one hash": (b"\x80\x02}(" + keys + b"u.", "more than 63 bits"),
        "memo of one hash": (b"N" + puts + b".", "memo index"),
        "a million items": (b"\x80\x02](" + b"N" * 1_000_100 + b"e.", "1000000 operations"),
        "a text of 2**50": (b"\x80\x04\x8d" + (1 << 50).to_bytes(8, "little") + b"x.", "damaged"),
        "bytes of 2**50": (b"\x80\x05\x96" + (1 << 50).to_bytes(8, "little") + b"x.", "damaged"),
    }


def number_long(value: int) -> bytes:
    """Returns the opcode of a whole number of any length."""
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def zip_tricks() -> Cases:
    """Returns torch zips whose directory and contents disagree."""
    full = torch_zip(stored=b"1" * 16, deflated=True)
    two = {"x/data.pkl": WHOLE, "x/data.pkX": WHOLE}
    stored = torch_zip()
    claimed = (1 << 20).to_bytes(4, "little")
    encrypted = bytearray(with_directory(stored, "x/data.pkl", 8, b"\x01"))
    encrypted[6] |= 1
    wrong = stored.replace(b"_rebuild_tensor_v2", b"_rebuild_parameter", 1)
    half = tensor(number(0) + tupled(1 << 28) + tupled(1), numel=1 << 28)
    return {
        "bomb": (bomb(torch_zip(half, deflated=True), "x/data/0", 1 << 30), "out of proportion"),
        "bomb that says it is small": (bomb(full, "x/data/0", 1 << 31, 16), "Bad CRC"),
        "one name twice": (zipped(two).replace(b"pkX", b"pkl"), "two members"),
        "one name twice, by NUL": (
            zipped({"x/data.pkl": WHOLE, "x/data.pkl_": WHOLE}).replace(b"pkl_", b"pkl\0"),
            "two members",
        ),
        "absolute name": (zipped({"/data.pkl": WHOLE, "/data/0": bytes(16)}), "leads out"),
        "name that leads up": (zipped({"../data.pkl": WHOLE, "../data/0": bytes(16)}), "leads out"),
        "overlapping members": (with_directory(stored, "x/data/0", 42, bytes(4)), "differ"),
        "encrypted": (bytes(encrypted), "encrypted"),
        "wrong checksum": (wrong, "Bad CRC"),
        "member beyond the end": (with_directory(stored, "x/data.pkl", 42, claimed), "damaged"),
        "stored longer than packed": (with_directory(stored, "x/data/0", 20, b"\x04"), "Bad CRC"),
        "lzma": (with_directory(stored, "x/data.pkl", 10, b"\x0e"), "compressed in a way"),
        "list of a million members": (crowd(), "its list of members has"),
        "cut off": (stored[:-30], "damaged"),
    }


def shapes() -> Cases:
    """Returns tensors and arrays that lie outside of their storage."""
    start = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    kind = b"cnumpy\ndtype\n" + text("f4") + b"K\x00K\x01\x87R(K\x03" + text("<") + b"NNNJ"
    kind += b"\xff" * 4 + b"J" + b"\xff" * 4 + b"K\x00tb"

    def array(shape: bytes) -> bytes:
        return start + b"(K\x01" + shape + kind + b"\x89C\x04\0\0\0\0tb."

    def window(offset: int, shape: bytes, strides: bytes, stored: bytes = bytes(16)) -> bytes:
        return torch_zip(tensor(number(offset) + shape + strides), stored)

    long = tupled(*[1] * 40)
    listed = LEGACY + WHOLE.replace(number(4) + b"tQ", number(1 << 40) + b"tQ")
    listed += pickle.dumps(["0"], 2) + (1 << 40).to_bytes(8, "little")
    return {
        "2**40 numbers from one": (window(0, tupled(1 << 40), tupled(0)), "out of proportion"),
        "4 GiB from one": (window(0, tupled(1 << 15, 1 << 15), tupled(0, 0)), "out of proportion"),
        "2**70 numbers": (window(0, tupled(1 << 70), tupled(1)), "sizes"),
        "size below zero": (window(0, tupled(-4), tupled(1)), "sizes"),
        "stride below zero": (window(3, tupled(2), tupled(-1)), "sizes"),
        "offset below zero": (window(-1, tupled(1), tupled(1)), "sizes"),
        "beyond its storage": (window(2, tupled(3), tupled(1)), "reaches element 4 of 4"),
        "storage cut short": (window(0, tupled(4), tupled(1), bytes(8)), "has 8 bytes"),
        "40 axes": (window(0, long, long), "not a short tuple"),
        "array of 2**40": (array(tupled(1 << 40)), "4 bytes for an array"),
        "array below zero": (array(tupled(-1)), "sizes"),
        "old storage of 2**40": (listed, "cut off: storage 0 needs"),
    }


def headers() -> Cases:
    """Returns safetensors files that lie about their contents."""

    def entry(begin: int, end: int, shape: list, kind: str = "F32") -> dict:
        return {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}

    def file(header: dict | bytes, data: bytes = bytes(16), length: int | None = None) -> bytes:
        header = header if isinstance(header, bytes) else json.dumps(header).encode()
        length = len(header) if length is None else length
        return length.to_bytes(8, "little") + header + data

    one = entry(0, 16, [4])
    twice = json.dumps({"a": one})[:-1] + ", " + json.dumps({"a": one})[1:]
    wide = b'{"a": [' + b"[]," * 3_000_000 + b"[]]}"
    return {
        "header of 2**62": (file({"a": one}, length=1 << 62), "not a weight file"),
        "header beyond the end": (file({"a": one}, length=1000), "not a weight file"),
        "header of 20 MB": (file(b"{" + b" " * 20_000_000 + b"}"), "not a weight file"),
        "wide header": (file(wide), "damaged"),
        "deep header": (file(b'{"a":' * 200_000), "RecursionError"),
        "overlapping tensors": (
            file({"a": entry(0, 12, [3]), "b": entry(8, 16, [2])}),
            "does not follow",
        ),
        "hidden bytes": (file({"a": entry(0, 8, [2])}), "8 bytes follow"),
        "shape below zero": (file({"a": entry(0, 16, [-4])}), "sizes"),
        "shape too large": (file({"a": entry(0, 16, [1 << 40])}), "16 bytes for shape"),
        "offsets below zero": (file({"a": entry(-16, 0, [4])}), "does not follow"),
        "name twice": (file(twice.encode()), "name twice"),
        "unknown type": (file({"a": entry(0, 16, [4], "O\x1b[2J\n")}), r"O\\x1b\[2J"),
    }


def make() -> Cases:
    """Returns all of them."""
    return calls() | endless() | zip_tricks() | shapes() | headers()
