"""LoRA: low-rank adapters in CLIP's attention blocks. They learn, CLIP does not.

    x[..., D_in] --+---------- W x + b ----------+--> [..., D_out]
                   |                             |
                   +-- dropout -- A -- B -- * s -+     A[r, D_in], B[D_out, r], r much below D

Sources: LoRA (Hu et al. 2021, https://arxiv.org/abs/2106.09685); CLIP-LoRA (Zanella & Ben Ayed,
CVPRW 2024, https://arxiv.org/abs/2405.18541), whose settings are the defaults here.

An adapted layer holds the variables of the layer that it replaces, under the same names, so that
the model's parameters stay what they were. Its adapters are in a tuple, which Jittor does not
search for parameters: `LoraAdapters` owns them. Shapes: N sequences, L tokens, D width, r rank.
"""

import math
import re
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import jittor as jt
import numpy as np
from jittor import nn

from jclip.config import ClipConfig
from jclip.model import CLIP
from jclip.transformer import Attention, Linear, ResidualAttentionBlock
from kernels.linear import linear

QKV = ("q", "k", "v")  # in the order of the packed weight
# D_in and D_out of each projection, in widths of its tower
WIDTHS = {**dict.fromkeys((*QKV, "o"), (1, 1)), "fc": (1, 4), "proj": (4, 1)}
TOWERS = ("image", "text")
# name: (first, last, parts) for the blocks from first/parts to last/parts of a tower
LAYERS = {"all": (0, 1, 1), "bottom": (0, 1, 3), "middle": (1, 2, 3), "top": (2, 3, 3)}
LAYERS |= {"half-bottom": (0, 1, 2), "half-top": (1, 2, 2)}
DIVISORS = {"sqrt": math.sqrt, "rank": float}


@dataclass(frozen=True)
class LoraConfig:
    """Which layers are adapted and how. Raises one ValueError naming all fields out of range."""

    rank: int = 2
    """rank r of the adapters: rows of A"""
    alpha: float = 1.0
    """numerator of the factor s"""
    dropout: float = 0.25
    """share of an adapter's inputs that are set to 0, in training only"""
    targets: tuple[str, ...] = ("q", "k", "v")
    """adapted projections: q, k, v, o of the attention, fc and proj of the MLP"""
    towers: tuple[str, ...] = ("image", "text")
    """adapted towers: image, text"""
    layers: str = "all"
    """adapted blocks: all, bottom, middle, top (thirds), half-bottom, half-top, or a range, 8-11"""
    scaling: str = "sqrt"
    """factor s: sqrt for alpha/sqrt(rank) as in CLIP-LoRA, rank for alpha/rank as in LoRA"""

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
        """Returns the fields and the factor as plain data, targets and towers in a fixed order."""
        targets = [target for target in WIDTHS if target in self.targets]
        towers = [tower for tower in TOWERS if tower in self.towers]
        return asdict(self) | {"targets": targets, "towers": towers, "factor": self.factor}


