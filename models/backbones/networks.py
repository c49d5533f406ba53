"""The image networks by name, for every recipe."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import jittor as jt

from models.backbones import efficientnet, resnet, vit


class Network(Protocol):
    """The interface of every network here. Shapes: B images, C classes, R pixels a side."""

    width: int  # numbers per feature
    head_names: tuple[str, ...]  # attributes of the classifier
    layer_names: tuple[str, ...]  # parts that a policy may name
    block_names: tuple[str, ...]  # parts of which a policy may train the last ones
    last_names: tuple[str, ...]  # parts that are trained with the last block
    features: Callable[[jt.Var], jt.Var]  # images [B, 3, R, R] -> [B, width]

    def __call__(self, images: jt.Var) -> jt.Var: ...  # images [B, 3, R, R] -> logits [B, C]

    # of every module of Jittor
    def eval(self) -> None: ...
    def parameters(self) -> list[jt.Var]: ...
    def named_parameters(self) -> Iterable[tuple[str, jt.Var]]: ...
    def named_modules(self) -> Iterable[tuple[str, jt.Module]]: ...
    def state_dict(self) -> dict[str, jt.Var]: ...


NAMES = (*resnet.SIZES, *efficientnet.SIZES, *vit.SIZES)
OPTIONS = {"resnet": ("stem",), "efficientnet": ("dropout", "drop_path")}  # of each family
OPTIONS["vit"] = OPTIONS["deit"] = ("patch_size", "depth", "width", "heads", "drop_path")


def _family(name: str) -> str:
    return "resnet" if name.startswith("resnet") else name.split("_")[0]


def supported_options(name: str, **options: Any) -> dict[str, Any]:
    """Returns those of the options that `build_network` takes for this network."""
    supported = OPTIONS.get(_family(name), ())
    return {option: value for option, value in options.items() if option in supported}


def build_network(name: str, num_classes: int, *, image_size: int = 224, **options: Any) -> Network:
    """Returns a network of NAMES with initial values as in the originals.

    Only ViT and DeiT need `image_size`; the others take any size. OPTIONS has the `options` of each
    family: `stem` ("imagenet" or "small"), `dropout` before the classifier, `drop_path` in
    training, a ViT's `patch_size`, `depth`, `width` and `heads`. With 0 classes there is no
    classifier, and the network returns its features. After `jt.set_global_seed` the initial values
    are the same bytes everywhere. Raises ValueError for a name or option that does not exist.
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
    config = vit.VitConfig(image_size=image_size, **({"width": width, "heads": heads} | options))
    kind = vit.VisionTransformer if family == "vit" else vit.DistilledTransformer
    return kind(config, num_classes)
