"""Learned prompts are encoded as the sentences that they replace; only the context learns."""

from functools import cache
from pathlib import Path

import jittor as jt
import numpy as np
import pytest

from benchmarks import seeded_inputs
from engine import checkpoint
from jclip import CLIP, ClipConfig, tokenize
from models.prompting.learner import PromptLearner
from models.prompting.queue import PromptQueue
from tests.golden.clip import tiny_models

NAMES = ("cat", "golden retriever", "Audi S5 Convertible 2012", "etc.")
ROUNDING = 1e-5  # of the largest feature: fp32 sums of the same terms in another order


@cache
def tiny() -> CLIP:
    """A small CLIP with weights like trained ones, in evaluation mode."""
    model = CLIP(ClipConfig(**tiny_models.SIZES["vit"]), initialised=False)
    for name, parameter in model.named_parameters():
        value = seeded_inputs.seeded_weight(name, tuple(parameter.shape), tiny_models.SEED)
        parameter.update(jt.array(value))
    model.eval()
    return model


def close(ours: np.ndarray, expected: np.ndarray, tolerance: float = ROUNDING) -> None:
    np.testing.assert_allclose(ours, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def sentences(template: str, names=NAMES) -> np.ndarray:
    """Features of the plainly written sentences."""
    return tiny().encode_text(tokenize([template.format(name) for name in names])).numpy()


@pytest.mark.parametrize(
    ("position", "template"),
    [
        ("front", "a photo of a {}."),
        ("middle", "a photo {} of a."),
        ("end", "{} a photo of a."),
    ],
)
@pytest.mark.parametrize("per_class", [False, True])
def test_it_starts_as_the_written_sentence(position, template, per_class):
    """Bit for bit: the same numbers enter a batch of the same shape."""
    learner = PromptLearner(tiny(), NAMES, position=position, per_class=per_class)
    np.testing.assert_array_equal(learner().numpy(), sentences(template))


def test_an_odd_context_has_its_shorter_half_first():
    learner = PromptLearner(tiny(), NAMES, tokens=3, words="a nice photo", position="middle")
    np.testing.assert_array_equal(learner().numpy(), sentences("a {} nice photo."))


def test_words_beyond_the_context_are_cut():
    learner = PromptLearner(tiny(), NAMES, tokens=2, words="a photo of a")
    np.testing.assert_array_equal(learner().numpy(), sentences("a photo {}."))


def test_noise_follows_too_few_words():
    def context(seed: int) -> np.ndarray:
        return PromptLearner(tiny(), NAMES, tokens=40, words="a photo", seed=seed).context.numpy()

    first, again, other = context(1), context(1), context(2)
    np.testing.assert_array_equal(first, again)
    words = tiny().embed_tokens(tokenize("a photo")[:, 1:3]).numpy()[0]
    np.testing.assert_array_equal(first[:2], words)
    np.testing.assert_array_equal(other[:2], words)
    assert (first[2:] != other[2:]).all()
    assert first[2:].std() == pytest.approx(0.02, rel=0.1)  # 38 * 64 numbers: 1.4 % expected


def test_the_text_may_fill_the_whole_context_length():
    fits = "a " * 70 + "a"  # 71 tokens; with 4 of context, the stop, start and end: 78
    with pytest.raises(ValueError, match="class name 'a a.*' needs 78 tokens.*the model takes 77"):
        PromptLearner(tiny(), ["cat", fits])
    learner = PromptLearner(tiny(), ["cat", fits], tokens=3, words="a photo of")
    np.testing.assert_array_equal(learner().numpy(), sentences("a photo of {}.", ["cat", fits]))


@pytest.mark.parametrize("per_class", [False, True])
def test_some_classes_equal_those_of_all(per_class):
    learner = PromptLearner(tiny(), NAMES, per_class=per_class)
    random = np.random.default_rng(5)
    context = random.normal(size=tuple(learner.context.shape)).astype(np.float32)
    learner.context.update(jt.array(context))
    whole = learner().numpy()
    order = np.array([2, 0, 3, 1])
    np.testing.assert_array_equal(learner(order).numpy(), whole[order])  # batches of one shape
    close(learner(np.array([2, 0])).numpy(), whole[[2, 0]])


def test_equal_contexts_of_each_class_equal_one_for_all():
    shared, per_class = (PromptLearner(tiny(), NAMES, per_class=each) for each in (False, True))
    context = np.random.default_rng(3).normal(size=(4, 64)).astype(np.float32)
    alike = np.tile(context, (len(NAMES), 1, 1))
    np.testing.assert_array_equal(
        per_class.encode_context(jt.array(alike)).numpy(),
        shared.encode_context(jt.array(context)).numpy(),
    )
    alike[1] += 1  # one class's context moves that class only
    moved = per_class.encode_context(jt.array(alike)).numpy()
    changed = (moved != shared.encode_context(jt.array(context)).numpy()).any(axis=1)
    assert changed.tolist() == [False, True, False, False]


def test_a_queued_context_is_read_by_the_model_as_it_is():
    model = CLIP(ClipConfig(**tiny_models.SIZES["vit"]))
    model.eval()
    learner = PromptLearner(model, NAMES)
    before = learner().numpy()
    weight = model.transformer.resblocks[0].mlp.c_fc.weight
    weight.update(weight * 2)
    after = learner.encode_context(jt.array(learner.context.numpy())).numpy()
    assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()
    tokens = tokenize([f"a photo of a {name}." for name in NAMES])
    np.testing.assert_array_equal(after, model.encode_text(tokens).numpy())


@pytest.mark.parametrize("position", ["front", "middle", "end"])
@pytest.mark.parametrize("per_class", [False, True])
def test_gradient_is_that_of_the_embedded_words(position, per_class):
    """Against the gradient of whole sentences, of which the context's places are summed up."""
    model, template = (
        tiny(),
        {"front": "a photo {}.", "middle": "a {} photo.", "end": "{} a photo."},
    )
    learner = PromptLearner(
        model, NAMES, tokens=2, words="a photo", position=position, per_class=per_class
    )
    target = jt.array(np.random.default_rng(4).normal(size=(4, 32)).astype(np.float32))
    ours = jt.grad((learner() * target).sum(), learner.context).numpy()
    tokens = tokenize([template[position].format(name) for name in NAMES])
    ends = tokens.argmax(axis=1)
    embedded = model.embed_tokens(tokens[:, :16]).numpy()
    leaf = jt.array(embedded)
    features = model.encode_embedded(leaf, ends)
    whole = jt.grad((features * target).sum(), leaf).numpy()  # [C,L,D]
    first = {"front": [1] * 4, "middle": [1] * 4, "end": ends - 3}[position]
    second = {"front": [2] * 4, "middle": ends - 2, "end": ends - 2}[position]
    positions = np.stack([first, second], axis=1)  # [C,M]
    expected = np.take_along_axis(whole, positions[:, :, None], axis=1)  # [C,M,D]
    close(ours, expected if per_class else expected.sum(axis=0))


def test_only_the_context_learns():
    jt.set_global_seed(1)  # not every draw of weights lets the loss fall in each of three steps
    model = CLIP(ClipConfig(**tiny_models.SIZES["vit"]))
    model.eval()
    before = {name: value.numpy().tobytes() for name, value in model.named_parameters()}
    learner = PromptLearner(model, NAMES)
    learner.train()
    assert list(learner.state_dict()) == ["context"]
    start = learner.context.numpy()
    optimizer = jt.optim.AdamW(learner.parameters(), 0.01, weight_decay=0.01)
    losses = []
    for _ in range(3):
        features = jt.normalize(learner(), dim=1)
        loss = ((features @ features.transpose()) ** 2).mean()  # draws the classes apart
        optimizer.step(loss)
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]
    assert (learner.context.numpy() != start).all()
    after = {name: value.numpy().tobytes() for name, value in model.named_parameters()}
    assert after == before
    assert all(value.is_stop_grad() for _, value in model.named_parameters())


