"""Frozen dataclasses to plain data and back, for what this kit writes to disk."""

import dataclasses
import types
import typing
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Data = TypeVar("Data", bound="DataclassInstance")


def to_plain(data: "DataclassInstance") -> dict[str, Any]:
    """Returns the fields as a dictionary, also those of dataclasses inside; tuples become lists."""
    plain = {}
    for field in dataclasses.fields(data):
        value = getattr(data, field.name)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = to_plain(value)
        plain[field.name] = list(value) if isinstance(value, tuple) else value
    return plain


def from_plain(kind: type[Data], plain: Any, source: str) -> Data:
    """Returns the dataclass of this kind that `to_plain` turned into `plain`.

    Raises ValueError that starts with `source` and names the fields that are missing, unknown or
    of another type.
    """
    types_of_fields = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    if not isinstance(plain, dict):
        raise ValueError(f"{source}: holds no {kind.__name__}; run `bash train.sh` again")
    missing = [name for name in names if name not in plain]
    unknown = sorted(str(name) for name in plain if name not in names)
    if missing or unknown:
        lists = [f"lacks {', '.join(missing)}"] if missing else []
        lists += [f"has unknown fields {', '.join(unknown)}"] if unknown else []
        raise ValueError(
            f"{source}: {' and '.join(lists)}; another version of the kit wrote it: "
            "run `bash train.sh` again"
        )
    values = {}
    for name in names:
        value, hint = plain[name], types_of_fields[name]
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            value = from_plain(hint, value, f"{source}: {name}")
        elif typing.get_origin(hint) is tuple and isinstance(value, list):
            value = tuple(value)
        if not _has_type(value, hint):
            raise ValueError(f"{source}: {name} is {type(value).__name__}, not {hint}")
        values[name] = value
    return kind(**values)


def _has_type(value: Any, hint: Any) -> bool:
    """Whether a value is of this type; the contents of containers are not looked at."""
    if isinstance(hint, types.UnionType):
        return any(_has_type(value, choice) for choice in typing.get_args(hint))
    return isinstance(value, typing.get_origin(hint) or hint)
