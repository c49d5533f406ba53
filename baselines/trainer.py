"""What the baselines share: data, targets, the best epoch, and one look at the test images."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import jittor as jt
import numpy as np

from baselines.batches import AugmentedBatches, Transform
from baselines.datasets.image_sets import ImageSet, Norm, image_set_digest
from baselines.datasets.registry import DATASETS, DatasetName, load_dataset
from baselines.datasets.splits import read_or_draw_split, subsample
from baselines.ema import Averaged
from baselines.results import write_result
from baselines.transforms.compose import eval_transform
from data.decoding import in_order
from engine import checkpoint
from engine.config import as_plain, require_ranges
from engine.device import Device, Precision, precision_in_use, use_device
from engine.losses import class_cross_entropy
from engine.micro_batches import Batches, MicroBatches
from engine.run_log import Run
from engine.schedules import Rates, warm_cosine
from engine.seeding import set_random_state
from engine.trainer import evaluating, fit, predict
from fewshot.evaluation.metrics import accuracy
from kernels import convolution
from runtime.distributed import all_gather, barrier, is_main_process, local_range
from weight_files import safe_load
from weight_files.hashing import sha256_of

ROWS = {"cpu": 64, "cuda": 256}  # of an evaluating call: one compiled shape
PLACES = ("root", "out", "workers", "resume")  # fields that change no result


NetworkType = TypeVar("NetworkType", bound=jt.nn.Module)


@dataclass(frozen=True)
class BaselineConfig:
    """What every baseline has."""

    dataset: DatasetName = "cifar10"
    """the data set"""
    root: Path | None = None
    """where its archive or folders lie, by default in Dataset/ under the data set's name"""
    out: Path = Path("runs/baseline")
    """folder for the split, metrics, weights and results"""
    data_scale: float = 1.0
    """share of the training images, drawn within each class"""
    val_share: float = 0.2
    """share of the training images that chooses the best epoch"""
    epochs: int = 30
    """passes over the training images"""
    batch_size: int = 128
    """images a step"""
    lr: float = 0.1
    """peak learning rate"""
    weight_decay: float = 5e-4
    """decay of the weights"""
    ema: float = 0.0
    """decay of the running average of a classifier's weights, which is then validated and tested"""
    seed: int = 1
    """seed of the split, the initial weights and every draw"""
    workers: int = 1
    """threads that decode and augment, 0 for none; changes no result"""
    device: Device = "auto"
    """where Jittor computes; auto takes CUDA where it works"""
    pieces: int = 1
    """of a batch, whose gradients are averaged in order; several processes share them out"""
    precision: Precision = "fp32"
    """of convolutions and frozen layers on a CPU: fp32; bf16, with AMX or AVX-512-bf16; auto;
    plain, Jittor's own"""
    resume: Literal["auto", "never"] = "auto"
    """go on from a stopped run's checkpoint, or start anew"""

    def __post_init__(self):
        require_ranges({"epochs": self.epochs, "seed": self.seed, "workers": self.workers}, least=0)
        require_ranges({"batch_size": self.batch_size}, least=1)
        MicroBatches(self.pieces)
        if not 0 < self.data_scale <= 1 or not 0 < self.val_share < 1:
            raise ValueError(
                f"data_scale is {self.data_scale}, val_share {self.val_share}; "
                "shares lie between 0 and 1"
            )
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is {self.ema}; a decay lies within 0 (none) and 1, 1 excluded")

    @property
    def lock_files(self) -> tuple[Path, ...]:
        """Locks of the folders in which one run at a time may write."""
        return (self.out / ".lock",)


ConfigType = TypeVar("ConfigType", bound=BaselineConfig)


