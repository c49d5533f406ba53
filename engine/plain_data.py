"""Dataclasses to plain data and back: configurations, trained parts and records on disk."""

import dataclasses
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Data = TypeVar("Data", bound="DataclassInstance")


def to_plain(data: "DataclassInstance") -> dict[str, Any]:
    """Returns the fields as plain data, also those of dataclasses inside.

    Paths become POSIX strings, tuples become lists, and arrays stay arrays.
    """
    return {field.name: _plain(getattr(data, field.name)) for field in dataclasses.fields(data)}


def from_plain(kind: type[Data], plain: Any, source: str, remedy: str = "") -> Data:
    """Returns the dataclass of this kind that `to_plain` turned into `plain`.

    Raises ValueError that starts with `source`, names the fields that are missing, unknown or of
    another type, and ends with `remedy`.
    """
    end = f"; {remedy}" if remedy else ""
    if not isinstance(plain, dict):
        raise ValueError(f"{source}: holds no {kind.__name__}{end}")
    types_of_fields = typing.get_type_hints(kind)
    names = [field.name for field in dataclasses.fields(kind)]
    missing = [name for name in names if name not in plain]
    unknown = sorted(str(name) for name in plain if name not in names)
    if missing or unknown:
        wrong = [f"lacks {', '.join(missing)}"] if missing else []
        wrong += [f"has unknown fields {', '.join(unknown)}"] if unknown else []
        reason = "another version of the kit wrote it"
        raise ValueError(f"{source}: {' and '.join(wrong)}; {reason}{end}")
    values = {}
    for name in names:
        value, hint = plain[name], types_of_fields[name]
        choices = {hint, *typing.get_args(hint)}  # of `Path | None`, also Path
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            value = from_plain(hint, value, f"{source}: {name}", remedy)
        elif isinstance(value, str) and Path in choices:
            value = Path(value)
        elif isinstance(value, list) and any(typing.get_origin(one) is tuple for one in choices):
            value = tuple(value)
        if not _is_allowed(hint, value):
            raise ValueError(f"{source}: {name} is {_short(value)}, which does not fit{end}")
        values[name] = value
    return kind(**values)


def _is_allowed(hint: Any, value: object) -> bool:
    """Whether a field of this type takes the value; what containers hold is not checked."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(_is_allowed(choice, value) for choice in inner)
    plain = origin or hint
    return type(value) is plain if plain in (bool, int) else isinstance(value, plain)


def _short(value: object) -> str:
    """Returns how a message shows the value."""
    text = repr(value)
    return text if len(text) <= 40 else type(value).__name__


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_plain(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value.as_posix() if isinstance(value, Path) else value
