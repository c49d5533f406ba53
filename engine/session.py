"""What every command needs around its work: packages, ranks, signals, locks and one-line errors."""

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from runtime.distributed import end_all_ranks, silence_other_ranks
from runtime.environment import ensure_environment
from runtime.signals import exit_on_signal, install_signal_handlers

if TYPE_CHECKING:
    from engine.config import ConfigType


@dataclass(frozen=True)
class Session:
    """A command that runs: `program` is how its messages call it."""

    program: str

    def parse(self, config_class: "type[ConfigType]", arguments: Sequence[str]) -> "ConfigType":
        """Returns the configuration that the arguments give; see `engine.config.parse`."""
        from engine.config import parse  # its package is there once the session has begun

        return parse(config_class, arguments, self.program)

    def run(self, recipe: ModuleType, config: Any) -> None:
        """Runs a recipe, as the only run in the folders that its configuration names."""
        from engine.run_lock import run_lock

        with run_lock(*config.lock_files):
            recipe.run(config)


@contextlib.contextmanager
def session(program: str) -> Iterator[Session]:
    """Surrounds the work of a command that uses Jittor, which it imports.

    Restarts the command in the kit's `.venv` if this Python lacks the packages. Inside the block,
    only the main process prints, a signal ends the command between two steps, bad input ends it
    with one line, and a read that hangs is named.
    """
    ensure_environment()
    silence_other_ranks()
    with exit_on_signal(program):
        import jittor  # noqa: F401  (it may compile for minutes)

        from data.decoding import warn_on_stalled_reads

        install_signal_handlers()
        with exit_on_error(program), warn_on_stalled_reads():
            yield Session(program)


@contextlib.contextmanager
def exit_on_error(program: str) -> Iterator[None]:
    """Ends the program with one line on bad input or on numbers that are no longer finite.

    Bad input raises ValueError, OSError or MemoryError; such numbers raise ArithmeticError.
    FEWSHOT_TRACEBACK=1 in the environment shows the traceback instead.
    """
    try:
        yield
    except (ValueError, OSError, ArithmeticError, MemoryError) as error:
        if os.environ.get("FEWSHOT_TRACEBACK") == "1":
            raise
        message = str(error) or "no memory left"
        end_all_ranks(program, message)
        sys.exit(f"{program}: {message}")
