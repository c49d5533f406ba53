"""Checks whether Jittor's results are right on this device.

    python -m scripts.check_device [--device cpu|cuda]        (a minute or two the first time)

Compares every operation of CLIP, forward and backward, with NumPy in float64, and then eight
training steps with losses from a CPU. Prints one line per check: `ok` or `BAD` with the largest
error relative to the largest value. The last line is `ALL OK`; otherwise it exits with 1. Not yet
run on a GPU.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from runtime.environment import ensure_environment

ensure_environment()

import runtime  # noqa: I001  (before jittor)
import jittor as jt
import numpy as np
from scipy.special import softmax

from engine.config import parse
from engine.device import Device, use_device, use_precision
from engine.micro_batches import WHOLE_BATCH
from engine.run_log import Run
from engine.trainer import fit
from kernels import attention
from kernels.linear import PackedWeights, fits_gpu, linear_on_gpu

EXACT = 0.0  # indices and copies
FLOAT32 = 1e-4  # sums of up to 1,000 terms in float32
FAST_MATH = 1e-3  # CUDA kernels are compiled with --use_fast_math
TF32 = 5e-3  # 10 bits of mantissa
FLOAT16 = 5e-3  # 10 bits of mantissa, inputs rounded once
BFLOAT16 = 3e-2  # 7 bits of mantissa, inputs rounded once
BFLOAT16_CPU = 0.3  # Jittor's CPU kernel also accumulates in bfloat16
LOSSES = (2.318358, 1.880121, 1.460759, 1.035533, 0.638125, 0.33219, 0.147412, 0.058089)


@dataclass(frozen=True)
class Check:
    """One computation on the device, and the result that NumPy expects of it."""

    name: str
    run: Callable[[], jt.Var]
    expected: np.ndarray
    tolerance: float

    def passes(self) -> bool:
        """Runs the check, prints its line and returns whether it is within the tolerance."""
        started = time.monotonic()
        try:
            result = self.run().float32().numpy()
            scale = np.abs(self.expected).max() + 1e-12
            error = float(np.abs(result - self.expected).max() / scale)
            good = result.shape == np.shape(self.expected) and error <= self.tolerance
            words = f"{error:.2g}"
        except Exception as problem:  # one failing kernel must not hide the state of the others
            good, words = False, " ".join(str(problem)[-300:].split())
        print(f"{'ok ' if good else 'BAD'}  {self.name:<28} {words}", end="", flush=True)
        print(f"  {time.monotonic() - started:.1f} s", flush=True)
        return good


def draw(*shape: int, seed: int = 0) -> np.ndarray:
    """Draws normal float32 values, the same on every call with the same arguments."""
    return np.random.RandomState(seed).randn(*shape).astype(np.float32)


def check_products(cuda: bool) -> Iterator[Check]:
    """Checks matrix products in every type that CLIP may use."""
    a, b = draw(64, 96), draw(96, 32, seed=1)
    x, y = draw(12, 50, 64), draw(12, 64, 50, seed=1)
    exact = a.astype(np.float64) @ b
    yield Check("product float32", lambda: jt.matmul(jt.array(a), jt.array(b)), exact, FLOAT32)
    yield Check("batched product", lambda: jt.matmul(jt.array(x), jt.array(y)), x @ y, FLOAT32)
    bfloat16 = BFLOAT16 if cuda else BFLOAT16_CPU
    for dtype, tolerance in ("float16", FLOAT16), ("bfloat16", bfloat16), ("float64", FLOAT32):
        yield Check(f"product {dtype}", partial(multiply_in, dtype, a, b), exact, tolerance)
    if cuda:
        yield Check("product TF32", lambda: multiply_by_tensor_cores(a, b), exact, TF32)


def multiply_in(dtype: str, a: np.ndarray, b: np.ndarray) -> jt.Var:
    return jt.matmul(jt.array(a).cast(dtype), jt.array(b).cast(dtype))


def multiply_by_tensor_cores(a: np.ndarray, b: np.ndarray) -> jt.Var:
    with jt.flag_scope(use_tensorcore=1):
        product = jt.matmul(jt.array(a), jt.array(b))
        product.sync()
    return product


def check_elementwise(_: bool) -> Iterator[Check]:
    """Checks normalisation, activations and attention weights."""
    x = draw(12, 50, 64)
    v = jt.array
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    normal = (x - mean) / np.sqrt(variance + 1e-5)
    yield Check("layer norm", lambda: jt.nn.LayerNorm(64)(v(x)), normal, FAST_MATH)
    yield Check("softmax", lambda: jt.nn.softmax(v(x), -1), softmax(x, -1), FLOAT32)
    mask = np.triu(np.full((50, 50), -1e9, np.float32), 1)
    scores = draw(12, 50, 50)
    masked = softmax(scores.astype(np.float64) + mask, -1)
    yield Check("causal softmax", lambda: jt.nn.softmax(v(scores) + v(mask), -1), masked, FLOAT32)
    gelu = x / (1 + np.exp(-1.702 * x.astype(np.float64)))
    yield Check("QuickGELU", lambda: v(x) * jt.sigmoid(1.702 * v(x)), gelu, FAST_MATH)
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    yield Check("unit rows", lambda: v(x) / v(x).norm(dim=-1, keepdim=True), unit, FLOAT32)
    logs = np.log(np.exp(x.astype(np.float64)) + 1) + np.sqrt(np.abs(x))
    yield Check(
        "exp, log, sqrt", lambda: jt.log(jt.exp(v(x)) + 1) + jt.sqrt(jt.abs(v(x))), logs, FAST_MATH
    )


def check_indexing(_: bool) -> Iterator[Check]:
    """Checks how tokens are gathered and classes sorted."""
    a, table = draw(64, 96), draw(100, 16)
    tokens = np.random.RandomState(2).randint(0, 100, (4, 7))
    rows = np.array([3, 1, 2])
    v = jt.array
    yield Check("embedding", lambda: v(table)[v(tokens)], table[tokens], EXACT)
    yield Check("index", lambda: v(a)[v(rows)][:, 5:9], a[rows][:, 5:9], EXACT)
    yield Check("argmax", lambda: jt.argmax(v(a), dim=1)[0], a.argmax(1), EXACT)
    yield Check("argsort", lambda: jt.argsort(v(a), dim=1)[0], a.argsort(1), EXACT)
    yield Check("top 5", lambda: jt.topk(v(a), 5)[0], -np.sort(-a, 1)[:, :5], EXACT)
    yield Check("where", lambda: jt.where(v(a) > 0.5)[1], np.where(a > 0.5)[1], EXACT)
    yield Check("running sum", lambda: jt.cumsum(v(a), 1), a.astype(np.float64).cumsum(1), FLOAT32)
    joined = np.concatenate([a[:, :1], a], 1)
    yield Check("concatenate", lambda: jt.concat([v(a)[:, :1], v(a)], dim=1), joined, EXACT)
    turned = a.reshape(8, 8, 96).transpose(2, 0, 1)
    yield Check("permute", lambda: v(a).reshape(8, 8, 96).permute(2, 0, 1), turned, EXACT)


def windows(x: np.ndarray, size: int, padding: int, stride: int) -> np.ndarray:
    """Returns the windows of images [N,C,H,W] as [N,C,H',W',size,size]."""
    padded = np.pad(x, ((0, 0), (0, 0), (padding,) * 2, (padding,) * 2))
    view = np.lib.stride_tricks.sliding_window_view(padded, (1, 1, size, size))
    return view[:, :, ::stride, ::stride, 0, 0]


def convolve(x: np.ndarray, w: np.ndarray, padding: int, stride: int) -> np.ndarray:
    view = windows(x.astype(np.float64), w.shape[-1], padding, stride)
    return np.einsum("nchwij,ocij->nohw", view, w)


def check_convolutions(cuda: bool) -> Iterator[Check]:
    """Checks the patch embedding and the operations that ModifiedResNet adds."""
    x, w, patch = draw(4, 3, 32, 32), draw(8, 3, 3, 3, seed=1), draw(8, 3, 8, 8, seed=2)
    v, conv = jt.array, jt.nn.conv2d
    y = convolve(x, w, 1, 1)
    yield Check("convolution", lambda: conv(v(x), v(w), None, 1, 1), y, FAST_MATH)
    patches = convolve(x, patch, 0, 8)
    yield Check("patch embedding", lambda: conv(v(x), v(patch), None, 8), patches, FAST_MATH)
    gradient = np.einsum("nchwij,nohw->ocij", windows(x, 3, 1, 1), 2 * y)
    yield Check("gradient of weights", lambda: weight_gradient(x, w), gradient, FAST_MATH)
    pooled = windows(x, 2, 0, 2).mean((-1, -2))
    yield Check("average pooling", lambda: jt.nn.AvgPool2d(2)(v(x)), pooled, FLOAT32)
    mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    normal = (x - mean) / np.sqrt(variance + 1e-5)
    yield Check("batch norm, training", lambda: jt.nn.BatchNorm(3)(v(x)), normal, FAST_MATH)
    if cuda:  # each type has its own size: Jittor keeps one algorithm per shape, whatever the type
        for dtype, tolerance, size in (("float16", 1e-2, 30), ("bfloat16", 5e-2, 28)):
            part = np.ascontiguousarray(x[:, :, :size, :size])
            run, y = partial(convolution_in, dtype, part, w), convolve(part, w, 1, 1)
            yield Check(f"convolution {dtype}", run, y, tolerance)


def convolution_in(dtype: str, x: np.ndarray, w: np.ndarray) -> jt.Var:
    return jt.nn.conv2d(jt.array(x).cast(dtype), jt.array(w).cast(dtype), None, 1, 1)


def weight_gradient(x: np.ndarray, w: np.ndarray) -> jt.Var:
    weights = jt.array(w)
    y = jt.nn.conv2d(jt.array(x), weights, None, 1, 1)
    return jt.grad((y * y).sum(), weights)


def check_operators(cuda: bool) -> Iterator[Check]:
    """Checks the kit's own operators, on a GPU those of `--precision bf16`."""
    for name, length, causal in (("attention", 50, False), ("causal attention", 77, True)):
        qkv, dy = draw(4, length, 3 * 128), draw(4, length, 128, seed=1)
        expected = np.concatenate(attention_in_float64(qkv, dy, 2, causal), axis=2)
        run = partial(fused_attention, cuda, qkv, dy, causal)
        yield Check(f"fused {name}", run, expected, FLOAT32)
    if cuda:
        x, weight = draw(3, 50, 96), draw(64, 96, seed=1)
        exact = x.astype(np.float64) @ weight.T
        yield Check("frozen layer bfloat16", partial(frozen_layer, x, weight), exact, BFLOAT16)


