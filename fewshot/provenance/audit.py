"""The main job's chain, backwards: result, manifest, parts, code, texts, weights, images."""

import json
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from engine.code_version import PARTS, code_digest
from engine.config import current_fields
from fewshot.provenance.audit_images import Images, users_of
from fewshot.provenance.links import (
    CHANGED,
    MISSING,
    NOT_RECORDED,
    OK,
    RESULT,
    Link,
    code_link,
    compared,
    few,
    file_link,
    weight_link,
    weight_path,
)
from fewshot.provenance.verify import read_manifest
from fewshot.stages.record import read_record, record_path
from runtime.paths import ROOT
from weight_files.reader import safe_load

PLACES = ("data", "images", "weights", "auxiliary", "parts")  # fields that say where inputs lie
NEGATIVE_TEXTS = ("negatives", "templates")  # what the filter's words come from


@dataclass(frozen=True)
class Job:
    """A finished main job. `places` says where things lie today: fields of the manifest's "config"
    that differ from it, and "shots", the file of the few-shot split; `kit` holds code and prompts.
    """

    manifest: Path
    places: dict[str, str]
    kit: Path = ROOT

    @cached_property
    def record(self) -> dict:
        record = read_manifest(self.manifest)
        record["config"] = current_fields(record["config"], "test.py")
        made_from, inputs = record.get("made_from"), record["inputs"]
        forms = {
            "made_from": _maps_to(made_from, dict),
            "inputs: parts": _maps_to(inputs.get("parts"), str),
            "inputs: weights": isinstance(inputs.get("weights"), str),
            "inputs: images": isinstance(inputs.get("images"), int),
            "shots": isinstance(record.get("shots"), list)
            and all(isinstance(pair, list) and len(pair) == 2 for pair in record["shots"]),
            "config": all(isinstance(record["config"].get(name), str) for name in PLACES),
        }
        wrong = [name for name, right in forms.items() if not right]
        if wrong:
            raise ValueError(f"{self.manifest}: {', '.join(wrong)} not as test.py writes it")
        return record

    def place(self, name: str) -> Path:
        return Path(self.places.get(name) or self.record["config"][name])

    def links(self) -> list[Link]:
        """All links, the result's first."""
        shots = self.places.get("shots")
        split = Path(shots) if shots else None
        test = self.place("images").as_posix()
        images = Images(self.manifest, self.record, self.place("data"), test, split)
        return [
            *self.results(),
            *images.of_the_test(),
            code_link("code of the test run", self.record.get("code"), (RESULT,), self.kit),
            *self.weights("weights", self.record["inputs"]["weights"]),
            *self.weights("auxiliary", self.record["inputs"].get("auxiliary")),
            *self.parts(),
            *self.code(),
            *self.texts(),
            *images.of_the_training(),
        ]

    def results(self) -> list[Link]:
        folder, recorded = self.manifest.parent, self.record["result"]
        links = [file_link(name, folder / name, recorded[name]) for name in sorted(recorded)]
        if (folder / "scores.json").is_file():
            links += self.scores(folder / "scores.json")
        return links

    def scores(self, path: Path) -> list[Link]:
        """scores.json says which result and which labels it is of."""
        into, where = ("scores.json",), path.as_posix()
        try:
            source = json.loads(path.read_text(encoding="utf-8")).get("made_from")
        except (ValueError, AttributeError) as error:
            return [Link("scores.json", CHANGED, path=where, note=f"cannot be read ({error})")]
        if not source:
            note = "its accuracies may be those of another result, or of other labels"
            return [Link("scores.json", NOT_RECORDED, path=where, note=note)]
        result = compared(
            "result of scores.json",
            source["result.txt"],
            self.record["result"]["result.txt"],
            into=into,
            path=where,
        )
        if source["labels"] is None:  # the names of the test folders are the labels
            return [result]
        return [result, file_link("labels", self.place("labels"), source["labels"], into)]

    def weights(self, name: str, recorded: str | None) -> list[Link]:
        users = users_of(self.record, name)
        if recorded:
            users[recorded] = (RESULT, *users.get(recorded, ()))
        if not users:
            return []
        path = weight_path(self.place(name).as_posix())
        return [weight_link(name, path, sha256, into) for sha256, into in users.items()]

    def parts(self) -> list[Link]:
        folder, hashes = self.place("parts"), self.record["inputs"]["parts"]
        links = [file_link(name, folder / name, hashes[name], (RESULT,)) for name in hashes]
        whole = [link.name for link in links if link.state == OK]
        metas = {name: safe_load(folder / name).get("meta", {}) for name in whole}
        return [*links, self._schedule(folder), self._records(metas)]

    def _schedule(self, folder: Path) -> Link:
        """What the training noted of its parts."""
        path, name = record_path(folder), "record of the training"
        into = tuple(self.record["inputs"]["parts"])
        more: dict[str, Any] = {"into": into, "path": path.as_posix()}
        if not path.is_file():
            return Link(name, MISSING, note="copy it along with the parts", **more)
        try:
            noted = {stage.output: stage.sha256 for stage in read_record(folder).values()}
        except ValueError as error:
            return Link(name, CHANGED, note=f"cannot be read ({error})", **more)
        parts = self.record["inputs"]["parts"]
        other = [part for part in parts if noted.get(part) != parts[part]]
        note = f"is of another {', '.join(other)}" if other else f"{len(parts)} parts"
        return Link(name, CHANGED if other else OK, note=note, **more)

    def _records(self, metas: dict[str, dict]) -> Link:
        """Whether the parts themselves say that they were made from what the manifest says, and
        from each other. metas: what those hold that are the recorded files.
        """
        made_from = self.record["made_from"]
        other = []
        for name, meta in metas.items():
            needed = {f"{need}.pkl": key for need, key in meta.get("needs", {}).items()}
            here = {need: metas[need].get("key") for need in needed if need in metas}
            if meta.get("inputs") != made_from.get(name) or not here.items() <= needed.items():
                other.append(name)
        note = f"other ones in {few(other)}" if other else f"of {len(metas)} parts"
        where = self.manifest.as_posix()
        return Link("records in the parts", CHANGED if other else OK, (RESULT,), where, note=note)

    def code(self) -> list[Link]:
        """The source that trained the parts, as one hash, with Jittor's version as recorded."""
        jittor = self.record["versions"].get("jittor", "")
        found = code_digest([PARTS], jittor, self.kit)
        note = f"commit of the test run {self.record.get('commit', 'unknown')}"
        return [
            compared("code of the parts", recorded, found, into=into, note=note)
            for recorded, into in users_of(self.record, "code").items()
        ]

    def texts(self) -> list[Link]:
        """Files of prompts, each with the parts that were made from it."""
        users, prompts = defaultdict(list), self.kit / "prompts"
        for part, inputs in self.record["made_from"].items():
            files = {prompts / f"{kind}.json": inputs.get(kind) for kind in NEGATIVE_TEXTS}
            own = Path(inputs.get("text", {}).get("classes", ""))
            for name, recorded in inputs.get("prompts", {}).items():
                folder = prompts if name == "templates.json" else prompts / "classes"
                files[own if own.name == name else folder / name] = recorded
            for path, recorded in files.items():
                if recorded:
                    users[path, recorded].append(part)
        return [file_link(path.name, path, sha256, into) for (path, sha256), into in users.items()]


def _maps_to(value: object, kind: type) -> bool:
    """Whether this is a dictionary of values of this kind."""
    return isinstance(value, dict) and all(isinstance(each, kind) for each in value.values())
