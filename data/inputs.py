"""What a user must bring: data and weights. Whatever is missing is said in one message."""

from pathlib import Path

from data.few_shot_dataset import DataError, FewShotDataset, open_dataset
from jclip import available_models
from jclip.loading import find_or_download

AUXILIARY = Path("res1000epoch.pkl")  # the name that the contest's entries give it


def find_auxiliary(path: Path) -> Path | None:
    """The auxiliary weight file; None where it is the default one and not there.

    Raises ValueError where another file is named that does not exist.
    """
    if path.is_file():
        return path
    if path == AUXILIARY:
        return None
    raise ValueError(f"{path}: no such file; leave --auxiliary out to do without")


def require(data: Path, weights: str) -> tuple[FewShotDataset, Path]:
    """(the data tree, the weight file). Raises ValueError that says what to put where.

    `weights` is a file, or a name of `jclip.available_models()`, which is downloaded where needed.
    """
    wrong = []
    try:
        tree = open_dataset(data)
    except DataError as error:
        wrong.append(
            f"data: {error}\n"
            "    The contest's classes.txt, classes_b.txt, train.txt, TrainSet, TestSetB belong\n"
            "    there (see Dataset/README.md); --data names a folder of class folders as well."
        )
    try:
        file = find_or_download(weights) if weights in available_models() else Path(weights)
        if not file.is_file():
            raise ValueError(f"{file}: no such file")
    except ValueError as error:
        wrong.append(
            f"weights: {error}\n"
            "    JCLIP's ViT-B-32.pkl or OpenAI's ViT-B-32.pt belongs there; --weights names\n"
            '    another file, or a model such as "ViT-B/32" to download.'
        )
    if wrong:
        lines = "\n  ".join(wrong)
        raise ValueError(f"\n  {lines}\n  To see it all run without either: bash train.sh --demo")
    return tree, file
