"""One table of what each part brought: accuracy, what it trained, and how long that took."""

import numpy as np

from data.label_space import GROUPS, LabelSpace
from fewshot.evaluation.metrics import accuracy, harmonic_mean
from fewshot.inference.classifiers import CLASSIFIERS, ENSEMBLE, ROUTED
from fewshot.stages.parts import Part
from fewshot.stages.record import StageRecord


def groups(label_space: LabelSpace) -> dict[str, tuple[list[int], str]]:
    """Returns the columns of the table: the classes whose images count, and the group chosen among.

    The columns are base, the domains of the base classes if there are several (chosen among all
    base classes), new, and all.
    """
    base, new = list(label_space.base_ids), list(label_space.new_ids)
    domains = label_space.base_ids_by_domain
    columns = {"base": (base, "base")}
    columns |= {name: (ids, "base") for name, ids in domains.items() if len(domains) > 1}
    columns |= {"new": (new, "new")} if new else {}
    return columns | {"all": (list(range(len(label_space))), "all")}


def ablation(
    top1_among: dict[str, np.ndarray],
    truth: np.ndarray,
    label_space: LabelSpace,
    parts: dict[str, Part],
    record: dict[str, StageRecord],
) -> dict[str, dict[str, float | int]]:
    """Returns a row per classifier: accuracies as fractions, trained numbers, whole seconds.

    top1_among is that of `Predictions`, truth[N] holds class ids, parts are given by stage.
    Numbers and seconds are those of the classifier's own stage, for the ensemble their sums. The
    ensemble without a member has accuracies only. A column without images is left out. The ensemble
    under each routing is in `end_to_end` instead.
    """
    rows: dict[str, dict[str, float | int]] = {}
    for id, best in top1_among.items():
        classifier = CLASSIFIERS[id]
        if classifier.routing:
            continue
        row = rows[id] = {}
        for name, (ids, among) in groups(label_space).items():
            counted = np.isin(truth, ids)
            if counted.any():
                row[name] = accuracy(best[counted, GROUPS.index(among)], truth[counted])
        if classifier.without:
            continue
        stages = tuple(parts) if id == ENSEMBLE else (classifier.stage,)
        row["trained"] = sum(parts[stage].trained_count for stage in stages)
        seconds = [record[stage].seconds if stage in record else None for stage in stages]
        if None not in seconds:
            row["seconds"] = round(sum(filter(None, seconds)))
    return rows


def end_to_end(
    top1_among: dict[str, np.ndarray], truth: np.ndarray, label_space: LabelSpace
) -> dict[str, dict[str, float]]:
    """Returns rows for zero-shot, the ensemble under each routing, and the submitted ensemble.

    Columns are the accuracy of base and of new images, both chosen among all classes, their
    harmonic mean, and the accuracy of all images. Empty without images of both kinds.
    """
    kinds = {"base": label_space.is_base(truth), "new": label_space.is_new(truth)}
    if not all(kind.any() for kind in kinds.values()):
        return {}
    rows = {}
    for id in ("zero_shot", *(form.id for form in ROUTED), ENSEMBLE):
        chosen = top1_among[id][:, GROUPS.index("all")]
        row = {name: accuracy(chosen[kind], truth[kind]) for name, kind in kinds.items()}
        row["harmonic"] = harmonic_mean(row["base"], row["new"])
        rows[id] = row | {"all": accuracy(chosen, truth)}
    return rows
