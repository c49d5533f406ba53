"""Writes one tiny CLIP in every format, by the libraries that own these formats.

Run this by hand, in an environment of its own without Jittor:

    pip install torch==2.13.0 'transformers<5' safetensors numpy
    python -m tests.golden.weights.make

All numbers are multiples of 1/64 below 2, exact in float16 and bfloat16 alike, so every format must
give the same float32 numbers bit for bit. `vit.npz` holds the expected arrays under OpenAI's names.
`views.npz` holds those of `views_*`, whose tensors do not fill their storage in order.
`resnet.json` holds the shape and the first 16 digits of the SHA-256 of each array of `resnet_*`.
"""

import hashlib
import json
import pickle
import warnings
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

FOLDER = Path(__file__).resolve().parent
WIDTH, VISION_LAYERS, TEXT_LAYERS, EMBED, VOCAB, CONTEXT = 8, 1, 2, 4, 12, 6
RESOLUTION, PATCH = 8, 4  # pixels
STAGES = (1, 2, 1, 1)  # blocks of the ResNet, whose width is 2


def numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns numbers that follow from the name alone."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    return np.asarray(random.integers(-127, 128, shape) / 64, dtype=np.float32)


def block_shapes(prefix: str, layers: int) -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of transformer blocks."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in range(layers):
        block = f"{prefix}transformer.resblocks.{layer}."
        shapes |= {f"{block}{ln}.{kind}": (WIDTH,) for ln in ("ln_1", "ln_2") for kind in AFFINE}
        shapes |= linear(f"{block}attn.in_proj_", 3 * WIDTH, WIDTH)
        shapes |= linear(f"{block}attn.out_proj.", WIDTH, WIDTH)
        shapes |= linear(f"{block}mlp.c_fc.", 4 * WIDTH, WIDTH)
        shapes |= linear(f"{block}mlp.c_proj.", WIDTH, 4 * WIDTH)
    return shapes


AFFINE = ("weight", "bias")


