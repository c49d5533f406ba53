"""Retraces a result to its data: every link of the chain, and which are changed or gone.

    python -m scripts.audit runs/demo                      a main job's folder, with manifest.json
    python -m scripts.audit runs/clip_cifar                a baseline's, with <phase>/result.json

Compares hashes and runs nothing again. A line a link: ok, changed, missing, or not recorded; status
0 only where all are ok. Paths are taken from where the command is typed, as `test.py` took them.
Needs neither weights' networks nor Jittor. docs/audit.md says what the links are.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment("tyro")

from tyro.conf import Positional

from baselines.audit import Phase, phases_in
from engine.config import parse
from engine.session import exit_on_error
from fewshot.provenance.audit import PLACES, Job
from fewshot.provenance.files import MANIFEST
from fewshot.provenance.links import OK, Link, as_json, versions_here
from runtime.files import atomic_write


@dataclass(frozen=True)
class Config:
    """Retraces a result to its data."""

    run: Positional[Path]
    """folder of a finished run"""
    data: str | None = None
    """data set of the main job, if it lies elsewhere now"""
    images: str | None = None
    """test images of the main job"""
    weights: str | None = None
    """CLIP weight file of the main job"""
    auxiliary: str | None = None
    """auxiliary weight file of the main job"""
    parts: str | None = None
    """folder of the main job's trained parts"""
    shots: str | None = None
    """few-shot list of the main job, if it is not the one kept for the data"""
    root: str | None = None
    """data of a baseline"""
    json: Path | None = None
    """file to write the links to, too"""


def audit(run: Path, places: dict[str, str]) -> tuple[list[Link], list[str]]:
    """(the links of a run, further lines to print). places: fields of Config that were set.

    Raises ValueError where the folder holds no run.
    """
    manifest = run / MANIFEST
    if manifest.is_file():
        job = Job(manifest, places)
        again = [f"to do it again: python test.py --verify {manifest}"]
        return job.links(), [*_versions([job.record["versions"]]), *again]
    root = Path(places["root"]) if places.get("root") else None
    phases = [Phase(folder, root) for folder in phases_in(run)]
    if not phases:
        raise ValueError(f"{run}: holds neither {MANIFEST} nor <phase>/result.json of a run")
    made_from = [phase.record().get("made_from", {}) for phase in phases]
    links = [link for phase in phases for link in phase.links()]
    return links, _versions(each.get("versions", {}) for each in made_from)


def _versions(recorded: Iterable[dict[str, str]]) -> list[str]:
    lines = {line for then in recorded for line in versions_here(then)}
    return [f"another version: {line}" for line in sorted(lines)]


def main() -> int:
    """Prints the links; returns the status."""
    config = parse(Config, sys.argv[1:], "audit")
    names = (*PLACES, "shots", "root")
    places = {name: str(value) for name in names if (value := getattr(config, name)) is not None}
    with exit_on_error("audit"):
        links, lines = audit(config.run, places)
        if config.json:
            with atomic_write(config.json) as file:
                file.write(as_json(links))
    print("\n".join([*map(str, links), *lines]))
    bad = [link.name for link in links if link.state != OK]
    verdict = f"{len(bad)} of {len(links)} links are not ok: {', '.join(bad)}"
    print(f"audit: {config.run}: {verdict if bad else f'all {len(links)} links are ok'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
