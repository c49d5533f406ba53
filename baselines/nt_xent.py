"""SimCLR's contrastive loss. Source: Chen et al. 2020 (https://arxiv.org/abs/2002.05709), eq. 1."""

import jittor as jt

from engine.losses import soft_cross_entropy

SELF_PENALTY = 1e9  # subtracted from a view's similarity to itself, so that its exp is 0
MIN_SQUARE = 1e-12  # squared length below which a row has no direction


def normalize(rows: jt.Var, min_square: float = MIN_SQUARE) -> jt.Var:
    """Scales rows[...,E] to length 1; a row of zeros stays zero, and its gradient is zero."""
    square = (rows * rows).sum(dim=-1, keepdims=True)
    inverse = 1 / jt.sqrt(jt.maximum(square, min_square))
    return rows * jt.where(square > min_square, inverse, jt.zeros_like(square))


def nt_xent(first: jt.Var, second: jt.Var, temperature: float) -> jt.Var:
    """Computes the NT-Xent loss of two views first[B,E] and second[B,E]; row i of both is image i.

    The mean over all 2B views of the cross-entropy that picks the other view of the same image out
    of 2B - 1 by cosine / temperature. Raises ValueError if the shapes differ, B is below 2 or the
    temperature is not above 0.
    """
    if first.shape != second.shape or len(first.shape) != 2 or first.shape[0] < 2:
        shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
        raise ValueError(f"views have shapes {shapes}; [B,E] with B of 2 or more is needed")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    num_images = first.shape[0]
    rows = normalize(jt.concat([first, second], dim=0))  # [2B,E]
    index = jt.arange(2 * num_images)
    partner = (index + num_images) % (2 * num_images)
    is_self = (index.unsqueeze(1) == index.unsqueeze(0)).float32()  # [2B,2B]
    is_partner = (partner.unsqueeze(1) == index.unsqueeze(0)).float32()
    logits = jt.matmul(rows, rows.transpose(0, 1)) / temperature - SELF_PENALTY * is_self
    return soft_cross_entropy(logits, is_partner)
