"""Low-rank adapters in CLIP's attention blocks: what CLIP-LoRA trains, and nothing else.

Each adapted projection W x + b becomes W x + b + s * B(A(dropout(x))) with A[r, D_in], B[D_out, r].
Source: CLIP-LoRA (Zanella & Ben Ayed, CVPRW 2024, https://arxiv.org/abs/2405.18541), whose settings
are the defaults here; LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685).
"""

import math
import re
import zlib
from dataclasses import asdict, dataclass

import jittor as jt
import numpy as np

from jclip.model import CLIP
from jclip.sizes import ClipSizes
from jclip.transformer import ResidualAttentionBlock
from models.lora.layers import AdaptedAttention, AdaptedLinear, LowRank

PACKED = ("q", "k", "v")  # in the order of the packed weight
WIDTHS = {  # D_in and D_out of each projection, in widths of its tower
    **dict.fromkeys((*PACKED, "o"), (1, 1)),
    "fc": (1, 4),
    "proj": (4, 1),
}
TOWERS = ("image", "text")
LAYERS = {  # first and last block (not included) as shares of a tower's depth, from input to output
    "all": (0, 1, 1),
    "bottom": (0, 1, 3),
    "middle": (1, 2, 3),
    "top": (2, 3, 3),
    "half-bottom": (0, 1, 2),
    "half-top": (1, 2, 2),
}
DIVISORS = {"sqrt": math.sqrt, "rank": float}


@dataclass(frozen=True)
class LoraConfig:
    """What is adapted and how. Raises one ValueError naming everything that is out of range."""

    rank: int = 2
    """rows of A"""
    alpha: float = 1.0
    """numerator of the factor s"""
    dropout: float = 0.25
    """share of an adapter's inputs that are set to 0, in training only"""
    targets: tuple[str, ...] = ("q", "k", "v")
    """projections: q, k, v, o of the attention, fc and proj of the MLP"""
    towers: tuple[str, ...] = ("image", "text")
    """towers: image, text"""
    layers: str = "all"
    """blocks: all, a third (bottom, middle, top), half-bottom, half-top, or first-last, as 8-11"""
    scaling: str = "sqrt"
    """factor s: sqrt for alpha/sqrt(rank), as CLIP-LoRA; rank for alpha/rank, as LoRA"""

    def __post_init__(self):
        wrong = []
        if self.rank < 1:
            wrong.append(f"rank {self.rank} is below 1")
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            wrong.append(f"alpha {self.alpha} is not above 0")
        if not 0 <= self.dropout < 1:
            wrong.append(f"dropout {self.dropout} is outside [0, 1)")
        for name, known in (("targets", tuple(WIDTHS)), ("towers", TOWERS)):
            chosen = getattr(self, name)
            if not chosen or set(chosen) - set(known) or len(set(chosen)) < len(chosen):
                wrong.append(f"{name} {chosen} are not some of {', '.join(known)}, each once")
        if self.layers not in LAYERS and not re.fullmatch(r"\d+-\d+", self.layers):
            wrong.append(f"layers {self.layers!r} is none of {', '.join(LAYERS)}, first-last")
        if self.scaling not in DIVISORS:
            wrong.append(f"scaling {self.scaling!r} is none of {', '.join(DIVISORS)}")
        if wrong:
            raise ValueError(f"LoRA: {'; '.join(wrong)}")

    @property
    def factor(self) -> float:
        """The factor s of every adapter."""
        return self.alpha / DIVISORS[self.scaling](self.rank)

    def plain(self) -> dict:
        """The fields and the factor as plain data; the order of targets and towers is the kit's."""
        targets = [target for target in WIDTHS if target in self.targets]
        towers = [tower for tower in TOWERS if tower in self.towers]
        return asdict(self) | {"targets": targets, "towers": towers, "factor": self.factor}


