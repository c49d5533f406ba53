"""CLIP in Jittor: an image tower and a text tower whose features share one space.

Parameters have OpenAI's names, so that weights map one to one.
Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020.
Shapes: B images, S sentences, L tokens, D width, E embedding, R pixels a side of an image,
G patches a side of it, P pixels a side of a patch.
"""

import math
import re

import jittor as jt
import numpy as np
from jittor import nn

from jclip.config import ClipConfig
from jclip.transformer import ACTIVATIONS, LayerNorm, Transformer, extract_patches
from kernels.linear import PackedWeights, linear, project

LENGTH_STEP = 8  # text is cut to a multiple of this, so that few lengths need compiling


class VisionTransformer(jt.Module):
    """Images [B, 3, R, R] -> features [B, E]."""

    def __init__(self, config: ClipConfig, activation: str):
        width, patch = config.vision_width, config.vision_patch_size
        layers, heads = config.vision_layers, config.vision_heads
        assert isinstance(layers, int) and patch is not None  # these are the sizes of a ViT
        self.patch_size = patch
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.packed_conv1, self.packed_proj = PackedWeights(), PackedWeights()
        self.class_embedding = jt.zeros((width,))
        tokens = (config.image_resolution // patch) ** 2 + 1
        self.positional_embedding = jt.zeros((tokens, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, activation, causal=False)
        self.ln_post = LayerNorm(width)
        self.proj = jt.zeros((width, config.embed_dim))

    def embed_patches(self, images: jt.Var) -> jt.Var:
        """Applies the convolution conv1 as one matrix product: [B, 3, R, R] -> [B, G*G, D]."""
        x = extract_patches(images, self.patch_size)  # [B, G*G, 3*P*P]
        return linear(self.packed_conv1, x, self.conv1.weight)

    def execute(self, images: jt.Var) -> jt.Var:
        x = self.embed_patches(images)
        first = self.class_embedding.broadcast((x.shape[0], 1, x.shape[2]))
        x = jt.concat([first, x], dim=1) + self.positional_embedding  # [B, G*G+1, D]
        x = self.transformer(self.ln_pre(x), np.zeros(x.shape[0]))  # [B, D]
        return project(self.packed_proj, self.ln_post(x), self.proj)


class CLIP(jt.Module):
    """The two towers and the learned temperature, initialised as in the paper's code.

    `activation` is "quick_gelu" (OpenAI's weights) or "gelu". With `initialised=False` the
    parameters are not drawn, for a caller that sets every one of them.

    On the CPU the bits of a feature depend on its own row alone, not on the batch, if the weights
    do not learn and the widths are multiples of 16.
    """

    def __init__(
        self, config: ClipConfig, activation: str = "quick_gelu", initialised: bool = True
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
        self.config, self.activation = config, activation
        if config.is_vit:
            self.visual = VisionTransformer(config, activation)
        else:
            from jclip.resnet import ModifiedResNet

            self.visual = ModifiedResNet(config)
        width, layers = config.transformer_width, config.transformer_layers
        heads = config.transformer_heads
        self.transformer = Transformer(width, layers, heads, activation, causal=True)
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = jt.zeros((config.context_length, width))
        self.ln_final = LayerNorm(width)
        self.text_projection = jt.zeros((width, config.embed_dim))
        self.packed = PackedWeights()
        self.logit_scale = jt.array(np.log(1 / 0.07).astype(np.float32))
        if initialised:
            initialise(self)

    def encode_image(self, images: jt.Var | np.ndarray) -> jt.Var:
        """Encodes preprocessed images [B, 3, R, R], float32, to features [B, E], not normalised.

        Raises ValueError if the images have another shape.
        """
        images, side = jt.array(images), self.config.image_resolution
        shape = tuple(images.shape)
        if shape[1:] != (3, side, side):
            raise ValueError(f"images have shape {shape}, this model takes [B, 3, {side}, {side}]")
        return self.visual(images)

    def encode_text(self, tokens: np.ndarray | jt.Var) -> jt.Var:
        """Encodes token ids [S, L], as `jclip.tokenize` returns them, to features [S, E].

        The features are not normalised. All sentences are cut after the last end token, rounded up
        to a multiple of 8. Attention is causal, so that what is cut cannot change a feature. Raises
        ValueError if an id is outside the vocabulary or L is longer than the model's.
        """
        tokens = np.asarray(tokens.numpy() if isinstance(tokens, jt.Var) else tokens)
        self._check_tokens(tokens)
        ends = tokens.argmax(axis=1)  # the end token has the largest id
        length = -(-(int(ends.max()) + 1) // LENGTH_STEP) * LENGTH_STEP
        return self.encode_embedded(self.embed_tokens(tokens[:, :length]), ends)

    def embed_tokens(self, tokens: np.ndarray) -> jt.Var:
        """Looks up the embeddings [S, L, D] of token ids [S, L], without positions."""
        return self.token_embedding(jt.array(np.ascontiguousarray(tokens, dtype=np.int32)))

    def encode_embedded(self, embedded: jt.Var, ends: np.ndarray) -> jt.Var:
        """Encodes token embeddings [S, L, D] with end tokens at `ends`[S] to features [S, E]."""
        positions = self.positional_embedding[: embedded.shape[1]]
        x = self.transformer(embedded + positions, ends)  # [S, D]
        return project(self.packed, self.ln_final(x), self.text_projection)

    def execute(self, images: jt.Var, tokens: np.ndarray | jt.Var) -> tuple[jt.Var, jt.Var]:
        """Returns scaled cosines [B, S] and [S, B] of images [B, 3, R, R] and token ids [S, L]."""
        image_features = jt.normalize(self.encode_image(images), dim=1)
        text_features = jt.normalize(self.encode_text(tokens), dim=1)
        scale = self.logit_scale.exp()
        logits_per_image = scale * nn.matmul_transpose(image_features, text_features)
        return logits_per_image, logits_per_image.transpose()

    def _check_tokens(self, tokens: np.ndarray) -> None:
        longest, vocabulary = self.config.context_length, self.config.vocab_size
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or not 0 < tokens.shape[1] <= longest:
            kind = f"tokens are {tokens.dtype} of shape {tokens.shape}"
            raise ValueError(f"{kind}, this model takes integers [S, L] with L at most {longest}")
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocabulary:
            reach = f"token ids reach from {tokens.min()} to {tokens.max()}"
            raise ValueError(f"{reach}, this model knows 0 to {vocabulary - 1}")


def initialise(model: CLIP) -> None:
    """Draws the random parameters of a new CLIP as the paper's code does; the rest stay.

    They are drawn with NumPy, from a seed taken from its global generator, which
    `jt.set_global_seed` sets. The same seed gives the same bytes on every device.
    """
    random = np.random.default_rng(np.random.randint(2**31))
    parameters = dict(model.named_parameters())
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    for name, parameter in parameters.items():
        shape, std = shapes[name], normal_std(name, shapes, model.config.transformer_layers)
        bound = uniform_bound(name, shapes)
        if std is not None:
            value = random.standard_normal(shape, dtype=np.float32) * np.float32(std)
        elif bound is not None:
            value = (random.random(shape, dtype=np.float32) * 2 - 1) * np.float32(bound)
        else:
            continue
        parameter.update(jt.array(value))


def normal_std(name: str, shapes: dict[str, tuple[int, ...]], layers: int) -> float | None:
    """Returns the standard deviation of a normally distributed parameter; None for all others.

    `layers` is the number of blocks of the text tower. Each adds to its input twice, hence
    `residual`.
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
    """Returns the bound of a parameter drawn from [-bound, bound]; None for constants.

    These are torch's own defaults, which the paper's code keeps. A bound of 0 means zeros.
    """
    if re.fullmatch(r".*(in_proj_|out_proj\.)bias|visual\.layer\d\.\d+\.bn3\.weight", name):
        return 0.0
    if name.endswith("in_proj_weight"):
        return math.sqrt(6 / sum(shapes[name]))
    weight = shapes.get(re.sub(r"bias$", "weight", name), ())
    if len(weight) < 2:  # norms and the temperature
        return None
    return math.prod(weight[1:]) ** -0.5  # one over the square root of a unit's inputs
