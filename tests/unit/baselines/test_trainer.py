import jittor as jt
import numpy as np
import pytest
from jittor import nn

from baselines import trainer as baseline
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
from engine.schedules import warm_cosine
from weight_files import safe_load

SIDE = 8


class Small(nn.Module):
    """A linear classifier with batch norm in front: running statistics are part of its state."""

    def __init__(self):
        self.norm = nn.BatchNorm(3)
        self.head = nn.Linear(3 * SIDE * SIDE, 3)

    def execute(self, images):
        return self.head(self.norm(images).reshape(images.shape[0], -1))


def colours(seed: int, count: int) -> ImageSet:
    """Images of three classes: mostly red, green or blue."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = rng.integers(0, 120, (count, SIDE, SIDE, 3))
    pixels[np.arange(count), :, :, labels] += 60
    keys = tuple(f"{seed}/{number}" for number in range(count))
    return ImageSet(pixels.astype(np.uint8), labels, ("red", "green", "blue"), keys)


@pytest.fixture
def job(tmp_path, monkeypatch):
    """make(folder, **fields): a run on made images; `make.opened` lists what was read."""
    opened = []

    def open_made(name, root, part):
        opened.append(part)
        return colours(0 if part == "train" else 1, 60)

    monkeypatch.setattr(baseline, "load_dataset", open_made)

    def make(folder="a", **fields):
        fields = {"epochs": 3, "batch_size": 8, "lr": 0.05, "workers": 0} | fields
        return Baseline(BaselineConfig(out=tmp_path / folder, device="cpu", **fields), SIDE)

    make.opened = opened
    return make


def trained(job: Baseline, epochs: int | None = None) -> tuple[Small, Run]:
    """The small classifier after the job's epochs, of which only `epochs` are run now."""
    train, val = job.training_sets()
    module, run = job.build(Small), job.open_run("small")
    batches = SoftTargets(job.batches(train, cifar_transform(SIDE, IMAGENET)), 3)
    schedule = warm_cosine(job.config.lr, job.config.epochs, len(batches))
    values = (lambda: job.predict(module, val), val.labels)
    optimizer = jt.optim.SGD(module.parameters(), job.config.lr, 0.9)
    if epochs:
        stop_after(epochs, module, optimizer, batches, schedule, run, values, job.config.seed)
    else:
        job.fit(run, module, optimizer, batches, classification_step(module), schedule, *values)
    return module, run


class Stopped(Exception):
    """Stands for a kill."""