def adapted_layers(layers: str, depth: int) -> range:
    """The numbers of the chosen blocks, 0 at the input, of a tower of this many.

    Raises ValueError where there are none, or `layers` reaches past the last block.
    """
    if layers in LAYERS:
        first, end, parts = LAYERS[layers]
        chosen = range(depth * first // parts, depth * end // parts)
    else:
        first, last = map(int, layers.split("-"))
        chosen = range(first, last + 1)
    if not chosen or chosen[-1] >= depth:
        raise ValueError(f"LoRA: layers {layers!r} do not fit a tower of {depth} blocks")
    return chosen


def adapter_widths(sizes: ClipSizes, config: LoraConfig) -> dict[str, tuple[int, int]]:
    """D_in and D_out of every adapter under its name, such as image.0.q.

    Raises ValueError where the image tower is to be adapted and is a ResNet, and where the layers
    do not fit.
    """
    if "image" in config.towers and not sizes.is_vit:
        raise ValueError("LoRA: a ResNet image tower has no attention blocks: use towers=('text',)")
    plain, widths = config.plain(), {}
    for tower in plain["towers"]:
        depth, width = {
            "image": (sizes.vision_layers, sizes.vision_width),
            "text": (sizes.transformer_layers, sizes.transformer_width),
        }[tower]
        assert isinstance(depth, int)  # an image tower here is a ViT
        for layer in adapted_layers(config.layers, depth):
            for target in plain["targets"]:
                inputs, outputs = WIDTHS[target]
                widths[f"{tower}.{layer}.{target}"] = (inputs * width, outputs * width)
    return widths


def first_values(name: str, rank: int, inputs: int, seed: int) -> np.ndarray:
    """A[r, D_in] of an adapter before training, uniform in +-1/sqrt(D_in), float32.

    Follows from the seed and the name alone: what else is adapted changes nothing.
    """
    random = np.random.default_rng((seed, zlib.crc32(name.encode())))
    return (random.random((rank, inputs), dtype=np.float32) * 2 - 1) * np.float32(inputs**-0.5)


@dataclass
class Place:
    """Where a layer of the model stands, and the two that take turns there."""

    owner: jt.Module
    attribute: str
    plain: jt.Module
    adapted: AdaptedLinear | AdaptedAttention

    def hold(self, layer: jt.Module) -> None:
        setattr(self.owner, self.attribute, layer)


class LoraAdapters(jt.Module):
    """The adapters of one model, attached to it: all that is trained, under names as image.0.q.A.

    The model must be in evaluation mode, which keeps its own parameters from learning, and its
    `named_parameters()` stay what they were. The adapters start in training mode and follow their
    own `train()` and `eval()`. Dropout draws from Jittor's global random state, for each
    projection anew. At the start B is 0, and so is the change of every feature.

    Raises ValueError where the model is in training mode, has adapters, or does not fit `config`.
    """

    def __init__(self, model: CLIP, config: LoraConfig, seed: int):
        if model.is_training():
            raise ValueError("LoRA: the model is in training mode: call its eval() first")
        if any(isinstance(layer, AdaptedLinear | AdaptedAttention) for layer in model.modules()):
            raise ValueError("LoRA: the model has adapters already: detach() them first")
        self.config = config
        self._places: list[Place] = []  # in a list, where Jittor does not look for parameters
        self._kept: list[tuple[jt.Var, np.ndarray]] = []  # weights and their values before merging
        blocks: dict[tuple[str, str], dict[str, LowRank]] = {}
        for name, (inputs, outputs) in adapter_widths(model.sizes, config).items():
            tower, layer, target = name.split(".")
            first = first_values(name, config.rank, inputs, seed)
            adapter = LowRank(first, outputs, config.factor, config.dropout)
            blocks.setdefault((tower, layer), {})[target] = adapter
        for (tower, layer), adapters in blocks.items():
            _child(_child(self, tower), layer).__dict__.update(adapters)
            transformer = (model.visual if tower == "image" else model).transformer
            self._attach(transformer.resblocks[int(layer)], adapters)

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(variable.numel() for variable in self.parameters())

    def train(self) -> "LoraAdapters":
        """Training mode; merged adapters are unmerged, as only then they learn."""
        self.unmerge()
        return super().train()

    def merge(self) -> None:
        """Adds every change s B A to its weight; the model's own layers are back in place.

        Merging twice is merging once. The original weights are kept for `unmerge`.
        """
        if self._kept:
            return
        for place in self._places:
            weight, merged = place.adapted.merged_weight()
            self._kept.append((weight, weight.numpy()))
            weight.update(jt.array(merged))
            place.hold(place.plain)

    def unmerge(self) -> None:
        """Puts the original bytes of the weights and the adapted layers back."""
        if not self._kept:
            return
        for weight, values in self._kept:
            weight.update(jt.array(values))
        self._kept.clear()
        for place in self._places:
            place.hold(place.adapted)

    def detach(self) -> None:
        """Unmerges, and takes the adapters out of the model for good; they keep their values."""
        self.unmerge()
        for place in self._places:
            place.hold(place.plain)
        self._places.clear()

    def state(self) -> dict:
        """Config as plain data with its factor, and every A and B under its name."""
        arrays = {name: variable.numpy() for name, variable in self.named_parameters()}
        return {"config": self.config.plain(), "arrays": arrays}

    def load(self, state: dict) -> None:
        """Sets every A and B from what `state()` gave; merged adapters are unmerged.

        Raises one ValueError listing the fields, names and shapes that differ.
        """
        variables = dict(self.named_parameters())
        wrong = _differences(self.config.plain(), state["config"])
        wrong += _differences(
            {name: f"float32 {list(value.shape)}" for name, value in variables.items()},
            {name: f"{value.dtype} {list(value.shape)}" for name, value in state["arrays"].items()},
        )
        if wrong:
            raise ValueError(f"LoRA: other adapters than these: {'; '.join(wrong)}")
        self.unmerge()
        for name, variable in variables.items():
            variable.update(jt.array(state["arrays"][name]))

    def _attach(self, block: ResidualAttentionBlock, adapters: dict[str, LowRank]) -> None:
        """Replaces the adapted layers of one block."""
        for target, owner, attribute in (
            ("o", block.attn, "out_proj"),
            ("fc", block.mlp, "c_fc"),
            ("proj", block.mlp, "c_proj"),
        ):
            if target in adapters:
                layer = getattr(owner, attribute)
                adapted = AdaptedLinear(layer, adapters[target])
                self._replace(owner, attribute, adapted)
        packed = {i: adapters[target] for i, target in enumerate(PACKED) if target in adapters}
        if packed:
            self._replace(block, "attn", AdaptedAttention(block.attn, packed))

    def _replace(self, owner: jt.Module, attribute: str, adapted: jt.Module) -> None:
        place = Place(owner, attribute, getattr(owner, attribute), adapted)
        place.hold(adapted)
        self._places.append(place)


def _child(parent: jt.Module, name: str) -> jt.Module:
    """The module of this name, made where there is none."""
    return vars(parent).setdefault(name, jt.Module())


def _differences(ours: dict, theirs: dict) -> list[str]:
    """A line for each key whose values differ or that only one side has."""
    return [
        f"{key} is {theirs.get(key, 'missing')}, here {ours.get(key, 'missing')}"
        for key in sorted(ours.keys() | theirs.keys())
        if key not in ours or key not in theirs or ours[key] != theirs[key]
    ]
