"""What the baselines share: data, training with the best epoch kept, and one test at the end."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import jittor as jt
import numpy as np

from baselines.batches import AugmentedBatches, Transform
from baselines.datasets.image_sets import ImageSet, Norm, image_set_digest
from baselines.datasets.registry import DATASETS, DatasetName, load_dataset
from baselines.datasets.splits import read_or_draw_split, subsample
from baselines.optim import ModelEma
from baselines.results import write_result
from baselines.transforms.compose import eval_transform
from data.decoding import map_in_order
from engine import checkpoint
from engine.config import require_ranges
from engine.device import Device, Kernels, Precision, precision_in_use, set_random_state, use_device
from engine.losses import class_cross_entropy, soft_cross_entropy
from engine.micro_batches import Batches, MicroBatches
from engine.plain_data import to_plain
from engine.predictor import predict
from engine.run_log import Run
from engine.schedules import Schedule, warmup_cosine
from engine.trainer import evaluation_mode, fit
from fewshot.evaluation.metrics import accuracy
from kernels import convolution
from models.backbones.networks import Network, build_network, supported_options
from runtime.distributed import all_gather, barrier, is_main_process, local_range
from weight_files import safe_load
from weight_files.hashing import sha256_of

EVAL_ROWS = {"cpu": 64, "cuda": 256}  # images per evaluation call: one compiled shape
FIELDS_WITHOUT_EFFECT = ("root", "out", "workers", "resume")  # they change no result
BEST = "best.pkl"  # weights of the best epoch, in the folder of a run

NetworkType = TypeVar("NetworkType", bound=jt.nn.Module)
Step = Callable[[Any], dict[str, jt.Var]]


@dataclass(frozen=True)
class BaselineConfig:
    """The fields of every baseline."""

    dataset: DatasetName = "cifar10"
    """name of the data set"""
    root: Path | None = None
    """archive or folder of the data set; by default the folder of its name in Dataset/"""
    out: Path = Path("runs/baseline")
    """folder for the split, metrics, weights and results"""
    data_scale: float = 1.0
    """share of the training images to use, drawn within each class"""
    val_share: float = 0.2
    """share of the training images for validation, which chooses the best epoch"""
    epochs: int = 30
    """passes over the training images"""
    batch_size: int = 128
    """images per step"""
    lr: float = 1e-3
    """peak learning rate of AdamW"""
    weight_decay: float = 1e-4
    """weight decay of the optimizer"""
    ema: float = 0.0
    """decay of the moving average of the weights, which is then validated and tested; 0 for none"""
    seed: int = 1
    """seed of the split, the initial weights and every draw"""
    workers: int = 1
    """threads that decode and augment images, 0 for none; changes no result"""
    device: Device = "auto"
    """device to compute on; auto uses CUDA if it works"""
    grad_accum: int = 1
    """micro-batches per batch, whose gradients are averaged; several processes share them"""
    precision: Precision = "fp32"
    """precision of convolutions and frozen layers on a CPU: fp32, bf16 (AMX, AVX-512-bf16), auto"""
    kernels: Kernels = "native"
    """operators that compute: native, the kit's own, or jittor, Jittor's own in fp32"""
    resume: Literal["auto", "never"] = "auto"
    """auto continues from the checkpoint of a stopped run; never starts from the beginning"""

    def __post_init__(self):
        require_ranges({"epochs": self.epochs, "seed": self.seed, "workers": self.workers}, least=0)
        require_ranges({"batch_size": self.batch_size}, least=1)
        MicroBatches(self.grad_accum)
        if not 0 < self.data_scale <= 1 or not 0 < self.val_share < 1:
            shares = f"data_scale is {self.data_scale}, val_share is {self.val_share}"
            raise ValueError(f"{shares}; shares lie between 0 and 1")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; it must be at least 0 (none) and below 1")

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """Locks of the folders in which only one run at a time may write."""
        return (self.out / ".lock",)


ConfigType = TypeVar("ConfigType", bound=BaselineConfig)


class Baseline(Generic[ConfigType]):
    """One run of a recipe: reads the training images once, and the test images once at its end."""

    def __init__(
        self, config: ConfigType, image_size: int, norm: Norm | None = None, **options: Any
    ):
        """image_size: pixels per side of the network's input. norm: by default the data set's own.
        options: of `load_dataset`.
        """
        self.config, self.image_size, self.options = config, image_size, options
        self.root = config.root or Path("Dataset") / config.dataset
        self.device = use_device(config.device, config.precision, config.kernels)
        self.norm = norm or DATASETS[config.dataset].norm
        self.eval_transform = eval_transform(image_size, self.norm)
        # what was read, for an audit; digests of the parts follow
        self.sources: dict[str, Any] = {"dataset": config.dataset, "root": self.root.as_posix()}
        self.sources |= {"options": options, "parts": {}}

    def _load(self, part: str) -> ImageSet:
        images = load_dataset(self.config.dataset, self.root, part, **self.options)
        self.sources["parts"][part] = image_set_digest(images)
        return images

    def training_sets(self) -> tuple[ImageSet, ImageSet]:
        """Returns (train, val) by the split in `out`, which is drawn if it is missing."""
        config, images = self.config, self._load("train")
        shares = (1 - config.val_share, config.val_share)
        rows = read_or_draw_split(config.out / "split.jsonl", images, shares, config.seed)
        train = subsample(images.take(rows["train"]), config.data_scale, config.seed)
        return train, images.take(rows["val"])

    def test_set(self) -> ImageSet:
        """Returns the test images, by which nothing is chosen."""
        return self._load("test")

    def build(self, make: Callable[[], NetworkType]) -> NetworkType:
        """Returns make() with initial weights by this run's seed and convolutions on oneDNN."""
        set_random_state(self.config.seed)
        network = make()
        if precision_in_use() != "plain":
            convolution.use_fast_convolutions(network, precision_in_use())
        return network

    def build_network(self, name: str, classes: int, **options: Any) -> Network:
        """Returns a new network for this run's images. options: it takes those that it knows."""
        options = supported_options(name, **options) | {"image_size": self.image_size}
        return self.build(lambda: build_network(name, classes, **options))

    @cached_property
    def settings(self) -> dict:
        """What results depend on: fields, and the SHA-256 of the files that they name."""
        values = {n: v for n, v in vars(self.config).items() if n not in FIELDS_WITHOUT_EFFECT}
        names = [n for n, v in values.items() if isinstance(v, str | Path) and Path(v).is_file()]
        fields = {n: v for n, v in to_plain(self.config).items() if n in values}
        return fields | {"files_sha256": {name: sha256_of(values[name]) for name in names}}

    def open_run(self, phase: str, ignored: Collection[str] = ()) -> Run:
        """Opens the folder of a phase in `out`. ignored: fields that this phase does not read."""
        settings = {name: value for name, value in self.settings.items() if name not in ignored}
        run = Run(self.config.out / phase, settings | {"phase": phase}, phase)
        if self.config.resume == "never" and is_main_process():
            for path in (run.checkpoint, run.folder / BEST, run.folder / "result.json"):
                path.unlink(missing_ok=True)
        barrier()
        return run

    def batches(self, images: ImageSet, *transforms: Transform) -> AugmentedBatches:
        """Returns training batches of this run's size, seed, threads and micro-batches."""
        config, micro_batches = self.config, MicroBatches(self.config.grad_accum)
        sizes = images, config.batch_size, transforms, config.seed
        return AugmentedBatches(*sizes, workers=config.workers, micro_batches=micro_batches)

    def predict(self, forward: Callable[[jt.Var], jt.Var], images: ImageSet) -> np.ndarray:
        """Returns the rows [N,...] of forward for the centre view of each image, in their order."""
        local_rows = local_range(len(images))
        rows = local_rows or range(1)  # a rank without images learns the shape of a row
        views = map_in_order(
            lambda row: self.eval_transform(images.image(row)), rows, self.config.workers
        )
        outputs = predict(forward, views, batch=EVAL_ROWS[self.device])
        return all_gather(outputs[: len(local_rows)], len(images), local_rows.start)

    def fit(
        self,
        run: Run,
        module: jt.nn.Module,
        optimizer: jt.optim.Optimizer,
        batches: Batches,
        step: Step,
        schedule: Schedule,
        val_logits: Callable[[], np.ndarray],
        val_labels: np.ndarray,
        ema: ModelEma | None = None,
    ) -> None:
        """Trains, and leaves the weights of the epoch with the best validation in `module`.

        val_logits() gives logits[N,C] of the validation images, val_labels[N] are their labels.
        ema: holds `module` and its average; the average is then validated and left in `module`.
        """
        best = BestWeights(ema.average if ema else module, run, val_logits, val_labels)
        fit(
            step,
            optimizer,
            batches,
            module=ema or module,
            epochs=self.config.epochs,
            schedule=schedule,
            run=run,
            seed=self.config.seed,
            after_epoch=best,
            **({"after_step": ema.update} if ema else {}),
        )
        best.restore()
        if ema:
            ema.copy_to_network()

    def fit_classifier(
        self,
        run: Run,
        module: jt.nn.Module,
        batches: Batches,
        val: ImageSet,
        *,
        step: Step | None = None,
        parameters: list | None = None,
    ) -> None:
        """Trains a classifier of images with AdamW, a warm-up and a cosine schedule.

        step: by default `classification_step(module)`. parameters: all of `module` by default; a
        list of parameters, or of groups with a "share" of the learning rate.
        """
        config = self.config
        parameters = parameters or module.parameters()
        optimizer = jt.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)
        schedule = warmup_cosine(config.lr, config.epochs, len(batches))
        module.train()  # after a test, its weights take gradients again
        ema = ModelEma(module, config.ema) if config.ema else None
        val_logits = partial(self.predict, ema.average if ema else module, val)
        step = step or classification_step(module)
        self.fit(run, module, optimizer, batches, step, schedule, val_logits, val.labels, ema)

    def test(self, run: Run, forward: Callable[[jt.Var], jt.Var], **extra) -> dict:
        """Reads the test images, scores them and writes the result, which includes `extra`."""
        test = self.test_set()
        logits = self.predict(forward, test)
        return write_result(run, logits, test.labels, test.class_names, extra, self.sources)


