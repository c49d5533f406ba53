"""Opens every hostile file in a process of its own and prints what came of it, as JSON.

    python -m tests.robustness.hostile_run FOLDER

Each case has a folder, and its file a folder in that. Reported of each case: `outcome` ("read",
"refused" or another error's type), the error's `text`, what `changed` beside the file, `grown` (MB
of memory at most, above what the process had), `seconds` (of the processor, so that a busy machine
makes no difference), and the exit `status` of its process.
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

PATIENCE_S = 60  # of the processor, and ten times as long by the clock, until a case is killed
MEMORY = 6 << 30  # bytes of addresses, so that a bomb hurts nobody; the tests say how much may be


def snapshot(folder: Path) -> dict[str, tuple]:
    """{path: kind, time of change and size} of all there is below a folder."""
    found = {str(path): path.lstat() for path in folder.rglob("*")}
    return {path: (one.st_mode, one.st_mtime_ns, one.st_size) for path, one in found.items()}


def peak() -> int:
    """Bytes of memory that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def outcome(opener: Callable[[], object]) -> dict[str, object]:
    """What opening a file comes to, in this process."""
    before, started = peak(), process_time()
    try:
        opener()
        found = {"outcome": "read", "text": ""}
    except ValueError as error:
        found = {"outcome": "refused", "text": str(error)}
    except Exception as error:
        found = {"outcome": type(error).__name__, "text": str(error)}
    seconds = process_time() - started
    return found | {"grown": (peak() - before) >> 20, "seconds": round(seconds, 2)}


def in_a_process(opener: Callable[[], object], folder: Path) -> dict[str, object]:
    """The same in a child that begins in `folder`, with its exit status."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE_S, PATIENCE_S))
        signal.alarm(10 * PATIENCE_S)
        os.write(send, json.dumps(outcome(opener)).encode())
        os._exit(0)
    os.close(send)
    with open(receive, "rb") as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return (json.loads(said) if said else {"outcome": "died"}) | {"status": status}


def watched(place: Path, name: str, content: bytes, opener: Callable) -> dict[str, object]:
    """Writes a case's file, opens it, and says what changed."""
    (place / "inside").mkdir(parents=True)
    (place / "outside.txt").write_text("outside")
    path = place / "inside" / name
    path.write_bytes(content)
    before = snapshot(place)
    found = in_a_process(lambda: opener(path), place / "inside")
    found["changed"] = sorted(set(snapshot(place).items()) ^ set(before.items()))
    path.unlink()
    return found | {"path": str(path)}


def weights(folder: Path) -> dict[str, dict]:
    """All weight files."""
    results = {}
    for number, (name, (content, _)) in enumerate(hostile_weights.make().items()):
        results[name] = watched(folder / str(number), "weights.pt", content, safe_load)
    return results


if __name__ == "__main__":
    top = Path(sys.argv[1])
    print(json.dumps(weights(top)))