def linear(prefix: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of a linear layer."""
    return {f"{prefix}weight": (outputs, inputs), f"{prefix}bias": (outputs,)}


def text_shapes() -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of the text tower and the scale."""
    shapes = {
        "positional_embedding": (CONTEXT, WIDTH),
        "text_projection": (WIDTH, EMBED),
        "logit_scale": (),
        "token_embedding.weight": (VOCAB, WIDTH),
    }
    return (
        shapes | {f"ln_final.{kind}": (WIDTH,) for kind in AFFINE} | block_shapes("", TEXT_LAYERS)
    )


def vit_shapes() -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of a CLIP with a ViT."""
    shapes = {
        "visual.class_embedding": (WIDTH,),
        "visual.positional_embedding": ((RESOLUTION // PATCH) ** 2 + 1, WIDTH),
        "visual.proj": (WIDTH, EMBED),
        "visual.conv1.weight": (WIDTH, 3, PATCH, PATCH),
    }
    norms = {f"visual.{ln}.{kind}": (WIDTH,) for ln in ("ln_pre", "ln_post") for kind in AFFINE}
    return text_shapes() | shapes | norms | block_shapes("visual.", VISION_LAYERS)


def resnet_shapes() -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of a CLIP with a ModifiedResNet of width 2 for 32 x 32 images."""
    shapes: dict[str, tuple[int, ...]] = {}

    def convolution(number: int | str, prefix: str, outputs: int, inputs: int, kernel: int) -> None:
        conv, norm = (f"{prefix}conv{number}", f"{prefix}bn{number}")
        if number == "downsample":
            conv, norm = f"{prefix}downsample.0", f"{prefix}downsample.1"
        shapes[f"{conv}.weight"] = (outputs, inputs, kernel, kernel)
        for kind in (*AFFINE, "running_mean", "running_var"):
            shapes[f"{norm}.{kind}"] = (outputs,)

    for number, (outputs, inputs) in enumerate(((1, 3), (1, 1), (2, 1)), start=1):
        convolution(number, "visual.", outputs, inputs, 3)
    inputs = 2
    for stage, blocks in enumerate(STAGES, start=1):
        planes = 2 << (stage - 1)
        for block in range(blocks):
            prefix = f"visual.layer{stage}.{block}."
            convolution(1, prefix, planes, inputs, 1)
            convolution(2, prefix, planes, planes, 3)
            convolution(3, prefix, 4 * planes, planes, 1)
            if block == 0:
                convolution("downsample", prefix, 4 * planes, inputs, 1)
            inputs = 4 * planes
    shapes["visual.attnpool.positional_embedding"] = (2, inputs)
    for part, outputs in (("q", inputs), ("k", inputs), ("v", inputs), ("c", EMBED)):
        shapes |= linear(f"visual.attnpool.{part}_proj.", outputs, inputs)
    return text_shapes() | shapes


def script_module(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Returns nested modules whose state has these dotted names.

    OpenAI's three sizes are buffers of it.
    """

    class Node(torch.nn.Module):
        def forward(self) -> int:
            return 0

    root = Node()
    for name, value in state.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            if part not in dict(node.named_children()):
                node.add_module(part, Node())
            node = node.get_submodule(part)
        if last.startswith("running_"):
            node.register_buffer(last, value)
        else:
            node.register_parameter(last, torch.nn.Parameter(value))
    for name, size in (("input_resolution", RESOLUTION), ("vocab_size", VOCAB)):
        root.register_buffer(name, torch.tensor(size))
    root.context_length = CONTEXT
    return root


def hugging_face(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the state of Hugging Face's own `CLIPModel`, filled from OpenAI's names."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 1}
    text = {"num_hidden_layers": TEXT_LAYERS, "vocab_size": VOCAB}
    text |= {"max_position_embeddings": CONTEXT, "bos_token_id": 10, "eos_token_id": 11}
    vision = {"num_hidden_layers": VISION_LAYERS, "image_size": RESOLUTION, "patch_size": PATCH}
    config = CLIPConfig(
        text_config=tower | text, vision_config=tower | vision, projection_dim=EMBED
    )
    model = CLIPModel(config)
    filled = set()

    def put(parameter: torch.nn.Parameter, value: torch.Tensor) -> None:
        assert parameter.shape == value.shape
        parameter.data.copy_(value)
        filled.add(id(parameter))

    def put_affine(module: torch.nn.Module, name: str) -> None:
        put(module.weight, state[f"{name}.weight"])
        put(module.bias, state[f"{name}.bias"])

    def put_blocks(layers: torch.nn.ModuleList, prefix: str) -> None:
        for number, layer in enumerate(layers):
            block = f"{prefix}transformer.resblocks.{number}."
            for kind in AFFINE:
                parts = state[f"{block}attn.in_proj_{kind}"].chunk(3)
                for part, value in zip("qkv", parts, strict=True):
                    put(getattr(getattr(layer.self_attn, f"{part}_proj"), kind), value)
            put_affine(layer.self_attn.out_proj, f"{block}attn.out_proj")
            put_affine(layer.layer_norm1, f"{block}ln_1")
            put_affine(layer.layer_norm2, f"{block}ln_2")
            put_affine(layer.mlp.fc1, f"{block}mlp.c_fc")
            put_affine(layer.mlp.fc2, f"{block}mlp.c_proj")

    text, vision = model.text_model, model.vision_model
    put(text.embeddings.token_embedding.weight, state["token_embedding.weight"])
    put(text.embeddings.position_embedding.weight, state["positional_embedding"])
    put(vision.embeddings.class_embedding, state["visual.class_embedding"])
    put(vision.embeddings.patch_embedding.weight, state["visual.conv1.weight"])
    put(vision.embeddings.position_embedding.weight, state["visual.positional_embedding"])
    put(model.visual_projection.weight, state["visual.proj"].T)
    put(model.text_projection.weight, state["text_projection"].T)
    put(model.logit_scale, state["logit_scale"])
    put_affine(text.final_layer_norm, "ln_final")
    put_affine(vision.pre_layrnorm, "visual.ln_pre")
    put_affine(vision.post_layernorm, "visual.ln_post")
    put_blocks(text.encoder.layers, "")
    put_blocks(vision.encoder.layers, "visual.")
    assert filled == {id(parameter) for parameter in model.parameters()}
    return {name: value.contiguous() for name, value in model.state_dict().items()}


def views() -> dict[str, torch.Tensor]:
    """Returns tensors of all types that share a storage, skip in it, or leave its order."""
    base = torch.from_numpy(numbers("base", (6, 8)))
    cube = torch.from_numpy(numbers("cube", (2, 3, 4)))
    result = {
        "base": base,
        "row": base[2],
        "column": base[:, 3],
        "steps": base[1:5:2, ::3],
        "transposed": base.T,
        "permuted": cube.permute(2, 0, 1),
        "expanded": base[0, :3].expand(4, 3),
        "empty": base[:0],
        "single": base[5, 7],
        "channels_last": torch.from_numpy(numbers("image", (1, 3, 2, 2))).to(
            memory_format=torch.channels_last
        ),
        "parameter": torch.nn.Parameter(base[3:]),
    }
    floats = (torch.float16, torch.bfloat16, torch.float64)
    whole = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    for kind in (*floats, *whole, torch.bool):
        result[f"as_{kind}".replace("torch.", "")] = base[:2].abs().to(kind).T
        result[f"number_{kind}".replace("torch.", "")] = base[1, 1].abs().to(kind)
    return result


def save_all(name: str, item: object) -> None:
    """Writes the same object as a zip, as a file before torch 1.6 and as a plain pickle."""
    torch.save(item, FOLDER / f"{name}_zip.pt")
    torch.save(item, FOLDER / f"{name}_legacy.pth", _use_new_zipfile_serialization=False)
    with open(FOLDER / f"{name}_torch.pkl", "wb") as file:
        pickle.dump(item, file, protocol=4)


def main() -> None:
    """Writes all files and prints their sizes."""
    expected = {name: numbers(name, shape) for name, shape in vit_shapes().items()}
    state = OrderedDict((name, torch.from_numpy(value)) for name, value in expected.items())
    vars(state)["_metadata"] = OrderedDict({"": {"version": 1}})  # as every torch module's has
    np.savez_compressed(FOLDER / "vit.npz", **expected)
    save_all("vit", state)
    with open(FOLDER / "vit_numpy.pkl", "wb") as file:
        pickle.dump(expected, file, protocol=4)
    halves = {name: value.half() if value.ndim > 1 else value for name, value in state.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch advises against TorchScript
        torch.jit.save(torch.jit.script(script_module(halves)), FOLDER / "vit_script.pt")
    save_file(hugging_face(state), FOLDER / "vit_huggingface.safetensors")
    custom = {
        name if name.startswith(("visual.", "logit_scale")) else f"text.{name}": value.bfloat16()
        for name, value in state.items()
    }
    save_file(custom, FOLDER / "vit_openclip.safetensors")

    expected = {name: numbers(name, shape) for name, shape in resnet_shapes().items()}
    halves = {name: torch.from_numpy(value).half() for name, value in expected.items()}
    counters = {
        name.replace("running_var", "num_batches_tracked"): torch.tensor(7)
        for name in halves
        if name.endswith("running_var")
    }
    path = FOLDER / "resnet_legacy.pth"
    torch.save(halves | counters, path, _use_new_zipfile_serialization=False)
    digests = {
        name: [list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()[:16]]
        for name, value in expected.items()
    }
    (FOLDER / "resnet.json").write_text(json.dumps(digests, indent=0))

    tensors = views()
    save_all("views", tensors)
    arrays = {name: value.detach().float().contiguous().numpy() for name, value in tensors.items()}
    np.savez_compressed(FOLDER / "views.npz", **arrays)
    for path in sorted(FOLDER.glob("*.*")):
        print(f"{path.stat().st_size:8d}  {path.name}")


if __name__ == "__main__":
    main()
