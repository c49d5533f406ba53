"""The files that torch writes: zips since 1.6, a chain of pickles before, TorchScript archives."""

import zipfile
from typing import Any, BinaryIO

from weight_files.limits import MAX_DEPTH, BadFile, Budget, Stream, checked
from weight_files.rebuild import Rebuilder, ScriptModule
from weight_files.tensors import Storage
from weight_files.unpickle import Machine
from weight_files.zip_files import opened_zip, read_member

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file by `torch.save` before 1.6
LEGACY_START = b"\x80\x02\x8a\x0a" + LEGACY_MAGIC.to_bytes(10, "little")
LEGACY_PROTOCOL = 1001


def read_legacy(stream: Stream, budget: Budget, nest: bool = False) -> Any:
    """The object of a pre-1.6 file: magic, protocol, system, object, storage keys, then storages.

    With `nest` the file is a storage inside a plain pickle, and the result is that `Storage`.
    """
    rebuilder = Rebuilder(budget, read=_unlisted)
    magic, protocol, system, item, keys = (Machine(stream, rebuilder).run() for _ in range(5))
    if (
        magic != LEGACY_MAGIC
        or protocol != LEGACY_PROTOCOL
        or system.get("little_endian") is not True
    ):
        raise BadFile("is damaged, or was written on a big-endian machine")
    if not all(isinstance(key, str) for key in checked(keys, list)):
        raise BadFile("is damaged: a storage is listed by something else than a name")
    if sorted(keys) != sorted(rebuilder.storages):
        raise BadFile("is damaged: the storages listed are not those used")
    for key in keys:
        storage = rebuilder.storages[key]
        if int.from_bytes(stream.take(8, "a storage's size"), "little") != storage.numel:
            raise BadFile(f"is damaged: storage {key:.40} has two sizes")
        storage.data = stream.take(storage.numel * storage.itemsize, f"storage {key:.40}")
    if nest:
        if not isinstance(item, Storage):
            raise BadFile("is damaged: a nested file holds no storage")
        return item
    return rebuilder.finish(item)


def _unlisted(storage: Storage) -> bytes:
    raise BadFile(f"is damaged: storage {storage.key:.40} is missing")


def read_zip(file: BinaryIO, budget: Budget) -> object:
    """The object of a zip by `torch.save`, or the tensors of a TorchScript archive by name."""
    with opened_zip(file) as archive:
        names = [member.filename for member in archive.infolist()]
        if len(set(names)) != len(names):
            raise BadFile("is a zip with two members of the same name")
        if any(name.startswith("/") or ".." in name.split("/") for name in names):
            raise BadFile("is a zip with a member whose name leads out of it")
        roots = [name[: -len("data.pkl")] for name in names if name.endswith("/data.pkl")]
        roots = [root for root in roots if root.count("/") == 1]
        if len(roots) != 1:
            raise BadFile("is a zip, but not one that torch.save writes: it has no one data.pkl")
        root = roots[0]
        if (
            f"{root}byteorder" in names
            and _member(archive, f"{root}byteorder", budget) != b"little"
        ):
            raise BadFile("was written on a big-endian machine")

        def read(storage: Storage) -> bytes:
            data = _member(archive, f"{root}data/{storage.key}", budget)
            if len(data) != storage.numel * storage.itemsize:
                raise BadFile(f"is damaged: storage {storage.key:.40} has {len(data)} bytes")
            return data

        rebuilder = Rebuilder(budget, read=read, script=f"{root}constants.pkl" in names)
        pickle = _member(archive, f"{root}data.pkl", budget)
        item = rebuilder.finish(Machine(Stream(pickle), rebuilder).run())
    return collect(item, budget) if isinstance(item, ScriptModule) else item


def _member(archive: zipfile.ZipFile, name: str, budget: Budget) -> bytes:
    """The bytes of a zip member; its check sum is verified on the way."""
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise BadFile(f"is damaged: its member {name} is missing") from None
    budget.spend(member.file_size, name)
    return read_member(archive, member)


def collect(module: ScriptModule, budget: Budget) -> dict[str, object]:
    """A TorchScript module's tensors by dotted name, and the outermost module's numbers."""
    numbers = {
        name: value for name, value in module.attributes.items() if type(value) in (int, float)
    }
    return numbers | dict(_tensors(module, "", budget, 0))


def _tensors(module: ScriptModule, prefix: str, budget: Budget, depth: int):
    """Yields (dotted name, array) of a module and the modules in it."""
    if depth > MAX_DEPTH:
        raise BadFile(f"nests modules deeper than {MAX_DEPTH}")
    for name, value in module.attributes.items():
        budget.step()
        if isinstance(value, ScriptModule):
            yield from _tensors(value, f"{prefix}{name}.", budget, depth + 1)
        elif hasattr(value, "shape"):
            yield f"{prefix}{name}", value
