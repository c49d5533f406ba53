"""Searches for files that make a parser fail with anything but its one clear error.

    python -m tests.robustness.fuzz pickle --seconds 240

The search starts from `tests/robustness/corpus/<parser>/` and changes these files, guided by the
branches that they reach. It uses atheris (libFuzzer for Python), which requirements-dev.txt lists.
The smallest file of each kind of failure is kept. A parser that hangs for 10 s or takes 2 GiB of
memory ends the search, and its file is kept too. The last line is JSON.
"""

import json
import os
import sys
import traceback
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated, Any

from runtime.environment import ensure_environment

ensure_environment()

import tyro

from runtime.paths import ROOT

CORPUS = ROOT / "tests/robustness/corpus"
IN_MEMORY = Path("/dev/shm")  # a disk is too slow for every execution
INSTRUMENTED = ["weight_files", "data", "fewshot", "baselines", "pickletools", "zipfile"]
HANG_S, MEMORY_MB, LONGEST = 10, 2560, 1 << 16  # 512 MiB is the fuzzer's; bytes per file


def main(
    parser: Annotated[str, tyro.conf.Positional],
    seconds: int = 60,
    findings: Path = ROOT / "runs" / "fuzz",
) -> None:
    """Fuzzes one parser.

    Args:
        parser: a folder of tests/robustness/corpus/, such as pickle, torch_zip, lists or splits
        seconds: duration of the search
        findings: folder for the files that made the parser fail
    """
    import atheris

    more = ["PIL"] if parser == "images" else []  # takes seconds
    with atheris.instrument_imports(include=INSTRUMENTED + more):
        from tests.robustness.parsers import PARSERS, check
    if parser not in PARSERS:
        sys.exit(f"fuzz: no parser is called {parser!r}; there are {', '.join(PARSERS)}")
    findings = findings / parser
    findings.mkdir(parents=True, exist_ok=True)
    scratch = TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None)
    new, work = Path(scratch.name, "new"), Path(scratch.name, "work")
    for folder in (new, work):
        folder.mkdir()
    smallest: dict[str, int] = {}  # bytes of the smallest file of each kind of finding
    line: dict[str, Any] = {"parser": parser, "executions": 0}
    started = perf_counter()

    def once(data: bytes) -> None:
        if perf_counter() - started > seconds:  # libFuzzer would end without a report
            line.update(seconds=round(perf_counter() - started), findings=sorted(smallest))
            print(json.dumps(line), flush=True)
            scratch.cleanup()
            os._exit(0)
        line["executions"] += 1
        try:
            check(PARSERS[parser], data, work)
        except Exception as error:
            keep(error, data, smallest, findings)

    options = {
        "timeout": HANG_S,
        "rss_limit_mb": MEMORY_MB,
        "max_len": LONGEST,
        "artifact_prefix": f"{findings}/",
        "verbosity": 0,
    }
    arguments = [f"-{name}={value}" for name, value in options.items()]
    atheris.Setup([parser, *arguments, str(new), str(CORPUS / parser)], once)
    atheris.Fuzz()


def keep(error: Exception, data: bytes, smallest: dict[str, int], folder: Path) -> None:
    """Writes the file behind an error, if it is the smallest of its kind so far."""
    kind = kind_of(error)
    if len(data) < smallest.get(kind, len(data) + 1):
        smallest[kind] = len(data)
        (folder / kind).write_bytes(data)
        (folder / f"{kind}.txt").write_text(traceback.format_exc(), errors="replace")


def kind_of(error: BaseException) -> str:
    """Returns the error's type and the line that raised it, which tell findings apart."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    kind = f"{type(error).__name__}-{Path(frame.filename).stem}-{frame.lineno}"
    if isinstance(error, AssertionError) and error.__cause__:
        kind += f"-{kind_of(error.__cause__)}"
    return kind


if __name__ == "__main__":
    tyro.cli(main, description=__doc__.splitlines()[0])
