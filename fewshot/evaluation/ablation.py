"""One table of what each part brought: accuracy, what it trained, and how long that took."""

import numpy as np

from data.label_space import GROUPS, LabelSpace
from fewshot.evaluation.metrics import accuracy, harmonic_mean
from fewshot.inference.ensemble import ROUTINGS, STAGE_OF, SUBMITTED, WITHOUT
from fewshot.stages.pipeline import Parts


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
    picks: dict[str, np.ndarray],
    truth: np.ndarray,
    label_space: LabelSpace,
    parts: Parts,
    record: dict,
) -> dict[str, dict[str, float | int]]:
    """A row for each way to score: accuracies as fractions, trained numbers, seconds.

    picks: {way: [N,3]} as in `Outcome`, truth[N]; record: what `stages.read_record` returns.
    Numbers and seconds are those of the way's own stage, for what is submitted the sums; seconds
    are whole. What the blend would be without a member has accuracies only; a column without images
    is left out, and so are the rows of `ROUTINGS`, which are `end_to_end`'s.
    """
    rows: dict[str, dict[str, float | int]] = {}
    for way in [way for way in picks if way not in ROUTINGS.values()]:
        row = rows[way] = {}
        for name, (ids, among) in groups(label_space).items():
            counted = np.isin(truth, ids)
            if counted.any():
                row[name] = accuracy(picks[way][counted, GROUPS.index(among)], truth[counted])
        if way.startswith(WITHOUT):
            continue
        stages = tuple(parts) if way == SUBMITTED else (STAGE_OF[way],)
        row["trained"] = sum(parts[stage].get("trainable", 0) for stage in stages)
        seconds = [record.get(stage, {}).get("seconds") for stage in stages]
        if None not in seconds:
            row["seconds"] = round(sum(seconds))
    return rows


def end_to_end(
    picks: dict[str, np.ndarray], truth: np.ndarray, label_space: LabelSpace
) -> dict[str, dict[str, float]]:
    """Rows for zero-shot, the blend under each routing and what is submitted: accuracy of base and
    of new images, both chosen among all classes, their harmonic mean, and of all images.

    Empty where there are no images of one kind.
    """
    kinds = {"base": label_space.is_base(truth), "new": label_space.is_new(truth)}
    if not all(kind.any() for kind in kinds.values()):
        return {}
    rows = {}
    for way in ("zero-shot", *ROUTINGS.values(), SUBMITTED):
        chosen = picks[way][:, GROUPS.index("all")]
        row = {name: accuracy(chosen[kind], truth[kind]) for name, kind in kinds.items()}
        row["harmonic"] = harmonic_mean(row["base"], row["new"])
        rows[way] = row | {"all": accuracy(chosen, truth)}
    return rows
