"""Opens every hostile weight file in a process of its own and prints the outcomes as JSON.

    python -m tests.robustness.open_hostile FOLDER

Each case has a folder, and its file lies in a folder in that. The outcome of a case holds:
- outcome: "read", "refused", "died" or another error's type
- text: the error's text
- changed: what changed next to the file
- grown: peak memory in MB above what the process had before
- seconds: processor time, so that a busy machine makes no difference
- status: the exit status of the process
- path: the file's path
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time

from tests.robustness import hostile_weights
from weight_files.reader import safe_load

LIMIT_S = 60  # processor time until a case is killed, and a tenth of the wall time
MEMORY = 6 << 30  # bytes of address space, which protects the machine; the tests allow less


def take_snapshot(folder: Path) -> dict[str, tuple]:
    """Returns {path: mode, time of change, size} of everything below a folder."""
    states = {str(path): path.lstat() for path in folder.rglob("*")}
    return {path: (s.st_mode, s.st_mtime_ns, s.st_size) for path, s in states.items()}


def peak() -> int:
    """Returns the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def outcome(opener: Callable[[], object]) -> dict[str, object]:
    """Opens a file in this process and returns the outcome."""
    before, started = peak(), process_time()
    try:
        opener()
        result = {"outcome": "read", "text": ""}
    except ValueError as error:
        result = {"outcome": "refused", "text": str(error)}
    except Exception as error:
        result = {"outcome": type(error).__name__, "text": str(error)}
    seconds = process_time() - started
    return result | {"grown": (peak() - before) >> 20, "seconds": round(seconds, 2)}


def open_in_child(opener: Callable[[], object], folder: Path) -> dict[str, object]:
    """Opens a file in a child process that starts in `folder`; adds its exit status."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
        signal.alarm(10 * LIMIT_S)
        os.write(send, json.dumps(outcome(opener)).encode())
        os._exit(0)
    os.close(send)
    with open(receive, "rb") as pipe:
        answer = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (json.loads(answer) if answer else {"outcome": "died"}) | {"status": status}


def open_case(folder: Path, name: str, content: bytes, opener: Callable) -> dict[str, object]:
    """Writes a case's file, opens it, and adds what changed."""
    (folder / "inside").mkdir(parents=True)
    (folder / "outside.txt").write_text("outside")
    path = folder / "inside" / name
    path.write_bytes(content)
    before = take_snapshot(folder)
    result = open_in_child(lambda: opener(path), folder / "inside")
    result["changed"] = sorted(set(take_snapshot(folder).items()) ^ set(before.items()))
    path.unlink()
    return result | {"path": str(path)}


def weights(folder: Path) -> dict[str, dict]:
    """Returns the outcomes of all weight files by case."""
    results = {}
    for number, (name, (content, _)) in enumerate(hostile_weights.make().items()):
        results[name] = open_case(folder / str(number), "weights.pt", content, safe_load)
    return results


if __name__ == "__main__":
    print(json.dumps(weights(Path(sys.argv[1]))))
