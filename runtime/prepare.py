"""Sets the process up for Jittor: called once by `import runtime`, before the first `import jittor`."""

import os
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from runtime import onednn


@dataclass(frozen=True)
class Prepared:
    """What was decided for this process; printed by `runtime.doctor`."""

    onednn: Path | None
    threads: int
    cuda: str  # nvcc that Jittor will use, "" for CPU only
    notes: tuple[str, ...]  # what the user should know, one sentence each


def python_config() -> Path | None:
    """A `python3-config` for this very interpreter.

    Jittor compiles against the headers that `python3-config` names and looks for it beside the interpreter, which a
    virtual environment lacks, then in /usr/bin, which may belong to another Python.
    """
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").is_file():
        return None
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    text = f'#!/bin/sh\ncase "$1" in\n  --includes) echo "-I{include}";;\n  --extension-suffix) echo "{suffix}";;\nesac\n'
    script = onednn.jittor_home() / ".cache/jittor" / f"python-config-{sys.version_info.major}.{sys.version_info.minor}"
    if not script.is_file() or script.read_text() != text:
        script.parent.mkdir(parents=True, exist_ok=True)
        temporary = script.with_name(f"{script.name}.{os.getpid()}")
        temporary.write_text(text)
        temporary.chmod(0o755)
        os.replace(temporary, script)
    return script


def prepare() -> Prepared:
    """Decides oneDNN, CUDA, threads and logging; every decision goes into the environment that Jittor reads.

    A variable that the user has set is left alone.
    """
    notes = []
    environ = os.environ
    threads = int(environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0)))))
    environ.setdefault("log_silent", "1")  # Jittor logs to stdout, in colour, between our own lines
    environ.setdefault("cache_name", "default")  # else the git branch names the cache, and a new branch recompiles all
    environ.setdefault("gdb_path", "")
    config = python_config()
    if config:
        environ.setdefault("python_config_path", str(config))
    environ.setdefault("nvcc_path", "")
    library = onednn.lay_out()
    if library is None:
        notes.append(f"oneDNN is missing, so Jittor would download it: {onednn.REMEDY}")
    if not (onednn.jittor_home() / ".cache/jittor/jt1.3.11").is_dir():
        print("Jittor compiles itself for this machine now: about 90 s, once.", file=sys.stderr, flush=True)
    return Prepared(library, threads, environ["nvcc_path"], tuple(notes))
