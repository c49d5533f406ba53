"""The allow-list of the pickle machine, and the arrays that its names stand for.

Tensors and arrays are first only planned; `AllowList.finish` turns the plans into arrays.
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
    describe,
    require_sizes,
    require_type,
)
from weight_files.tensors import STORAGE_TYPES, Storage, TensorPlan, plan_tensor, tensor_to_array

NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
MODULES = "__torch__."  # prefix of the classes of a TorchScript file
JIT_LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


@dataclass(frozen=True)
class AllowedName:
    """One name of the allow-list: `call` builds its object; it is None if only the name counts."""

    name: str
    call: Callable | None = None


@dataclass(eq=False)
class DtypePlan:
    """A NumPy type such as `f4`; a later operation of the pickle sets its byte order."""

    code: str
    order: Literal["<", ">", "=", "|"] = "="


@dataclass(eq=False)
class ArrayPlan:
    """A NumPy array; a later operation of the pickle sets its contents."""

    value: np.ndarray | None = None


@dataclass(eq=False)
class ScriptModule:
    """A module of a TorchScript file: a plain holder of attributes."""

    attributes: dict = field(default_factory=dict)


class AllowList:
    """The names that one file may use, and the objects that the pickle machine builds by them.

    read: fetches the bytes of a storage that lies outside the pickle. nested: reads a storage that
    was pickled as bytes, as in plain pickles of torch tensors. script: admits the modules of
    TorchScript.
    """

    def __init__(
        self,
        budget: Budget,
        read: Callable[[Storage], bytes | memoryview] | None = None,
        nested: Callable[[bytes], Storage] | None = None,
        script: bool = False,
    ) -> None:
        self.budget, self.read, self.script = budget, read, script
        self.storages: dict[str, Storage] = {}
        calls: dict[str, Callable | None] = {
            "collections.OrderedDict": lambda: OrderedDict(),
            "torch._utils._rebuild_tensor": plan_tensor,
            "torch._utils._rebuild_tensor_v2": plan_tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: require_type(data, TensorPlan),
            "torch.storage._load_from_bytes": nested,
            "numpy.dtype": plan_dtype,
            "numpy.ndarray": None,
            "_codecs.encode": self.encode,
        }
        calls |= {f"torch.{kind}": None for kind in STORAGE_TYPES}
        calls |= {f"{module}.bytes": lambda: b"" for module in ("builtins", "__builtin__")}
        for core in ("numpy.core", "numpy._core"):
            calls[f"{core}.multiarray._reconstruct"] = plan_array
            calls[f"{core}.multiarray.scalar"] = self.make_scalar
            calls[f"{core}.numeric._frombuffer"] = self.make_array_from_buffer
        for name in ("jittor.jittor_core.Var", "jittor_core.Var", "jittor.Var"):
            calls[name] = lambda value: require_type(value, ArrayPlan)
        if script:
            for name in JIT_LISTS:
                calls[f"torch.jit._pickle.{name}"] = lambda value: require_type(value, list)
            calls["torch.jit._pickle.restore_type_tag"] = lambda value, _: value
        self.allowed = {name: AllowedName(name, call) for name, call in calls.items()}

    def find(self, module: str, name: str) -> AllowedName:
        """Returns the entry of a name; raises UnsafeFile if there is none."""
        full = f"{module}.{name}"
        if self.script and full.startswith(MODULES):
            return AllowedName(full)
        if full not in self.allowed:
            raise UnsafeFile(f"{full} is not needed by weights")
        return self.allowed[full]

    def make_object(self, kind: object) -> ScriptModule:
        """Returns an empty module of a TorchScript file; raises UnsafeFile for other classes."""
        if not isinstance(kind, AllowedName) or not kind.name.startswith(MODULES):
            raise UnsafeFile(f"{_name_of(kind)} is made as an object")
        return ScriptModule()

    def set_state(self, target: object, state: Any) -> None:
        """Sets the contents of an array, the byte order of a type, or a module's attributes."""
        if isinstance(target, ArrayPlan):
            _version, shape, kind, is_fortran, data = state
            target.value = self.make_array(data, kind, shape, "F" if is_fortran else "C")
        elif isinstance(target, DtypePlan):
            if state[1] not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
                raise UnsafeFile("numpy.dtype with fields")
            target.order = state[1]
        elif isinstance(target, ScriptModule):
            target.attributes.update(require_type(state, dict))
        elif type(target) is not OrderedDict:  # torch adds versions to a state's OrderedDict
            raise BadFile(f"is damaged: it sets the state of {type(target).__name__}")

    def find_storage(self, identity: object) -> Storage:
        """Returns the storage that torch names by ("storage", class, key, place, elements, ...)."""
        if self.read is None:
            raise BadFile("refers to data outside the file")
        word, kind, key, _place, numel, *view = require_type(identity, tuple)
        name = require_type(kind, AllowedName).name.removeprefix("torch.")
        if word != "storage" or name not in STORAGE_TYPES or any(part is not None for part in view):
            raise BadFile(f"is damaged: it refers to {describe(word)} {name}")
        require_sizes((numel,))
        storage = self.storages.setdefault(require_type(key, str), Storage(name, key, numel))
        if (storage.kind, storage.numel) != (name, numel):
            raise BadFile(f"is damaged: storage {key:.40} is described twice, differently")
        return storage

    def encode(self, text: str, encoding: str = "latin1") -> bytes:
        """Returns the bytes that an old pickle protocol wrote as text."""
        if encoding not in ("latin1", "latin-1"):
            raise UnsafeFile(f"_codecs.encode to {describe(encoding)}")
        self.budget.spend(len(require_type(text, str)), "text")
        return text.encode("latin1")

    def make_array(
        self, data: object, kind: object, shape: tuple, order: Literal["C", "F"]
    ) -> np.ndarray:
        """Returns an array over these bytes, copied only if its byte order is foreign."""
        plan = require_type(kind, DtypePlan)
        if isinstance(data, str):
            data = self.encode(data)
        buffer = data if isinstance(data, bytearray) else require_type(data, bytes)
        dtype, count = np.dtype(plan.code).newbyteorder(plan.order), prod(require_sizes(shape))
        if len(buffer) != count * dtype.itemsize:
            raise BadFile(f"is damaged: {len(buffer)} bytes for an array {shape} of {plan.code}")
        flat = np.frombuffer(buffer, dtype) if count else np.empty(0, dtype)
        if not dtype.isnative:
            self.budget.spend(len(buffer), "an array of foreign byte order")
            flat = flat.astype(dtype.newbyteorder("="))
        return flat.reshape(shape, order=order)

    def make_array_from_buffer(
        self, data: bytes, kind: DtypePlan, shape: tuple, order: Any
    ) -> ArrayPlan:
        """Returns an array as pickle protocol 5 writes it."""
        if order not in ("C", "F"):
            raise BadFile("is damaged: an array's order is neither C nor F")
        return ArrayPlan(self.make_array(data, kind, shape, order))

    def make_scalar(self, kind: DtypePlan, data: bytes) -> np.generic:
        """Returns a NumPy number."""
        number: Any = self.make_array(data, kind, (), "C")
        return number[()]

    def finish(self, item: object) -> object:
        """Returns the same containers with an array in place of each plan; plain data stays."""
        return self._finish(item, {}, 0)

    def _finish(self, item: object, done: dict[int, object], depth: int) -> Any:
        if item is None or isinstance(item, str | int | float | bytes | np.generic):
            return item
        if depth > MAX_DEPTH:
            raise BadFile(f"nests containers deeper than {MAX_DEPTH}")
        if id(item) in done:
            return done[id(item)]
        self.budget.count_step()
        result: object
        if isinstance(item, dict):
            result = {key: self._finish(value, done, depth + 1) for key, value in item.items()}
        elif isinstance(item, list | tuple):
            result = type(item)(self._finish(value, done, depth + 1) for value in item)
        elif isinstance(item, ScriptModule):
            result = ScriptModule(self._finish(item.attributes, done, depth + 1))
        elif isinstance(item, TensorPlan):
            result = tensor_to_array(item, self.read, self.budget)
        elif isinstance(item, ArrayPlan) and item.value is not None:
            result = item.value
        else:
            raise BadFile(f"holds {_name_of(item)} among its weights")
        done[id(item)] = result
        return result


def plan_array(kind: object, *_: object) -> ArrayPlan:
    """Stands in for `numpy.core.multiarray._reconstruct`; admits plain arrays only."""
    if not isinstance(kind, AllowedName) or kind.name != "numpy.ndarray":
        raise UnsafeFile(f"numpy.core.multiarray._reconstruct of {_name_of(kind)}")
    return ArrayPlan()


def plan_dtype(code: object, *_: object) -> DtypePlan:
    """Stands in for `numpy.dtype`; admits numbers only, no objects and no fields."""
    if not isinstance(code, str) or code not in NUMBERS:  # hashing a deep tuple ends the process
        raise UnsafeFile(f"numpy.dtype of {describe(code)}")
    return DtypePlan(code)


def _name_of(item: object) -> str:
    return item.name if isinstance(item, AllowedName) else type(item).__name__
