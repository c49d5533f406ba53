"""Features of images and sentences, computed once and kept on disk.

An image is known by the hash of its bytes. A table holds each distinct image once, in the order of
the hashes, and the encoder always sees the same number of rows: so names, order, batches and
workers cannot change a feature.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
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
from fewshot.engine import predict
from fewshot.files import atomic_write
from fewshot.images import BrokenImage, content_key, load_images
from fewshot.transforms import Crops, make_views
from jclip.preprocess import to_array
from runtime.hashing import sha256_of

# Rows of every encoder call: one fixed shape, even, since with an odd one the last bits of a row
# were seen to depend on its place.
ENCODER_ROWS = {"cpu": 32, "cuda": 256}
ROOT = Path(__file__).resolve().parent.parent
CODE = (
    "jclip/*.py",
    "runtime/onednn.py",
    "runtime/prepare.py",
    "fewshot/features.py",
    "fewshot/images.py",
    "fewshot/transforms.py",
    "fewshot/engine.py",
)


def code_version(*more: str) -> str:
    """A hash of the source that features depend on, and of further files (glob patterns).

    A change of it makes whatever was stored under it stale.
    """
    digest = hashlib.sha256(version("jittor").encode())
    for path in sorted({path for pattern in CODE + more for path in ROOT.glob(pattern)}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Tower:
    """A network of images with its own preprocessing."""

    module: jt.nn.Module
    encode: Callable[[jt.Var], jt.Var]  # [B,3,R,R] -> [B,E]
    width: int  # E
    side: int  # R
    centre: Callable[[Image.Image], np.ndarray]  # the centre view of a photo -> [3,R,R]
    to_array: Callable[[Image.Image], np.ndarray]  # an RGB crop of R x R pixels -> [3,R,R]


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
    batch: int = 32  # images decoded ahead at a time
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
        features, broken = self._views(paths, None)
        return features[:, 0], broken

    def views(self, paths: Sequence[Path], views: Views) -> np.ndarray:
        """features[N,P,E] of P views of each image. Raises ValueError naming a broken image."""
        features, broken = self._views(paths, views)
        if broken:
            raise ValueError(f"a training image cannot be read: {next(iter(broken.values()))}")
        return features

    def _views(
        self, paths: Sequence[Path], views: Views | None
    ) -> tuple[np.ndarray, dict[int, BrokenImage]]:
        keys, broken = [], {}
        for index, path in enumerate(_bar(paths, len(paths), "reading", "image")):
            try:
                keys.append(content_key(path))
            except OSError as error:
                keys.append("")
                broken[index] = BrokenImage(path, error.strerror or str(error))
        place = {key: path for key, path in zip(keys, paths, strict=True) if key}
        rows, causes = self._distinct_images(dict(sorted(place.items())), views)
        count = views.count if views else 1
        features = np.zeros((len(paths), count, self.tower.width), np.float32)
        for index, key in enumerate(keys):
            if key in causes:
                broken[index] = BrokenImage(paths[index], causes[key])
            elif key:
                features[index] = rows[key]
        return features, broken

    def _distinct_images(
        self, place: dict[str, Path], views: Views | None
    ) -> tuple[dict[str, np.ndarray], dict[str, str]]:
        """({content key: features[P,E]}, {content key: why it is broken}), cached together."""
        file = self._file("images", list(place), views)
        if not file.exists():
            causes: dict[str, str] = {}
            keys, paths = list(place), list(place.values())
            tower, one = self.tower, views or Views(1, Crops(), 0)
            transform = make_views(
                tower.centre, tower.to_array, tower.side, one.crops, one.seed, one.count
            )

            def readable():
                loaded = load_images(paths, transform, workers=self.workers, batch=self.batch)
                for index, image in _bar(loaded, len(paths), "encoding", "image"):
                    if isinstance(image, BrokenImage):
                        causes[keys[index]] = image.cause
                    else:
                        yield from ((keys[index], view) for view in image)  # [3,R,R] each

            self._encode(file, tower.encode, readable(), causes)
        return _read(file)

    def sentences(self, texts: Sequence[str]) -> np.ndarray:
        """features[S,E] float32 of sentences, in their order."""
        distinct = sorted(set(texts), key=lambda text: (len(text), text))  # like lengths together
        file = self._file("text", distinct)
        if not file.exists():
            tokens = jclip.tokenize(distinct, context_length=self.model.sizes.context_length)
            named = zip(distinct, tokens, strict=True)
            self._encode(
                file, self.model.encode_text, _bar(named, len(distinct), "encoding", "text"), {}
            )
        rows, _ = _read(file)
        return np.concatenate([rows[text] for text in texts])

    def _encode(self, file: Path, forward: Callable, inputs: Iterable, causes: dict) -> None:
        """Encodes named inputs and stores names, features and what `causes` holds by then."""
        names, features = predict(forward, inputs, batch=ENCODER_ROWS[self.device])
        record = json.dumps({"names": names, "causes": causes}, sort_keys=True)
        with atomic_write(file, "wb") as opened:
            np.savez(opened, features=features, record=np.array(record))

    def _file(self, kind: str, names: list[str], views: Views | None = None) -> Path:
        """The cache file of these inputs under this encoder."""
        key = {
            "names": names,
            "views": views and dataclasses.asdict(views),
            "weights": self.weights_sha256,
            "activation": getattr(self.tower.module, "activation", ""),
            "variant": self.variant,
            "code": code_version(),
            "device": self.device,
            "threads": runtime.PREPARED.threads,  # may change the order of a sum
        }
        digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
        return self.cache / f"{kind}-{digest[:32]}.npz"


def _bar(items: Iterable, total: int, what: str, unit: str) -> Iterable:
    """A progress bar, shown on terminals only."""
    return tqdm(items, total=total, desc=what, unit=unit, leave=False, disable=None)


def _read(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """({name: features[P,E]}, {name: cause}) of a cache file; a name's rows follow each other."""
    with np.load(file, allow_pickle=False) as stored:
        record, features = json.loads(str(stored["record"])), stored["features"]
    rows: dict[str, list[np.ndarray]] = {}
    for name, row in zip(record["names"], features, strict=True):
        rows.setdefault(name, []).append(row)
    return {name: np.stack(group) for name, group in rows.items()}, record["causes"]
