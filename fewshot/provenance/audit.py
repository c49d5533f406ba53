"""The chain of the main job, from its result back to its images.

The links are those of the result, the manifest, the parts, the code, the texts and the weights;
`audit_images` adds those of the images.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from engine.code_version import code_digest
from engine.config import current_fields
from fewshot.provenance.audit_images import ImageAudit, users_by_hash
from fewshot.provenance.links import (
    CHANGED,
    MISSING,
    NOT_RECORDED,
    OK,
    RESULT,
    Link,
    check_code,
    check_file,
    check_weights,
    compare_hashes,
    find_weight_file,
    join_names,
)
from fewshot.provenance.verify import read_manifest
from fewshot.stages.record import TRAINING, Origin, origin_of, read_record, record_path
from runtime.paths import ROOT
from weight_files.reader import safe_load

# fields of the manifest's "config" that say where inputs are
LOCATIONS = ("data", "images", "weights", "auxiliary", "parts")
FILES_OF_OOD = ("negatives", "templates")  # what the ood stage reads from prompts/


@dataclass(frozen=True)
class JobAudit:
    """The audit of a finished main job.

    locations: where inputs are now, if not where the manifest says; the fields of LOCATIONS, and
    "shots" for the few-shot list. kit: the folder that holds the code and prompts/.
    """

    manifest: Path
    locations: dict[str, str]
    kit: Path = ROOT

    @cached_property
    def record(self) -> dict:
        """The manifest. Raises ValueError if it is not as test.py writes it."""
        record = read_manifest(self.manifest)
        record["config"] = current_fields(record["config"], "test.py")
        inputs, shots = record["inputs"], record.get("shots")
        is_valid = {
            "made_from": _maps_to(record.get("made_from"), dict),
            "inputs: parts": _maps_to(inputs.get("parts"), str),
            "inputs: weights": isinstance(inputs.get("weights"), str),
            "inputs: images": isinstance(inputs.get("images"), int),
            "shots": isinstance(shots, list)
            and all(isinstance(pair, list) and len(pair) == 2 for pair in shots),
            "config": all(isinstance(record["config"].get(name), str) for name in LOCATIONS),
        }
        wrong = [name for name, valid in is_valid.items() if not valid]
        if wrong:
            raise ValueError(f"{self.manifest}: {', '.join(wrong)} not as test.py writes it")
        return record

    def links(self) -> list[Link]:
        """Returns all links, those of the result first."""
        shots = self.locations.get("shots")
        images = ImageAudit(
            self.manifest,
            self.record,
            self._path("data"),
            self._path("images").as_posix(),
            Path(shots) if shots else None,
        )
        code = self.record.get("code")
        return [
            *self._result_links(),
            *images.test_links(),
            check_code("code of the test run", code, (RESULT,), self.kit),
            *self._weight_links("weights", self.record["inputs"]["weights"]),
            *self._weight_links("auxiliary", self.record["inputs"].get("auxiliary")),
            *self._part_links(),
            *self._code_links(),
            *self._text_links(),
            *images.training_links(),
        ]

    def _path(self, name: str) -> Path:
        """Returns where an input is now."""
        return Path(self.locations.get(name) or self.record["config"][name])

    def _result_links(self) -> list[Link]:
        folder, recorded = self.manifest.parent, self.record["result"]
        links = [check_file(name, folder / name, recorded[name]) for name in sorted(recorded)]
        if (folder / "scores.json").is_file():
            links += self._score_links(folder / "scores.json")
        return links

    def _score_links(self, path: Path) -> list[Link]:
        """Compares the result and the labels that scores.json is about."""
        users, where = ("scores.json",), path.as_posix()
        try:
            source = json.loads(path.read_text(encoding="utf-8")).get("made_from")
        except (ValueError, AttributeError) as error:
            return [Link("scores.json", CHANGED, path=where, note=f"cannot be read ({error})")]
        if not source:
            note = "its accuracies may be those of another result, or of other labels"
            return [Link("scores.json", NOT_RECORDED, path=where, note=note)]
        result = self.record["result"]["result.txt"]
        links = [
            compare_hashes("result of scores.json", source["result.txt"], result, users, where)
        ]
        if source["labels"] is not None:  # else the folders of the test images are the labels
            links.append(check_file("labels", self._path("labels"), source["labels"], users))
        return links

    def _weight_links(self, name: str, recorded: str | None) -> list[Link]:
        """Compares a weight file with each hash that the manifest or a part records."""
        users = users_by_hash(self.record, name)
        if recorded:
            users[recorded] = (RESULT, *users.get(recorded, ()))
        if not users:
            return []
        path = find_weight_file(self._path(name).as_posix())
        return [check_weights(name, path, sha256, used_by) for sha256, used_by in users.items()]

    def _part_links(self) -> list[Link]:
        folder, recorded = self._path("parts"), self.record["inputs"]["parts"]
        links = [check_file(name, folder / name, recorded[name], (RESULT,)) for name in recorded]
        names = [link.name for link in links if link.state == OK]
        origins = {name: _read_origin(folder / name) for name in names}
        return [*links, self._record_link(folder), self._origin_link(origins)]

    def _record_link(self, folder: Path) -> Link:
        """Compares the parts with the record that the training wrote beside them."""
        path, parts = record_path(folder), self.record["inputs"]["parts"]
        name, used_by, where = "record of the training", tuple(parts), path.as_posix()
        if not path.is_file():
            return Link(name, MISSING, used_by, where, note="copy it along with the parts")
        try:
            recorded = {stage.output: stage.sha256 for stage in read_record(folder).values()}
        except ValueError as error:
            return Link(name, CHANGED, used_by, where, note=f"cannot be read ({error})")
        differing = [part for part in parts if recorded.get(part) != parts[part]]
        if differing:
            note = f"is that of another {', '.join(differing)}"
            return Link(name, CHANGED, used_by, where, note=note)
        return Link(name, OK, used_by, where, note=f"{len(parts)} parts")

    def _origin_link(self, origins: dict[str, Origin | None]) -> Link:
        """Compares what the parts say they were made from with the manifest and with each other.

        origins: by file name, of the parts whose files are those of the manifest.
        """
        keys = {name: origin.key for name, origin in origins.items() if origin}
        differing = []
        for name, origin in origins.items():
            if origin is None or origin.inputs != self.record["made_from"].get(name):
                differing.append(name)
            elif any(keys.get(f"{need}.pkl", key) != key for need, key in origin.needs.items()):
                differing.append(name)
        note = f"of {len(origins)} parts"
        if differing:
            note = f"differ in {join_names(differing)}"
        state = CHANGED if differing else OK
        return Link("records in the parts", state, (RESULT,), self.manifest.as_posix(), note=note)

    def _code_links(self) -> list[Link]:
        """Compares the code that trained the parts; Jittor's version is the recorded one."""
        jittor = self.record["versions"].get("jittor", "")
        current = code_digest([TRAINING], jittor, self.kit)
        note = f"commit of the test run {self.record.get('commit', 'unknown')}"
        return [
            compare_hashes("code of the parts", recorded, current, used_by, note=note)
            for recorded, used_by in users_by_hash(self.record, "code").items()
        ]

    def _text_links(self) -> list[Link]:
        """Compares the files of prompts/ that the parts were made from."""
        users, prompts = defaultdict(list), self.kit / "prompts"
        for part, inputs in self.record["made_from"].items():
            files = {prompts / f"{kind}.json": inputs.get(kind) for kind in FILES_OF_OOD}
            user_file = Path(inputs.get("text", {}).get("classes", ""))
            for name, recorded in inputs.get("prompts", {}).items():
                folder = prompts if name == "templates.json" else prompts / "classes"
                files[user_file if user_file.name == name else folder / name] = recorded
            for path, recorded in files.items():
                if recorded:
                    users[path, recorded].append(part)
        return [check_file(path.name, path, sha256, by) for (path, sha256), by in users.items()]


def _read_origin(path: Path) -> Origin | None:
    """Reads the origin in a part's file; None if another version of the kit wrote it."""
    try:
        return origin_of(safe_load(path), path)
    except ValueError:
        return None


def _maps_to(value: object, kind: type) -> bool:
    """Whether a value is a dictionary whose values are of this type."""
    return isinstance(value, dict) and all(isinstance(item, kind) for item in value.values())
