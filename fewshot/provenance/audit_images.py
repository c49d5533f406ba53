"""The images of a main job: test images, shots, and the names of the classes."""

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from data.decoding import content_key_or_error
from data.few_shot_dataset import DataError, FewShotDataset, Sample, list_test_images, open_dataset
from data.few_shot_splits import find_default_split, read_split
from data.lists import read_json_lines
from fewshot.provenance.files import IMAGES, image_rows, read_rows, rows_digest
from fewshot.provenance.links import (
    CHANGED,
    MISSING,
    NOT_RECORDED,
    OK,
    RESULT,
    Link,
    compare_hashes,
    join_names,
)


def users_by_hash(record: dict, name: str) -> dict[str, tuple[str, ...]]:
    """Returns {what parts record under this name: these parts}, from a manifest.

    Hashes stay as they are; other values become JSON.
    """
    users = defaultdict(list)
    for part, inputs in record["made_from"].items():
        if name in inputs:
            users[_to_text(inputs[name])].append(part)
    return {recorded: tuple(parts) for recorded, parts in users.items()}


def _to_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class ImageAudit:
    """The audit of the images that a manifest names."""

    manifest: Path
    record: dict  # the manifest's contents
    data: Path  # where the data are now
    test_images: str  # where the test images are now: a folder of the data, or a path
    shots: Path | None  # the few-shot list; None for the one that is kept for the data

    def test_links(self) -> list[Link]:
        """Compares the test images."""
        inputs, where = self.record["inputs"], self.test_images
        root = self.data.parent if self.data.is_file() else self.data
        name, used_by, recorded = "test images", (RESULT,), inputs.get("images_sha256", "")
        try:
            rows = image_rows(list_test_images(root, where))
        except DataError as error:
            return [Link(name, MISSING, used_by, where, recorded, note=str(error))]
        if not recorded:
            note = "any images give a valid result"
            return [Link(name, NOT_RECORDED, used_by, where, note=note)]
        digest, note = rows_digest(rows), f"{len(rows)} images"
        if digest == recorded:
            return [Link(name, OK, used_by, where, recorded, digest, note)]
        state, note = self._name_other_images(dict(rows), inputs["images"])
        return [Link(name, state, used_by, where, recorded, digest, note)]

    def _name_other_images(self, current: dict[str, str], count: int) -> tuple[str, str]:
        """Returns the state of a set that differs, and the images that do, if they are known."""
        rows = read_rows(self.manifest.with_name(IMAGES))
        if rows_digest(rows) != self.record["inputs"]["images_sha256"]:
            note = f"{len(current)} images, {count} recorded; without {IMAGES} none can be named"
            return (MISSING if len(current) < count else CHANGED), note
        recorded = dict(rows)
        changed = [name for name in current if recorded.get(name) != current[name]]
        missing = [name for name in recorded if name not in current]
        state = CHANGED if changed else MISSING
        return state, f"{join_names(changed + missing)} of {count} images"

    def training_links(self) -> list[Link]:
        """Compares the list of shots, the few-shot split, its images and the class names."""
        pairs, users = self.record["shots"], users_by_hash(self.record, "shots")
        digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
        links = [
            compare_hashes("list of shots", recorded, digest, used_by, self.manifest.as_posix())
            for recorded, used_by in users.items()
        ]
        split, used_by = self._find_split(), tuple(p for parts in users.values() for p in parts)
        if split is None or not split.is_file():
            where = "" if split is None else split.as_posix()
            note = "name the few-shot split with --shots"
            links.append(Link("split", MISSING, used_by, where, note=note))
            split = None
        try:
            dataset = open_dataset(self.data)
        except DataError as error:
            return [*links, self._data_link(split, used_by, str(error))]
        links.append(self._class_link(dataset))
        return links + (self._shot_links(dataset, split, used_by) if split else [])

    def _find_split(self) -> Path | None:
        if self.shots:
            return self.shots
        try:
            return find_default_split(self.data)
        except DataError:
            return None

    def _data_link(self, split: Path | None, used_by: tuple[str, ...], reason: str) -> Link:
        """Returns the link of data that cannot be opened: images of the split may be missing."""
        images, where = [], self.data.as_posix()
        if split:
            records = read_json_lines(split, lambda record: "image" in record, '{"image": "path"}')
            images = [record["image"] for _, record in records]
        folders = (self.data, self.data / "TrainSet", self.data.parent)
        missing = [name for name in images if not any((top / name).is_file() for top in folders)]
        if missing and self.data.exists():
            note = join_names(missing)
            return Link("images of the shots", MISSING, used_by, where, note=note)
        state = CHANGED if self.data.exists() else MISSING
        return Link("training data", state, used_by, where, note=reason)

    def _class_link(self, dataset: FewShotDataset) -> Link:
        names, users = list(dataset.label_space.names), users_by_hash(self.record, "classes")
        used_by = tuple(part for parts in users.values() for part in parts)
        state, note = OK, f"{len(names)} classes"
        if list(users) != [_to_text(names)]:
            state, note = CHANGED, f"{len(names)} classes with other names"
        return Link("class names", state, used_by, self.data.as_posix(), note=note)

    def _shot_links(
        self, dataset: FewShotDataset, split: Path, used_by: tuple[str, ...]
    ) -> list[Link]:
        """Compares the split and its images with the recorded shots.

        A shot that the split does not name is searched for in all training images of its class. If
        it is there, the split chose another image; else the image itself changed.
        """
        try:
            samples = read_split(split, dataset)
        except DataError as error:
            return [Link("split", CHANGED, used_by, split.as_posix(), note=str(error))]
        remaining = Counter((label, key) for label, key in self.record["shots"])
        unrecorded: list[Sample] = []
        for sample in samples:
            pair = (sample.label, content_key_or_error(sample.path))
            if remaining[pair]:
                remaining[pair] -= 1
            else:
                unrecorded.append(sample)
        absent = list(remaining.elements())
        present = set()
        if absent:
            present = {(s.label, content_key_or_error(s.path)) for s in dataset.train}
        lost = [pair for pair in absent if pair not in present]
        names = join_names([sample.name for sample in unrecorded])
        state, note = OK, f"{len(samples)} images"
        if not len(unrecorded) == len(lost) == len(absent):
            state, note = CHANGED, f"names other images: {names or 'too few'}"
        links = [Link("split", state, used_by, split.as_posix(), note=note)]
        state, note = OK, ""
        if lost:
            count = sum(remaining.values()) or len(samples)
            state, note = CHANGED, f"{names or 'a file'} of {count}"
        where = self.data.as_posix()
        return [*links, Link("images of the shots", state, used_by, where, note=note)]
