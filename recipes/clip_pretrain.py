"""Pre-trains a small CLIP from images with captions, from random weights.

    python train.py clip_pretrain --captions my/captions.tsv --out my_clip.pkl

The list has lines of image path (relative to the list), tab, caption; or JSON lines of "image" and
"caption". The weights have OpenAI's parameter names, so `jclip.load` reads them.
Cost and result: 12 epochs over 10,000 images of CIFAR-10 take 8 minutes on two cores; zero-shot
then gives 50.30 % (`docs/experiments/baselines.md` has the command).
Source: CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020), figure 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jittor as jt
import numpy as np

import jclip
from data.decoding import BrokenImage, load_images
from data.lists import read_captions
from data.views import Crops, make_views
from engine import checkpoint
from engine.config import require_ranges
from engine.device import Device, use_device
from engine.losses import contrastive_loss
from engine.micro_batches import WHOLE_BATCH
from engine.plain_data import to_plain
from engine.run_log import Run
from engine.schedules import warmup_cosine
from engine.trainer import fit
from jclip.config import ClipConfig, count_heads
from jclip.preprocess import make_preprocess, to_array


@dataclass(frozen=True)
class Config:
    """Contrastive pre-training of a small CLIP."""

    captions: Path = Path("Dataset/captions.jsonl")
    """list of images and captions; image paths are relative to it"""
    out: Path = Path("clip.pkl")
    """weight file to write"""
    run: Path = Path("runs/clip_pretrain")
    """folder for the configuration, metrics and checkpoint"""
    image_size: int = 16
    """pixels per side of the image tower's input"""
    patch_size: int = 4
    """pixels per side of a patch"""
    width: int = 128
    """width of both towers and of the embeddings"""
    layers: int = 2
    """blocks of each tower"""
    epochs: int = 20
    """passes over the list"""
    batch_size: int = 64
    """pairs per step; pairs that do not fill a batch wait for the next epoch"""
    lr: float = 1e-3
    """peak learning rate of AdamW; it rises in the first epoch, then falls to 0 by a cosine"""
    views: int = 1
    """views of each image in memory, of which each epoch takes one: the centre view or a crop"""
    crops: Crops = field(default_factory=Crops)
    seed: int = 0
    """seed of the initial weights, of the crops and of the order of the pairs"""
    workers: int = 0
    """threads that decode images, 0 for none"""
    device: Device = "auto"
    """device to compute on; auto uses CUDA if it works"""

    def __post_init__(self):
        require_ranges({"views": self.views, "epochs": self.epochs}, least=1)

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """Locks of the folders in which only one run at a time may write."""
        return (self.run / ".lock",)


class CaptionBatches:
    """Batches of (images[B,3,R,R], tokens[B,L], same[B,B]), shuffled by (seed, epoch).

    same: 1 for two equal captions, else 0.
    """

    def __init__(self, images: np.ndarray, captions: list[str], config: Config):
        """images[N,P,3,R,R]: P views of each image. Raises ValueError for fewer than one batch."""
        self.images, self.config = images, config
        self.size, self.micro_batches = config.batch_size, WHOLE_BATCH
        self.tokens = jclip.tokenize(captions)
        _, self.caption_ids = np.unique(captions, return_inverse=True)
        if (count := len(captions)) < config.batch_size:
            raise ValueError(f"{config.captions}: {count} pairs do not fill one --batch_size")

    def __len__(self) -> int:
        return len(self.images) // self.config.batch_size

    def epoch(self, index: int):
        rng = np.random.default_rng((self.config.seed, index))
        order = rng.permutation(len(self.images))
        views = rng.integers(self.images.shape[1], size=len(self.images))
        for rows in order[: len(self) * self.config.batch_size].reshape(len(self), -1):
            ids = self.caption_ids[rows]
            same = (ids[:, None] == ids).astype(np.float32)  # [B,B]
            yield self.images[rows, views[rows]], self.tokens[rows], same


def read_images(files: Sequence[Path], config: Config) -> np.ndarray:
    """Returns all images[N,P,3,R,R] as float32; raises ValueError that names a broken image."""
    images, side = [], config.image_size
    cut = make_views(make_preprocess(side), to_array, side, config.crops, config.seed, config.views)
    for _, image in load_images(files, cut, workers=config.workers):
        if isinstance(image, BrokenImage):
            raise ValueError(f"{image}; repair it, or remove its line from {config.captions}")
        images.append(image)
    return np.stack(images)


def build(config: Config) -> jclip.CLIP:
    """Returns a CLIP of the configured size with initial weights by the seed."""
    jt.set_global_seed(config.seed)
    clip_config = ClipConfig(
        embed_dim=config.width,
        image_resolution=config.image_size,
        vision_layers=config.layers,
        vision_width=config.width,
        vision_patch_size=config.patch_size,
        context_length=77,
        vocab_size=49408,
        transformer_width=config.width,
        transformer_heads=count_heads(config.width),
        transformer_layers=config.layers,
    )
    return jclip.CLIP(clip_config)


def run(config: Config) -> None:
    """Trains the CLIP and writes its weights."""
    use_device(config.device)
    files, captions = zip(*read_captions(config.captions), strict=True)
    batches = CaptionBatches(read_images(files, config), list(captions), config)
    model = build(config)
    optimizer = jt.optim.AdamW(list(model.parameters()), config.lr, weight_decay=0.01)

    def step(batch) -> dict[str, jt.Var]:
        images, tokens, same = batch
        logits, _ = model(jt.array(images), tokens)  # [B,B]
        return {"loss": contrastive_loss(logits, jt.array(same))}

    schedule = warmup_cosine(config.lr, config.epochs, len(batches))
    fit(
        step,
        optimizer,
        batches,
        module=model,
        epochs=config.epochs,
        schedule=schedule,
        run=Run(config.run, to_plain(config)),
        seed=config.seed,
    )
    checkpoint.save(config.out, checkpoint.module_arrays(model))
    print(f"clip_pretrain: wrote {config.out} from {len(files)} pairs")
