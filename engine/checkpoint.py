"""Saves and restores what a training loop changes, as NumPy arrays and plain data.

`state_dict` with `jt.save` and `jt.load` marks every parameter stop_grad: steps go on counting and
nothing moves. So arrays are stored, and restored into the existing variables.
"""

import pickle
from collections.abc import Iterator
from pathlib import Path

import jittor as jt
import numpy as np

from runtime.files import atomic_write


def save(path: Path, contents: dict) -> None:
    """Writes a dict of NumPy arrays and plain data, whole or not at all.

    `weight_files.safe_load` reads it back.
    """
    with atomic_write(path, "wb") as file:
        pickle.dump(contents, file, protocol=4)


def module_arrays(module: jt.nn.Module) -> dict[str, np.ndarray]:
    """Returns every parameter and buffer under its dotted name."""
    return {name: value.numpy() for name, value in module.state_dict().items()}


def restore_module(module: jt.nn.Module, arrays: dict[str, np.ndarray], source: Path) -> None:
    """Puts arrays back into the module.

    Raises ValueError, which names `source`, if names or shapes are not the module's own.
    """
    variables = module.state_dict()
    wrong = sorted(set(variables) ^ set(arrays)) or sorted(
        name for name in variables if tuple(variables[name].shape) != arrays[name].shape
    )
    if wrong:
        raise ValueError(
            f"{source}: not a checkpoint of this model ({', '.join(wrong[:5])} differ): delete it"
        )
    for name, variable in variables.items():
        variable.update(jt.array(arrays[name]))


def _slots(optimizer: jt.optim.Optimizer) -> Iterator[tuple[str, list[jt.Var]]]:
    """Yields (group and name, variables) for each running average that the optimizer keeps."""
    for index, group in enumerate(optimizer.param_groups):
        for name, value in sorted(group.items()):
            if name not in ("params", "grads") and isinstance(value, list):
                yield f"{index}.{name}", value


def optimizer_arrays(optimizer: jt.optim.Optimizer) -> dict:
    """Returns the optimizer's step count and running averages."""
    slots = {name: [v.numpy() for v in variables] for name, variables in _slots(optimizer)}
    return {"n_step": optimizer.n_step, "slots": slots}


def restore_optimizer(optimizer: jt.optim.Optimizer, saved: dict) -> None:
    """Puts the step count and running averages back."""
    optimizer.n_step = saved["n_step"]
    for name, variables in _slots(optimizer):
        for variable, array in zip(variables, saved["slots"][name], strict=True):
            variable.update(jt.array(array))
