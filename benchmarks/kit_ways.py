"""The kit's own ways of each benchmark; `benchmarks/bench.py` runs this module.

Weights are random and of ViT-B/32's shape, because they cost what trained weights cost. A benchmark
that shares its inputs with a peer writes them into the shared folder.
"""

import runtime  # noqa: F401, I001  (prepares Jittor before its first import)
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jittor as jt
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

import jclip
from benchmarks.worker import ROWS, Ways, random_pixels, serve
from benchmarks.seeded_inputs import VIT_B32
from benchmarks.published_lpplusplus import PublishedLPPlusPlus
from data.decoding import decode
from data.views import Crops, draw_crop, make_views, digest_pixels
from engine.device import use_device
from engine.losses import class_cross_entropy
from fewshot.inference.mta import solve
from fewshot.inference.submission import top5
from fewshot.text.prompt_files import CLASS_TEXTS, read_text_files
from jclip.preprocess import make_preprocess, to_array
from kernels import cpu_operator, cuda_operator
from models.heads.lpplusplus import LPPlusPlus
from models.lora import LoraAdapters, LoraConfig


def precisions() -> list[str]:
    """Returns the precisions that can be measured here, the fastest first.

    "plain" stands for Jittor's own operators; on a GPU fp32 uses the same ones.
    """
    if jt.flags.use_cuda:
        return ["bf16"] * cuda_operator.multiplies_bf16() + ["fp32"]
    return ["bf16"] * cpu_operator.multiplies_bf16() + ["fp32", "plain"]


def run_in_precision(precision: str, way: Callable[[], np.ndarray]) -> np.ndarray:
    """Runs a way with the operators of a precision."""
    cpu_operator.precision = precision
    return way()


def by_precision(way: Callable[[], np.ndarray]) -> Ways:
    """Returns the same way once for each precision."""
    return {f"ours, {name}": partial(run_in_precision, name, way) for name in precisions()}


def build_clip() -> jclip.CLIP:
    """Returns ViT-B/32 with random weights."""
    jt.set_global_seed(0)
    return jclip.CLIP(jclip.ClipConfig(**VIT_B32)).eval()


def image(batch: int, folder: Path) -> Ways:
    """Returns ViT-B/32's image tower, and a lower limit of its time.

    The limit is the matrix products of the blocks that a feature needs, and nothing else.
    """
    model = build_clip()
    pixels = jt.array(random_pixels(batch))

    def encode() -> np.ndarray:
        with jt.no_grad():
            return model.encode_image(pixels).numpy()

    tokens, width = batch * 50, VIT_B32["vision_width"]
    blocks = model.visual.transformer.resblocks

    def products() -> np.ndarray:
        with jt.no_grad():
            x = jt.ones((tokens, width))
            for number, block in enumerate(blocks, 1):
                rows = tokens if number < len(blocks) else batch  # last: one token per image
                for layer in (block.attn.out_proj, block.mlp.c_fc, block.mlp.c_proj):
                    wide = jt.ones((rows, layer.weight.shape[1]))
                    layer(wide).sync()
                for _ in range(3):  # query, key and value
                    block.attn.out_proj(x).sync()
        return np.zeros(1)

    best = precisions()[0]
    return by_precision(encode) | {
        f"limit: products alone, {best}": partial(run_in_precision, best, products)
    }


def contest_sentences(count: int) -> list[list[str]]:
    """Returns `count` sentences for each of the contest's 403 classes."""
    files = [file for file in read_text_files(CLASS_TEXTS) if file.domain]
    entries = [entry for file in files for entry in file.classes if entry.contest]
    return [list(entry.sentences[:count]) for entry in entries]


def text(sentences: int, folder: Path) -> Ways:
    """Returns the text tower on the contest's sentences.

    They are sorted by length, and each call is cut after its longest sentence.
    """
    model = build_clip()
    texts = [text for group in contest_sentences(sentences) for text in group]
    tokens = jclip.tokenize(texts)
    tokens = tokens[np.argsort(tokens.argmax(axis=1), kind="stable")]
    np.save(folder / "tokens.npy", tokens)

    def encode() -> np.ndarray:
        with jt.no_grad():
            calls = [tokens[i : i + ROWS] for i in range(0, len(tokens), ROWS)]
            return np.concatenate([model.encode_text(call).numpy() for call in calls])

    return by_precision(encode)


