"""Weights, strings and photos drawn from seeds, for the parity check and the golden files.

Both sides draw the same ones. Every value follows from a name, a shape and a seed, so nothing is
stored. It needs NumPy and Pillow only, so that the peers' environment can import it.
"""

import random
import unicodedata
import zlib

import numpy as np
from PIL import Image

VIT_B32 = {  # arguments of OpenAI's CLIP and of jclip.ClipConfig
    "embed_dim": 512,
    "image_resolution": 224,
    "vision_layers": 12,
    "vision_width": 768,
    "vision_patch_size": 32,
    "context_length": 77,
    "vocab_size": 49408,
    "transformer_width": 512,
    "transformer_heads": 8,
    "transformer_layers": 12,
}
SENTENCES = (
    "a photo of a cat",
    "a centered satellite photo of an annual crop land.",
    "itap of the Audi S5 Convertible 2012, a type of car; it stands before a garage",
    "x",
    "",
    "a long sentence " * 12,
)

WORDS = (
    "a photo of the cat's dog're I'll don't they've 's 't CAR, wheel. (sic) 1999 x1234 naïve café "
    "Straße İstanbul ΣΑΣ ﬁne “quoted” â€œmojibakeâ€ co\u00adop \u200d 12½ ②Ⅷ ١٢ 猫の写真 "
    "고양이 คน नमस्ते שלום مرحبا 👩‍👩‍👧 🇫🇷 #hash @user snake_case ... -- <b> <|endoftext|> "
    "<|startoftext|>"
).split(" ")
ENTITIES = (
    "&amp; &lt; &eacute; &amp;amp;eacute; &#233; &#x1F600; &nbsp; &copy &quot; &#39; &#128; "
    "&hellip;"
).split(" ")
BLOCKS = (  # first and last code points to draw characters from
    (0x20, 0x7E),
    (0xA0, 0x24F),
    (0x250, 0x344),
    (0x346, 0x5FF),
    (0x600, 0x97F),
    (0x980, 0x1FFF),
    (0x2000, 0x2BFF),
    (0x3000, 0x9FFF),
    (0xA000, 0xD7FF),
    (0xF900, 0xFFFD),
    (0x1F300, 0x1FAFF),
    (0x20000, 0x2A6DF),
)


def seeded_weight(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Returns one parameter of a CLIP under OpenAI's name, float32.

    It is not plain noise but resembles trained weights: attention is sharp, norms differ between
    channels, and a few channels of the residual stream are twenty times larger than the rest.
    """
    draw = np.random.default_rng([seed, zlib.crc32(name.encode())])
    x = draw.standard_normal(shape, dtype=np.float32)
    kind = name.rsplit(".", 1)[-1]
    if name == "logit_scale":
        return np.full(shape, np.log(100), np.float32)
    if kind == "running_var" or (kind == "weight" and len(shape) == 1):
        size = (
            0.3 if "bn3" in name or "downsample.1" in name else 1.0
        )  # keeps a ResNet's sum in range
        return np.float32(size) * np.exp(np.float32(0.3) * x)
    if name in ("visual.ln_pre.bias", "positional_embedding"):
        return np.where(draw.random(shape[-1]) < 0.01, 4, 0.2).astype(np.float32) * x
    if len(shape) == 1 or "embedding" in name:
        return np.float32(0.2) * x
    inputs = shape[0] if kind in ("proj", "text_projection") else int(np.prod(shape[1:]))
    gain = {"in_proj_weight": 1.5}.get(kind, 1.4 if len(shape) == 4 else 1.0)
    return x * np.float32(gain * inputs**-0.5)


def seeded_images(count: int, resolution: int, seed: int) -> np.ndarray:
    """Returns arrays [count,3,R,R] float32 like preprocessed photos: tinted waves with noise."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:resolution, 0:resolution] / resolution
    waves = draw.uniform(-8, 8, (count, 3, 2, 1, 1))
    smooth = np.sin(2 * np.pi * (waves[:, :, 0] * rows + waves[:, :, 1] * columns))
    smooth += draw.normal(0, 1, (count, 3, 1, 1))
    noise = 0.3 * draw.standard_normal((count, 3, resolution, resolution))
    return (smooth + noise).astype(np.float32)


def varied_texts(count: int, seed: int) -> list[str]:
    """Returns strings of words, entities and characters of many scripts, of all lengths."""
    draw = random.Random(seed)
    return [_varied_text(draw) for _ in range(count)]


def _varied_text(draw: random.Random) -> str:
    parts = []
    for _ in range(draw.randint(0, draw.choice((3, 12, 60)))):
        choice = draw.random()
        if choice < 0.5:
            parts.append(draw.choice(WORDS))
        elif choice < 0.65:
            parts.append(draw.choice(ENTITIES))
        else:
            block = draw.choice(BLOCKS)
            characters = (chr(draw.randint(*block)) for _ in range(draw.randint(1, 6)))
            parts.append("".join(c for c in characters if unicodedata.category(c) != "Cn"))
    return draw.choice((" ", "", "  ", "\n")).join(parts)


def photo(mode: str, width: int, height: int, seed: int) -> Image.Image:
    """Draws a photo-like image of a Pillow mode: shades, edges and noise."""
    draw = np.random.default_rng([seed, width, height])
    rows, columns = np.mgrid[0:height, 0:width]
    layers = []
    for _ in range(4):
        a, b, c = draw.uniform(0.2, 3, 3)
        shade = np.sin(a * rows / 9 + c) + np.cos(b * columns / 13)
        edge = (rows * a + columns * b) % 29 < 5
        layers.append(110 + 50 * shade + 40 * edge + draw.normal(0, 9, (height, width)))
    pixels = np.clip(np.stack(layers, axis=-1), 0, 255).astype(np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode in ("I", "F"):
        return Image.fromarray(pixels[..., 0].astype({"I": np.int32, "F": np.float32}[mode]))
    if mode == "1":
        return Image.fromarray(pixels[..., 0]).point(lambda value: 255 * (value > 128), "1")
    if mode in ("CMYK", "RGBA"):
        return Image.frombytes(mode, (width, height), pixels.tobytes())
    if mode == "LA":
        return Image.frombytes(mode, (width, height), pixels[..., :2].tobytes())
    rgb = Image.frombytes("RGB", (width, height), pixels[..., :3].tobytes())
    if mode == "P":
        image = rgb.quantize(64)
        image.info["transparency"] = 3
        return image
    return rgb.convert(mode)
