"""The trained parts, one type per stage, and how they are read.

C classes, K of them base and O new, N shots, P views of each, E embedding, W width of the auxiliary
features, Q entries of the prompt queue, M context tokens, D width of the text tower.

A part's file holds {"meta": its `Origin`, "part": its fields as arrays and plain data}. Files are
read strictly: a missing or unknown field is an error.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import numpy as np

from data.label_space import LabelSpace
from data.views import Views
from engine.plain_data import from_plain
from fewshot.stages.record import RETRAIN, Origin, origin_of
from models.lora import LoraConfig
from weight_files import safe_load
from weight_files.hashing import sha256_of

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """What every stage leaves."""

    trained_count: int = 0
    """how many numbers were trained"""
    selection: dict[str, str] = field(default_factory=dict)
    """the settings that were chosen on the shots, and how"""


@dataclass(frozen=True, eq=False, kw_only=True)
class TextPart(Part):
    """Class vectors of hand-made sentences, and what the whole training had in common."""

    label_space: LabelSpace  # base classes: those with a shot
    shots: list  # [class id, SHA-256 of the image] of each shot
    weights_sha256: str  # of CLIP
    logit_scale: float  # CLIP's own temperature
    names: list[str]  # [C], what a sentence calls each class
    sentences: list  # [C] lists; the first sentence of each is a template
    sentence_weights: list  # [C] lists
    text_features: np.ndarray  # [C,E]

    @property
    def base_features(self) -> np.ndarray:
        """text_features[K,E] of the base classes."""
        return self.text_features[list(self.label_space.base_ids)]

    @property
    def new_features(self) -> np.ndarray:
        """text_features[O,E] of the new classes."""
        return self.text_features[list(self.label_space.new_ids)]


@dataclass(frozen=True, eq=False, kw_only=True)
class PromptPart(Part):
    """A queue of learned contexts, and the class vectors of their average."""

    tokens: int
    words: str
    position: str
    per_class: bool
    beta: float  # share of the hand-made class vectors
    epochs: list[int]  # [Q]
    weights: np.ndarray  # [Q]
    contexts: np.ndarray  # [Q,M,D] or [Q,K,M,D]
    class_vectors: np.ndarray  # [K,E]


@dataclass(frozen=True, eq=False, kw_only=True)
class LoraPart(Part):
    """Low-rank adapters of CLIP."""

    config: LoraConfig
    state: dict  # of LoraAdapters


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadPart(Part):
    """Class vectors through CLIP with LoRA merged, and LP++ fitted to its features."""

    views: Views  # of each shot: test images take the same crops
    class_vectors: np.ndarray  # [K,E]
    state: Arrays  # of LPPlusPlus


@dataclass(frozen=True, eq=False, kw_only=True)
class ChannelPart(Part):
    """Scales and shifts of channels, and LP++ fitted behind them."""

    channel_state: Arrays  # of ChannelReweighting
    head_state: Arrays  # of LPPlusPlus


@dataclass(frozen=True, eq=False, kw_only=True)
class GdaPart(Part):
    """A Gaussian discriminant next to zero-shot."""

    weight: float  # of its logits next to those of zero-shot
    state: Arrays  # of GaussianDiscriminant


@dataclass(frozen=True, eq=False, kw_only=True)
class OodPart(Part):
    """How likely an image is of any base class: the fitted filter, negatives and thresholds."""

    words: list[str]  # negatives: words that name no class
    vectors: np.ndarray  # of these words, E wide
    state: Arrays  # of GPFilter
    offsets: dict[str, float]  # subtracted from scores that are no log-odds, by filter
    thresholds: dict[str, float]  # the log-odds from which an image counts as base, by filter


@dataclass(frozen=True, eq=False, kw_only=True)
class AuxiliaryPart(Part):
    """A logit bias from a second encoder."""

    weights_sha256: str  # of the second encoder
    state: Arrays  # of AuxiliaryBias


@dataclass(frozen=True, eq=False)
class Parts:
    """All parts of one training, as a test run needs them."""

    text: TextPart
    prompt: PromptPart
    lora: LoraPart
    head: HeadPart
    channel: ChannelPart
    gda: GdaPart
    ood: OodPart
    auxiliary: AuxiliaryPart | None = None
    origins: dict[str, Origin] = field(default_factory=dict)  # by stage
    hashes: dict[str, str] = field(default_factory=dict)  # SHA-256 by the name of the file

    @property
    def by_stage(self) -> dict[str, Part]:
        """The parts that are there, by the name of their stage."""
        parts = {stage: getattr(self, stage) for stage in PART_TYPES}
        return {stage: part for stage, part in parts.items() if part is not None}


# the type of each part by the name of its stage: the fields of `Parts` that hold one
PART_TYPES: dict[str, type[Part]] = {
    stage: kind
    for stage, hint in get_type_hints(Parts).items()
    for kind in (hint, *get_args(hint))  # of `AuxiliaryPart | None`, also AuxiliaryPart
    if isinstance(kind, type) and issubclass(kind, Part)
}
OPTIONAL = [field.name for field in fields(Parts) if field.default is None]
AnyPart = TypeVar("AnyPart", bound=Part)


def part_path(folder: Path, stage: str) -> Path:
    """Returns the file of a stage's part."""
    return folder / f"{stage}.pkl"


def read_part(path: Path, stage: str, kind: type[AnyPart]) -> tuple[AnyPart, Origin]:
    """Reads a part and its origin. Raises ValueError naming the file if it is another stage's part
    or its fields are not those of `kind`.
    """
    contents = safe_load(path)
    origin = origin_of(contents, path)
    if origin.stage != stage:
        raise ValueError(f"{path}: holds the stage {origin.stage!r}, but {stage!r} is needed")
    return from_plain(kind, contents.get("part"), str(path), RETRAIN), origin


def read_parts(folder: Path) -> Parts:
    """Reads all parts of a folder.

    Raises ValueError if one is missing, is of another stage, or was made from another part than
    the one in the folder.
    """
    parts: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    hashes: dict[str, str] = {}
    for stage, kind in PART_TYPES.items():
        path = part_path(folder, stage)
        if not path.exists():
            if stage in OPTIONAL:
                continue
            raise ValueError(
                f"{path} is missing: run `bash train.sh` first, or put the trained parts there"
            )
        parts[stage], origins[stage] = read_part(path, stage, kind)
        hashes[path.name] = sha256_of(path)
        for need, key in origins[stage].needs.items():
            if need in origins and origins[need].key != key:
                raise ValueError(
                    f"{path} was made with another {need}.pkl than {part_path(folder, need)}: "
                    f"{RETRAIN}"
                )
    return Parts(**parts, origins=origins, hashes=hashes)
