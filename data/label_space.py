"""The label space: the classes of a data set, and which of them can be trained on.

`open_dataset` makes one `LabelSpace`. It tells every other module which classes are base and which
are new. It also tells the order of the columns of logits, and what a class is called.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # each method imports it itself: the doctor opens data sets without NumPy
    import numpy as np

GROUPS = ("all", "base", "new")  # the classes that a first guess is chosen among


@dataclass(frozen=True)
class LabelSpace:
    """C classes; a class id is an index of `names`.

    Base classes can be trained on. New classes are known by name only. Logits of several classes
    have the base classes' columns first, then those of the new classes (`order`).
    """

    names: tuple[str, ...]
    base_ids: tuple[int, ...]  # ascending
    has_domains: bool = False  # each name is "Domain_Name", as in the contest

    @classmethod
    def all_base(cls, names: Sequence[str], has_domains: bool = False) -> "LabelSpace":
        """Returns a label space without new classes."""
        return cls(tuple(names), tuple(range(len(names))), has_domains)

    def with_base(self, ids: Iterable[int]) -> "LabelSpace":
        """Returns the same classes, of which those with an id in `ids` are the base classes."""
        return replace(self, base_ids=tuple(sorted({int(label) for label in ids})))

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def new_ids(self) -> tuple[int, ...]:
        """The ids of the new classes, ascending."""
        base = set(self.base_ids)
        return tuple(label for label in range(len(self.names)) if label not in base)

    @property
    def order(self) -> list[int]:
        """The class id of each column: base classes first, then new ones."""
        return [*self.base_ids, *self.new_ids]

    @cached_property
    def domains(self) -> tuple[str, ...]:
        """The domain of each class; "" if the names have none."""
        if not self.has_domains:
            return ("",) * len(self.names)
        return tuple(split_class_name(name)[0] for name in self.names)

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The name of each class without its domain."""
        if not self.has_domains:
            return self.names
        return tuple(split_class_name(name)[1] for name in self.names)

    @property
    def words(self) -> tuple[str, ...]:
        """The name of each class in words: "golden retriever" for "Thu-dog_golden_retriever"."""
        return tuple(key.replace("_", " ").strip() for key in self.keys)

    @property
    def base_ids_by_domain(self) -> dict[str, list[int]]:
        """The base ids of each domain, in the order in which the domains come up."""
        by_domain: dict[str, list[int]] = {}
        for label in self.base_ids:
            by_domain.setdefault(self.domains[label], []).append(label)
        return by_domain

    def is_base(self, labels: "np.ndarray") -> "np.ndarray":
        """Returns bool[N]: which of labels[N] are ids of base classes."""
        import numpy as np

        return np.isin(labels, self.base_ids)

    def is_new(self, labels: "np.ndarray") -> "np.ndarray":
        """Returns bool[N]: which of labels[N] are ids of new classes."""
        import numpy as np

        return np.isin(labels, self.new_ids)

    def base_columns(self, labels: "Sequence[int] | np.ndarray") -> "np.ndarray":
        """Returns int[N]: the columns of labels[N], ids of base classes."""
        import numpy as np

        return np.searchsorted(self.base_ids, labels)

    def by_class_id(self, columns: "np.ndarray") -> "np.ndarray":
        """Returns scores[N,C] whose columns are class ids, of columns[N,C] in `order`."""
        import numpy as np

        scores = np.empty_like(columns)
        scores[:, self.order] = columns
        return scores

    def best_of_groups(self, scores: "np.ndarray") -> "np.ndarray":
        """Returns int32[N,3]: the id of the best class among all, base and new classes.

        scores[N,C] has a column per class id. Of equal scores the smaller id wins. A group without
        classes gets -1.
        """
        import numpy as np

        best = np.full((len(scores), len(GROUPS)), -1, np.int32)
        for column, ids in enumerate((range(len(self)), self.base_ids, self.new_ids)):
            if ids:
                group = np.asarray(ids, np.int32)
                best[:, column] = group[np.argmax(scores[:, group], axis=1)]
        return best


def split_class_name(name: str) -> tuple[str, str]:
    """Splits a contest's class name at its first underscore: "Stanford-Cars", "Audi_R8".

    A name without an underscore has the domain "".
    """
    domain, underscore, rest = name.partition("_")
    return (domain, rest) if underscore else ("", name)
