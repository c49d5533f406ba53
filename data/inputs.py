"""Opens what a user must bring, data and weights, and says in one message what is missing."""

from pathlib import Path

from data.few_shot_dataset import DataError, FewShotDataset, open_dataset
from jclip.loading import available_models, find_or_download

AUXILIARY = Path("res1000epoch.pkl")  # the name that entries of the contest use


def find_auxiliary(path: Path) -> Path | None:
    """Returns the auxiliary weight file, or None if the default file does not exist.

    Raises ValueError if another file is named that does not exist.
    """
    if path.is_file():
        return path
    if path == AUXILIARY:
        return None
    raise ValueError(f"{path}: no such file; leave --auxiliary out to do without")


def open_inputs(data: Path, weights: str) -> tuple[FewShotDataset, Path]:
    """Returns the data set and the weight file. Raises ValueError that says what to put where.

    `weights` is a file, or a name of `jclip.available_models()`, which is downloaded if needed.
    """
    problems = []
    try:
        dataset = open_dataset(data)
    except DataError as error:
        problems.append(
            f"data: {error}\n"
            "    The contest's classes.txt, classes_b.txt, train.txt, TrainSet, TestSetB belong\n"
            "    there (see Dataset/README.md); --data names a folder of class folders as well."
        )
    try:
        file = find_or_download(weights) if weights in available_models() else Path(weights)
        if not file.is_file():
            raise ValueError(f"{file}: no such file")
    except ValueError as error:
        problems.append(
            f"weights: {error}\n"
            "    JCLIP's ViT-B-32.pkl or OpenAI's ViT-B-32.pt belongs there; --weights names\n"
            '    another file, or a model such as "ViT-B/32" to download.'
        )
    if problems:
        lines = "\n  ".join(problems)
        raise ValueError(f"\n  {lines}\n  To see it all run without either: bash train.sh --demo")
    return dataset, file
