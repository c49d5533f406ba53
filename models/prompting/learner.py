"""Learned context tokens in the sentence of each class, encoded by a frozen CLIP text tower.

Source: CoOp (Zhou et al. 2022, https://arxiv.org/abs/2109.01134), sections 3.2 and 4.3. Its anchor
to hand-made sentences (KgCoOp, Yao et al. 2023) is a term of the loss, so that the stage has it.
Shapes: C classes, J requested classes, L tokens, M context tokens, D width, E embedding.
"""

from collections.abc import Sequence

import jittor as jt
import numpy as np

from jclip.model import CLIP, LENGTH_STEP
from jclip.tokenizer import encode, tokenize

POSITIONS = ("front", "middle", "end")
NOISE = 0.02  # standard deviation of random tokens; that of CLIP's token embeddings


class PromptLearner(jt.Module):
    """One sentence per class, made of the class's name and a learned context.

    The position "front" gives "[context] name.", "middle" gives "[first half] name [second half]."
    and "end" gives "name [context].". The first half is the shorter one if M is odd.

    `context` is the only parameter and all of `state_dict()`: [M,D] for all classes, or [C,M,D]
    with `per_class`. CLIP is expected in evaluation mode and is no part of this module. The context
    starts as the token embeddings of `words`, cut after M tokens. If they are fewer, the last
    tokens are normal noise of deviation 0.02, drawn with `seed`. All classes start alike.

    `names` are class names in words. Raises ValueError for no names, fewer than one token, an
    unknown position, or a name that does not fit into the model's context length.
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
        self._model = (model,)  # in a tuple, which Jittor does not search for parts of this module
        longest = model.config.context_length
        self._ids, self._slots, self._ends = _lay_out_sentences(names, tokens, position, longest)
        start = _initial_context(model, words, tokens, seed)  # [M,D]
        if per_class:
            start = np.tile(start, (len(names), 1, 1))
        self.context = jt.array(start)

    def execute(self, rows: np.ndarray | None = None) -> jt.Var:
        """Encodes the sentences of the classes rows[J] (default: all) to features[J,E]."""
        return self.encode_context(self.context, rows)

    def encode_context(self, context: jt.Var, rows: np.ndarray | None = None) -> jt.Var:
        """Encodes the sentences with a given context, such as one of a queue, to features[J,E].

        The features are not normalised. The sentences of some classes are padded as those of all,
        so that each number of rows compiles once. Raises ValueError if the context does not have
        the shape of the learned one.
        """
        shape, expected = tuple(context.shape), tuple(self.context.shape)
        if shape != expected:
            raise ValueError(f"a context of shape {shape}, this learner has {expected}")
        rows = np.arange(len(self._ids)) if rows is None else np.asarray(rows)
        slots, (model,) = self._slots[rows], self._model
        count, length = slots.shape
        tokens, width = context.shape[-2:]
        if len(context.shape) == 3:
            context = context[jt.array(rows.astype(np.int32))]  # [J,M,D]
        else:
            context = context.broadcast((count, tokens, width))  # [J,M,D]
        parts = jt.concat([model.embed_tokens(self._ids[rows]), context], dim=1)  # [J,L+M,D]
        # Each part is used at most once, so that its gradient is copied, not summed in some order.
        slots = slots + (length + tokens) * np.arange(count, dtype=np.int32)[:, None]
        embedded = parts.reshape(-1, width)[jt.array(slots)]  # [J,L,D]
        return model.encode_embedded(embedded, self._ends[rows])


def _lay_out_sentences(
    names: Sequence[str], tokens: int, position: str, longest: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns ids[C,L] with 0 at the context tokens, slots[C,L] and ends[C] of the sentences.

    Token i of a sentence is number slots[i] of its L token embeddings followed by the M context
    tokens. ends are the positions of the end tokens.
    """
    if position not in POSITIONS:
        raise ValueError(f"position {position!r} is none of {', '.join(POSITIONS)}")
    start, end = tokenize("")[0, :2].tolist()
    before = {"front": tokens, "middle": tokens // 2, "end": 0}[position]
    lines: list[list[int | None]] = []  # ids of each sentence; None for a context token
    text: list[int | None]
    for name in names:
        if position == "front":
            text = [*encode(f"{name}.")]  # encoded at once: "etc.." ends in one token of two stops
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
        context = [i for i, token in enumerate(line) if token is None]
        slots[row, context] = length + np.arange(tokens)
    return ids, slots, np.array([len(line) - 1 for line in lines])


def _initial_context(model: CLIP, words: str, tokens: int, seed: int) -> np.ndarray:
    """Returns the initial context[M,D], float32: embedded words, then noise."""
    width = model.config.transformer_width
    start = np.random.default_rng(seed).normal(0, NOISE, (tokens, width)).astype(np.float32)
    ids = encode(words)[:tokens]
    if ids:
        start[: len(ids)] = model.embed_tokens(np.array([ids])).numpy()[0]
    return start
