"""Ending a program that is asked to: by SIGTERM or SIGUSR1, as batch systems do, or by SIGINT.

A first signal is noted, and long work looks for it between two steps: what is finished stays, and
the same command goes on from there. A second one ends the program at once, as safely as `kill -9`.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import pool
from types import FrameType

# 75 is EX_TEMPFAIL of sysexits.h: a batch script takes it as "start me again"
STATUS = {signal.SIGTERM: 75, signal.SIGUSR1: 75, signal.SIGINT: 130}


class Stopped(BaseException):
    """The program was asked to end; `done` says how far it had come, for the message."""

    done = ""


@dataclass
class _Asked:
    """What this process was asked; signals belong to a process, so there is one of it."""

    program: str = ""
    by: signal.Signals | None = None


_asked = _Asked()


def install_signal_handlers(program: str) -> None:
    """Takes the signals over.

    To be called again after Jittor's import: that takes SIGINT, and by SIGCHLD ends the process
    where a signal to the whole group ended a compiler.
    """
    if not _asked.program:
        os.register_at_fork(after_in_child=_let_go)
    _asked.program = program
    for number in STATUS:
        signal.signal(number, _note)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _let_go() -> None:
    """In a child: Jittor ends those that compile for it by SIGTERM, and waits for that."""
    for number in STATUS:
        signal.signal(number, signal.SIG_DFL)


def check_stop() -> None:
    """Raises Stopped where a signal came."""
    if _asked.by:
        raise Stopped


@contextlib.contextmanager
def report_progress_on_stop(done: str) -> Iterator[None]:
    """Work that is done again where it was stopped within: `done` is what stays."""
    try:
        yield
    except Stopped as stopped:
        stopped.done = done
        raise


@contextlib.contextmanager
def exit_on_signal() -> Iterator[None]:
    """Ends the program with one line and its signal's status where the work within was stopped.

    An error after a signal counts as that: the compiler that Jittor waits for may have got it too.
    """
    try:
        yield
    except (Stopped, Exception) as error:
        if not _asked.by:
            raise
        _end(_asked.by, getattr(error, "done", ""))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _note(number: int, frame: FrameType | None) -> None:
    if _asked.by:
        _end(_asked.by)
    _asked.by = signal.Signals(number)
    signal.signal(signal.SIGALRM, _wait_no_more)
    signal.setitimer(signal.ITIMER_REAL, 0.1, 1.0)


def _wait_no_more(number: int, frame: FrameType | None) -> None:
    """Ends a wait for the processes that compile for Jittor: the same signal may have ended them,
    and their pool would wait for ever.
    """
    while frame:
        if frame.f_code.co_filename == pool.__file__:
            raise Stopped
        frame = frame.f_back


def _end(by: signal.Signals, done: str = "") -> None:
    """Leaves without waiting for threads, of which one may hang in a read."""
    with contextlib.suppress(OSError, RuntimeError):  # a closed pipe; a write that was interrupted
        sys.stdout.flush()
    after = f" after {done}; the same command goes on from there" if done else ""
    after = after or "; the same command goes on from what is finished"
    os.write(2, f"{_asked.program}: stopped by {by.name}{after}\n".encode())
    os._exit(STATUS[by])
