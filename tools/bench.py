"""Benchmarks against the usual way of doing the same; one subcommand each.

    python tools/bench.py views --images 16 --views 64
    python tools/bench.py mta

Each prints a table and, as its last line, the same as JSON. Both ways run in one process, on the
same inputs, and take turns: a first call to warm up, then the median of the repeats. `ratio` is a
way's time over ours, `difference` the largest between results. Threads are as the environment sets
them (OMP_NUM_THREADS).
"""

import json
import os
import platform
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import tyro
from PIL import Image
from sklearn.datasets import load_sample_images

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fewshot.images import FORMATS, decode  # noqa: E402
from fewshot.mta import solve  # noqa: E402
from fewshot.transforms import Crops, draw, make_views, pixel_digest  # noqa: E402
from jclip.preprocess import make_preprocess, to_array  # noqa: E402


def views(
    images: int = 8,
    views: int = 64,
    side: int = 224,
    repeats: int = 5,
    images_from: Path | None = None,
) -> dict:
    """Views of JPEG files: decoded once an image, against opened anew for every view.

    Args:
        images: files, repeated in turn where there are fewer
        views: of each image, the centre view among them
        side: of a view, in pixels
        repeats: of each way
        images_from: folder of images; scikit-learn's two sample photos if not given
    """
    crops, centre = Crops(), make_preprocess(side)
    transform = make_views(centre, to_array, side, crops, 0, views)
    with TemporaryDirectory() as folder:
        paths = files(images_from) if images_from else sample_photos(Path(folder))
        paths = [paths[i % len(paths)] for i in range(images)]
        digests = {path: pixel_digest(decode(path)) for path in set(paths)}

        def anew(path: Path, view: int) -> np.ndarray:
            with Image.open(path) as opened:
                if not view:
                    return centre(opened)
                image = opened.convert("RGB")
            box, mirrored = draw(digests[path], image.size, crops, 0, view)
            image = image.crop(box).resize((side, side), Image.Resampling.BICUBIC)
            return to_array(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image)

        def once() -> float:
            return sum(float(transform(decode(path))[-1, 0, 0, 0]) for path in paths)

        def for_every_view() -> float:
            stacks = (np.stack([anew(path, view) for view in range(views)]) for path in paths)
            return sum(float(stack[-1, 0, 0, 0]) for stack in stacks)

        difference = max(
            float(np.abs(anew(path, view) - found).max())
            for path in digests
            for view, found in enumerate(transform(decode(path)))
        )
        sizes = sorted({decode(path).size for path in digests})
        seconds = timed({"decoded once": once, "opened for every view": for_every_view}, repeats)
    setting = f"{images} images, {views} views of {side} pixels, photos {sizes[0]} to {sizes[-1]}"
    return report("views", setting, images, seconds, difference)


def mta(
    images: int = 32, views: int = 64, width: int = 512, classes: int = 403, repeats: int = 5
) -> dict:
    """MTA: a batch of images at once, against one image after the other.

    Args:
        images: in the batch
        views: of each image
        width: of a feature
        classes: of the text
        repeats: of each way
    """
    random = np.random.default_rng(0)
    looks = 3 * random.standard_normal((images, 1, width))
    features = (looks + random.standard_normal((images, views, width))).astype(np.float32)
    text = random.standard_normal((classes, width)).astype(np.float32)
    text /= np.linalg.norm(text, axis=1, keepdims=True)

    def batched() -> np.ndarray:
        return solve(features, text)[0]

    def looped() -> np.ndarray:
        return np.concatenate([solve(row[None], text)[0] for row in features])

    difference = float(np.abs(batched() - looped()).max())
    seconds = timed({"batched": batched, "image by image": looped}, repeats)
    setting = f"{images} images, {views} views, {width} wide, {classes} classes, float64"
    return report("mta", setting, images, seconds, difference)


BENCHMARKS = {"views": views, "mta": mta}


def timed(ways: dict[str, Callable], repeats: int) -> dict[str, float]:
    """{way: median seconds}; the ways take turns, after one call each to warm up."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, run in ways.items():
            started = perf_counter()
            run()
            if turn:
                times[name].append(perf_counter() - started)
    return {name: statistics.median(found) for name, found in times.items()}


def report(
    name: str, setting: str, items: int, seconds: dict[str, float], difference: float
) -> dict:
    """Prints a table, the first way being ours, and the JSON line; returns what that holds."""
    ours = next(iter(seconds.values()))
    ways = {
        way: {"seconds": spent, "images_per_s": items / spent, "ratio": spent / ours}
        for way, spent in seconds.items()
    }
    print(f"{name}: {setting}\n{'':<24}{'seconds':>10}{'images/s':>12}{'ratio':>8}")
    for way, row in ways.items():
        print(f"{way:<24}{row['seconds']:>10.3f}{row['images_per_s']:>12.2f}{row['ratio']:>8.2f}")
    print(f"largest difference: {difference:g}")
    machine = {"cores": os.cpu_count(), "machine": platform.machine()}
    line = {
        "benchmark": name,
        "setting": setting,
        "ways": ways,
        "difference": difference,
        **machine,
    }
    print(json.dumps(line))
    return line


def sample_photos(folder: Path) -> list[Path]:
    """scikit-learn's sample photos (640 x 427) as JPEG files in `folder`."""
    paths = []
    for number, pixels in enumerate(load_sample_images().images):
        paths.append(folder / f"photo_{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def files(folder: Path) -> list[Path]:
    """The image files of a folder, by name. Raises ValueError where there is none."""
    endings = {ending for ending, kind in Image.registered_extensions().items() if kind in FORMATS}
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in endings)
    if not found:
        raise ValueError(f"{folder}: no images; give a folder with image files, not nested ones")
    return found


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict(BENCHMARKS, description=__doc__.splitlines()[0])
