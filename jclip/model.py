"""CLIP in Jittor: an image tower and a text tower whose features share one space.

Parameters carry OpenAI's names, so weights map one to one.
Source: Radford et al. 2021, https://arxiv.org/abs/2103.00020.
Shapes: B images, S sentences, L tokens, D width, E embedding, R pixels a side of an image,
G patches a side of it, P pixels a side of a patch.
"""

import jittor as jt
import numpy as np
from jittor import nn

from jclip.initial import initialise
from jclip.resnet import ModifiedResNet
from jclip.sizes import ClipSizes
from jclip.transformer import ACTIVATIONS, LayerNorm, Transformer, patch_rows
from kernels.linear import PackedWeights, linear, project

LENGTH_STEP = 8  # text is cut to a multiple of this: few lengths occur, so little is compiled


class VisionTransformer(jt.Module):
    """Images [B, 3, R, R] -> features [B, E]."""

    def __init__(self, sizes: ClipSizes, activation: str):
        width, patch = sizes.vision_width, sizes.vision_patch_size
        layers, heads = sizes.vision_layers, sizes.vision_heads
        assert isinstance(layers, int) and patch is not None  # the sizes are those of a ViT
        self.patch_size = patch
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.packed_conv1, self.packed_proj = PackedWeights(), PackedWeights()
        self.class_embedding = jt.zeros((width,))
        tokens = (sizes.image_resolution // patch) ** 2 + 1
        self.positional_embedding = jt.zeros((tokens, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, activation, causal=False)
        self.ln_post = LayerNorm(width)
        self.proj = jt.zeros((width, sizes.embed_dim))

    def embed_patches(self, images: jt.Var) -> jt.Var:
        """The convolution conv1 as one matrix product: [B, 3, R, R] -> [B, G*G, D]."""
        x = patch_rows(images, self.patch_size)  # [B, G*G, 3*P*P]
        return linear(self.packed_conv1, x, self.conv1.weight)

    def execute(self, images: jt.Var) -> jt.Var:
        x = self.embed_patches(images)
        first = self.class_embedding.broadcast((x.shape[0], 1, x.shape[2]))
        x = jt.concat([first, x], dim=1) + self.positional_embedding  # [B, G*G+1, D]
        x = self.transformer(self.ln_pre(x), np.zeros(x.shape[0]))  # [B, D]
        return project(self.packed_proj, self.ln_post(x), self.proj)


class CLIP(jt.Module):
    """The two towers and the learned temperature, freshly initialised as the paper's code does.

    `activation` is "quick_gelu" (OpenAI's weights) or "gelu". With `initialised=False` the random
    parameters hold arbitrary values, for a caller that sets every one of them.

    On the CPU, where the weights do not learn and the widths are multiples of 16, the bits of a
    feature depend on its own row alone: on no other row, on its place, or on their number.
    """

    def __init__(self, sizes: ClipSizes, activation: str = "quick_gelu", initialised: bool = True):
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is none of {', '.join(ACTIVATIONS)}")
        self.sizes, self.activation = sizes, activation
        if sizes.is_vit:
            self.visual = VisionTransformer(sizes, activation)
        else:
            self.visual = ModifiedResNet(
                sizes.vision_layers,
                sizes.vision_width,
                sizes.vision_heads,
                sizes.image_resolution,
                sizes.embed_dim,
            )
        width, layers = sizes.transformer_width, sizes.transformer_layers
        heads = sizes.transformer_heads
        self.transformer = Transformer(width, layers, heads, activation, causal=True)
        self.token_embedding = nn.Embedding(sizes.vocab_size, width)
        self.positional_embedding = jt.zeros((sizes.context_length, width))
        self.ln_final = LayerNorm(width)
        self.text_projection = jt.zeros((width, sizes.embed_dim))
        self.packed = PackedWeights()
        self.logit_scale = jt.array(np.log(1 / 0.07).astype(np.float32))
        if initialised:
            initialise(self)

    def encode_image(self, images: jt.Var | np.ndarray) -> jt.Var:
        """Preprocessed images [B, 3, R, R], float32 -> features [B, E], not normalised.

        Raises ValueError where the images have another shape.
        """
        images = jt.array(images)
        side = self.sizes.image_resolution
        if len(images.shape) != 4 or tuple(images.shape[1:]) != (3, side, side):
            raise ValueError(
                f"images have shape {tuple(images.shape)}, this model takes [B, 3, {side}, {side}]"
            )
        return self.visual(images)

    def encode_text(self, tokens: np.ndarray | jt.Var) -> jt.Var:
        """Token ids [S, L] as `jclip.tokenize` gives them -> features [S, E], not normalised.

        The text is cut after its last end token, rounded up to a multiple of 8. Attention is
        causal, so nothing that is cut could have changed a feature. Raises ValueError where an id
        is outside the vocabulary or L is longer than the model's.
        """
        tokens = np.asarray(tokens.numpy() if isinstance(tokens, jt.Var) else tokens)
        self._check_tokens(tokens)
        ends = tokens.argmax(axis=1)  # the end token has the largest id
        length = -(-(int(ends.max()) + 1) // LENGTH_STEP) * LENGTH_STEP
        return self.encode_embedded(self.embed_tokens(tokens[:, :length]), ends)

    def embed_tokens(self, tokens: np.ndarray) -> jt.Var:
        """Token ids [S, L] -> token embeddings [S, L, D], without positions."""
        return self.token_embedding(jt.array(np.ascontiguousarray(tokens, dtype=np.int32)))

    def encode_embedded(self, embedded: jt.Var, ends: np.ndarray) -> jt.Var:
        """Token embeddings [S, L, D] and places of the end tokens [S] -> features [S, E]."""
        positions = self.positional_embedding[: embedded.shape[1]]
        x = self.transformer(embedded + positions, ends)  # [S, D]
        return project(self.packed, self.ln_final(x), self.text_projection)

    def execute(self, images: jt.Var, tokens: np.ndarray | jt.Var) -> tuple[jt.Var, jt.Var]:
        """Images [B, 3, R, R] and token ids [S, L] -> scaled cosines [B, S] and [S, B]."""
        image_features = jt.normalize(self.encode_image(images), dim=1)
        text_features = jt.normalize(self.encode_text(tokens), dim=1)
        scale = self.logit_scale.exp()
        logits_per_image = scale * nn.matmul_transpose(image_features, text_features)
        return logits_per_image, logits_per_image.transpose()

    def _check_tokens(self, tokens: np.ndarray) -> None:
        longest, vocabulary = self.sizes.context_length, self.sizes.vocab_size
        if tokens.ndim != 2 or tokens.dtype.kind not in "iu" or not 0 < tokens.shape[1] <= longest:
            raise ValueError(
                f"tokens are {tokens.dtype} of shape {tokens.shape}, "
                f"this model takes integers [S, L] with L at most {longest}"
            )
        if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocabulary:
            raise ValueError(
                f"token ids reach from {tokens.min()} to {tokens.max()}, "
                f"this model knows 0 to {vocabulary - 1}"
            )
