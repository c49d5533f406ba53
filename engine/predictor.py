"""Runs a network over any number of inputs in calls of one fixed shape, without gradients."""

from collections.abc import Callable, Iterable

import jittor as jt
import numpy as np

from runtime.signals import check_stop


class Predictor:
    """Runs `forward` over inputs that are added one by one.

    Every call gets exactly `batch` rows; the last one is padded with zeros. So one shape is
    compiled, and the result of a row does not depend on the number of rows.
    """

    def __init__(self, forward: Callable[[jt.Var], jt.Var], batch: int):
        self._forward, self._batch = forward, batch
        self._pending: list[np.ndarray] = []
        self._outputs: list[np.ndarray] = []

    def add(self, row: np.ndarray) -> None:
        """Takes one input. Raises Stopped if the program was asked to end."""
        check_stop()
        self._pending.append(row)
        if len(self._pending) == self._batch:
            self._flush()

    def finish(self) -> np.ndarray:
        """Returns outputs[N,...] in the order of the inputs."""
        self._flush()
        outputs = self._outputs
        return np.concatenate(outputs) if outputs else np.zeros((0, 0), np.float32)

    def _flush(self) -> None:
        if not self._pending:
            return
        padded = np.zeros((self._batch, *self._pending[0].shape), self._pending[0].dtype)
        padded[: len(self._pending)] = self._pending
        with jt.no_grad():
            self._outputs.append(self._forward(jt.array(padded)).numpy()[: len(self._pending)])
        self._pending.clear()


def predict(
    forward: Callable[[jt.Var], jt.Var], rows: Iterable[np.ndarray], *, batch: int
) -> np.ndarray:
    """Returns forward(rows)[N,...], computed by a `Predictor`."""
    predictor = Predictor(forward, batch)
    for row in rows:
        predictor.add(row)
    return predictor.finish()
