"""What a student learns from a teacher's logits, from its geometry, and from its own sure guesses.

Sources: DeiT (Touvron et al. 2021, https://arxiv.org/abs/2012.12877, eq. 2 and 3); RKD (Park et al.
2019, https://arxiv.org/abs/1904.05068, eq. 3 to 8); FixMatch (Sohn et al. 2020,
https://arxiv.org/abs/2001.07685, eq. 4). Gradients reach the student only. N rows, C classes,
E and F embeddings.
"""

import jittor as jt

from engine.losses import soft_cross_entropy

CLOSEST = 1e-12  # squared distance below which two rows count as 1e-6 apart, as the public code has
SHORTEST = 1e-24  # squared length below which a difference has no direction


def soft_distillation(student: jt.Var, teacher: jt.Var, temperature: float) -> jt.Var:
    """temperature^2 times the mean over rows of KL(teacher || student), both softened.

    student[N,C] and teacher[N,C] are logits. DeiT's public code divides by C as well, its eq. 2
    does not, nor does this. Raises ValueError for a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    teacher = teacher.stop_grad() / temperature
    targets = jt.nn.softmax(teacher, dim=1).stop_grad()
    entropy = soft_cross_entropy(teacher, targets).stop_grad()
    return temperature**2 * (soft_cross_entropy(student / temperature, targets) - entropy)


def hard_distillation(student: jt.Var, teacher: jt.Var) -> jt.Var:
    """Cross-entropy of student[N,C] with the class that teacher[N,C] prefers (DeiT, eq. 3)."""
    return soft_cross_entropy(student, _preferred(teacher))


def _preferred(logits: jt.Var) -> jt.Var:
    """One-hot [N,C] of each row's largest entry, the first of equal ones."""
    best, _ = jt.argmax(logits, dim=1, keepdims=True)
    return (jt.arange(logits.shape[1]).unsqueeze(0) == best).float32().stop_grad()


def fixmatch(
    weak: jt.Var, strong: jt.Var, threshold: float = 0.95, temperature: float = 1.0
) -> tuple[jt.Var, jt.Var]:
    """(loss, share): the unlabelled part of FixMatch.

    weak[N,C] and strong[N,C] are logits of the same images. The class of weak / temperature is the
    target of strong where its probability reaches `threshold`; the loss is the sum of these rows'
    cross-entropies over all N rows. share: of the rows that took part, in [0, 1].
    """
    guesses = jt.nn.softmax(weak.stop_grad() / temperature, dim=1)
    sure = (guesses.max(dim=1, keepdims=True) >= threshold).float32().stop_grad()
    return soft_cross_entropy(strong, _preferred(guesses) * sure), sure.mean()


def huber(difference: jt.Var) -> jt.Var:
    """x^2 / 2 up to 1, |x| - 1/2 beyond."""
    size = jt.abs(difference)
    return jt.where(size < 1, 0.5 * difference * difference, size - 0.5)


def _differences(rows: jt.Var) -> jt.Var:
    """[N,N,E]: row j minus row i."""
    return rows.unsqueeze(0) - rows.unsqueeze(1)


def relative_distances(rows: jt.Var) -> jt.Var:
    """[N,N]: Euclidean distances among rows[N,E] over the mean of those between different rows.

    Differences are taken before squaring, so near rows keep their digits in float32.
    """
    count = rows.shape[0]
    difference = _differences(rows)
    apart = jt.sqrt(jt.maximum((difference * difference).sum(dim=2), CLOSEST))
    place = jt.arange(count)
    apart = apart * (place.unsqueeze(1) != place.unsqueeze(0)).float32()
    return apart / (apart.sum() / (count * (count - 1)))


def angles(rows: jt.Var) -> jt.Var:
    """[N,N,N]: the cosine at row i of the angle between rows j and k of rows[N,E]; 0 where two of
    the three coincide.
    """
    difference = _differences(rows)
    square = (difference * difference).sum(dim=2, keepdims=True)
    inverse = 1 / jt.sqrt(jt.maximum(square, SHORTEST))
    direction = difference * jt.where(square > SHORTEST, inverse, jt.zeros_like(square))
    return jt.matmul(direction, direction.transpose(0, 2, 1))


def _check_pair(student: jt.Var, teacher: jt.Var, least: int) -> None:
    if student.shape[0] != teacher.shape[0] or student.shape[0] < least:
        raise ValueError(
            f"student has {student.shape[0]} rows, teacher {teacher.shape[0]}; relations are "
            f"among the same {least} rows or more"
        )


def rkd_distance(student: jt.Var, teacher: jt.Var) -> jt.Var:
    """Mean Huber loss between the relative distances of student[N,E] and teacher[N,F].

    Over all N x N pairs, a row's own included. Raises ValueError for other row counts or N of 1.
    """
    _check_pair(student, teacher, 2)
    targets = relative_distances(teacher.stop_grad()).stop_grad()
    return huber(relative_distances(student) - targets).mean()


def rkd_angle(student: jt.Var, teacher: jt.Var) -> jt.Var:
    """Mean Huber loss between the angles of student[N,E] and teacher[N,F], over N x N x N triplets.

    Memory grows with N^2 E and N^3: for 64 rows of 384, 6 MB and 1 MB an array. Equal rows give no
    gradient, where the public code divides by 1e-12. Raises ValueError for other row counts or N
    below 3.
    """
    _check_pair(student, teacher, 3)
    targets = angles(teacher.stop_grad()).stop_grad()
    return huber(angles(student) - targets).mean()