def classification_step(module: Callable[[jt.Var], jt.Var]) -> Step:
    """Returns a training step for batches of (images[B,3,R,R], soft targets[B,C])."""

    def step(batch: Sequence) -> dict[str, jt.Var]:
        images, targets = map(jt.array, batch)
        logits = module(images)
        is_right = (logits.argmax(dim=1)[0] == targets.argmax(dim=1)[0]).float32()
        return {"loss": soft_cross_entropy(logits, targets), "accuracy": is_right.mean()}

    return step


class BestWeights:
    """Validates after each epoch, and writes the weights of the best epoch to `best.pkl`."""

    def __init__(
        self, module: jt.nn.Module, run: Run, logits: Callable[[], np.ndarray], labels: np.ndarray
    ):
        self.module, self.run, self.logits, self.labels = module, run, logits, labels
        self.path = run.folder / BEST

    def __call__(self, epoch: int) -> dict[str, float]:
        with evaluation_mode(self.module):
            logits = self.logits()
        loss = float(class_cross_entropy(jt.array(logits), self.labels).item())
        value = accuracy(logits.argmax(axis=1), self.labels)
        best = self._read()
        # A file of this epoch or a later one is left from before a stop, or from a longer run.
        if best is None or best["epoch"] >= epoch or value > best["accuracy"]:
            arrays = checkpoint.module_arrays(self.module)
            contents = {"config": self.run.config, "epoch": epoch, "accuracy": value}
            checkpoint.save(self.path, contents | {"module": arrays})
        return {"val loss": loss, "val accuracy": value}

    def _read(self) -> dict | None:
        best = safe_load(self.path) if self.path.exists() else None
        return best if best and best["config"] == self.run.config else None

    def restore(self) -> None:
        """Puts the weights of the best epoch into the module, if there was an epoch."""
        best = self._read()
        if best:
            checkpoint.restore_module(self.module, best["module"], self.path)
