"""Puts oneDNN into the folder in which Jittor looks for it, so that Jittor downloads nothing.

Jittor 1.3.11 compiles its CPU matrix products against
`<home>/.cache/jittor/mkl/dnnl_lnx_2.2.0_cpu_gomp`. If that folder is missing, it downloads it from
a university's server. The PyPI wheels `onednn-cpu-gomp` and `onednn-devel-cpu-gomp` hold the same
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
    """Returns the folder whose `.cache/jittor` Jittor uses.

    It is JITTOR_HOME, else the one that Jittor's config file remembers, else HOME.
    """
    if named := os.environ.get("JITTOR_HOME"):
        return Path(named).absolute()
    config = Path.home() / ".cache/jittor/config.json"
    if config.is_file():
        return Path(json.loads(config.read_text()).get("JITTOR_HOME", Path.home()))
    return Path.home()


def wheel_files() -> tuple[Path, Path] | None:
    """Returns (include folder, shared library) of the wheels; None if they are not installed."""
    include, library = Path(sys.prefix) / "include", Path(sys.prefix) / "lib/libdnnl.so.2"
    return (include, library) if (include / "dnnl.hpp").is_file() and library.is_file() else None


def load() -> Path | None:
    """Links the wheels into Jittor's cache and loads the library; returns its path or None.

    A real oneDNN that Jittor downloaded earlier (a folder, not our links) stays as it is.
    """
    folder = jittor_home() / ".cache/jittor/mkl" / FOLDER
    library, wheels = folder / "lib/libmkldnn.so", wheel_files()
    is_download = library.is_file() and not library.is_symlink()
    if wheels and not is_download:
        _link(wheels[0], folder / "include")
        _link(wheels[1], library)
    if not library.is_file():
        return None
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)  # makes its symbols visible to Jittor's operators
    return library.resolve()


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
