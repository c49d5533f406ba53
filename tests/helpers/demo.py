"""The demo's data and its two small CLIPs, pre-trained once per version of the code."""

import shutil
from importlib.metadata import version
from pathlib import Path

from data.views import Crops
from engine.code_version import code_digest
from recipes import clip_pretrain
from scripts import make_demo

CROPS = Crops(flip=False, scale=(0.8, 1.0))  # those of `bash train.sh --demo`
CODE = ("recipes.clip_pretrain", "scripts.make_demo")  # what makes the two weight files


def write_demo(folder: Path) -> None:
    """Writes demo/, clip.pkl and auxiliary.pkl as `bash train.sh --demo` makes them."""
    make_demo.make(folder / "demo", 0)
    common = {"captions": folder / "demo/captions.jsonl", "views": 8, "crops": CROPS}
    common |= {"device": "cpu"}
    clip_pretrain.run(
        clip_pretrain.Config(**common, out=folder / "clip.pkl", run=folder / "run/clip", epochs=14)
    )
    clip_pretrain.run(
        clip_pretrain.Config(
            **common,
            out=folder / "auxiliary.pkl",
            run=folder / "run/auxiliary",
            epochs=10,
            image_size=32,
            patch_size=8,
            seed=1,
        )
    )


def cached_demo(cache: Path) -> Path:
    """Returns a folder below `cache` with what `write_demo` writes; makes it if the code is new."""
    folder = cache / code_digest(CODE, version("jittor"))[:16]
    if not folder.is_dir():
        for outdated in cache.iterdir():
            shutil.rmtree(outdated)
        temporary = cache / f".{folder.name}"
        write_demo(temporary)
        temporary.rename(folder)
    return folder
