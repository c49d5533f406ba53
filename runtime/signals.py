"""Ends a program on SIGTERM or SIGUSR1, which batch systems send, and on SIGINT, which is Ctrl-C.

The first signal is noted, and long work ends between two steps: what is finished stays, and the
same command continues from there. A second signal ends the program at once, as safely as `kill -9`.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

# 75 is EX_TEMPFAIL of sysexits.h: a batch script takes it as "start me again".
STATUS = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGINT: 130}

# Seconds after the first signal until the program ends in the middle of a step. Jittor may wait
# forever for compilers that the same signal has ended. Files are written whole or not at all, so
# this loses no more than a stop between two steps. Slurm and Kubernetes kill 30 s after SIGTERM.
GRACE_S = 20.0


class Stopped(BaseException):
    """The program received a signal and ends between two steps."""


@dataclass
class _State:
    """What this process knows about its signals. A signal belongs to a process, so there is one."""

    program: str = ""
    received: signal.Signals | None = None
    progress: str = ""


_state = _State()


def install_signal_handlers() -> None:
    """Handles the three signals in this process, and none in processes that it forks.

    Call it again after the import of Jittor. That import takes SIGINT over, and its handler of
    SIGCHLD ends the process if a signal to the whole group has ended a compiler.
    """
    for number in STATUS:
        signal.signal(number, _note)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _restore_defaults() -> None:
    """Lets a forked process end by SIGTERM, as Jittor expects of those that compile for it."""
    for number in STATUS:
        signal.signal(number, signal.SIG_DFL)


def check_stop() -> None:
    """Raises Stopped if a signal was received. Long work calls this between two steps."""
    if _state.received:
        raise Stopped


@contextlib.contextmanager
def report_progress_on_stop(done: str) -> Iterator[None]:
    """Adds what is `done` to the message of a signal that ends the program inside the block.

    done: what a later run keeps, such as "3 of 10 epochs".
    """
    before, _state.progress = _state.progress, done
    yield
    _state.progress = before  # not after an exception: then the message is still to come


@contextlib.contextmanager
def exit_on_signal(program: str) -> Iterator[None]:
    """Ends the program with one line and the signal's status if a signal stops the block.

    An error after a signal counts as a stop, because the signal may have ended a compiler that
    Jittor waits for.
    """
    if not _state.program:
        os.register_at_fork(after_in_child=_restore_defaults)
    _state.program = program
    install_signal_handlers()
    try:
        yield
    except (Stopped, Exception):
        if not _state.received:
            raise
        _end(_state.received)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _note(number: int, frame: FrameType | None) -> None:
    if _state.received:
        _end(_state.received)
    _state.received = received = signal.Signals(number)
    signal.signal(signal.SIGALRM, lambda number, frame: _end(received))
    signal.setitimer(signal.ITIMER_REAL, GRACE_S)


def _end(received: signal.Signals) -> None:
    """Ends the process without waiting for threads, because one may hang in a read."""
    with contextlib.suppress(OSError, RuntimeError):  # a closed pipe; a write that was interrupted
        sys.stdout.flush()
    remedy = "the same command goes on from what is finished"
    if _state.progress:
        remedy = "the same command goes on from there"
    after = f" after {_state.progress}" if _state.progress else ""
    os.write(2, f"{_state.program}: stopped by {received.name}{after}; {remedy}\n".encode())
    os._exit(STATUS[received])
