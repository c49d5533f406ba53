"""Features of images and sentences, computed once and cached.

An image is known by the hash of its bytes. The encoder sees each distinct image once, in the order
of the hashes, and always the same number of rows per call. So names, order, batches and workers
cannot change a feature.

N images, P views of each, S sentences, E embedding.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from importlib.metadata import version
from pathlib import Path

import jittor as jt
import numpy as np
from PIL import Image
from tqdm import tqdm

import jclip
import runtime
from data.decoding import (
    TRANSIENT_ERRORS,
    BrokenImage,
    content_key,
    content_key_or_error,
    load_images,
)
from data.views import Crops, Views, make_views
from engine.code_version import code_digest
from engine.device import precision_in_use, without_bf16
from engine.predictor import Predictor
from fewshot.features.cache import FeatureTable, cache_path, read_table, store_table
from fewshot.features.towers import Tower, auxiliary_tower, clip_tower, lora_tower
from models.lora import LoraConfig
from runtime.distributed import local_range
from weight_files.hashing import sha256_of

# Rows of every call of the encoder, one fixed shape. It is even: with an odd number, the last bits
# of a row were seen to depend on its index.
ENCODER_ROWS = {"cpu": 32, "cuda": 256}
CENTRE_VIEW = Views(1, Crops(), 0)


@cache
def code_version(module: str = __name__) -> str:
    """Returns a hash of the code of a module and of Jittor's version.

    What is stored under another hash is stale. Docstrings and messages do not count
    (`engine/code_version.py`).
    """
    return code_digest([module], version("jittor"))


@dataclass(frozen=True)
class Encoder:
    """A network on the device in use, loaded when it is needed, and the cache of its features."""

    weights: Path
    device: str  # "cpu" or "cuda", as `use_device` returns it
    cache: Path
    workers: int = 0
    batch_size: int = 32  # views that are decoded ahead
    load_tower: Callable[[Path], Tower] = clip_tower
    variant: str = ""  # a hash of what `load_tower` changes of the weights

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

    def with_lora(self, config: LoraConfig, state: dict) -> "Encoder":
        """Returns this encoder with LoRA merged into its CLIP; `state` is that of the adapters."""
        digest = hashlib.sha256(repr(config.plain()).encode())
        for name, array in sorted(state["arrays"].items()):
            digest.update(name.encode() + array.tobytes())
        load_tower = partial(lora_tower, config=config, state=state)
        return dataclasses.replace(self, load_tower=load_tower, variant=digest.hexdigest())

    def with_auxiliary_weights(self, weights: Path) -> "Encoder":
        """Returns an encoder of the auxiliary weights with the other settings of this one."""
        return dataclasses.replace(self, weights=weights, load_tower=auxiliary_tower)

    def encode_training_views(self, paths: Sequence[Path], views: Views) -> np.ndarray:
        """Returns features[N,P,E] of P views of each image.

        Raises ValueError naming an image that cannot be read.
        """
        with _progress_bar(len(paths), "image") as bar:
            (features,), broken = encode_views([self], paths, views, bar.update)
        if broken:
            raise ValueError(f"a training image cannot be read: {next(iter(broken.values()))}")
        return features

    @without_bf16()
    def encode_sentences(self, texts: Sequence[str]) -> np.ndarray:
        """Returns features[S,E] float32 of sentences, in their order.

        bf16 products are never used here: every image meets these rows, and their error changes
        more first guesses than the error of an image does (docs/speed.md).
        """
        distinct = sorted(set(texts))
        path = self.cache_path("text", distinct)
        if not path.exists():
            tokens = jclip.tokenize(distinct, context_length=self.model.config.context_length)
            ends = tokens.argmax(axis=1)  # a call is cut after its longest text
            predictor = self.predictor(self.model.encode_text)
            order = np.argsort(ends, kind="stable")
            order = order[local_range(len(order), ENCODER_ROWS[self.device])]  # whole calls
            with _progress_bar(len(order), "text") as bar:
                for index in order:
                    predictor.add(tokens[index])
                    bar.update()
            rows = predictor.finish()
            names = [distinct[index] for index in order]
            store_table(path, FeatureTable(names, rows[:, None], {}))
        by_name = read_table(path).by_name
        return np.concatenate([by_name[text] for text in texts])

    def predictor(self, forward: Callable[[jt.Var], jt.Var]) -> Predictor:
        """Returns a `Predictor` that runs a part of the model in calls of one shape."""
        return Predictor(forward, ENCODER_ROWS[self.device])

    def cache_path(self, kind: str, names: list[str], views: Views = CENTRE_VIEW) -> Path:
        """Returns the cache file of the features of these inputs under this encoder."""
        key = {
            "names": names,
            "views": dataclasses.asdict(views),
            "weights": self.weights_sha256,
            "activation": getattr(self.tower.module, "activation", ""),
            "variant": self.variant,
            "code": code_version(),
            "device": self.device,
            "precision": precision_in_use(),
            "threads": runtime.PREPARED.threads,  # may change the order of a sum
        }
        return cache_path(self.cache, kind, key)


def encode_views(
    encoders: Sequence[Encoder], paths: Sequence[Path], views: Views, on_image: Callable
) -> tuple[list[np.ndarray], dict[int, BrokenImage]]:
    """Returns features[N,P,E] through each encoder, and the broken images by index.

    Features are in the order of `paths`. Each image is decoded once for all encoders, and the views
    of towers with the same preprocessing are made once. An image that one encoder cannot take is
    broken for all, and its rows are zero. `on_image()` is called after each image that had to be
    decoded.
    """
    if views.count == 1:
        views = CENTRE_VIEW  # whatever the crops would have been
    keys, broken = [], {}
    for index, path in enumerate(paths):
        try:
            keys.append(content_key(path))
        except OSError as error:
            if error.errno in TRANSIENT_ERRORS:
                raise
            keys.append("")
            broken[index] = BrokenImage(path, error.strerror or str(error))
    path_of = {key: path for key, path in zip(keys, paths, strict=True) if key}
    path_of = dict(sorted(path_of.items()))
    files = [encoder.cache_path("images", list(path_of), views) for encoder in encoders]
    missing = [pair for pair in zip(encoders, files, strict=True) if not pair[1].exists()]
    if missing:
        _encode_into_cache(missing, path_of, views, on_image)
    encoded = []
    for encoder, file in zip(encoders, files, strict=True):
        table = read_table(file)
        by_name = table.by_name
        features = np.zeros((len(paths), views.count, encoder.tower.width), np.float32)
        for index, key in enumerate(keys):
            if key in table.causes:
                broken[index] = BrokenImage(paths[index], table.causes[key])
            elif key:
                features[index] = by_name[key]
        encoded.append(features)
    for features in encoded:
        features[sorted(broken)] = 0
    return encoded, broken


def _encode_into_cache(
    missing: Sequence[tuple[Encoder, Path]],
    path_of: dict[str, Path],
    views: Views,
    on_image: Callable,
) -> None:
    """Encodes the images at {content key: path} and stores each encoder's features in its file."""
    towers = [encoder.tower for encoder, _ in missing]
    predictors = [encoder.predictor(encoder.tower.encode) for encoder, _ in missing]
    transforms = {}  # by preprocessing: one decoded image -> [P,3,R,R]
    for tower in towers:
        transforms[tower.side, tower.to_array] = make_views(
            tower.centre, tower.to_array, tower.side, views.crops, views.seed, views.count
        )

    def transform(image: Image.Image) -> dict[tuple, np.ndarray]:
        return {kind: make(image) for kind, make in transforms.items()}

    share = local_range(len(path_of))  # of this rank
    path_of = dict(itertools.islice(path_of.items(), share.start, share.stop))
    causes, keys, encoded_keys = {}, list(path_of), []
    first = missing[0][0]
    images_ahead = max(1, first.batch_size // views.count)
    loaded = load_images(
        list(path_of.values()), transform, workers=first.workers, batch=images_ahead
    )
    for index, images in loaded:
        on_image()
        if isinstance(images, BrokenImage):
            causes[keys[index]] = images.cause
            continue
        encoded_keys.append(keys[index])
        for tower, predictor in zip(towers, predictors, strict=True):
            for view in images[tower.side, tower.to_array]:
                predictor.add(view)
    for key, path in path_of.items():
        if content_key_or_error(path) != key:
            raise ValueError(f"{path}: changed while it was read; run again")
    for (_, file), predictor in zip(missing, predictors, strict=True):
        rows = predictor.finish()
        features = rows.reshape(len(encoded_keys), views.count, rows.shape[1])
        store_table(file, FeatureTable(encoded_keys, features, causes))


def _progress_bar(total: int, unit: str) -> tqdm:
    """Returns a progress bar that shows on terminals only."""
    return tqdm(total=total, desc="encoding", unit=unit, leave=False, disable=None)
