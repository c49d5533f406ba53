"""Knowledge distillation: what a student learns from a teacher's logits and from its geometry.

Sources: DeiT (Touvron et al. 2021, https://arxiv.org/abs/2012.12877, eq. 2 and 3); RKD (Park et al.
2019, https://arxiv.org/abs/1904.05068, eq. 3 to 8). Gradients reach the student only. B images, N
rows, C classes, E and F embeddings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import jittor as jt

from baselines.nt_xent import normalize
from engine.config import require_ranges
from engine.losses import soft_cross_entropy
from models.backbones.networks import Network

MIN_DISTANCE = 1e-12  # least squared distance of two rows, as in RKD's public code
MIN_SQUARE = 1e-24  # squared length below which a difference has no direction


@dataclass(frozen=True)
class DistillationConfig:
    """What the student learns from the teacher."""

    logits: Literal["soft", "hard"] = "soft"
    """target on the distillation token: the teacher's probabilities, or its first class"""
    logits_weight: float = 1.0
    """weight of the loss on the teacher's logits"""
    temperature: float = 3.0
    """temperature of the soft logits"""
    distance_weight: float = 1.0
    """weight of RKD's distance loss"""
    angle_weight: float = 2.0
    """weight of RKD's angle loss"""

    def __post_init__(self):
        weights = ("logits_weight", "distance_weight", "angle_weight")
        require_ranges({name: getattr(self, name) for name in weights}, least=0)


def soft_distillation(student: jt.Var, teacher: jt.Var, temperature: float) -> jt.Var:
    """Computes temperature^2 times the mean over rows of KL(teacher || student), both softened.

    student[N,C] and teacher[N,C] are logits. This is DeiT's eq. 2; its public code also divides by
    C. Raises ValueError for a temperature that is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be above 0")
    teacher = teacher.stop_grad() / temperature
    targets = jt.nn.softmax(teacher, dim=1).stop_grad()
    entropy = soft_cross_entropy(teacher, targets).stop_grad()
    return temperature**2 * (soft_cross_entropy(student / temperature, targets) - entropy)


def hard_distillation(student: jt.Var, teacher: jt.Var) -> jt.Var:
    """Computes the cross-entropy of student[N,C] with the top class of teacher[N,C] (eq. 3)."""
    return soft_cross_entropy(student, one_hot_argmax(teacher))


def one_hot_argmax(logits: jt.Var) -> jt.Var:
    """Returns one-hot [N,C] of the largest entry of each row, the first of equal ones."""
    best, _ = jt.argmax(logits, dim=1, keepdims=True)
    return (jt.arange(logits.shape[1]).unsqueeze(0) == best).float32().stop_grad()


def huber(difference: jt.Var) -> jt.Var:
    """Computes x^2 / 2 up to 1, and |x| - 1/2 beyond, for each entry."""
    size = jt.abs(difference)
    return jt.where(size < 1, 0.5 * difference * difference, size - 0.5)


def _pairwise_differences(rows: jt.Var) -> jt.Var:
    """Returns [N,N,E]: row j minus row i."""
    return rows.unsqueeze(0) - rows.unsqueeze(1)


def relative_distances(rows: jt.Var) -> jt.Var:
    """Returns [N,N]: Euclidean distances among rows[N,E], divided by their mean over i != j.

    Differences are taken before squaring, so that near rows keep their digits in float32.
    """
    count = rows.shape[0]
    difference = _pairwise_differences(rows)
    distance = jt.sqrt(jt.maximum((difference * difference).sum(dim=2), MIN_DISTANCE))
    index = jt.arange(count)
    distance = distance * (index.unsqueeze(1) != index.unsqueeze(0)).float32()
    return distance / (distance.sum() / (count * (count - 1)))


def angles(rows: jt.Var) -> jt.Var:
    """Returns [N,N,N]: the cosine of the angle at row i between rows j and k of rows[N,E].

    It is 0 if two of the three rows are equal.
    """
    direction = normalize(_pairwise_differences(rows), MIN_SQUARE)
    return jt.matmul(direction, direction.transpose(0, 2, 1))


def _check_rows(student: jt.Var, teacher: jt.Var, least: int) -> None:
    if student.shape[0] != teacher.shape[0] or student.shape[0] < least:
        counts = f"student has {student.shape[0]} rows, teacher {teacher.shape[0]}"
        raise ValueError(f"{counts}; both need the same {least} rows or more")


def rkd_distance(student: jt.Var, teacher: jt.Var) -> jt.Var:
    """Computes the mean Huber loss between relative distances of student[N,E] and teacher[N,F].

    The mean is over all N x N pairs, i = j included. Raises ValueError for different row counts
    or N of 1.
    """
    _check_rows(student, teacher, 2)
    targets = relative_distances(teacher.stop_grad()).stop_grad()
    return huber(relative_distances(student) - targets).mean()


def rkd_angle(student: jt.Var, teacher: jt.Var) -> jt.Var:
    """Computes the mean Huber loss between angles of student[N,E] and teacher[N,F].

    The mean is over N x N x N triplets. Memory grows with N^2 E and N^3: for 64 rows of 384, 6 MB
    and 1 MB per array. Equal rows give no gradient; the public code divides by 1e-12 instead.
    Raises ValueError for different row counts or N below 3.
    """
    _check_rows(student, teacher, 3)
    targets = angles(teacher.stop_grad()).stop_grad()
    return huber(angles(student) - targets).mean()


def distillation_step(
    student: jt.nn.Module, teacher: Network | None, config: DistillationConfig
) -> Callable[[tuple], dict[str, jt.Var]]:
    """Returns a training step for batches of (images[B,3,R,R], soft targets[B,C]).

    The student's class token learns the labels, its distillation token the teacher's logits, and
    the mean of both tokens the teacher's geometry. Without a teacher both tokens learn the labels.
    """

    def step(batch: tuple) -> dict[str, jt.Var]:
        images, targets = map(jt.array, batch)
        class_token, distillation_token = student.both_features(images)
        class_logits, distillation_logits = student.classify(class_token, distillation_token)
        losses = {"labels loss": soft_cross_entropy(class_logits, targets)}
        if teacher is None:
            losses["token loss"] = soft_cross_entropy(distillation_logits, targets)
            return {"loss": sum(losses.values())} | losses
        with jt.no_grad():
            teacher_features = teacher.features(images)
            teacher_logits = getattr(teacher, teacher.head_names[0])(teacher_features)
        if config.logits == "hard":
            logits_loss = hard_distillation(distillation_logits, teacher_logits)
        else:
            logits_loss = soft_distillation(distillation_logits, teacher_logits, config.temperature)
        features = (class_token + distillation_token) / 2
        losses["logits loss"] = logits_loss
        losses["distance loss"] = rkd_distance(features, teacher_features)
        losses["angle loss"] = rkd_angle(features, teacher_features)
        weights = (1.0, config.logits_weight, config.distance_weight, config.angle_weight)
        terms = zip(weights, losses.values(), strict=True)
        return {"loss": sum(weight * loss for weight, loss in terms)} | losses

    return step
