"""First values of CLIP's parameters, as its paper's code draws them (Radford et al. 2021).

Drawn with NumPy, from a seed taken of NumPy's global generator, which `jt.set_global_seed` sets:
the same seed gives the same bytes on every device.
"""

import math
import re

import jittor as jt
import numpy as np


def initialise(model: jt.Module) -> None:
    """Draws the random parameters of a freshly built `jclip.model.CLIP`; the rest keep theirs."""
    random = np.random.default_rng(np.random.randint(2**31))
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        shape, std = shapes[name], normal_std(name, shapes, model.sizes.transformer_layers)
        bound = uniform_bound(name, shapes)
        if std is not None:
            value = random.standard_normal(shape, dtype=np.float32) * np.float32(std)
        elif bound is not None:
            value = (random.random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)
        else:
            continue
        parameter.update(jt.array(value))


def normal_std(name: str, shapes: dict[str, tuple[int, ...]], layers: int) -> float | None:
    """The deviation of a parameter drawn from a normal distribution; None for all others.

    `layers` counts the blocks of the text tower; each adds twice to its input, hence `residual`.
    """
    shape, residual = shapes[name], (2 * layers) ** -0.5
    rules = (
        (r"token_embedding\.weight", lambda: 0.02),
        (r"positional_embedding", lambda: 0.01),
        (r"visual\.class_embedding|visual\.proj|text_projection", lambda: shape[0] ** -0.5),
        (r"visual\.(attnpool\.)?positional_embedding", lambda: shape[1] ** -0.5),
        (r"visual\.attnpool\.[qkvc]_proj\.weight", lambda: shape[1] ** -0.5),
        (r"transformer\..*in_proj_weight", lambda: shape[1] ** -0.5),
        (r"transformer\..*out_proj\.weight", lambda: shape[1] ** -0.5 * residual),
        (r"transformer\..*c_fc\.weight", lambda: (2 * shape[1]) ** -0.5),
        (r"transformer\..*c_proj\.weight", lambda: shape[0] ** -0.5 * residual),
    )
    return next((std() for pattern, std in rules if re.fullmatch(pattern, name)), None)


def uniform_bound(name: str, shapes: dict[str, tuple[int, ...]]) -> float | None:
    """The bound of a parameter drawn uniformly from [-bound, bound]; None for constants.

    These are torch's own defaults, which the paper's code keeps. A bound of 0 stands for zeros.
    """
    if re.fullmatch(r".*(in_proj_|out_proj\.)bias|visual\.layer\d\.\d+\.bn3\.weight", name):
        return 0.0
    if name.endswith("in_proj_weight"):
        return math.sqrt(6 / sum(shapes[name]))
    weight = shapes.get(re.sub(r"bias$", "weight", name), ())
    if len(weight) < 2:  # norms, the temperature
        return None
    return math.prod(weight[1:]) ** -0.5  # one over the square root of the inputs of a unit
