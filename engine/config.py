"""Configuration: one frozen dataclass per command, read from the command line.

The type of a field checks its value, and the line under a field is its help. An unknown name or a
wrong type ends the program with status 2 and a message. Nothing is read from anywhere else.
"""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from engine.plain_data import from_plain, to_plain
from runtime.distributed import is_main_process

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ConfigType = TypeVar("ConfigType", bound="DataclassInstance")

# Spellings of version 0.1, which go on working in 0.2: "field" or "field value" -> the new one.
OLD_SPELLINGS_EVERYWHERE = {"pieces": "grad_accum", "precision plain": "kernels jittor"}
OLD_SPELLINGS = {
    "train.py clip_fewshot": {
        "split": "shots",
        "batch_size": "prefetch",
        "prompt.pieces": "prompt.grad_accum",
        "lora.pieces": "lora.grad_accum",
        "ood.kept": "ood.target_tpr",
    },
    "test.py": {"split": "images", "batch_size": "prefetch", "ood fitted": "ood gp"},
    "audit": {"split": "images"},
    "make_split": {"shots": "shots_per_class"},
    "sweep": {"split": "images", "shots": "shots_per_class"},
    "validate": {"split": "images"},
}


def parse(
    config_class: type[ConfigType],
    arguments: Sequence[str],
    program: str,
    default: ConfigType | None = None,
    *,
    flags: bool = False,
) -> ConfigType:
    """Reads `--field value` pairs into `config_class`; `--help` prints all fields and their help.

    program: how messages and OLD_SPELLINGS call the command. Fields that the arguments leave out
    are those of `default`, or else of the class. flags: a boolean field is set by its name alone.
    """
    return tyro.cli(
        config_class,
        args=current_arguments(arguments, program),
        prog=program,
        default=tyro.MISSING_NONPROP if default is None else default,
        config=(tyro.conf.FlagCreatePairsOff,) if flags else (tyro.conf.FlagConversionOff,),
        use_underscores=True,
    )


def current_arguments(arguments: Sequence[str], program: str) -> list[str]:
    """Returns the arguments with old spellings replaced, and prints a notice for each of them."""
    spellings = OLD_SPELLINGS_EVERYWHERE | OLD_SPELLINGS.get(program, {})
    words = list(arguments)
    for index, word in enumerate(words):
        option, equals, value = word.partition("=")
        if not option.startswith("--"):
            continue
        field = option[2:].replace("-", "_")
        if field in spellings:
            words[index] = f"--{spellings[field]}{equals}{value}"
            _notice(f"{program}: --{field} is --{spellings[field]} now")
            continue
        following = words[index + 1 : index + 2]  # the value, if it is a word of its own
        pair = f"{field} {value}" if equals else " ".join([field, *following])
        if pair in spellings:
            new_field, new_value = spellings[pair].split()
            words[index] = f"--{new_field}={new_value}" if equals else f"--{new_field}"
            if not equals:
                words[index + 1] = new_value
            _notice(f"{program}: --{pair} is --{spellings[pair]} now")
    return words


def _notice(text: str) -> None:
    if is_main_process():
        print(f"{text}; version 0.2 is the last that reads the old spelling", file=sys.stderr)


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns the arguments before and after the word `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    return list(arguments[:end]), list(arguments[end + 1 :])


def current_fields(fields: dict[str, Any], program: str) -> dict[str, Any]:
    """Returns what `to_plain` gave for this program, with old spellings replaced."""
    spellings = OLD_SPELLINGS_EVERYWHERE | OLD_SPELLINGS.get(program, {})
    current = {}
    for name, value in fields.items():
        if name in spellings:
            current[spellings[name]] = value
        elif f"{name} {value}" in spellings:
            new_name, current[new_name] = spellings[f"{name} {value}"].split()
        else:
            current[name] = value
    return current


def restore_config(
    config_class: type[ConfigType], fields: dict[str, Any], program: str
) -> ConfigType:
    """Returns the configuration that `to_plain` turned into `fields`.

    A configuration with old spellings takes the default of each field that did not exist then.
    Raises ValueError if other fields are missing or unknown, and if a value has the wrong type.
    """
    current = current_fields(fields, program)
    if current != fields:
        names = ", ".join(sorted(set(fields) - set(current))) or "a value"
        _notice(f"{program}: the stored configuration spells {names} the old way")
        current = to_plain(config_class()) | current
    return from_plain(config_class, current, "the configuration")


def require_ranges(fields: dict[str, float], *, least: float) -> None:
    """Raises one ValueError that names every field below `least`."""
    low = [f"{name} is {value}" for name, value in fields.items() if not value >= least]
    if low:
        raise ValueError(f"{', '.join(low)}; {least} or more is needed")