class Baseline(Generic[ConfigType]):
    """One recipe's run. Training images are read once, test images once, at its end."""

    def __init__(self, config: ConfigType, side: int, norm: Norm | None = None, **options: Any):
        """side: pixels that the network sees; norm: by default the data set's own;
        options: for `load_dataset`.
        """
        self.options = options
        self.config, self.side = config, side
        self.root = config.root or Path("Dataset") / config.dataset
        self.device = use_device(config.device, config.precision)
        self.norm = norm or DATASETS[config.dataset].norm
        self.plain = eval_transform(side, self.norm)
        self.sources: dict[str, Any] = {"dataset": config.dataset, "root": self.root.as_posix()}
        self.sources |= {"options": options, "parts": {}}  # digests of what was read, for an audit

    def training_sets(self) -> tuple[ImageSet, ImageSet]:
        """(train, val), by the split that is kept in `out`."""
        config = self.config
        whole = load_dataset(config.dataset, self.root, "train", **self.options)
        self.sources["parts"]["train"] = image_set_digest(whole)
        shares = (1 - config.val_share, config.val_share)
        rows = read_or_draw_split(config.out / "split.jsonl", whole, shares, config.seed)
        train = subsample(whole.take(rows["train"]), config.data_scale, config.seed)
        return train, whole.take(rows["val"])

    def test_set(self) -> ImageSet:
        """The test images: nothing is chosen by them."""
        test = load_dataset(self.config.dataset, self.root, "test", **self.options)
        self.sources["parts"]["test"] = image_set_digest(test)
        return test

    def build(self, make: Callable[[], NetworkType]) -> NetworkType:
        """A network with the initial weights of this run's seed, its convolutions on oneDNN."""
        set_random_state(self.config.seed)
        network = make()
        if precision_in_use() != "plain":
            convolution.use_fast_convolutions(network, precision_in_use())
        return network

    @cached_property
    def settings(self) -> dict:
        """What results depend on: the fields, and the hashes of the files that they name."""
        fields = {name: value for name, value in vars(self.config).items() if name not in PLACES}
        named = {name: value for name, value in fields.items() if isinstance(value, str | Path)}
        files = {name: sha256_of(value) for name, value in named.items() if Path(value).is_file()}
        settings = {name: value for name, value in as_plain(self.config).items() if name in fields}
        return settings | {"files_sha256": files}

    def run(self, phase: str, unread: Collection[str] = ()) -> Run:
        """A phase's folder in `out`. unread: fields that change nothing of it."""
        settings = {name: value for name, value in self.settings.items() if name not in unread}
        run = Run(self.config.out / phase, settings | {"phase": phase}, phase)
        if self.config.resume == "never" and is_main_process():
            for path in (run.checkpoint, run.folder / "best.pkl", run.folder / "result.json"):
                path.unlink(missing_ok=True)
        barrier()
        return run

    def batches(
        self, images: ImageSet, transform: Transform | Sequence[Transform], **options: Any
    ) -> AugmentedBatches:
        """Training batches of this run's size, seed and threads."""
        config = self.config
        usual: dict[str, Any] = {"workers": config.workers, "pieces": MicroBatches(config.pieces)}
        options = usual | options
        return AugmentedBatches(images, config.batch_size, transform, config.seed, **options)

    def outputs(self, forward: Callable[[jt.Var], jt.Var], images: ImageSet) -> np.ndarray:
        """forward's rows [N,...] for the plain view of each image, in the images' order."""
        own = local_range(len(images))
        some = own or range(1)  # a rank without images learns the shape of a row
        loaded = in_order(lambda row: self.plain(images.image(row)), some, self.config.workers)
        found = predict(forward, loaded, batch=ROWS[self.device])
        return all_gather(found[: len(own)], len(images), own.start)

    def fit(
        self,
        run: Run,
        module: jt.nn.Module,
        optimizer: jt.optim.Optimizer,
        batches: Batches,
        step: Callable[[Any], dict[str, jt.Var]],
        schedule: Rates,
        val: tuple[Callable[[], np.ndarray], np.ndarray],
        averaged: Averaged | None = None,
    ) -> None:
        """Trains, keeps the weights of the epoch that validates best, and leaves them in `module`.

        val: what gives the logits[N,C] of the validation images, and their labels[N]. averaged:
        module and its average, whose weights are then meant.
        """
        best = Best(averaged.average if averaged else module, run, *val)
        after = {"after_step": averaged.update} if averaged else {}
        fit(
            step,
            optimizer,
            batches,
            module=averaged or module,
            epochs=self.config.epochs,
            schedule=schedule,
            run=run,
            seed=self.config.seed,
            after_epoch=best,
            **after,
        )
        best.restore()
        if averaged:
            averaged.hand_over()

    def learn(
        self,
        run: Run,
        module: jt.nn.Module,
        parameters: list,
        batches: Batches,
        step: Callable[[Any], dict[str, jt.Var]],
        val: ImageSet,
    ) -> None:
        """`fit` of a classifier of images by AdamW. parameters: or groups of them."""
        config = self.config
        optimizer = jt.optim.AdamW(parameters, config.lr, weight_decay=config.weight_decay)
        schedule = warm_cosine(config.lr, config.epochs, len(batches))
        module.train()  # what learned before a test takes gradients again
        averaged = Averaged(module, config.ema) if config.ema else None
        watched = averaged.average if averaged else module
        logits = (lambda: self.outputs(watched, val), val.labels)
        self.fit(run, module, optimizer, batches, step, schedule, logits, averaged)

    def report(self, run: Run, forward: Callable[[jt.Var], jt.Var], **extra) -> dict:
        """Reads the test images, scores them and writes the run's result."""
        test = self.test_set()
        logits = self.outputs(forward, test)
        return write_result(run, logits, test.labels, test.class_names, extra, self.sources)


class Best:
    """Validates after each epoch and keeps the weights of the best one in `best.pkl`."""

    def __init__(
        self, module: jt.nn.Module, run: Run, logits: Callable[[], np.ndarray], labels: np.ndarray
    ):
        self.module, self.run, self.logits, self.labels = module, run, logits, labels
        self.path = run.folder / "best.pkl"

    def __call__(self, epoch: int) -> dict[str, float]:
        with evaluating(self.module):
            logits = self.logits()
        loss = float(class_cross_entropy(jt.array(logits), self.labels).item())
        value = accuracy(logits.argmax(axis=1), self.labels)
        kept = self._stored()
        # an epoch that is trained again after a stop finds its own mark, or a later one's of a
        # run that was longer: both give way
        if kept is None or kept["epoch"] >= epoch or value > kept["accuracy"]:
            arrays = checkpoint.module_arrays(self.module)
            contents = {"config": self.run.config, "epoch": epoch, "accuracy": value}
            checkpoint.save(self.path, contents | {"module": arrays})
        return {"val loss": loss, "val accuracy": value}

    def _stored(self) -> dict | None:
        kept = safe_load(self.path) if self.path.exists() else None
        return kept if kept and kept["config"] == self.run.config else None

    def restore(self) -> None:
        """Puts the best epoch's weights into the module; without any epoch it stays as it is."""
        kept = self._stored()
        if kept:
            checkpoint.restore_module(self.module, kept["module"], self.path)
