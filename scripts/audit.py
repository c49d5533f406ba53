"""Compares every file behind a result with what was recorded: which ones changed or are missing.

    python -m scripts.audit runs/demo                      a folder with manifest.json
    python -m scripts.audit runs/clip_cifar                a baseline's, with <phase>/result.json

It compares hashes and runs nothing again. It prints a line per link: ok, changed, missing, or not
recorded. The status is 0 only if all links are ok. Relative paths start in the current folder, as
they do for `test.py`. It needs neither Jittor nor a GPU. docs/reproducibility.md explains the
links.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment("tyro")

from baselines.audit import Phase, find_phases
from engine.config import current_arguments
from engine.session import exit_on_error
from fewshot.provenance.audit import JobAudit
from fewshot.provenance.files import MANIFEST
from fewshot.provenance.links import OK, Link, list_other_versions, to_json
from runtime.files import atomic_write

LOCATIONS = {
    "data": "where the data of the main job are now, if they were moved",
    "images": "where its test images are now",
    "weights": "where its CLIP weight file is now",
    "auxiliary": "where its auxiliary weight file is now",
    "parts": "where its folder of trained parts is now",
    "shots": "its few-shot list, if it is not the one that is kept for the data",
    "root": "where the data of a baseline are now",
}


def audit(run: Path, locations: dict[str, str]) -> tuple[list[Link], list[str]]:
    """Returns the links of a run, and further lines to print.

    locations: where inputs are now, if not where the run recorded; fields of LOCATIONS. Raises
    ValueError if the folder holds no run.
    """
    manifest = run / MANIFEST
    if manifest.is_file():
        job = JobAudit(manifest, locations)
        lines = _version_lines([job.record["versions"]])
        return job.links(), [*lines, f"to repeat the run: python test.py --verify {manifest}"]
    root = Path(locations["root"]) if locations.get("root") else None
    phases = [Phase(folder, root) for folder in find_phases(run)]
    if not phases:
        raise ValueError(f"{run}: holds neither {MANIFEST} nor <phase>/result.json of a run")
    made_from = [phase.record().get("made_from", {}) for phase in phases]
    links = [link for phase in phases for link in phase.links()]
    return links, _version_lines(record.get("versions", {}) for record in made_from)


def _version_lines(records: Iterable[dict[str, str]]) -> list[str]:
    lines = {line for recorded in records for line in list_other_versions(recorded)}
    return [f"another version: {line}" for line in sorted(lines)]


def main() -> int:
    """Prints the links. Returns the status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    for name, text in LOCATIONS.items():
        parser.add_argument(f"--{name}", help=text)
    parser.add_argument("--json", type=Path, metavar="FILE", help="file to write the links to")
    arguments = parser.parse_args(current_arguments(sys.argv[1:], "audit"))
    with exit_on_error("audit"):
        values = {name: getattr(arguments, name) for name in LOCATIONS}
        locations = {name: value for name, value in values.items() if value is not None}
        links, lines = audit(arguments.run, locations)
        if arguments.json:
            with atomic_write(arguments.json) as file:
                file.write(to_json(links))
    print("\n".join([*map(str, links), *lines]))
    failed = [link.name for link in links if link.state != OK]
    summary = f"all {len(links)} links are ok"
    if failed:
        summary = f"{len(failed)} of {len(links)} links are not ok: {', '.join(failed)}"
    print(f"audit: {arguments.run}: {summary}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
