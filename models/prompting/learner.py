"""Learned context tokens in the sentence of each class, read by a frozen CLIP text tower.

Source: CoOp (Zhou et al. 2022, https://arxiv.org/abs/2109.01134), sections 3.2 and 4.3. Its
anchor to hand-made sentences (KgCoOp, Yao et al. 2023) is a term of the loss, so of a recipe.
Shapes: C classes, J of them asked for, L tokens, M context tokens, D width, E embedding.
"""

from collections.abc import Sequence

import jittor as jt
import numpy as np

from jclip.model import CLIP, LENGTH_STEP
from jclip.tokenizer import encode, tokenize

POSITIONS = ("front", "middle", "end")
NOISE = 0.02  # standard deviation of tokens that no word starts; CLIP's own of token embeddings


class PromptLearner(jt.Module):
    """Sentences of which every class has its name and all (or each) have a learned context.

    position "front" is "[context] name.", "middle" is "[first half] name [second half]." and "end"
    is "name [context].", the first half being the shorter one where M is odd.

    `context`, [M,D] or with `per_class` [C,M,D], is all that learns and all that `state_dict()`
    holds: CLIP, expected in evaluation mode, is used and not owned. It starts as the token
    embeddings of `words`; words beyond M tokens are cut off, and where words are too few the last
    tokens are normal noise of deviation 0.02 from the seed. All classes start alike.

    `names` are class names in words. Raises ValueError where there are none, for fewer than one
    token, an unknown position, or a name that does not fit into the model's context length.
    """

    def __init__(
        self,
        model: CLIP,
        names: Sequence[str],
        *,
        tokens: int = 4,
        words: str = "a photo of a",
        position: str = "front",
        per_class: bool = False,
        seed: int = 0,
    ):
        if not names:
            raise ValueError("a prompt learner needs at least one class name")
        if tokens < 1:
            raise ValueError(f"{tokens} context tokens: at least 1 can learn")
        self._model = (model,)  # in a tuple, Jittor does not take it for a part of this module
        longest = model.config.context_length
        self._ids, self._slots, self._ends = _layout(names, tokens, position, longest)
        start = _start(model, words, tokens, seed)  # [M,D]
        if per_class:
            start = np.tile(start, (len(names), 1, 1))
        self.context = jt.array(start)

    def execute(self, rows: np.ndarray | None = None) -> jt.Var:
        """Features[J,E] of the classes `rows`[J] (all by default), not normalised."""
        return self.features_of(self.context, rows)

    def features_of(self, context: jt.Var, rows: np.ndarray | None = None) -> jt.Var:
        """Features[J,E] under another context, such as one out of a queue, of the model as it is.

        The text is as long for some classes as for all, so one number of rows compiles once. Raises
        ValueError where the context has not the shape of the learned one.
        """
        if tuple(context.shape) != tuple(self.context.shape):
            raise ValueError(
                f"a context of shape {tuple(context.shape)}, "
                f"this learner has {tuple(self.context.shape)}"
            )
        rows = np.arange(len(self._ids)) if rows is None else np.asarray(rows)
        slots, (model,) = self._slots[rows], self._model
        count, length = slots.shape
        tokens, width = context.shape[-2:]
        if len(context.shape) == 3:
            context = context[jt.array(rows.astype(np.int32))]  # [J,M,D]
        else:
            context = context.broadcast((count, tokens, width))  # [J,M,D]
        parts = jt.concat([model.embed_tokens(self._ids[rows]), context], dim=1)  # [J,L+M,D]
        # Each part is used at most once, so its gradient is copied and not summed in some order.
        slots = slots + (length + tokens) * np.arange(count, dtype=np.int32)[:, None]
        embedded = parts.reshape(-1, width)[jt.array(slots)]  # [J,L,D]
        return model.encode_embedded(embedded, self._ends[rows])


def _layout(
    names: Sequence[str], tokens: int, position: str, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ids[C,L] with 0 in the place of context, slots[C,L], ends[C], for sentences of L tokens.

    Place i of a sentence takes part slots[i] of its L token embeddings and then M context tokens.
    """
    if position not in POSITIONS:
        raise ValueError(f"position {position!r} is none of {', '.join(POSITIONS)}")
    start, end = tokenize("")[0, :2].tolist()
    before = {"front": tokens, "middle": tokens // 2, "end": 0}[position]
    lines: list[list[int | None]] = []  # ids of each sentence, None for context
    text: list[int | None]
    for name in names:
        if position == "front":
            text = [*encode(f"{name}.")]  # in one: "etc.." ends in one token of two stops
        else:
            text = [*encode(name), *[None] * (tokens - before), *encode(".")]
        line = [start, *[None] * before, *text, end]
        if len(line) > longest:
            raise ValueError(
                f"class name {name!r} needs {len(line)} tokens with its context of {tokens}, "
                f"the model takes {longest}: shorten the name"
            )
        lines.append(line)
    length = min(longest, -(-max(map(len, lines)) // LENGTH_STEP) * LENGTH_STEP)
    ids = np.zeros((len(names), length), np.int32)
    slots = np.tile(np.arange(length, dtype=np.int32), (len(names), 1))
    for row, line in enumerate(lines):
        ids[row, : len(line)] = [0 if token is None else token for token in line]
        context = [place for place, token in enumerate(line) if token is None]
        slots[row, context] = length + np.arange(tokens)
    return ids, slots, np.array([len(line) - 1 for line in lines])


def _start(model: CLIP, words: str, tokens: int, seed: int) -> np.ndarray:
    """The first context[M,D], float32: embedded words, then noise."""
    width = model.config.transformer_width
    start = np.random.default_rng(seed).normal(0, NOISE, (tokens, width)).astype(np.float32)
    ids = encode(words)[:tokens]
    if ids:
        start[: len(ids)] = model.embed_tokens(np.array([ids])).numpy()[0]
    return start