class Pair(jt.Module):
    """A learner and its queue, as a recipe holds them for one checkpoint."""

    def __init__(self):
        self.learner = PromptLearner(tiny(), NAMES)
        self.queue = PromptQueue(2, tuple(self.learner.context.shape))

    def train_one(self, epoch: int, optimizer: jt.optim.Optimizer) -> None:
        optimizer.step((jt.normalize(self.learner(), dim=1).mean(dim=0) ** 2).sum())
        self.queue.push(epoch, self.learner.context.numpy())


@pytest.mark.slow
def test_learner_and_queue_resume_from_one_checkpoint():
    """Stopped after two of four steps and resumed, the bytes are those of an unbroken run."""
    unbroken, stopped, resumed = Pair(), Pair(), Pair()
    runs = {pair: jt.optim.AdamW([pair.learner.context], 0.01) for pair in (unbroken, stopped)}
    for epoch in range(4):
        unbroken.train_one(epoch, runs[unbroken])
    for epoch in range(2):
        stopped.train_one(epoch, runs[stopped])
    optimizer = jt.optim.AdamW([resumed.learner.context], 0.01)
    arrays = checkpoint.module_arrays(stopped)
    assert sorted(arrays) == ["learner.context", "queue.contexts", "queue.epochs"]
    checkpoint.restore_module(resumed, arrays, Path("pair.pkl"))
    checkpoint.restore_optimizer(optimizer, checkpoint.optimizer_arrays(runs[stopped]))
    resumed.train()
    for epoch in range(2, 4):
        resumed.train_one(epoch, optimizer)
    ours, expected = checkpoint.module_arrays(resumed), checkpoint.module_arrays(unbroken)
    for name, array in expected.items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert not np.array_equal(ours["learner.context"], arrays["learner.context"])
    assert ours["queue.epochs"].tolist() == [2, 3]


@pytest.mark.parametrize(
    ("names", "options", "match"),
    [
        ([], {}, "at least one class name"),
        (["cat"], {"tokens": 0}, "0 context tokens"),
        (["cat"], {"position": "back"}, "'back' is none of front, middle, end"),
    ],
)
def test_wrong_arguments_are_refused(names, options, match):
    with pytest.raises(ValueError, match=match):
        PromptLearner(tiny(), names, **options)


def test_a_context_of_another_shape_is_refused():
    learner = PromptLearner(tiny(), NAMES)
    with pytest.raises(ValueError, match=r"shape \(3, 64\), this learner has \(4, 64\)"):
        learner.encode_context(jt.zeros((3, 64)))
