"""Features of images and sentences, computed once and kept on disk.

An image is known by the hash of its bytes. A table holds each distinct image once, in the order of
the hashes, and the encoder always sees the same number of rows: so names, order, batches and
workers cannot change a feature.
"""

import dataclasses
import hashlib
import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import jittor as jt
import numpy as np
from PIL import Image
from tqdm import tqdm

import jclip
import runtime
from data.decoding import PASSING, BrokenImage, content_key, known_as, load_images
from data.views import Crops, make_views
from engine.array_files import opened_arrays
from engine.code_version import FEATURES_CODE, code_digest
from engine.device import in_fp32, precision_in_use
from engine.trainer import Predictor
from jclip.preprocess import to_array
from runtime.distributed import barrier, local_range, rank, single_process, world_size
from runtime.files import atomic_write
from weight_files.hashing import sha256_of

# Rows of every encoder call: one fixed shape, even, since with an odd one the last bits of a row
# were seen to depend on its place.
ENCODER_ROWS = {"cpu": 32, "cuda": 256}


def code_version(*more: str) -> str:
    """A hash of the source that features depend on, and of further files (glob patterns).

    A change of it makes whatever was stored under it stale.
    """
    return code_digest(FEATURES_CODE + more, version("jittor"))


@dataclass(frozen=True)
class Tower:
    """A network of images with its own preprocessing."""

    module: jt.nn.Module
    encode: Callable[[jt.Var], jt.Var]  # [B,3,R,R] -> [B,E]
    width: int  # E
    side: int  # R
    centre: Callable[[Image.Image], np.ndarray]  # the centre view of a photo -> [3,R,R]
    # an RGB crop of R x R pixels -> [3,R,R]; with R it stands for the whole preprocessing: towers
    # that share both are given the same views
    to_array: Callable[[Image.Image], np.ndarray]


def clip_tower(weights: Path) -> Tower:
    """The image tower of a CLIP; `module` is the whole CLIP."""
    model, centre = jclip.load(weights)
    sizes = model.sizes
    return Tower(
        model, model.encode_image, sizes.embed_dim, sizes.image_resolution, centre, to_array
    )


@dataclass(frozen=True)
class Views:
    """Several views of each image: the centre view, then random crops."""

    count: int
    crops: Crops
    seed: int


