"""The images of a main job: those of the test, the few-shot split's, and the names of classes."""

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.decoding import content_key_or_error
from data.few_shot_dataset import DataError, FewShotDataset, Sample, list_test_images, open_dataset
from data.few_shot_splits import find_default_split, read_split
from data.lists import read_json_lines
from fewshot.provenance.files import IMAGES, image_rows, read_rows, rows_digest
from fewshot.provenance.links import CHANGED, MISSING, NOT_RECORDED, OK, RESULT, Link, compared, few


def users_of(record: dict, name: str) -> dict[str, tuple[str, ...]]:
    """{what the parts of a manifest record under this name: those parts}; hashes as they are,
    other values as JSON.
    """
    found = defaultdict(list)
    for part, inputs in record["made_from"].items():
        if name in inputs:
            found[_plain(inputs[name])].append(part)
    return {recorded: tuple(parts) for recorded, parts in found.items()}


def _plain(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class Images:
    """The images that a manifest's record speaks of, and where they lie today. `split`: the file of
    shots, by default the one kept for the data.
    """

    manifest: Path
    record: dict
    data: Path
    test: str
    split: Path | None

    def of_the_test(self) -> list[Link]:
        inputs = self.record["inputs"]
        root = self.data.parent if self.data.is_file() else self.data
        name = "test images"
        more: dict[str, Any] = {"into": (RESULT,), "path": self.test}
        recorded = inputs.get("images_sha256", "")
        try:
            rows = image_rows(list_test_images(root, self.test))
        except DataError as error:
            return [Link(name, MISSING, recorded=recorded, note=str(error), **more)]
        if not recorded:
            return [Link(name, NOT_RECORDED, note="any images give a valid result", **more)]
        link = compared(name, recorded, rows_digest(rows), note=f"{len(rows)} images", **more)
        if link.state == OK:
            return [link]
        state, note = self._other_images(dict(rows), inputs["images"])
        return [Link(name, state, recorded=recorded, found=link.found, note=note, **more)]

    def _other_images(self, now: dict[str, str], count: int) -> tuple[str, str]:
        """The state of a changed set, and which images are other, gone or new, where known."""
        listed = read_rows(self.manifest.with_name(IMAGES))
        if rows_digest(listed) != self.record["inputs"]["images_sha256"]:
            note = f"{len(now)} images, {count} recorded; without {IMAGES} none can be named"
            return (MISSING if len(now) < count else CHANGED), note
        before = dict(listed)
        other = [name for name in now if before.get(name) != now[name]]
        gone = [name for name in before if name not in now]
        state = CHANGED if other else MISSING
        return state, f"{few(other + gone)} of {count} images"

    def of_the_training(self) -> list[Link]:
        """The list of shots in the manifest, the split, its images and the class lists."""
        pairs, users = self.record["shots"], users_of(self.record, "shots")
        digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
        where = self.manifest.as_posix()
        links = [
            compared("list of shots", recorded, digest, into=into, path=where)
            for recorded, into in users.items()
        ]
        split, into = self._split(), tuple(part for parts in users.values() for part in parts)
        if split is None or not split.is_file():
            path = "" if split is None else split.as_posix()
            note = "name the few-shot split with --shots"
            links.append(Link("split", MISSING, into, path, note=note))
        try:
            tree = open_dataset(self.data)
        except DataError as error:
            return [*links, self._unreadable(split, into, str(error))]
        links.append(self._classes(tree))
        if split and split.is_file():
            links += self._shots(tree, split, into)
        return links

    def _split(self) -> Path | None:
        if self.split:
            return self.split
        try:
            return find_default_split(self.data)
        except DataError:
            return None

    def _unreadable(self, split: Path | None, into: tuple[str, ...], reason: str) -> Link:
        """Why the data are no tree any more: an image of the split, where one is gone."""
        images = []
        if split and split.is_file():
            records = read_json_lines(split, lambda record: "image" in record, '{"image": "path"}')
            images = [record["image"] for _, record in records]
        tops = (self.data, self.data / "TrainSet", self.data.parent)
        gone = [image for image in images if not any((top / image).is_file() for top in tops)]
        where = self.data.as_posix()
        if gone and self.data.exists():
            return Link("images of the shots", MISSING, into, where, note=few(gone))
        state = CHANGED if self.data.exists() else MISSING
        return Link("training data", state, into, where, note=reason)

    def _classes(self, tree: FewShotDataset) -> Link:
        now, more = list(tree.label_space.names), {"path": self.data.as_posix()}
        into = tuple(part for parts in users_of(self.record, "classes").values() for part in parts)
        if list(users_of(self.record, "classes")) == [_plain(now)]:
            return Link("class names", OK, into, note=f"{len(now)} classes", **more)
        return Link("class names", CHANGED, into, note=f"{len(now)} other classes", **more)

    def _shots(self, tree: FewShotDataset, split: Path, into: tuple[str, ...]) -> list[Link]:
        """The split and its images; an image that is not there as recorded is looked for among all
        of its class, which tells another choice of images from another image.
        """
        try:
            items = read_split(split, tree)
        except DataError as error:
            return [Link("split", CHANGED, into, split.as_posix(), note=str(error))]
        wanted = Counter((label, key) for label, key in self.record["shots"])
        strange: list[Sample] = []
        for item in items:
            pair = (item.label, content_key_or_error(item.path))
            if wanted[pair]:
                wanted[pair] -= 1
            else:
                strange.append(item)
        absent = list(wanted.elements())
        there = {(i.label, content_key_or_error(i.path)) for i in tree.train} if absent else set()
        lost = [pair for pair in absent if pair not in there]
        same = len(strange) == len(lost) == len(absent)
        names = few([item.name for item in strange])
        note = f"{len(items)} images" if same else f"names other images: {names or 'too few'}"
        state = OK if same else CHANGED
        links = [Link("split", state, into, split.as_posix(), note=note)]
        note = f"{names or 'a file'} of {sum(wanted.values()) or len(items)}" if lost else ""
        state, where = CHANGED if lost else OK, self.data.as_posix()
        return [*links, Link("images of the shots", state, into, where, note=note)]
