"""Scores of how likely an image is of any base class, each from one image's logits alone.

Scores are log-odds [N] in float64, so that they never saturate at 1. Logits are cosines times
CLIP's own temperature: base_logits[N,K] of base classes, new_logits[N,O] of the names of all new
classes, negative_logits[N,O] of words that name no base class.
"""

import numpy as np
from scipy.special import log_expit, logsumexp


def mcm(base_logits: np.ndarray) -> np.ndarray:
    """Returns the log-odds of the largest softmax probability; inf if there is a single class.

    Source: Ming et al., MCM, NeurIPS 2022, here at CLIP's own temperature.
    """
    ordered = np.sort(_logits(base_logits), axis=1)
    return ordered[:, -1] - _log_mass(ordered[:, :-1])


def neglabel(
    base_logits: np.ndarray, negative_logits: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Returns the log-odds of S, the probability of the base names averaged over groups of words.

    Each group's probability is a softmax over the base names and the words of that group.
    groups[G,m] holds columns of negative_logits. Without any negative, S is 1 and its log-odds are
    inf. Source: Jiang et al., NegLabel, ICLR 2024, equation 7.
    """
    base, negatives = _log_mass(_logits(base_logits)), _logits(negative_logits, len(base_logits))
    groups = np.asarray(groups, int)
    if not groups.size:
        return np.full(len(base), np.inf)
    odds = np.stack([base - _log_mass(negatives[:, group]) for group in groups])  # [G,N]
    return logsumexp(log_expit(odds), axis=0) - logsumexp(log_expit(-odds), axis=0)


def deal_groups(count: int, groups: int = 100, seed: int = 0) -> np.ndarray:
    """Returns [G, count // G], the columns of `count` negatives dealt to G groups at random.

    The remainder is dropped. There is one group for fewer than 500 negatives, because small groups
    of few words are noise.
    """
    groups = groups if count >= 500 else 1
    order = np.random.RandomState(seed).permutation(count)
    return order[: count // groups * groups].reshape(groups, count // groups)


def known_names(base_logits: np.ndarray, new_logits: np.ndarray) -> np.ndarray:
    """Returns the log-odds of the base names in a softmax over base and new names.

    They are inf if there are no new names.
    """
    base = _logits(base_logits)
    return _log_mass(base) - _log_mass(_logits(new_logits, len(base)))


def _log_mass(logits: np.ndarray) -> np.ndarray:
    """Returns log sum exp of each row of logits[N,K]; -inf if K is 0."""
    if not logits.shape[1]:
        return np.full(len(logits), -np.inf)
    return logsumexp(logits, axis=1)


def _logits(values: np.ndarray, rows: int | None = None) -> np.ndarray:
    """Returns the values as float64 [N,K]. Raises ValueError for another shape and for NaN."""
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or rows not in (None, len(values)):
        raise ValueError(f"logits are {values.shape}; one row per image is needed in each array")
    if np.isnan(values).any():
        raise ValueError("logits: NaN; features of unreadable images are rows of zeros")
    return values
