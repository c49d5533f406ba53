"""The main job on the embedded data with an untrained tiny CLIP, for the tests that look at it."""

from pathlib import Path

from engine.session import Session
from fewshot.stages.lora import LoraStageConfig
from fewshot.stages.prompt import PromptConfig
from recipes import clip_fewshot, predict
from tests.helpers.kit import script, write_tiny_clip


def train_config(folder: Path, **changes) -> clip_fewshot.Config:
    settings = {"data": folder / "demo", "weights": str(folder / "clip.pkl")}
    settings |= {"parts": folder / "parts", "cache": folder / "cache", "device": "cpu"}
    settings |= {"runs": folder / "runs", "auxiliary": folder / "auxiliary.pkl", "views": 2}
    settings |= {"prompt": PromptConfig(epochs=2), "lora": LoraStageConfig(epochs=2)}
    return clip_fewshot.Config(**(settings | changes))


def make_place(folder: Path) -> Path:
    """Data, weights and trained parts."""
    script("scripts/make_demo.py").make(folder / "demo", 0)
    write_tiny_clip(folder / "clip.pkl")
    write_tiny_clip(folder / "auxiliary.pkl", seed=5)
    clip_fewshot.run(train_config(folder))
    return folder


def test_config(place: Path, out: Path, **changes):
    settings = {"data": place / "demo", "weights": str(place / "clip.pkl"), "out": out}
    settings |= {"parts": place / "parts", "cache": out / "cache", "device": "cpu"}
    settings |= {"auxiliary": place / "auxiliary.pkl", "views": 3, "report": False}
    return predict.Config(**(settings | changes))


test_config.__test__ = False  # pytest takes functions of this name for tests


def lines_of(out: Path) -> dict[str, str]:
    """{image name: the rest of its line} of a result."""
    text = (out / "result.txt").read_bytes().decode("utf-8", "surrogateescape")
    return {line.rsplit(" ", 5)[0]: " ".join(line.rsplit(" ", 5)[1:]) for line in text.splitlines()}


def score(place: Path, out: Path, **changes) -> dict[str, str]:
    """Runs test.py's main; returns the lines of its result."""
    out.mkdir(exist_ok=True)
    Session("test.py").run(predict, test_config(place, out, **changes))
    return lines_of(out)
