"""What a result follows from, link by link: written down when it is made, looked up by an audit.

A link is a file, or a group of files, that something else was made from. Needs no Jittor, so that
an audit runs on any machine that has the files.
"""

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from engine.code_version import file_digest
from runtime.files import printable
from runtime.paths import ROOT
from weight_files.hashing import sha256_of
from weight_files.known_weights import find_by_name, find_by_sha256, known_weights

OK, CHANGED, MISSING, NOT_RECORDED = "ok", "changed", "missing", "not recorded"
RESULT = "result"  # what stands at the end of a chain
SHARED_WEIGHTS = Path("~/.cache/clip")  # where OpenAI's own package keeps its files
LISTED = 3  # names of a group that are shown
DIGITS = 12  # of a hash that are shown


@dataclass(frozen=True)
class Link:
    """One thing that a result follows from, and whether it is still what it was."""

    name: str
    state: str
    into: tuple[str, ...] = ()  # what was made from it
    path: str = ""
    recorded: str = ""
    found: str = ""
    note: str = ""

    def __str__(self) -> str:
        shown = [text for text in (self.path, self.note) if text]
        if self.state == CHANGED and self.recorded and self.found:
            shown.append(f"recorded {self.recorded[:DIGITS]}, found {self.found[:DIGITS]}")
        users = f" -> {few(self.into)}" if self.into else ""
        return printable(f"{self.state:12}  {self.name}{users}: {'; '.join(shown)}")


def compared(name: str, recorded: str | None, found: str, **more) -> Link:
    """The link of something that has the hash `found` today."""
    if not recorded:
        return Link(name, NOT_RECORDED, found=found, **more)
    state = OK if found == recorded else CHANGED
    return Link(name, state, recorded=recorded, found=found, **more)


def file_link(name: str, path: Path, recorded: str | None, into: Iterable[str] = ()) -> Link:
    """The link of one file."""
    more: dict[str, Any] = {"into": tuple(into), "path": path.as_posix()}
    try:
        return compared(name, recorded, sha256_of(path), **more)
    except OSError as error:
        note = error.strerror or str(error)
        return Link(name, MISSING, recorded=recorded or "", note=note, **more)


def weight_path(given: str) -> Path:
    """The weight file that a configuration names, by its path or as an official model."""
    official = next((each for each in known_weights() if each.name == given), None)
    if official is None:
        return Path(given)
    files = [folder.expanduser() / official.file for folder in (ROOT, SHARED_WEIGHTS)]
    return next((file for file in files if file.is_file()), files[0])


def weight_link(name: str, path: Path, recorded: str | None, into: Iterable[str] = ()) -> Link:
    """The link of a weight file, with what it is. A file that goes by a public one's name, and is
    another, counts as changed whatever was recorded.
    """
    link = file_link(name, path, recorded, into)
    known, claimed = find_by_sha256(link.found or link.recorded), find_by_name(path)
    note = f"known: {known.what} ({known.name})" if known else "unknown file"
    if claimed and link.found and not claimed.has_sha256(link.found):
        note = f"{note}, called like {claimed.what} ({claimed.name})"
        return replace(link, state=CHANGED, note=note)
    return replace(link, note="; ".join(filter(None, (link.note, note))))


def few(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def code_link(name: str, recorded: dict | None, into: Iterable[str], root: Path = ROOT) -> Link:
    """The link of the source files that `code_hashes` listed."""
    into = tuple(into)
    if not recorded:
        return Link(name, NOT_RECORDED, into, note="only the commit says which code made it")
    gone = [file for file in recorded if not (root / file).is_file()]
    here = [file for file in recorded if file not in gone]
    other = [file for file in here if file_digest(root / file) != recorded[file]]
    if not gone and not other:
        return Link(name, OK, into, note=f"{len(recorded)} files")
    state = CHANGED if other else MISSING
    return Link(name, state, into, note=f"{few(other + gone)} of {len(recorded)} files")


def versions_here(then: dict[str, str]) -> list[str]:
    """What is installed in another version than recorded, a line each; it may change a result."""
    here = {"python": platform.python_version()}
    for name in then.keys() - here:
        try:
            here[name] = version(name)
        except PackageNotFoundError:
            here[name] = "none"
    return [f"{n}: {then[n]} then, {here[n]} here" for n in sorted(then) if then[n] != here[n]]


def as_json(links: Sequence[Link]) -> str:
    """The links as a JSON list."""
    return json.dumps([asdict(link) for link in links], indent=1) + "\n"