def adapted_layers(layers: str, depth: int) -> range:
    """Returns the numbers of the adapted blocks of a tower of `depth` blocks, 0 at the input.

    Raises ValueError if there are none, or `layers` reaches past the last block.
    """
    if layers in LAYERS:
        first, last, parts = LAYERS[layers]
        chosen = range(depth * first // parts, depth * last // parts)
    else:
        first, last = map(int, layers.split("-"))
        chosen = range(first, last + 1)
    if not chosen or chosen[-1] >= depth:
        raise ValueError(f"LoRA: layers {layers!r} do not fit a tower of {depth} blocks")
    return chosen


def adapter_widths(sizes: ClipConfig, config: LoraConfig) -> dict[str, tuple[int, int]]:
    """Returns D_in and D_out of every adapter under its name, such as image.0.q.

    Raises ValueError if the image tower of a ResNet is to be adapted, or the layers do not fit.
    """
    if "image" in config.towers and not sizes.is_vit:
        raise ValueError("LoRA: a ResNet image tower has no attention blocks: use towers=('text',)")
    plain, widths = config.plain(), {}
    for tower in plain["towers"]:
        depth, width = sizes.transformer_layers, sizes.transformer_width
        if tower == "image" and isinstance(sizes.vision_layers, int):
            depth, width = sizes.vision_layers, sizes.vision_width
        for layer in adapted_layers(config.layers, depth):
            for target in plain["targets"]:
                inputs, outputs = WIDTHS[target]
                widths[f"{tower}.{layer}.{target}"] = (inputs * width, outputs * width)
    return widths


def initial_values(name: str, rank: int, inputs: int, seed: int) -> np.ndarray:
    """Returns A[r, D_in] of an adapter before training: uniform in +-1/sqrt(D_in), float32.

    They depend on the seed and the adapter's name alone, not on what else is adapted.
    """
    random = np.random.default_rng((seed, zlib.crc32(name.encode())))
    return (random.random((rank, inputs), dtype=np.float32) * 2 - 1) * np.float32(inputs**-0.5)


class LowRank(jt.Module):
    """The change of one projection: x[..., D_in] -> factor * B(A(dropout(x))), [..., D_out].

    A[r, D_in] starts with `a` in float32, B[D_out, r] with 0. `dropout` is the share of entries of
    x that are set to 0, in training only.
    """

    def __init__(self, a: np.ndarray, outputs: int, factor: float, dropout: float):
        self.A = jt.array(a)
        self.B = jt.zeros((outputs, len(a)))
        self.factor, self.dropout = factor, dropout

    @property
    def active_dropout(self) -> float:
        """The share of entries that dropout sets to 0 now: none in evaluation."""
        return self.dropout if self.is_training() else 0.0

    def execute(self, x: jt.Var) -> jt.Var:
        if self.active_dropout:
            # The clone shares x's memory. Without it Jittor would fuse dropout with what computed
            # x, and change the last bits of x and of the base product.
            x = nn.dropout(x.clone(), self.active_dropout, is_train=True)
        return self.factor * nn.linear(nn.linear(x, self.A), self.B)

    def weight_change(self) -> np.ndarray:
        """Returns the change of the weight, factor * B A: [D_out, D_in]."""
        return np.float32(self.factor) * (self.B.numpy() @ self.A.numpy())


def apply_adapters(
    base: jt.Var, x: jt.Var, adapters: Sequence[LowRank], slots: Sequence[int] = (0,)
) -> jt.Var:
    """Adds the adapters' changes for x[..., D_in] to base[..., slots * D_out].

    The adapter of slot i changes the columns i * D_out to (i + 1) * D_out. All adapters have the
    same sizes, factor and dropout.
    """
    from kernels import lora  # merged adapters do without

    first = adapters[0]
    outputs, dropout = first.B.shape[0], first.active_dropout
    if lora.fits(x, outputs):
        a, b = (jt.stack([getattr(adapter, name) for adapter in adapters]) for name in "AB")
        seeds = np.random.randint(2**31, size=len(adapters)) if dropout else [0] * len(adapters)
        return lora.add_lora(
            base, x, a, b, slots, factor=first.factor, dropout=dropout, seeds=seeds
        )
    parts = [base[..., i : i + outputs] for i in range(0, base.shape[-1], outputs)]
    for slot, adapter in zip(slots, adapters, strict=True):
        parts[slot] = parts[slot] + adapter(x)
    return jt.concat(parts, dim=-1)


class AdaptedLinear(jt.Module):
    """A linear layer with one adapter: [..., D_in] -> [..., D_out]."""

    def __init__(self, base: Linear, adapter: LowRank):
        self.weight, self.bias, self.packed = base.weight, base.bias, base.packed
        self._adapters = (adapter,)

    def execute(self, x: jt.Var, residual: jt.Var | None = None) -> jt.Var:
        y = linear(self.packed, x, self.weight, self.bias, residual)
        return apply_adapters(y, x, self._adapters)

    def merged_weight(self) -> tuple[jt.Var, np.ndarray]:
        """Returns the layer's weight, and its values with the change added."""
        return self.weight, self.weight.numpy() + self._adapters[0].weight_change()


class AdaptedAttention(Attention):
    """Self-attention with adapters at some of query (slot 0), key (1) and value (2)."""

    def __init__(self, base: Attention, adapters: dict[int, LowRank]):
        self.heads, self.packed = base.heads, base.packed
        self.in_proj_weight, self.in_proj_bias = base.in_proj_weight, base.in_proj_bias
        self.out_proj = base.out_proj
        self._slots, self._adapters = tuple(adapters), tuple(adapters.values())

    def project_qkv(self, normed: jt.Var) -> jt.Var:
        return apply_adapters(super().project_qkv(normed), normed, self._adapters, self._slots)

    def merged_weight(self) -> tuple[jt.Var, np.ndarray]:
        """Returns the packed weight, and its values with the changes added: [3D, D]."""
        merged = self.in_proj_weight.numpy().copy()
        width = merged.shape[1]
        for slot, adapter in zip(self._slots, self._adapters, strict=True):
            merged[slot * width : (slot + 1) * width] += adapter.weight_change()
        return self.in_proj_weight, merged


class LoraAdapters(jt.Module):
    """The adapters of one model, attached to it: all that is trained, under names as image.0.q.A.

    The model must be in evaluation mode, so that its own parameters do not learn, and its
    `named_parameters()` stay what they were. The adapters start in training mode and follow their
    own `train()` and `eval()`. Dropout draws from Jittor's global random state, separately for each
    projection. B starts at 0, so that at first no feature changes.

    Raises ValueError if the model is in training mode, has adapters, or does not fit `config`.
    """

    def __init__(self, model: CLIP, config: LoraConfig, seed: int):
        if model.is_training():
            raise ValueError("LoRA: the model is in training mode: call its eval() first")
        if any(isinstance(layer, AdaptedLinear | AdaptedAttention) for layer in model.modules()):
            raise ValueError("LoRA: the model has adapters already: detach() them first")
        self.config = config
        # One attribute of the model per entry, its own layer and the adapted one. They are in a
        # list, which Jittor does not search.
        self._layers: list[tuple[jt.Module, str, jt.Module, jt.Module]] = []
        self._unmerged: list[tuple[jt.Var, np.ndarray]] = []  # weights, their values before merging
        blocks: dict[tuple[str, str], dict[str, LowRank]] = {}
        for name, (inputs, outputs) in adapter_widths(model.config, config).items():
            tower, layer, target = name.split(".")
            a = initial_values(name, config.rank, inputs, seed)
            adapter = LowRank(a, outputs, config.factor, config.dropout)
            blocks.setdefault((tower, layer), {})[target] = adapter
        for (tower, layer), adapters in blocks.items():
            _child(_child(self, tower), layer).__dict__.update(adapters)
            transformer = (model.visual if tower == "image" else model).transformer
            self._attach(transformer.resblocks[int(layer)], adapters)

    @property
    def count(self) -> int:
        """The number of trained numbers."""
        return sum(variable.numel() for variable in self.parameters())

    def train(self) -> "LoraAdapters":
        """Switches to training mode and unmerges the adapters: merged ones do not learn."""
        self.unmerge()
        return super().train()

    def merge(self) -> None:
        """Adds every change s B A to its weight, and puts the model's own layers back.

        Merging twice is merging once. The original weights are kept for `unmerge`.
        """
        if self._unmerged:
            return
        for owner, attribute, plain, adapted in self._layers:
            weight, merged = adapted.merged_weight()
            self._unmerged.append((weight, weight.numpy()))
            weight.update(jt.array(merged))
            setattr(owner, attribute, plain)

    def unmerge(self) -> None:
        """Puts the original bytes of the weights and the adapted layers back."""
        if not self._unmerged:
            return
        for weight, values in self._unmerged:
            weight.update(jt.array(values))
        self._unmerged.clear()
        for owner, attribute, _, adapted in self._layers:
            setattr(owner, attribute, adapted)

    def detach(self) -> None:
        """Unmerges, and takes the adapters out of the model for good; they keep their values."""
        self.unmerge()
        for owner, attribute, plain, _ in self._layers:
            setattr(owner, attribute, plain)
        self._layers.clear()

    def state(self) -> dict:
        """Returns the config as plain data with its factor, and every A and B under its name."""
        arrays = {name: variable.numpy() for name, variable in self.named_parameters()}
        return {"config": self.config.plain(), "arrays": arrays}

    def load(self, state: dict) -> None:
        """Sets every A and B from what `state()` gave, and unmerges the adapters.

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
        attributes = {"o": (block.attn, "out_proj"), "fc": (block.mlp, "c_fc")}
        attributes["proj"] = (block.mlp, "c_proj")
        for target, (owner, attribute) in attributes.items():
            if target in adapters:
                adapted = AdaptedLinear(getattr(owner, attribute), adapters[target])
                self._replace(owner, attribute, adapted)
        by_slot = {i: adapters[target] for i, target in enumerate(QKV) if target in adapters}
        if by_slot:
            self._replace(block, "attn", AdaptedAttention(block.attn, by_slot))

    def _replace(self, owner: jt.Module, attribute: str, adapted: jt.Module) -> None:
        self._layers.append((owner, attribute, getattr(owner, attribute), adapted))
        setattr(owner, attribute, adapted)


def _child(parent: jt.Module, name: str) -> jt.Module:
    """Returns the module of this name inside `parent`, and makes it first if there is none."""
    return vars(parent).setdefault(name, jt.Module())


def _differences(ours: dict, theirs: dict) -> list[str]:
    """Returns one line per key whose values differ or that only one of the two has."""
    return [
        f"{key} is {theirs.get(key, 'missing')}, here {ours.get(key, 'missing')}"
        for key in sorted(ours.keys() | theirs.keys())
        if key not in ours or key not in theirs or ours[key] != theirs[key]
    ]
