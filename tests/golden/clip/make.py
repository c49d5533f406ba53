"""Writes the golden files of CLIP, by OpenAI's own code.

    PEER/bin/python -m tests.golden.clip.make --openai-clip FOLDER

They hold features, parameter names, tokens and pixels. PEER is an environment with torch,
torchvision, ftfy and regex. FOLDER is a checkout of https://github.com/openai/CLIP. Both sides draw
weights, images and photos from seeds (`benchmarks/seeded_inputs.py`), so the files hold outputs
only.
"""

import argparse
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from benchmarks import clip_peer, seeded_inputs
from tests.golden.clip import tiny_models

FOLDER = Path(__file__).resolve().parent
TEXTS = 300
RESOLUTION = 64
MODES = ("RGB", "L", "LA", "P", "RGBA", "CMYK", "I;16", "1")
SIDES = ((64, 64), (65, 64), (1, 9), (7, 10), (640, 10), (301, 224), (150, 333))


def main() -> None:
    """Writes the four files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--openai-clip", type=Path, required=True, help="checkout of openai/CLIP")
    clip = clip_peer.openai_package(parser.parse_args().openai_clip)
    features, shapes = run_tiny_models(clip)
    replace_file(FOLDER / "features.npz", lambda file: np.savez_compressed(file, **features))
    write_json("parameters.json", shapes)
    write_json("tokens.json", tokens(clip))
    write_json("pixels.json", pixels(clip))


def run_tiny_models(clip) -> tuple[dict[str, np.ndarray], dict[str, dict[str, list[int]]]]:
    """Returns the features of the tiny models, and the shapes of their parameters by name."""
    ids = clip.clip.tokenize(list(seeded_inputs.SENTENCES), truncate=True).numpy()
    features, shapes = {}, {}
    for kind, sizes in tiny_models.SIZES.items():
        model = clip_peer.openai_model(clip, sizes, tiny_models.SEED)
        images = seeded_inputs.seeded_images(
            tiny_models.IMAGES, sizes["image_resolution"], tiny_models.SEED
        )
        features[f"{kind}_image"], features[f"{kind}_text"] = clip_peer.features(model, images, ids)
        shapes[kind] = {
            name: list(value.shape)
            for name, value in model.state_dict().items()
            if not name.endswith("num_batches_tracked")
        }
    return features, shapes


def tokens(clip) -> list[dict]:
    """Returns strings and their token ids, cut to 77, without the zeros after the end."""
    texts = seeded_inputs.varied_texts(TEXTS, tiny_models.SEED)
    rows = clip.clip.tokenize(texts, truncate=True).numpy()
    return [
        {"text": text, "ids": np.trim_zeros(row, "b").tolist()}
        for text, row in zip(texts, rows, strict=True)
    ]


def pixels(clip) -> list[dict]:
    """Returns the SHA-256 of preprocessed float32 photos [3,R,R] of odd sizes and modes."""
    transform = clip.clip._transform(RESOLUTION)
    specifications = [(mode, *sides, tiny_models.SEED) for mode in MODES for sides in SIDES]
    return [
        {
            "photo": specification,
            "resolution": RESOLUTION,
            "sha256": hashlib.sha256(
                transform(seeded_inputs.photo(*specification)).numpy().tobytes()
            ).hexdigest(),
        }
        for specification in specifications
    ]


def write_json(name: str, content: list | dict) -> None:
    """Writes a JSON file with one record per line."""
    text = json.dumps(content, ensure_ascii=True).replace("}, ", "},\n") + "\n"
    replace_file(FOLDER / name, lambda file: file.write(text.encode()))


def replace_file(path: Path, write) -> None:
    """Writes to a temporary name in the same folder, then renames."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with open(temporary, "wb") as file:
        write(file)
    os.replace(temporary, path)
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
