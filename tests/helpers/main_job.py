"""The main job on the embedded data with an untrained tiny CLIP."""

from pathlib import Path

from engine.session import Session
from fewshot.stages.lora import LoraStageConfig
from fewshot.stages.prompt import PromptConfig
from recipes import clip_fewshot, predict
from scripts import make_demo
from tests.helpers.tiny_clip import write_tiny_clip


def train_config(folder: Path, **changes) -> clip_fewshot.Config:
    """Returns the configuration of a short training in `folder`."""
    settings = {"data": folder / "demo", "weights": str(folder / "clip.pkl")}
    settings |= {"parts": folder / "parts", "cache": folder / "cache", "device": "cpu"}
    settings |= {"runs": folder / "runs", "auxiliary": folder / "auxiliary.pkl", "views": 2}
    settings |= {"prompt": PromptConfig(epochs=2), "lora": LoraStageConfig(epochs=2)}
    return clip_fewshot.Config(**(settings | changes))


def make_job(folder: Path) -> Path:
    """Writes demo/, clip.pkl, auxiliary.pkl and the trained parts/ to `folder`."""
    make_demo.make(folder / "demo", 0)
    write_tiny_clip(folder / "clip.pkl")
    write_tiny_clip(folder / "auxiliary.pkl", seed=5)
    clip_fewshot.run(train_config(folder))
    return folder


def predict_config(job: Path, out: Path, **changes) -> predict.Config:
    """Returns the configuration of a test run of that training, whose result goes to `out`."""
    settings = {"data": job / "demo", "weights": str(job / "clip.pkl"), "out": out}
    settings |= {"parts": job / "parts", "cache": out / "cache", "device": "cpu"}
    settings |= {"auxiliary": job / "auxiliary.pkl", "views": 3, "report": False}
    return predict.Config(**(settings | changes))


def result_lines(out: Path) -> dict[str, str]:
    """Returns {image name: the rest of its line} of a result."""
    text = (out / "result.txt").read_bytes().decode("utf-8", "surrogateescape")
    return {line.rsplit(" ", 5)[0]: " ".join(line.rsplit(" ", 5)[1:]) for line in text.splitlines()}


def score(job: Path, out: Path, **changes) -> dict[str, str]:
    """Runs a test; returns the lines of its result."""
    out.mkdir(exist_ok=True)
    Session("test.py").run(predict, predict_config(job, out, **changes))
    return result_lines(out)
