"""The files that torch writes: zips since 1.6, a chain of pickles before, TorchScript archives."""

import re
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from weight_files.allow_list import AllowList, ScriptModule
from weight_files.limits import MAX_DEPTH, BadFile, Budget, Stream, require_type
from weight_files.pickle_machine import PickleMachine
from weight_files.tensors import Storage
from weight_files.zip_files import open_zip, read_member

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file by `torch.save` before 1.6
LEGACY_PROTOCOL = 1001


def read_legacy(stream: Stream, budget: Budget) -> Any:
    """Returns the object of a file from before torch 1.6, with its arrays."""
    item, allow_list = _read_legacy(stream, budget)
    return allow_list.finish(item)


def read_nested_storage(data: bytes, budget: Budget) -> Storage:
    """Returns the storage in the bytes by which a plain pickle holds a torch tensor."""
    storage, _ = _read_legacy(Stream(data), budget)
    if not isinstance(storage, Storage):
        raise BadFile("is damaged: a nested file holds no storage")
    return storage


def _read_legacy(stream: Stream, budget: Budget) -> tuple[Any, AllowList]:
    """Reads magic number, protocol, system, object and storage keys, then the storages' bytes."""
    allow_list = AllowList(budget, read=_refuse_unlisted)
    machines = (PickleMachine(stream, allow_list) for _ in range(5))
    magic, protocol, system, item, keys = (machine.run() for machine in machines)
    is_little = system.get("little_endian") is True
    if not is_little or (magic, protocol) != (LEGACY_MAGIC, LEGACY_PROTOCOL):
        raise BadFile("is damaged, or was written on a big-endian machine")
    if not all(isinstance(key, str) for key in require_type(keys, list)):
        raise BadFile("is damaged: the key of a storage is not a text")
    if sorted(keys) != sorted(allow_list.storages):
        raise BadFile("is damaged: the storages listed are not those used")
    for key in keys:
        storage = allow_list.storages[key]
        size = int.from_bytes(stream.read_exactly(8, "a storage's size"), "little")
        if size != storage.numel:
            raise BadFile(f"is damaged: storage {key:.40} has two sizes")
        count = storage.numel * storage.dtype.itemsize
        storage.data = stream.read_exactly(count, f"storage {key:.40}")
    return item, allow_list


def _refuse_unlisted(storage: Storage) -> bytes:
    raise BadFile(f"is damaged: storage {storage.key:.40} is missing")


def read_zip(file: BinaryIO, budget: Budget) -> object:
    """Returns the object of a zip by `torch.save`, or a TorchScript archive's tensors by name."""
    with open_zip(file) as archive:
        names = [member.filename for member in archive.infolist()]
        if len(set(names)) != len(names):
            raise BadFile("is a zip with two members of the same name")
        if any(name.startswith("/") or ".." in name.split("/") for name in names):
            raise BadFile("is a zip with a member whose name leads out of it")
        roots = [n.removesuffix("data.pkl") for n in names if re.fullmatch(r"[^/]*/data\.pkl", n)]
        if len(roots) != 1:
            raise BadFile("is a zip, but not one that torch.save writes: it has no one data.pkl")
        root = roots[0]
        order = f"{root}byteorder"
        if order in names and _read(archive, order, budget) != b"little":
            raise BadFile("was written on a big-endian machine")

        def read_storage(storage: Storage) -> bytes:
            data = _read(archive, f"{root}data/{storage.key}", budget)
            if len(data) != storage.numel * storage.dtype.itemsize:
                raise BadFile(f"is damaged: storage {storage.key:.40} has {len(data)} bytes")
            return data

        is_script = f"{root}constants.pkl" in names
        allow_list = AllowList(budget, read=read_storage, script=is_script)
        pickle = _read(archive, f"{root}data.pkl", budget)
        item = allow_list.finish(PickleMachine(Stream(pickle), allow_list).run())
    return _collect_tensors(item, budget) if isinstance(item, ScriptModule) else item


def _read(archive: zipfile.ZipFile, name: str, budget: Budget) -> bytes:
    """Returns the bytes of a zip member, whose checksum is verified on the way."""
    try:
        member = archive.getinfo(name)
    except KeyError:
        raise BadFile(f"is damaged: its member {name} is missing") from None
    budget.spend(member.file_size, name)
    return read_member(archive, member)


def _collect_tensors(module: ScriptModule, budget: Budget) -> dict[str, object]:
    """Returns a TorchScript module's tensors by dotted name, and the outermost numbers."""
    attributes = module.attributes.items()
    numbers = {name: value for name, value in attributes if type(value) in (int, float)}
    return numbers | dict(_tensors(module, "", budget, 0))


def _tensors(
    module: ScriptModule, prefix: str, budget: Budget, depth: int
) -> Iterator[tuple[str, object]]:
    """Yields (dotted name, array) of a module and of the modules in it."""
    if depth > MAX_DEPTH:
        raise BadFile(f"nests modules deeper than {MAX_DEPTH}")
    for name, value in module.attributes.items():
        budget.count_step()
        if isinstance(value, ScriptModule):
            yield from _tensors(value, f"{prefix}{name}.", budget, depth + 1)
        elif hasattr(value, "shape"):
            yield f"{prefix}{name}", value