def lora(batch: int, classes: int, folder: Path) -> Ways:
    """Returns one training step of CLIP-LoRA on both towers, with one sentence per class."""
    model = build_clip()
    tokens = jclip.tokenize([group[0] for group in contest_sentences(1)])[:classes]
    random = np.random.default_rng(0)
    pixels = random.normal(0, 1, (batch, 3, 224, 224)).astype("f4")
    labels = random.integers(0, len(tokens), batch).astype(np.int32)
    np.savez(folder / "lora.npz", tokens=tokens, pixels=pixels, labels=labels)
    adapters = LoraAdapters(model, LoraConfig(), seed=0)
    optimizer = jt.optim.AdamW(list(adapters.parameters()), 2e-4, weight_decay=0.01)
    images, targets = jt.array(pixels), jt.array(labels)

    def step() -> np.ndarray:
        features = jt.normalize(model.encode_image(images), dim=1)
        vectors = jt.normalize(model.encode_text(tokens), dim=1)
        loss = class_cross_entropy(100 * jt.matmul(features, vectors.transpose()), targets)
        optimizer.step(loss)
        jt.sync_all(True)
        return loss.numpy()

    return by_precision(step)


def head(shots: int, classes: int, iterations: int, folder: Path) -> Ways:
    """Returns fits of LP++ to random features that lie around one mean per class."""
    random = np.random.default_rng(0)
    means = random.normal(0, 1, (classes, 512))
    labels = np.repeat(np.arange(374), shots)
    features = (means[labels] + random.normal(0, 2, (len(labels), 512))).astype("f4")
    text = (means + random.normal(0, 1, means.shape)).astype("f4")
    held = (means[labels] + random.normal(0, 2, (len(labels), 512))).astype("f4")
    np.savez(folder / "head.npz", features=features, labels=labels, text=text, held=held)

    def fit(head: LPPlusPlus) -> np.ndarray:
        head.fit(features, labels, text)
        return np.array([(head.predict(held) == labels).mean()])

    heads = {"corrected": LPPlusPlus(iterations), "published": PublishedLPPlusPlus(iterations)}
    return {f"ours, {name}": partial(fit, head) for name, head in heads.items()}


def mta(images: int, views: int, folder: Path) -> Ways:
    """Returns the way from JPEG files to the lines of a result, by zero-shot CLIP."""
    model, paths = build_clip(), sample_photos(folder, images)
    text = np.random.default_rng(0).normal(0, 1, (403, 512)).astype("f4")
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    np.save(folder / "text.npy", text)

    def lines() -> np.ndarray:
        cut = make_views(make_preprocess(224), to_array, 224, Crops(), 0, views)
        with jt.no_grad():
            features = [model.encode_image(cut(decode(path))).numpy() for path in paths]
        modes, _ = solve(np.stack(features), text)
        return top5(modes @ text.T)

    return by_precision(lines)


def views(images: int, views: int, side: int, folder: Path) -> Ways:
    """Returns views of JPEG files: decoded once per image, and opened again for every view."""
    crops, centre = Crops(), make_preprocess(side)
    transform = make_views(centre, to_array, side, crops, 0, views)
    paths = sample_photos(folder, images)
    digests = {path: digest_pixels(decode(path)) for path in paths}

    def anew(path: Path, view: int) -> np.ndarray:
        with Image.open(path) as opened:
            if not view:
                return centre(opened)
            photo = opened.convert("RGB")
        box, mirrored = draw_crop(digests[path], photo.size, crops, 0, view)
        photo = photo.crop(box).resize((side, side), Image.Resampling.BICUBIC)
        return to_array(photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else photo)

    def opened(path: Path) -> np.ndarray:
        return np.stack([anew(path, view) for view in range(views)])

    def first_lines(cut: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Keeps one line of pixels per view, because a run encodes views and drops them."""
        return np.stack([cut(path)[:, :, 0] for path in paths])

    return {
        "ours, decoded once": lambda: first_lines(lambda path: transform(decode(path))),
        "opened for every view": lambda: first_lines(opened),
    }


def sample_photos(folder: Path, count: int) -> list[Path]:
    """Writes scikit-learn's two sample photos (640 x 427) alternately as JPEG files."""
    photos = load_sample_images().images
    paths = [folder / f"photo_{number}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(photos[number % len(photos)]).save(path, quality=90)
    return paths


if __name__ == "__main__":
    use_device("auto")
    serve({each.__name__: each for each in (image, text, lora, head, mta, views)}, jt.gc)
