"""A baseline's chain, backwards: each phase's result, its files, weights, texts and images."""

import csv
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from baselines.datasets.image_sets import image_set_digest
from baselines.datasets.registry import load_dataset
from data.lists import DataError
from fewshot.provenance.links import (
    CHANGED,
    MISSING,
    NOT_RECORDED,
    OK,
    Link,
    code_link,
    compared,
    file_link,
    weight_link,
    weight_path,
)
from runtime.paths import ROOT
from weight_files.known_weights import known_weights

RESULT = "result.json"


def phases_in(folder: Path) -> list[Path]:
    """The folders of finished phases in a baseline's folder."""
    return [path.parent for path in sorted(folder.glob(f"*/{RESULT}"))]


@dataclass(frozen=True)
class Phase:
    """A finished phase. root: where the data lie today, if not where they lay."""

    folder: Path
    root: Path | None = None
    kit: Path = ROOT

    def record(self) -> dict:
        """What the phase wrote. Raises ValueError where that is no result of a baseline."""
        path = self.folder / RESULT
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            kinds: list[tuple[object, type]]
            kinds = [(record["config"], dict), (record["result"], dict)]
            kinds += (record["result"]["images"], int), (record["result"]["accuracy"], float)
            if not all(isinstance(value, kind) for value, kind in kinds):
                raise ValueError("its values are of other kinds")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: no result of a baseline ({error!r})") from error
        return record

    def links(self) -> list[Link]:
        """All links, the result's first."""
        record, name = self.record(), self.folder.name
        made_from, into = record.get("made_from", {}), (f"{name}/{RESULT}",)
        files = made_from.get("files", {})
        links = [self._result(record["result"])]
        for file, recorded in files.items():
            links.append(file_link(f"{name}/{file}", self.folder / file, recorded, into))
        if not files:
            note = "made before results recorded this: run the recipe with --resume never"
            where = self.folder.as_posix()
            links.append(Link(f"{name}: files of the run", NOT_RECORDED, into, where, note=note))
        links.append(code_link(f"{name}: code", made_from.get("code"), into, self.kit))
        links += self._inputs(record["config"], into)
        links += self._prompts(record["result"].get("prompts", {}), into)
        return links + self._images(made_from.get("images"), into)

    def _result(self, result: dict) -> Link:
        """Whether the accuracy is that of the table of true and guessed classes."""
        name, path = f"{self.folder.name}/{RESULT}", self.folder / "confusion.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = [list(map(int, row[1:])) for row in list(csv.reader(file))[1:]]
        except (OSError, ValueError):
            return Link(name, MISSING, path=path.as_posix(), note="no table to compare it with")
        total, right = sum(map(sum, rows)), sum(row[i] for i, row in enumerate(rows))
        same = total == result["images"] and math.isclose(
            right / max(total, 1), result["accuracy"], abs_tol=1e-6
        )
        note = f"accuracy {result['accuracy']:.4f}, confusion.csv {right} of {total}"
        where = (self.folder / RESULT).as_posix()
        return Link(name, OK if same else CHANGED, path=where, note=note)

    def _inputs(self, config: dict, into: tuple[str, ...]) -> list[Link]:
        """The weight files that the configuration names."""
        recorded = dict(config.get("files_sha256", {}))
        official = {each.name: each.sha256 for each in known_weights()}
        if "weights" not in recorded and config.get("weights") in official:
            recorded["weights"] = official[config["weights"]]  # checked when it was read
        name = self.folder.name
        return [
            weight_link(f"{name}: {field}", weight_path(config[field]), sha256, into)
            for field, sha256 in recorded.items()
        ]

    def _prompts(self, files: dict[str, str], into: tuple[str, ...]) -> list[Link]:
        prompts = self.kit / "prompts"
        places = {n: prompts if n == "templates.json" else prompts / "classes" for n in files}
        phase = self.folder.name
        return [
            file_link(f"{phase}: {name}", places[name] / name, sha256, into)
            for name, sha256 in files.items()
        ]

    def _images(self, recorded: dict | None, into: tuple[str, ...]) -> list[Link]:
        name = self.folder.name
        if not recorded:
            note = "the accuracy may be that of other images"
            return [Link(f"{name}: images", NOT_RECORDED, into, note=note)]
        root, links = self.root or Path(recorded["root"]), []
        for part in ("train", "test"):
            if part not in recorded["parts"]:  # zero-shot needs no training images
                continue
            digest = recorded["parts"][part]["sha256"]
            more: dict[str, Any] = {"path": root.as_posix()}
            try:
                images = load_dataset(recorded["dataset"], root, part, **recorded["options"])
                found = image_set_digest(images)
            except DataError as error:
                link = Link(f"{name}: {part} images", MISSING, into, note=str(error), **more)
            else:
                before = recorded["parts"][part]["images"]
                note = f"{found['images']} images, {before} recorded"
                more |= {"into": into, "note": note}
                link = compared(f"{name}: {part} images", digest, found["sha256"], **more)
                if found["images"] < before:
                    link = replace(link, state=MISSING)
            links.append(link)
        return links
