"""Sets the process up for Jittor: called by `import runtime`, before the first `import jittor`."""

import os
import sys
import sysconfig
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from runtime import cuda, onednn
from runtime.distributed import world_size


@dataclass(frozen=True)
class Prepared:
    """The decisions for this process; `scripts.doctor` prints them."""

    onednn: Path | None  # the library; None if it is not installed
    threads: int  # of OpenMP
    cuda: str  # the nvcc that Jittor will use; "" for the CPU only
    notes: tuple[str, ...]  # whole sentences for the user


def write_python_config() -> Path | None:
    """Writes a `python3-config` for this very interpreter; returns None if it has no headers.

    Jittor compiles against the headers that `python3-config` names. It looks for that program next
    to the interpreter, where virtual environments have none, and then in /usr/bin, where it may
    belong to another Python.
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

    A child process inherits the parent's choice. If that is the private copy, the child uses the
    copy too.
    """
    inherited = os.environ.get("nvcc_path")
    if inherited is not None and "jittor-cuda13" not in inherited:
        return [f"nvcc_path={inherited!r} is set in the environment and left as it is."]
    choice = cuda.choose()
    os.environ["nvcc_path"] = str(choice.nvcc or "")
    if not choice.nvcc:
        return [". ".join(filter(None, (f"CPU: {choice.reason}", choice.remedy)))]
    if choice.private:
        from runtime.cuda13 import private_copy

        private_copy.activate()
    for name in ("use_cutt", "use_cutlass"):  # Jittor would download these, and nothing uses them
        os.environ.setdefault(name, "0")
    if world_size() == 1:
        os.environ.setdefault("use_nccl", "0")  # only mpirun needs it, and it is downloaded
    return [f"{choice.summary}."]


def default_threads() -> int:
    """Returns how many cores this process may use; the ranks on one machine share its cores."""
    ranks_here = int(os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE", "1"))
    return min(len(os.sched_getaffinity(0)), max(1, (os.cpu_count() or 1) // ranks_here))


class FirstImport:
    """An import hook that announces compilation at the first `import jittor` on a machine."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "jittor" and PathFinder.find_spec(name):
            sys.meta_path.remove(self)
            print("Jittor compiles itself for this machine: minutes, only once.", file=sys.stderr)


def prepare() -> Prepared:
    """Sets up oneDNN, CUDA, threads and logging, by the environment variables that Jittor reads.

    Variables that the user has set stay as they are.
    """
    environ = os.environ
    threads = environ.setdefault("OMP_NUM_THREADS", str(default_threads()))
    environ.setdefault("log_silent", "1")  # else Jittor logs to stdout, in colour
    environ.setdefault("cache_name", "default")  # else each git branch compiles everything anew
    environ.setdefault("gdb_path", "")
    environ.setdefault("use_parallel_op_compiler", "0")  # it has a race; see `kernels.compiling`
    # Jittor would compile for MPI on every machine that has it; only mpirun needs it
    environ["use_mpi"] = str(int("OMPI_COMM_WORLD_SIZE" in environ))
    if config := write_python_config():
        environ.setdefault("python_config_path", str(config))
    notes = choose_cuda()
    library = onednn.load()
    if library is None:
        notes.append(f"oneDNN is missing, so Jittor would download it: {onednn.REMEDY}")
    if not (onednn.jittor_home() / ".cache/jittor/jt1.3.11").is_dir():
        sys.meta_path.insert(0, FirstImport())
    count = int(threads.partition(",")[0])  # OpenMP also takes a list, for nested regions
    return Prepared(library, count, environ["nvcc_path"], tuple(notes))
