"""The best epoch, resumed runs, and one test at the end."""

import jittor as jt
import numpy as np
import pytest
from jittor import nn

from baselines import trainer
from baselines.batches import SoftTargets
from baselines.datasets.image_sets import ImageSet
from baselines.datasets.registry import IMAGENET
from baselines.linear_eval import evaluate_encoder
from baselines.optim import ModelEma
from baselines.results import find_result
from baselines.trainer import Baseline, BaselineConfig, BestWeights, classification_step
from baselines.transforms.compose import cifar_transform
from engine import checkpoint
from engine.run_log import Run
from engine.schedules import warmup_cosine
from weight_files import safe_load

SIDE = 8


class Small(nn.Module):
    """A linear classifier with batch norm in front: running statistics are part of its state."""

    def __init__(self):
        self.norm = nn.BatchNorm(3)
        self.head = nn.Linear(3 * SIDE * SIDE, 3)

    def execute(self, images):
        return self.head(self.norm(images).reshape(images.shape[0], -1))


def colour_images(seed: int, count: int) -> ImageSet:
    """Images of three classes: mostly red, green or blue."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = rng.integers(0, 120, (count, SIDE, SIDE, 3))
    pixels[np.arange(count), :, :, labels] += 60
    keys = tuple(f"{seed}/{number}" for number in range(count))
    return ImageSet(pixels.astype(np.uint8), labels, ("red", "green", "blue"), keys)


@pytest.fixture
def make_baseline(tmp_path, monkeypatch):
    """Returns make(folder, **fields), a baseline on generated images.

    `make.opened` lists the parts that were read.
    """
    opened = []

    def load_colours(name, root, part):
        opened.append(part)
        return colour_images(0 if part == "train" else 1, 60)

    monkeypatch.setattr(trainer, "load_dataset", load_colours)

    def make(folder="a", **fields):
        fields = {"epochs": 3, "batch_size": 8, "lr": 0.05, "workers": 0} | fields
        return Baseline(BaselineConfig(out=tmp_path / folder, device="cpu", **fields), SIDE)

    make.opened = opened
    return make


def train_small(baseline: Baseline, epochs: int | None = None) -> tuple[Small, Run]:
    """Trains the small classifier; with `epochs`, stops after so many."""
    train, val = baseline.training_sets()
    module, run = baseline.build(Small), baseline.open_run("small")
    batches = SoftTargets(baseline.batches(train, cifar_transform(SIDE, IMAGENET)), 3)
    schedule = warmup_cosine(baseline.config.lr, baseline.config.epochs, len(batches))
    values = (lambda: baseline.predict(module, val), val.labels)
    optimizer = jt.optim.SGD(module.parameters(), baseline.config.lr, 0.9)
    if epochs:
        stop_after(epochs, module, optimizer, batches, schedule, run, values, baseline.config.seed)
    else:
        baseline.fit(
            run, module, optimizer, batches, classification_step(module), schedule, *values
        )
    return module, run


class Stopped(Exception):
    """Takes the place of a kill."""


def stop_after(epochs, module, optimizer, batches, schedule, run, values, seed):
    """Trains until the checkpoint after `epochs` and one more epoch's best weights are written."""
    best = BestWeights(module, run, *values)

    def after(epoch):
        metrics = best(epoch)
        if epoch > epochs:
            raise Stopped
        return metrics

    with pytest.raises(Stopped):
        trainer.fit(
            classification_step(module),
            optimizer,
            batches,
            module=module,
            epochs=3,
            schedule=schedule,
            run=run,
            seed=seed,
            after_epoch=after,
        )


def test_an_average_is_what_validates_and_goes_through_a_stop(make_baseline, monkeypatch):
    steps = []

    def fit_with_ema(folder, stop=0):
        baseline = make_baseline(folder, ema=0.9)
        train, val = baseline.training_sets()
        module, run = baseline.build(Small), baseline.open_run("small")
        batches = SoftTargets(baseline.batches(train, cifar_transform(SIDE, IMAGENET)), 3)
        steps[:] = [stop * len(batches)]
        baseline.fit_classifier(run, module, batches, val)
        return module, run

    def count_update(ema):
        if len(steps) == steps[0] > 0:
            raise Stopped
        steps.append(1)
        update(ema)

    update = ModelEma.update
    monkeypatch.setattr(ModelEma, "update", count_update)
    whole, run = fit_with_ema("whole")
    assert len(steps) == 1 + 3 * len(make_baseline("whole").training_sets()[0]) // 8
    best, last = safe_load(run.folder / "best.pkl"), safe_load(run.checkpoint)["module"]
    for name, array in checkpoint.module_arrays(whole).items():
        np.testing.assert_array_equal(array, best["module"][name])
    assert (last["network.head.weight"] != last["average.head.weight"]).any()
    with pytest.raises(Stopped):
        fit_with_ema("stopped", stop=2)
    fit_with_ema("stopped")
    for name in ("best.pkl", "checkpoint.pkl", "metrics.jsonl"):
        again = run.folder.parent.parent / "stopped/small" / name
        assert (run.folder / name).read_bytes() == again.read_bytes(), name


