"""Networks with the seeded weights of their golden files, and comparisons with these."""

import jittor as jt
import numpy as np
from jittor import nn

from benchmarks.seeded_inputs import seeded_images, seeded_weight
from models.backbones import networks
from tests.helpers.golden import load_golden

SEED = 2606  # of tests/golden/networks/make.py
CLASSES = 10


def seeded_network(name: str, gain: float = 1.0, **options) -> jt.Module:
    """Returns a network with seeded weights; `gain` multiplies matrices and convolutions."""
    module = networks.build_network(name, CLASSES, **options)
    for part, variable in module.state_dict().items():
        value = seeded_weight(part, tuple(variable.shape), SEED)
        variable.update(jt.array(value * np.float32(gain) if value.ndim > 1 else value))
    return module


def assert_close(ours: np.ndarray, expected: np.ndarray, tolerance: float, what: str) -> None:
    """Asserts that the largest error is at most `tolerance` times the largest number."""
    assert ours.shape == expected.shape, what
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    print(f"{what}: {error:.1e}")
    assert error <= tolerance, f"{what}: {error:.1e} of the largest is above {tolerance:.0e}"


def check_evaluation(module: jt.Module, case: str, size: int, count: int, tolerance: float) -> None:
    """Compares features and logits with the peer's."""
    images = jt.array(seeded_images(count, size, SEED))
    module.eval()
    assert_close(
        module.features(images).numpy(),
        load_golden(f"networks/{case}")["features"],
        tolerance,
        "features",
    )
    assert_close(
        module(images).numpy(), load_golden(f"networks/{case}")["logits"], tolerance, "logits"
    )


def check_training(
    module: jt.Module, case: str, size: int, count: int, tolerance: float, kinked: float = 0
) -> None:
    """Compares logits, gradient norms and running statistics of one training step with the peer's.

    `kinked` is the tolerance of gradients, if it is larger.
    """
    images = jt.array(seeded_images(count, size, SEED))
    labels = jt.array(np.arange(count, dtype=np.int32) % CLASSES)
    module.train()
    outputs = module(images)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum(nn.cross_entropy_loss(output, labels) for output in outputs)
    variables = module.state_dict()
    expected = load_golden(f"networks/{case}")
    parts = [key.removeprefix("gradient.") for key in expected if key.startswith("gradient.")]
    gradients = jt.grad(loss, [variables[part] for part in parts])
    for index, output in enumerate(outputs):
        assert_close(
            output.numpy(), expected[f"trained_logits_{index}"], tolerance, f"logits {index}"
        )
    assert len(parts) >= 4
    for part, gradient in zip(parts, gradients, strict=True):
        norm = np.linalg.norm(gradient.numpy())
        assert_close(
            np.float32(norm)[None], expected[f"gradient.{part}"][None], max(tolerance, kinked), part
        )
    for key in [key for key in expected if key.startswith("after.")]:
        ours = variables[key.removeprefix("after.")].numpy()[:4]
        assert_close(ours, expected[key], tolerance, key)


def names_and_shapes(module: jt.Module) -> str:
    """Returns lines of "name shape", as in the golden file."""
    return "\n".join(sorted(f"{n} {tuple(v.shape)}" for n, v in module.state_dict().items()))
