"""Sets the process up for Jittor: called by `import runtime`, before the first `import jittor`."""

import os
import sys
import sysconfig
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from runtime import cuda, onednn
from runtime.cuda13 import private_copy
from runtime.distributed import world_size


@dataclass(frozen=True)
class Prepared:
    """What was decided for this process; printed by `scripts.doctor`."""

    onednn: Path | None
    threads: int
    cuda: str  # nvcc that Jittor will use, "" for CPU only
    notes: tuple[str, ...]  # what the user should know, one sentence each


def python_config() -> Path | None:
    """A `python3-config` for this very interpreter; None where the interpreter has no headers.

    Jittor compiles against the headers that `python3-config` names and looks for it beside the
    interpreter, which a virtual environment lacks, then in /usr/bin, which may belong to another
    Python.
    """
    include = sysconfig.get_paths()["include"]
    if not Path(include, "Python.h").is_file():
        return None
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    text = (
        f'#!/bin/sh\ncase "$1" in\n  --includes) echo "-I{include}";;\n'
        f'  --extension-suffix) echo "{suffix}";;\nesac\n'
    )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    script = onednn.jittor_home() / ".cache/jittor" / f"python-config-{version}"
    if not script.is_file() or script.read_text() != text:
        script.parent.mkdir(parents=True, exist_ok=True)
        temporary = script.with_name(f"{script.name}.{os.getpid()}")
        temporary.write_text(text)
        temporary.chmod(0o755)
        os.replace(temporary, script)
    return script


def choose_cuda() -> list[str]:
    """Sets `nvcc_path` to a usable toolkit or to "", and returns notes; a user's own value stays.

    A child process inherits the parent's choice; where that is the private copy, it takes the copy
    too.
    """
    chosen = os.environ.get("nvcc_path")
    if chosen is not None and chosen != str(private_copy.nvcc()):
        return [f"nvcc_path={chosen!r} is set in the environment and left as it is."]
    found = cuda.choose()
    os.environ["nvcc_path"] = str(found.nvcc or "")
    if not found.usable:
        return [f"CPU: {found.reason}{found.remedy and f'. {found.remedy}'}"]
    if found.private:
        private_copy.activate()
    for name in ("use_cutt", "use_cutlass"):  # Jittor would download these; nothing here uses them
        os.environ.setdefault(name, "0")
    if world_size() == 1:
        os.environ.setdefault("use_nccl", "0")  # needed, and downloaded, under mpirun only
    return [f"{found.summary}."]


def default_threads() -> int:
    """The cores that this process may use, those of the machine shared out among its ranks."""
    ranks_here = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1"))
    return min(len(os.sched_getaffinity(0)), max(1, (os.cpu_count() or 1) // ranks_here))


class FirstImport:
    """Says, at the first `import jittor` on a machine, that it compiles; then steps aside."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "jittor" and PathFinder.find_spec(name):
            sys.meta_path.remove(self)
            print("Jittor compiles itself for this machine now: minutes, once.", file=sys.stderr)


def prepare() -> Prepared:
    """Decides oneDNN, CUDA, threads and logging, through the environment that Jittor reads.

    A variable that the user has set is left alone.
    """
    environ = os.environ
    threads = environ.setdefault("OMP_NUM_THREADS", str(default_threads()))
    environ.setdefault("log_silent", "1")  # Jittor logs to stdout, in colour, between our own lines
    environ.setdefault("cache_name", "default")  # else each git branch compiles everything anew
    environ.setdefault("gdb_path", "")
    environ.setdefault("use_parallel_op_compiler", "0")  # it races; see `kernels.compiling`
    # Jittor would compile for MPI wherever it is installed; under mpirun it must
    environ["use_mpi"] = str(int("OMPI_COMM_WORLD_SIZE" in environ))
    config = python_config()
    if config:
        environ.setdefault("python_config_path", str(config))
    notes = choose_cuda()
    library = onednn.lay_out()
    if library is None:
        notes.append(f"oneDNN is missing, so Jittor would download it: {onednn.REMEDY}")
    if not (onednn.jittor_home() / ".cache/jittor/jt1.3.11").is_dir():
        sys.meta_path.insert(0, FirstImport())
    count = int(threads.partition(",")[0])  # a list names the threads of nested regions too
    return Prepared(library, count, environ["nvcc_path"], tuple(notes))