@dataclass(frozen=True)
class Encoder:
    """A network on the device in use, with where its features are kept; loaded when needed."""

    weights: Path
    device: str  # "cpu" or "cuda", as `use_device` answered
    cache: Path
    workers: int = 0
    batch: int = 32  # views decoded ahead at a time
    load_tower: Callable[[Path], Tower] = clip_tower
    variant: str = ""  # what `load_tower` changes of the weights: a hash

    @cached_property
    def weights_sha256(self) -> str:
        return sha256_of(self.weights)

    @cached_property
    def tower(self) -> Tower:
        return self.load_tower(self.weights)

    @property
    def model(self) -> jclip.CLIP:
        return self.tower.module

    @property
    def logit_scale(self) -> float:
        """CLIP's own temperature, by which it multiplies cosines: 100 in OpenAI's weights."""
        return float(self.model.logit_scale.exp().item())

    @property
    def parameters(self) -> int:
        """The number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.tower.module.parameters())

    def images(self, paths: Sequence[Path]) -> tuple[np.ndarray, dict[int, BrokenImage]]:
        """(features[N,E] float32 in the order of `paths`, the broken images by index).

        A broken image's row is zero.
        """
        with _bar(len(paths), "image") as bar:
            (features,), broken = image_features([self], paths, None, bar.update)
        return features[:, 0], broken

    def views(self, paths: Sequence[Path], views: Views) -> np.ndarray:
        """features[N,P,E] of P views of each image. Raises ValueError naming a broken image."""
        with _bar(len(paths), "image") as bar:
            (features,), broken = image_features([self], paths, views, bar.update)
        if broken:
            raise ValueError(f"a training image cannot be read: {next(iter(broken.values()))}")
        return features

    @in_fp32()
    def sentences(self, texts: Sequence[str]) -> np.ndarray:
        """features[S,E] float32 of sentences, in their order.

        Never of bf16 products: all images meet them, and what each is off by decides more first
        guesses than what an image is off by (docs/speed.md).
        """
        distinct = sorted(set(texts))
        file = self.file("text", distinct)
        if not file.exists():
            tokens = jclip.tokenize(distinct, context_length=self.model.sizes.context_length)
            ends = tokens.argmax(axis=1)  # a call is cut after its longest text
            predictor = self.predictor(self.model.encode_text)
            order = np.argsort(ends, kind="stable")
            order = order[local_range(len(order), ENCODER_ROWS[self.device])]  # whole calls
            with _bar(len(order), "text") as bar:
                for place in order:
                    predictor.add(tokens[place])
                    bar.update()
            _store(file, [distinct[place] for place in order], predictor.finish(), {}, 1)
        rows, _ = _read(file)
        return np.concatenate([rows[text] for text in texts])

    def predictor(self, forward: Callable[[jt.Var], jt.Var]) -> Predictor:
        """Runs a part of the model in calls of one shape."""
        return Predictor(forward, ENCODER_ROWS[self.device])

    def file(self, kind: str, names: list[str], views: Views | None = None) -> Path:
        """The cache file of these inputs under this encoder."""
        key = {
            "names": names,
            "views": views and dataclasses.asdict(views),
            "weights": self.weights_sha256,
            "activation": getattr(self.tower.module, "activation", ""),
            "variant": self.variant,
            "code": code_version(),
            "device": self.device,
            "precision": precision_in_use(),
            "threads": runtime.PREPARED.threads,  # may change the order of a sum
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.cache / f"{kind}-{digest[:32]}.npz"


def image_features(
    encoders: Sequence[Encoder], paths: Sequence[Path], views: Views | None, tick: Callable
) -> tuple[list[np.ndarray], dict[int, BrokenImage]]:
    """([features[N,P,E] of each encoder], the broken images by index), in the order of `paths`.

    Each image is decoded once for all encoders, and the views of towers with the same preprocessing
    are made once. P is 1, the centre view, where `views` is None; a broken image's rows are zero.
    `tick()` is called after each image that had to be decoded.
    """
    keys, broken = [], {}
    for index, path in enumerate(paths):
        try:
            keys.append(content_key(path))
        except OSError as error:
            if error.errno in PASSING:
                raise
            keys.append("")
            broken[index] = BrokenImage(path, error.strerror or str(error))
    place = {key: path for key, path in zip(keys, paths, strict=True) if key}
    place = dict(sorted(place.items()))
    files = [encoder.file("images", list(place), views) for encoder in encoders]
    missing = [pair for pair in zip(encoders, files, strict=True) if not pair[1].exists()]
    if missing:
        _encode_images(missing, place, views or Views(1, Crops(), 0), tick)
    found = []
    for encoder, file in zip(encoders, files, strict=True):
        rows, causes = _read(file)
        features = np.zeros((len(paths), views.count if views else 1, encoder.tower.width), "f4")
        for index, key in enumerate(keys):
            if key in causes:
                broken[index] = BrokenImage(paths[index], causes[key])
            elif key:
                features[index] = rows[key]
        found.append(features)
    for features in found:  # what one encoder cannot take counts as unreadable for all
        features[sorted(broken)] = 0
    return found, broken


def _encode_images(
    missing: Sequence[tuple[Encoder, Path]], place: dict[str, Path], views: Views, tick: Callable
) -> None:
    """Encodes the images at {content key: path} and stores each encoder's features in its file."""
    towers = [encoder.tower for encoder, _ in missing]
    predictors = [encoder.predictor(encoder.tower.encode) for encoder, _ in missing]
    kinds = {(tower.side, tower.to_array): tower for tower in towers}  # of preprocessing
    cuts = {
        kind: make_views(
            tower.centre, tower.to_array, tower.side, views.crops, views.seed, views.count
        )
        for kind, tower in kinds.items()
    }

    def cut(image: Image.Image) -> dict[tuple, np.ndarray]:
        return {kind: make(image) for kind, make in cuts.items()}  # [P,3,R,R] each

    own = local_range(len(place))
    place = dict(itertools.islice(place.items(), own.start, own.stop))
    causes, keys = {}, list(place)
    encoded = []
    workers = missing[0][0].workers
    ahead = max(1, missing[0][0].batch // views.count)
    loaded = load_images(list(place.values()), cut, workers=workers, batch=ahead)
    for index, images in loaded:
        tick()
        if isinstance(images, BrokenImage):
            causes[keys[index]] = images.cause
            continue
        encoded.append(keys[index])
        for tower, predictor in zip(towers, predictors, strict=True):
            for view in images[tower.side, tower.to_array]:
                predictor.add(view)
    for key, path in place.items():
        if known_as(path) != key:
            raise ValueError(f"{path}: changed while it was read; run again")
    for (_, file), predictor in zip(missing, predictors, strict=True):
        _store(file, encoded, predictor.finish(), causes, views.count)


def _bar(total: int, unit: str) -> tqdm:
    """A progress bar, shown on terminals only."""
    return tqdm(total=total, desc="encoding", unit=unit, leave=False, disable=None)


def _store(
    file: Path, names: list[str], rows: np.ndarray, causes: dict[str, str], count: int
) -> None:
    """Writes names[N] and features[N,P,E] out of rows[N P,E], `count` rows P of each name, and why
    some could not be encoded: of all ranks together, in their order.
    """
    features = rows.reshape(len(names), count, rows.shape[1])
    if world_size() == 1:
        _write(file, names, features, causes)
        return
    parts = [file.with_suffix(f".{number}.npz") for number in range(world_size())]
    own = parts[rank()]
    with single_process():
        _write(own, names, features, causes)
    barrier()
    found = [_read(part) for part in parts]
    together = {name: row for rows, _ in found for name, row in rows.items()}
    causes = {name: cause for _, causes in found for name, cause in causes.items()}
    rows = np.stack(list(together.values())) if together else features  # all may be broken
    _write(file, list(together), rows, causes)
    barrier()
    own.unlink()


def _write(file: Path, names: list[str], features: np.ndarray, causes: dict[str, str]) -> None:
    record = json.dumps({"names": names, "causes": causes}, sort_keys=True)
    content = io.BytesIO()  # an archive that meets a full disk complains again when it is freed
    np.savez(content, features=features, record=np.array(record))
    with atomic_write(file, "wb") as opened:
        opened.write(content.getbuffer())


def _read(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """({name: features[P,E]}, {name: cause}) of a cache file. Raises ValueError where damaged."""
    with opened_arrays(file) as stored:
        record, features = json.loads(str(stored["record"])), stored["features"]
    return dict(zip(record["names"], features, strict=True)), record["causes"]
