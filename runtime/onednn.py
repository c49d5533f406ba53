"""Lays out oneDNN where Jittor looks for it, so that Jittor downloads nothing.

Jittor 1.3.11 compiles its CPU matrix products against
`<home>/.cache/jittor/mkl/dnnl_lnx_2.2.0_cpu_gomp` and fetches that folder from a university server
where it is missing. The PyPI wheels `onednn-cpu-gomp` and `onednn-devel-cpu-gomp` hold the same
library (2.6, the last 2.x; 3.x has another interface).
"""

import ctypes
import json
import os
import sys
from pathlib import Path

FOLDER = "dnnl_lnx_2.2.0_cpu_gomp"
REMEDY = "pip install onednn-cpu-gomp==2022.2.1 onednn-devel-cpu-gomp==2022.2.1"


def jittor_home() -> Path:
    """The folder whose `.cache/jittor` Jittor uses: JITTOR_HOME, else the one it remembers, else
    HOME.
    """
    named = os.environ.get("JITTOR_HOME")
    if named:
        return Path(named).absolute()
    remembered = Path.home() / ".cache/jittor/config.json"
    if remembered.is_file():
        return Path(json.loads(remembered.read_text()).get("JITTOR_HOME", Path.home()))
    return Path.home()


def wheel_files() -> tuple[Path, Path] | None:
    """(include folder, shared library) of the installed wheels, or None where they are not
    installed.
    """
    include, library = Path(sys.prefix) / "include", Path(sys.prefix) / "lib/libdnnl.so.2"
    return (include, library) if (include / "dnnl.hpp").is_file() and library.is_file() else None


def _link(target: Path, link: Path) -> None:
    """Makes `link` point to `target`, atomically: two processes may start at the same moment."""
    if link.is_symlink() and os.readlink(link) == str(target):
        return
    if link.is_dir() and not link.is_symlink():
        raise RuntimeError(f"{link.parent} is left over from a broken download: delete that folder")
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.symlink_to(target)
    os.replace(temporary, link)


def lay_out() -> Path | None:
    """Links the wheels into Jittor's cache and loads the library; returns its path or None.

    A real oneDNN that Jittor downloaded earlier (a folder, not our links) is kept as it is.
    """
    folder = jittor_home() / ".cache/jittor/mkl" / FOLDER
    found = wheel_files()
    library = folder / "lib/libmkldnn.so"
    if found and not (library.is_file() and not library.is_symlink()):
        include, shared = found
        _link(include, folder / "include")
        _link(shared, library)
    if not library.is_file():
        return None
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)  # where Jittor's operators find oneDNN's names
    return library.resolve()
