"""The links between a result and its data, and whether each is still what was recorded.

A link is a file, or a group of files, that something else was made from. Needs no Jittor, so that
an audit runs on any machine that has the files.
"""

import json
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from engine.code_version import file_digest
from runtime.files import printable
from runtime.paths import ROOT
from weight_files.hashing import sha256_of
from weight_files.known_weights import find_by_name, find_by_sha256, known_weights

OK, CHANGED, MISSING, NOT_RECORDED = "ok", "changed", "missing", "not recorded"
RESULT = "result"  # the end of the chain
SHARED_WEIGHTS = Path("~/.cache/clip")  # where OpenAI's own package keeps its files
SHOWN_NAMES = 3  # of a group
SHOWN_DIGITS = 12  # of a hash


@dataclass(frozen=True)
class Link:
    """One thing that a result was made from, and its state."""

    name: str
    state: str  # OK, CHANGED, MISSING or NOT_RECORDED
    used_by: tuple[str, ...] = ()  # what was made from it
    path: str = ""
    recorded_hash: str = ""
    current_hash: str = ""
    note: str = ""

    def __str__(self) -> str:
        details = [text for text in (self.path, self.note) if text]
        if self.state == CHANGED and self.recorded_hash and self.current_hash:
            recorded, current = self.recorded_hash[:SHOWN_DIGITS], self.current_hash[:SHOWN_DIGITS]
            details.append(f"recorded {recorded}, now {current}")
        users = f" -> {join_names(self.used_by)}" if self.used_by else ""
        return printable(f"{self.state:12}  {self.name}{users}: {'; '.join(details)}")


def compare_hashes(
    name: str,
    recorded: str | None,
    current: str,
    used_by: Iterable[str] = (),
    path: str = "",
    note: str = "",
) -> Link:
    """Returns the link of something that has the hash `current` now."""
    state = OK if current == recorded else CHANGED
    if not recorded:
        state = NOT_RECORDED
    return Link(name, state, tuple(used_by), path, recorded or "", current, note)


def check_file(name: str, path: Path, recorded: str | None, used_by: Iterable[str] = ()) -> Link:
    """Returns the link of one file, whose recorded hash is its SHA-256."""
    try:
        return compare_hashes(name, recorded, sha256_of(path), used_by, path.as_posix())
    except OSError as error:
        note = error.strerror or str(error)
        return Link(name, MISSING, tuple(used_by), path.as_posix(), recorded or "", note=note)


def find_weight_file(name: str) -> Path:
    """Returns the weight file that a configuration names by its path or as an official model."""
    official = next((known for known in known_weights() if known.name == name), None)
    if official is None:
        return Path(name)
    files = [folder.expanduser() / official.file for folder in (ROOT, SHARED_WEIGHTS)]
    return next((file for file in files if file.is_file()), files[0])


def check_weights(name: str, path: Path, recorded: str | None, used_by: Iterable[str] = ()) -> Link:
    """Returns the link of a weight file; its note says which public file it is, if any.

    A file that has the name of a public file and other content counts as changed.
    """
    link = check_file(name, path, recorded, used_by)
    known = find_by_sha256(link.current_hash or link.recorded_hash)
    namesake = find_by_name(path)
    note = f"known: {known.what} ({known.name})" if known else "unknown file"
    if namesake and link.current_hash and not namesake.has_sha256(link.current_hash):
        note = f"{note}, but named like {namesake.what} ({namesake.name})"
        return replace(link, state=CHANGED, note=note)
    return replace(link, note="; ".join(filter(None, (link.note, note))))


def check_code(name: str, recorded: dict | None, used_by: Iterable[str], root: Path = ROOT) -> Link:
    """Returns the link of the source files below `root` that `code_hashes` recorded."""
    if not recorded:
        note = "only the commit tells which code made it"
        return Link(name, NOT_RECORDED, tuple(used_by), note=note)
    missing = [file for file in recorded if not (root / file).is_file()]
    present = [file for file in recorded if file not in missing]
    changed = [file for file in present if file_digest(root / file) != recorded[file]]
    if not missing and not changed:
        return Link(name, OK, tuple(used_by), note=f"{len(recorded)} files")
    note = f"{join_names(changed + missing)} of {len(recorded)} files"
    return Link(name, CHANGED if changed else MISSING, tuple(used_by), note=note)


def join_names(names: Sequence[str]) -> str:
    """Returns the first names, and how many more there are."""
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more


def list_other_versions(recorded: dict[str, str]) -> list[str]:
    """Returns a line per package that is installed in another version than recorded.

    Another version may change a result, but need not.
    """
    current = {"python": platform.python_version()}
    for name in recorded.keys() - current:
        try:
            current[name] = version(name)
        except PackageNotFoundError:
            current[name] = "none"
    names = [name for name in sorted(recorded) if recorded[name] != current[name]]
    return [f"{name}: recorded {recorded[name]}, installed {current[name]}" for name in names]


def to_json(links: Sequence[Link]) -> str:
    """Returns the links as a JSON list."""
    return json.dumps([asdict(link) for link in links], indent=1) + "\n"
