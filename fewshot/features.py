"""Features of images and sentences, computed once and kept on disk.

An image is known by the hash of its bytes. A table holds each distinct image once, in the order of
the hashes, and the encoder always sees the same number of rows: so names, order, batches and
workers cannot change a feature.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import numpy as np
from tqdm import tqdm

import jclip
import runtime
from fewshot.engine import predict
from fewshot.files import atomic_write
from fewshot.images import BrokenImage, content_key, load_images
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
class Encoder:
    """A CLIP on the device in use, with where its features are kept; loaded when first needed."""

    weights: Path
    device: str  # "cpu" or "cuda", as `use_device` answered
    cache: Path
    workers: int = 0
    batch: int = 32  # images decoded ahead at a time

    @cached_property
    def weights_sha256(self) -> str:
        return sha256_of(self.weights)

    @cached_property
    def _loaded(self) -> tuple[jclip.CLIP, Callable]:
        return jclip.load(self.weights)

    @property
    def model(self) -> jclip.CLIP:
        return self._loaded[0]

    @property
    def parameters(self) -> int:
        """The number of the model's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def images(self, paths: Sequence[Path]) -> tuple[np.ndarray, dict[int, BrokenImage]]:
        """(features[N,E] float32 in the order of `paths`, the broken images by index).

        A broken image's row is zero.
        """
        keys, broken = [], {}
        for index, path in enumerate(_bar(paths, len(paths), "reading", "image")):
            try:
                keys.append(content_key(path))
            except OSError as error:
                keys.append("")
                broken[index] = BrokenImage(path, error.strerror or str(error))
        place = {key: path for key, path in zip(keys, paths, strict=True) if key}
        rows, causes = self._distinct_images(dict(sorted(place.items())))
        features = np.zeros((len(paths), self.model.sizes.embed_dim), np.float32)
        for index, key in enumerate(keys):
            if key in causes:
                broken[index] = BrokenImage(paths[index], causes[key])
            elif key:
                features[index] = rows[key]
        return features, broken

    def _distinct_images(self, place: dict[str, Path]) -> tuple[dict, dict[str, str]]:
        """({content key: feature[E]}, {content key: why it is broken}), cached together."""
        file = self._file("images", list(place))
        if not file.exists():
            causes: dict[str, str] = {}
            keys, paths = list(place), list(place.values())
            _, preprocess = self._loaded

            def readable():
                loaded = load_images(paths, preprocess, workers=self.workers, batch=self.batch)
                for index, image in _bar(loaded, len(paths), "encoding", "image"):
                    if isinstance(image, BrokenImage):
                        causes[keys[index]] = image.cause
                    else:
                        yield keys[index], image  # float32 [3,R,R]

            self._encode(file, self.model.encode_image, readable(), causes)
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
        return np.stack([rows[text] for text in texts])

    def _encode(self, file: Path, forward: Callable, inputs: Iterable, causes: dict) -> None:
        """Encodes named inputs and stores names, features and what `causes` holds by then."""
        names, features = predict(forward, inputs, batch=ENCODER_ROWS[self.device])
        record = json.dumps({"names": names, "causes": causes}, sort_keys=True)
        with atomic_write(file, "wb") as opened:
            np.savez(opened, features=features, record=np.array(record))

    def _file(self, kind: str, names: list[str]) -> Path:
        """The cache file of these inputs under this encoder."""
        key = {
            "names": names,
            "weights": self.weights_sha256,
            "activation": self.model.activation,
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
    """({name: feature[E]}, {name: cause}) of a cache file."""
    with np.load(file, allow_pickle=False) as stored:
        record = json.loads(str(stored["record"]))
        return dict(zip(record["names"], stored["features"], strict=True)), record["causes"]