def test_a_network_learns_on_after_its_average_was_taken(make_baseline):
    baseline = make_baseline(ema=0.9, epochs=1)
    train, val = baseline.training_sets()
    module = baseline.build(Small)
    batches = SoftTargets(baseline.batches(train, cifar_transform(SIDE, IMAGENET)), 3)
    for phase in ("first", "second"):
        before = module.head.weight.numpy()
        baseline.fit_classifier(baseline.open_run(phase), module, batches, val)
        assert (module.head.weight.numpy() != before).any()
        module.eval()  # as a recipe does before it tests


def test_a_stopped_run_ends_in_the_same_bytes(make_baseline):
    whole, run = train_small(make_baseline("whole"))
    train_small(make_baseline("stopped"), epochs=1)
    resumed, again = train_small(make_baseline("stopped"))
    for name in ("best.pkl", "checkpoint.pkl", "metrics.jsonl"):
        assert (run.folder / name).read_bytes() == (again.folder / name).read_bytes(), name
    assert whole.head.weight.numpy().tobytes() == resumed.head.weight.numpy().tobytes()
    third, _ = train_small(make_baseline("stopped", resume="never"))
    assert third.head.weight.numpy().tobytes() == whole.head.weight.numpy().tobytes()


def test_the_best_epoch_is_kept_and_the_first_of_equals(tmp_path):
    module, run = nn.Linear(1, 3), Run(tmp_path, {})
    labels, right = np.array([0, 1, 2]), np.eye(3, dtype=np.float32)
    answers = [right[[0, 0, 0]], right, right[[0, 1, 1]], right]
    best = BestWeights(module, run, lambda: answers[epoch - 1], labels)
    for epoch in range(1, 5):
        module.weight.update(jt.full((3, 1), float(epoch)))
        metrics = best(epoch)
        assert metrics["val accuracy"] == pytest.approx(
            (answers[epoch - 1].argmax(1) == labels).mean()
        )
    best.restore()
    assert module.weight.numpy().ravel().tolist() == [2, 2, 2]


def test_validation_leaves_running_statistics_alone_and_training_goes_on(make_baseline):
    module, run = train_small(make_baseline())
    losses = [line["loss"] for line in run.lines()]
    assert losses[-1] < losses[0] and module.norm.running_mean.numpy().any()
    assert {"val loss", "val accuracy", "accuracy", "loss", "lr", "epoch"} == set(run.lines()[0])


def test_test_images_are_read_once_and_after_training(make_baseline):
    baseline = make_baseline()
    module, run = train_small(baseline)
    assert make_baseline.opened == ["train"]
    result = baseline.test(run, module)
    assert make_baseline.opened == ["train", "test"]
    assert result["accuracy"] > 0.6  # a third is chance
    assert find_result(baseline.open_run("small")) == result
    assert find_result(make_baseline(lr=0.01).open_run("small")) is None


def test_the_protocol_shows_a_frozen_encoder(make_baseline):
    class Encoder(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(3 * SIDE * SIDE, 16)

        def execute(self, images):
            return self.layer(images.reshape(images.shape[0], -1))

    jt.set_global_seed(1)
    baseline, encoder = make_baseline(epochs=20), Encoder()
    sets = baseline.training_sets()
    before = encoder.layer.weight.numpy().copy()
    result = evaluate_encoder(
        baseline, baseline.open_run("probe"), encoder, encoder, *sets, lr=1e-2
    )
    assert encoder.layer.weight.numpy().tobytes() == before.tobytes()
    assert all(result[name] > 0.6 for name in ("accuracy", "knn", "logistic regression"))

    def drifting(images):
        encoder.layer.bias.update(encoder.layer.bias + 1)
        return encoder(images)

    with pytest.raises(ArithmeticError, match="encoder changed"):
        evaluate_encoder(baseline, baseline.open_run("other"), encoder, drifting, *sets, lr=1e-2)
