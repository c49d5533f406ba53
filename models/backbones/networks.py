"""The image networks by name, for every recipe."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jittor as jt

from models.backbones import efficientnet, resnet, vit


class Network(Protocol):
    """What every network here offers; shapes: B images, C classes, R pixels a side."""

    width: int  # numbers of a feature
    head_names: tuple[str, ...]  # attributes that are the classifier
    layer_names: tuple[str, ...]  # parts that may be trained by name
    block_names: tuple[str, ...]  # parts of which the last ones may be trained
    last_names: tuple[str, ...]  # what is trained with the last block
    features: Callable[[jt.Var], jt.Var]  # images [B, 3, R, R] -> [B, width]

    def __call__(self, images: jt.Var) -> jt.Var: ...  # images [B, 3, R, R] -> logits [B, C]

    # as every module of Jittor has them
    def eval(self) -> None: ...
    def parameters(self) -> list[jt.Var]: ...
    def named_parameters(self) -> Iterable[tuple[str, jt.Var]]: ...
    def named_modules(self) -> Iterable[tuple[str, jt.Module]]: ...
    def state_dict(self) -> dict[str, jt.Var]: ...


NAMES = (*resnet.SIZES, *efficientnet.SIZES, *vit.SIZES)
OPTIONS = {  # of each family, all optional
    "resnet": ("stem",),
    "efficientnet": ("dropout", "drop_path"),
    "vit": ("patch_size", "depth", "width", "heads", "drop_path"),
    "deit": ("patch_size", "depth", "width", "heads", "drop_path"),
}


def _family(name: str) -> str:
    return "resnet" if name.startswith("resnet") else name.split("_")[0]


def suited(name: str, **options: Any) -> dict[str, Any]:
    """Those of the options that `build` takes for this network."""
    return {each: options[each] for each in options if each in OPTIONS.get(_family(name), ())}


def build(name: str, num_classes: int, *, image_size: int = 224, **options: Any) -> Network:
    """A network of NAMES with fresh values, drawn as the originals draw them.

    `image_size` is needed by ViT and DeiT only; the others take any size. OPTIONS says what
    `options` each family has: `stem` ("imagenet" or "small"), `dropout` before the classifier,
    `drop_path` in training, a ViT's `patch_size`, `depth`, `width` and `heads`. Without classes
    (0) there is no classifier, and the network gives its features. After `jt.set_global_seed` the
    values are the same bytes everywhere. Raises ValueError for what the network lacks.
    """
    if name not in NAMES:
        raise ValueError(f"no network is called {name!r}; there are {', '.join(NAMES)}")
    if num_classes < 0:
        raise ValueError(f"num_classes {num_classes} is negative")
    family = _family(name)
    unknown = sorted(set(options) - set(OPTIONS[family]))
    if unknown:
        known = ", ".join(OPTIONS[family])
        raise ValueError(f"{name} has no {', '.join(unknown)}; its options are {known}")
    if family == "resnet":
        return resnet.ResNet(name, num_classes, **options)
    if family == "efficientnet":
        return efficientnet.EfficientNet(name, num_classes, **options)
    width, heads = vit.SIZES[name]
    sizes = vit.VitSizes(image_size=image_size, **({"width": width, "heads": heads} | options))
    kind = vit.VisionTransformer if family == "vit" else vit.DistilledTransformer
    return kind(sizes, num_classes)
