"""Configuration: one frozen dataclass a recipe, read from the command line.

A field's default gives its type's example, the line under the field its help. Unknown names and
wrong types end the program with status 2 and a message; nothing is read from anywhere else.
"""

import dataclasses
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ConfigType = TypeVar("ConfigType", bound="DataclassInstance")


def parse(
    config_class: type[ConfigType],
    arguments: Sequence[str],
    program: str,
    default: ConfigType | None = None,
) -> ConfigType:
    """Reads `--field value` pairs into `config_class`; `--help` prints all fields and lines.

    What is not given is as in `default`, or as the class says.
    """
    return tyro.cli(
        config_class,
        args=list(arguments),
        prog=program,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.FlagConversionOff,),
        use_underscores=True,
    )


def as_plain(config: "DataclassInstance") -> dict[str, Any]:
    """The fields of a configuration as plain data: paths become POSIX strings, tuples lists."""
    return _plain(dataclasses.asdict(config))


def from_plain(config_class: type[ConfigType], fields: dict) -> ConfigType:
    """The configuration that `as_plain` took apart, where none is nested.

    Raises ValueError for fields that the class does not have, or has and are missing, and for
    values of another kind than theirs.
    """
    known: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(config_class)}
    if set(fields) != set(known):
        names = ", ".join(sorted(set(fields) ^ set(known)))
        raise ValueError(f"was written by another version of the kit: it differs in {names}")
    made = {}
    for name, value in fields.items():
        kinds = {known[name], *typing.get_args(known[name])}  # of `Path | None`, Path too
        if isinstance(value, str) and Path in kinds:
            value = Path(value)
        made[name] = tuple(value) if isinstance(value, list) else value
        if not _allows(known[name], made[name]):
            raise ValueError(f"{name} is {value!r}, which is no value of that field")
    return config_class(**made)


def _allows(kind: type, value: object) -> bool:
    """Whether a value may stand in a field of this type: a class, union, tuple[...], Literal."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(_allows(one, value) for one in inner)
    plain = origin or kind
    return type(value) is plain if plain in (bool, int) else isinstance(value, plain)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]
    return value.as_posix() if isinstance(value, Path) else value


def require_ranges(fields: dict[str, float], *, least: float) -> None:
    """Raises one ValueError naming every field that is below `least`."""
    low = [f"{name} is {value}" for name, value in fields.items() if not value >= least]
    if low:
        raise ValueError(f"{', '.join(low)}; {least} or more is needed")
