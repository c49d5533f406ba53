"""The chain of a baseline, from each phase's result back to files, weights, texts and images."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path

from baselines.datasets.image_sets import image_set_digest
from baselines.datasets.registry import load_dataset
from data.lists import DataError
from fewshot.provenance.links import (
    CHANGED,
    MISSING,
    NOT_RECORDED,
    OK,
    Link,
    check_code,
    check_file,
    check_weights,
    compare_hashes,
    find_weight_file,
)
from runtime.paths import ROOT
from weight_files.known_weights import known_weights

RESULT = "result.json"


def find_phases(folder: Path) -> list[Path]:
    """Returns the folders of the finished phases in a baseline's folder."""
    return [path.parent for path in sorted(folder.glob(f"*/{RESULT}"))]


@dataclass(frozen=True)
class Phase:
    """The audit of a finished phase."""

    folder: Path
    root: Path | None = None  # where the data are now, if not where the result says
    kit: Path = ROOT  # the folder that holds the code and prompts/

    @property
    def name(self) -> str:
        return self.folder.name

    def record(self) -> dict:
        """Reads result.json. Raises ValueError if it is not the result of a baseline."""
        path = self.folder / RESULT
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            config, result = record["config"], record["result"]
            if not isinstance(config, dict):
                raise ValueError("its config is no object")
            if not isinstance(result["images"], int) or not isinstance(result["accuracy"], float):
                raise ValueError("its images and accuracy are no numbers")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no result of a baseline ({error!r})") from error
        return record

    def links(self) -> list[Link]:
        """Returns all links, that of the result first."""
        record, users = self.record(), (f"{self.name}/{RESULT}",)
        made_from = record.get("made_from", {})
        return [
            self._result_link(record["result"]),
            *self._file_links(made_from.get("files", {}), users),
            check_code(f"{self.name}: code", made_from.get("code"), users, self.kit),
            *self._weight_links(record["config"], users),
            *self._prompt_links(record["result"].get("prompts", {}), users),
            *self._image_links(made_from.get("images"), users),
        ]

    def _result_link(self, result: dict) -> Link:
        """Compares the accuracy with the one that the confusion matrix gives."""
        name, table = f"{self.name}/{RESULT}", self.folder / "confusion.csv"
        try:
            with table.open(encoding="utf-8", newline="") as file:
                rows = [list(map(int, row[1:])) for row in list(csv.reader(file))[1:]]
        except (OSError, ValueError):
            note = "there is no confusion.csv to compare it with"
            return Link(name, MISSING, path=table.as_posix(), note=note)
        total, right = sum(map(sum, rows)), sum(row[i] for i, row in enumerate(rows))
        is_same = total == result["images"] and math.isclose(
            right / max(total, 1), result["accuracy"], abs_tol=1e-6
        )
        note = f"accuracy {result['accuracy']:.4f}; confusion.csv has {right} right of {total}"
        where = (self.folder / RESULT).as_posix()
        return Link(name, OK if is_same else CHANGED, path=where, note=note)

    def _file_links(self, files: dict[str, str], users: tuple[str, ...]) -> list[Link]:
        """Compares the files of the phase and the splits beside it."""
        if not files:
            name, note = f"{self.name}: files of the run", "run the recipe with --resume never"
            return [Link(name, NOT_RECORDED, users, self.folder.as_posix(), note=note)]
        return [
            check_file(f"{self.name}/{file}", self.folder / file, recorded, users)
            for file, recorded in files.items()
        ]

    def _weight_links(self, config: dict, users: tuple[str, ...]) -> list[Link]:
        """Compares the weight files that the configuration names."""
        recorded = dict(config.get("files_sha256", {}))
        official = {known.name: known.sha256 for known in known_weights()}
        if "weights" not in recorded and config.get("weights") in official:
            recorded["weights"] = official[config["weights"]]  # it was checked when it was read
        return [
            check_weights(f"{self.name}: {field}", find_weight_file(config[field]), sha256, users)
            for field, sha256 in recorded.items()
        ]

    def _prompt_links(self, files: dict[str, str], users: tuple[str, ...]) -> list[Link]:
        """Compares the files of prompts/ that the texts of classes came from."""
        links = []
        for name, sha256 in files.items():
            folder = self.kit / "prompts"
            if name != "templates.json":
                folder = folder / "classes"
            links.append(check_file(f"{self.name}: {name}", folder / name, sha256, users))
        return links

    def _image_links(self, recorded: dict | None, users: tuple[str, ...]) -> list[Link]:
        """Compares the training and test images; zero-shot has no training images."""
        if not recorded:
            note = "the accuracy may be that of other images"
            return [Link(f"{self.name}: images", NOT_RECORDED, users, note=note)]
        return [self._part_link(part, recorded, users) for part in recorded["parts"]]

    def _part_link(self, part: str, recorded: dict, users: tuple[str, ...]) -> Link:
        name, root = f"{self.name}: {part} images", self.root or Path(recorded["root"])
        before, where = recorded["parts"][part], root.as_posix()
        try:
            images = load_dataset(recorded["dataset"], root, part, **recorded["options"])
            now = image_set_digest(images)
        except DataError as error:
            return Link(name, MISSING, users, where, before["sha256"], note=str(error))
        note = f"{now['images']} images, {before['images']} recorded"
        if now["images"] < before["images"]:
            return Link(name, MISSING, users, where, before["sha256"], now["sha256"], note)
        return compare_hashes(name, before["sha256"], now["sha256"], users, where, note)