def stop_after(epochs, module, optimizer, batches, schedule, run, values, seed):
    """Trains until the checkpoint after `epochs` and one more epoch's best weights are written."""
    best = BestWeights(module, run, *values)

    def after(epoch):
        metrics = best(epoch)
        if epoch > epochs:
            raise Stopped
        return metrics

    with pytest.raises(Stopped):
        baseline.fit(
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


def test_an_average_is_what_validates_and_goes_through_a_stop(job, monkeypatch):
    steps = []

    def learned(folder, stop=0):
        made = job(folder, ema=0.9)
        train, val = made.training_sets()
        module, run = made.build(Small), made.open_run("small")
        batches = SoftTargets(made.batches(train, cifar_transform(SIDE, IMAGENET)), 3)
        steps[:] = [stop * len(batches)]
        made.fit_classifier(run, module, batches, val)
        return module, run

    def counted(averaged):
        if len(steps) == steps[0] > 0:
            raise Stopped
        steps.append(1)
        update(averaged)

    update = ModelEma.update
    monkeypatch.setattr(ModelEma, "update", counted)
    whole, run = learned("whole")
    assert len(steps) == 1 + 3 * len(job("whole").training_sets()[0]) // 8
    kept, last = safe_load(run.folder / "best.pkl"), safe_load(run.checkpoint)["module"]
    for name, array in checkpoint.module_arrays(whole).items():
        np.testing.assert_array_equal(array, kept["module"][name])
    assert (last["network.head.weight"] != last["average.head.weight"]).any()
    with pytest.raises(Stopped):
        learned("stopped", stop=2)
    learned("stopped")
    for name in ("best.pkl", "checkpoint.pkl", "metrics.jsonl"):
        again = run.folder.parent.parent / "stopped/small" / name
        assert (run.folder / name).read_bytes() == again.read_bytes(), name


def test_a_network_learns_on_after_its_average_was_taken(job):
    made = job(ema=0.9, epochs=1)
    train, val = made.training_sets()
    module = made.build(Small)
    batches = SoftTargets(made.batches(train, cifar_transform(SIDE, IMAGENET)), 3)
    for phase in ("first", "second"):
        before = module.head.weight.numpy()
        made.fit_classifier(made.open_run(phase), module, batches, val)
        assert (module.head.weight.numpy() != before).any()
        module.eval()  # as a recipe does before it tests


def test_a_stopped_run_ends_in_the_same_bytes(job):
    whole, run = trained(job("whole"))
    trained(job("stopped"), epochs=1)
    resumed, again = trained(job("stopped"))
    for name in ("best.pkl", "checkpoint.pkl", "metrics.jsonl"):
        assert (run.folder / name).read_bytes() == (again.folder / name).read_bytes(), name
    assert whole.head.weight.numpy().tobytes() == resumed.head.weight.numpy().tobytes()
    third, _ = trained(job("stopped", resume="never"))
    assert third.head.weight.numpy().tobytes() == whole.head.weight.numpy().tobytes()


def test_the_best_epoch_is_kept_and_the_first_of_equals(tmp_path):
    module, run = nn.Linear(1, 3), Run(tmp_path, {})
    labels, right = np.array([0, 1, 2]), np.eye(3, dtype=np.float32)
    answers = [right[[0, 0, 0]], right, right[[0, 1, 1]], right]
    best = BestWeights(module, run, lambda: answers[epoch - 1], labels)
    for epoch in range(1, 5):
        module.weight.update(jt.full((3, 1), float(epoch)))
        found = best(epoch)
        assert found["val accuracy"] == pytest.approx(
            (answers[epoch - 1].argmax(1) == labels).mean()
        )
    best.restore()
    assert module.weight.numpy().ravel().tolist() == [2, 2, 2]


def test_validation_leaves_running_statistics_alone_and_training_goes_on(job):
    module, run = trained(job())
    losses = [line["loss"] for line in run.lines()]
    assert losses[-1] < losses[0] and module.norm.running_mean.numpy().any()
    assert {"val loss", "val accuracy", "accuracy", "loss", "lr", "epoch"} == set(run.lines()[0])


def test_test_images_are_read_once_and_after_training(job):
    made = job()
    module, run = trained(made)
    assert job.opened == ["train"]
    result = made.test(run, module)
    assert job.opened == ["train", "test"] and result["accuracy"] > 0.6  # a third is chance
    assert find_result(made.open_run("small")) == result
    assert find_result(job(lr=0.01).open_run("small")) is None


def test_the_protocol_shows_a_frozen_encoder(job):
    class Encoder(nn.Module):
        def __init__(self):
            self.layer = nn.Linear(3 * SIDE * SIDE, 16)

        def execute(self, images):
            return self.layer(images.reshape(images.shape[0], -1))

    jt.set_global_seed(1)
    made, encoder = job(epochs=20), Encoder()
    sets = made.training_sets()
    before = encoder.layer.weight.numpy().copy()
    result = evaluate_encoder(made, made.open_run("probe"), encoder, encoder, *sets, lr=1e-2)
    assert encoder.layer.weight.numpy().tobytes() == before.tobytes()
    assert all(result[name] > 0.6 for name in ("accuracy", "knn", "logistic regression"))

    def drifting(images):
        encoder.layer.bias.update(encoder.layer.bias + 1)
        return encoder(images)

    with pytest.raises(ArithmeticError, match="encoder changed"):
        evaluate_encoder(made, made.open_run("other"), encoder, drifting, *sets, lr=1e-2)