def fused_attention(cuda: bool, qkv: np.ndarray, dy: np.ndarray, causal: bool) -> jt.Var:
    """Returns result and gradient of two heads of 64 side by side: [N,L,4D]."""
    var = jt.array(qkv)
    with use_precision("bf16" if cuda else "fp32"):
        assert attention.fits(var, 2), "the operator does not take these shapes"
        y = attention.fused_attention(var, 2, causal)
        slopes = jt.grad((y * jt.array(dy)).sum(), var)
        return jt.concat([y, slopes], dim=2)


def attention_in_float64(
    qkv: np.ndarray, dy: np.ndarray, heads: int, causal: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns result[N,L,D] and the gradient[N,L,3D] of sum(result dy), by the definition."""
    n, length, width = qkv.shape
    parts = qkv.astype(float).reshape(n, length, 3, heads, width // 3 // heads)
    q, k, v = parts.transpose(2, 0, 3, 1, 4)  # [N,H,L,D/H] each
    dy = dy.astype(float).reshape(n, length, heads, -1).transpose(0, 2, 1, 3)
    scale = q.shape[-1] ** -0.5
    scores = q @ k.swapaxes(-1, -2) * scale
    if causal:
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    p = softmax(scores, -1)
    dp = dy @ v.swapaxes(-1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
    gradients = np.stack([ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ dy])

    def join_heads(heads_first: np.ndarray) -> np.ndarray:
        return heads_first.transpose(0, 2, 1, 3).reshape(n, length, -1)

    return join_heads(p @ v), np.concatenate([join_heads(each) for each in gradients], axis=-1)


def frozen_layer(x: np.ndarray, weight: np.ndarray) -> jt.Var:
    with use_precision("bf16"):
        packed, frozen = PackedWeights(), jt.array(weight).stop_grad()
        assert fits_gpu(jt.array(x), frozen), "the operator does not take these shapes"
        return linear_on_gpu(packed, jt.array(x), frozen)


class Block(jt.nn.Module):
    """Attention with four heads and a classifier; float32 parameters, products in `dtype`."""

    def __init__(self, dtype: str):
        shapes = {"attention": (64, 192), "output": (64, 64), "classes": (64, 10)}
        for seed, (name, shape) in enumerate(shapes.items()):
            setattr(self, name, jt.array(0.1 * draw(*shape, seed=seed)))
        self.dtype = dtype

    def product(self, x: jt.Var, y: jt.Var) -> jt.Var:
        return jt.matmul(x.cast(self.dtype), y.cast(self.dtype)).float32()

    def execute(self, x: jt.Var) -> jt.Var:
        """Returns class scores [16,10] of x[16,7,64]."""
        parts = self.product(x, self.attention).chunk(3, -1)
        q, k, v = (part.reshape(16, 7, 4, 16).permute(0, 2, 1, 3) for part in parts)
        weights = jt.nn.softmax(self.product(q, k.transpose(0, 1, 3, 2)) / 4, -1)
        mixed = self.product(weights, v).permute(0, 2, 1, 3).reshape(16, 7, 64)
        x = x + self.product(mixed, self.output)
        x = x * jt.sigmoid(1.702 * x)
        return self.product(x.mean(1), self.classes)


class SameBatch:
    """Yields one and the same batch, once per epoch."""

    def __init__(self):
        self.size, self.micro_batches = 16, WHOLE_BATCH
        self.images = jt.array(draw(16, 7, 64, seed=9))
        self.labels = jt.array(np.arange(16) % 10)

    def __len__(self) -> int:
        return 1

    def epoch(self, index: int) -> Iterator[tuple[jt.Var, jt.Var]]:
        yield self.images, self.labels


def training_losses(dtype: str = "float32") -> jt.Var:
    """Returns the losses [8] of eight AdamW steps in the kit's own loop."""
    block, losses = Block(dtype), []
    optimizer = jt.optim.AdamW(block.parameters(), 1e-2)

    def step(batch: tuple[jt.Var, jt.Var]) -> dict[str, jt.Var]:
        images, labels = batch
        losses.append(jt.nn.cross_entropy_loss(block(images), labels))
        return {"loss": losses[-1]}

    with tempfile.TemporaryDirectory() as folder:
        fit(
            step,
            optimizer,
            SameBatch(),
            module=block,
            epochs=len(LOSSES),
            schedule=lambda step: 1e-2,
            run=Run(Path(folder), {}),
            seed=0,
        )
    return jt.array([loss.item() for loss in losses])


def check_training(cuda: bool) -> Iterator[Check]:
    """Checks the losses against those of a CPU in float32."""
    expected = np.array(LOSSES)
    types = {"float32": 1e-2, "float16": 2e-2, "bfloat16": 6e-2 if cuda else BFLOAT16_CPU}
    for dtype, tolerance in types.items():
        yield Check(f"training {dtype}", partial(training_losses, dtype), expected, tolerance)
    zeros = np.zeros(len(LOSSES))
    yield Check("training again", lambda: training_losses() - training_losses(), zeros, EXACT)


@dataclass(frozen=True)
class Config:
    """Checks whether Jittor's results are right on this device."""

    device: Device = "auto"
    """device to check: cpu, cuda, or auto for CUDA if there is one"""


def main() -> int:
    """Runs all checks and returns the exit code."""
    config = parse(Config, sys.argv[1:], "check_device")
    device = use_device(config.device)
    cuda = device == "cuda"
    print(f"Jittor {jt.__version__} on {device}. {' '.join(runtime.PREPARED.notes)}", flush=True)
    groups = [check_products, check_elementwise, check_indexing]
    groups += [check_convolutions, check_operators, check_training]
    results = [check.passes() for group in groups for check in group(cuda)]
    bad = results.count(False)
    print(f"{bad} of {len(results)} BAD" if bad else "ALL OK", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
