"""SimCLR's contrastive loss. Source: Chen et al. 2020 (https://arxiv.org/abs/2002.05709), eq. 1."""

import jittor as jt

from engine.losses import soft_cross_entropy

FAR = 1e9  # taken off a view's similarity to itself: exp of it is 0
SHORTEST = 1e-12  # squared length below which a row has no direction


def unit(rows: jt.Var) -> jt.Var:
    """rows[N,E] of length 1. A row of zeros stays zero, and so does its gradient."""
    square = (rows * rows).sum(dim=-1, keepdims=True)
    long = square > SHORTEST
    return rows * jt.where(long, 1 / jt.sqrt(jt.maximum(square, SHORTEST)), jt.zeros_like(square))


def nt_xent(first: jt.Var, second: jt.Var, temperature: float) -> jt.Var:
    """NT-Xent of two views first[B,E] and second[B,E], any length; row i of both is image i.

    The mean over all 2B views of the cross-entropy that picks a view's partner out of the other
    2B - 1 by cosine / temperature. Raises ValueError where the shapes differ, B is below 2 or the
    temperature is not above 0.
    """
    if first.shape != second.shape or len(first.shape) != 2 or first.shape[0] < 2:
        raise ValueError(
            f"views have shapes {tuple(first.shape)} and {tuple(second.shape)}; NT-Xent takes two "
            "of [B,E] with B of 2 or more"
        )
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    images = first.shape[0]
    rows = unit(jt.concat([first, second], dim=0))
    place = jt.arange(2 * images)
    own = (place.unsqueeze(1) == place.unsqueeze(0)).float32()
    partner = (((place + images) % (2 * images)).unsqueeze(1) == place.unsqueeze(0)).float32()
    logits = jt.matmul(rows, rows.transpose(0, 1)) / temperature - FAR * own
    return soft_cross_entropy(logits, partner)
