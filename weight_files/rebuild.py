"""The allow-list of the pickle machine, and the arrays that its names stand for.

Tensors and arrays are first only planned; `Rebuilder.finish` turns the plans into arrays.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np

from weight_files.limits import (
    MAX_DEPTH,
    BadFile,
    Budget,
    UnsafeFile,
    checked,
    checked_sizes,
    shown,
)
from weight_files.tensors import STORAGES, Storage, Tensor, tensor, tensor_array
from weight_files.unpickle import Allowed

NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
MODULES = "__torch__."  # the classes of a TorchScript file
JIT_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


@dataclass(eq=False)
class NumberType:
    """A NumPy type to be, such as `f4`; its byte order follows in a second step."""

    code: str
    order: Literal["<", ">", "=", "|"] = "="


@dataclass(eq=False)
class Array:
    """A NumPy array to be; its contents follow in a second step."""

    value: np.ndarray | None = None


@dataclass(eq=False)
class ScriptModule:
    """A module of a TorchScript file: a plain holder of attributes."""

    attributes: dict = field(default_factory=dict)


class Rebuilder:
    """Answers the pickle machine (`weight_files.unpickle.World`) for one file.

    `read(storage)` fetches a storage's bytes; `nested(data)` reads a storage that was pickled whole
    (plain pickles of torch tensors); `script` admits the modules of TorchScript.
    """

    def __init__(
        self,
        budget: Budget,
        read: Callable[[Storage], bytes | memoryview] | None = None,
        nested: Callable[[bytes], Storage] | None = None,
        script: bool = False,
    ) -> None:
        self.budget, self.read, self.script = budget, read, script
        self.step = budget.step
        self.storages: dict[str, Storage] = {}
        self.allowed = self._allow_list(nested)

    def _allow_list(self, nested: Callable[[bytes], Storage] | None) -> dict[str, Allowed]:
        calls: dict[str, Callable | None] = {
            "collections.OrderedDict": lambda: OrderedDict(),
            "torch._utils._rebuild_tensor": tensor,
            "torch._utils._rebuild_tensor_v2": tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: checked(data, Tensor),
            "torch.storage._load_from_bytes": nested,
            "numpy.dtype": number_type,
            "numpy.ndarray": None,
            "_codecs.encode": self.encode,
        }
        calls |= {f"torch.{kind}": None for kind in STORAGES}
        calls |= {f"{module}.bytes": lambda: b"" for module in ("builtins", "__builtin__")}
        for core in ("numpy.core", "numpy._core"):
            calls[f"{core}.multiarray._reconstruct"] = empty_array
            calls[f"{core}.multiarray.scalar"] = self.scalar
            calls[f"{core}.numeric._frombuffer"] = self.array_from_buffer
        for name in ("jittor.jittor_core.Var", "jittor_core.Var", "jittor.Var"):
            calls[name] = lambda value: checked(value, Array)
        if self.script:
            calls |= {f"torch.jit._pickle.{name}": lambda x: checked(x, list) for name in JIT_LISTS}
            calls["torch.jit._pickle.restore_type_tag"] = lambda value, _: value
        return {name: Allowed(name, call) for name, call in calls.items()}

    def find(self, module: str, name: str) -> Allowed:
        """The entry of the allow-list for a name; raises UnsafeFile where there is none."""
        full = f"{module}.{name}"
        if self.script and full.startswith(MODULES):
            return Allowed(full)
        if full not in self.allowed:
            raise UnsafeFile(f"{full} is not needed by weights")
        return self.allowed[full]

    def new(self, kind: object) -> ScriptModule:
        """An empty module of a TorchScript file."""
        if not isinstance(kind, Allowed) or not kind.name.startswith(MODULES):
            name = kind.name if isinstance(kind, Allowed) else type(kind).__name__
            raise UnsafeFile(f"{name} is made as an object")
        return ScriptModule()

    def build(self, target: object, state: Any) -> None:
        """The second step of an object: contents of an array, byte order of a type, attributes."""
        if isinstance(target, Array):
            version, shape, kind, fortran, data = state
            target.value = self.array(data, kind, shape, "F" if fortran else "C")
        elif isinstance(target, NumberType):
            if state[1] not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
                raise UnsafeFile("numpy.dtype with fields")
            target.order = state[1]
        elif isinstance(target, ScriptModule):
            target.attributes.update(checked(state, dict))
        elif type(target) is not OrderedDict:  # torch hangs versions on a state's OrderedDict
            raise BadFile(f"is damaged: it sets the state of {type(target).__name__}")

    def persistent(self, identity: object) -> Storage:
        """The storage that a torch file names by ("storage", class, key, place, elements, ...)."""
        if self.read is None:
            raise BadFile("refers to data outside the file")
        word, kind, key, _place, numel, *view = checked(identity, tuple)
        name = checked(kind, Allowed).name.removeprefix("torch.")
        if word != "storage" or name not in STORAGES or any(part is not None for part in view):
            raise BadFile(f"is damaged: it refers to {shown(word)} {name}")
        checked_sizes((numel,))
        storage = self.storages.setdefault(checked(key, str), Storage(name, key, numel))
        if (storage.kind, storage.numel) != (name, numel):
            raise BadFile(f"is damaged: storage {key:.40} is described twice, differently")
        return storage

    def encode(self, text: str, encoding: str = "latin1") -> bytes:
        """The bytes that an old pickle protocol wrote as text."""
        if encoding not in ("latin1", "latin-1"):
            raise UnsafeFile(f"_codecs.encode to {shown(encoding)}")
        self.budget.spend(len(checked(text, str)), "text")
        return text.encode("latin1")

    def array(
        self, data: object, kind: object, shape: tuple, order: Literal["C", "F"]
    ) -> np.ndarray:
        """An array over these bytes, copied only where its byte order is foreign."""
        number = checked(kind, NumberType)
        if isinstance(data, str):
            data = self.encode(data)
        held = data if isinstance(data, bytearray) else checked(data, bytes)
        dtype, count = np.dtype(number.code).newbyteorder(number.order), prod(checked_sizes(shape))
        if len(held) != count * dtype.itemsize:
            raise BadFile(f"is damaged: {len(held)} bytes for an array {shape} of {number.code}")
        flat = np.frombuffer(held, dtype) if count else np.empty(0, dtype)
        if not dtype.isnative:
            self.budget.spend(len(held), "an array of foreign byte order")
            flat = flat.astype(dtype.newbyteorder("="))
        return flat.reshape(shape, order=order)

    def array_from_buffer(self, data: bytes, kind: NumberType, shape: tuple, order: Any) -> Array:
        """An array as pickle protocol 5 writes it."""
        if order not in ("C", "F"):
            raise BadFile("is damaged: an array's order is neither C nor F")
        return Array(self.array(data, kind, shape, order))

    def scalar(self, kind: NumberType, data: bytes) -> np.generic:
        """A NumPy number."""
        number: Any = self.array(data, kind, (), "C")
        return number[()]

    def finish(self, item: object) -> object:
        """The same containers with every plan replaced by its array; plain data stays."""
        return self._finish(item, {}, 0)

    def _finish(self, item: object, done: dict[int, object], depth: int) -> Any:
        if item is None or isinstance(item, str | int | float | bytes | np.generic):
            return item
        if depth > MAX_DEPTH:
            raise BadFile(f"nests containers deeper than {MAX_DEPTH}")
        if id(item) in done:
            return done[id(item)]
        self.budget.step()
        result: object
        if isinstance(item, dict):
            result = {key: self._finish(value, done, depth + 1) for key, value in item.items()}
        elif isinstance(item, list | tuple):
            result = type(item)(self._finish(value, done, depth + 1) for value in item)
        elif isinstance(item, ScriptModule):
            result = ScriptModule(self._finish(item.attributes, done, depth + 1))
        elif isinstance(item, Tensor):
            result = tensor_array(item, self.read, self.budget)
        elif isinstance(item, Array) and item.value is not None:
            result = item.value
        else:
            name = item.name if isinstance(item, Allowed) else type(item).__name__
            raise BadFile(f"holds {name} where weights or plain data belong")
        done[id(item)] = result
        return result


def empty_array(kind: object, *_: object) -> Array:
    """What `numpy.core.multiarray._reconstruct` stands for; only plain arrays are admitted."""
    if not isinstance(kind, Allowed) or kind.name != "numpy.ndarray":
        name = kind.name if isinstance(kind, Allowed) else type(kind).__name__
        raise UnsafeFile(f"numpy.core.multiarray._reconstruct of {name}")
    return Array()


def number_type(code: object, *_: object) -> NumberType:
    """What `numpy.dtype` stands for; only numbers are admitted, no objects and no fields."""
    if not isinstance(code, str) or code not in NUMBERS:  # hashing a deep tuple ends the process
        raise UnsafeFile(f"numpy.dtype of {shown(code)}")
    return NumberType(code)
