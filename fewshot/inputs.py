"""What a user must bring: data and weights. Whatever is missing is said in one message."""

from pathlib import Path

from fewshot.data import Tree, find_tree
from jclip import available_models
from jclip.download import find_or_download


def require(data: Path, weights: str) -> tuple[Tree, Path]:
    """(the data tree, the weight file). Raises ValueError that says what to put where.

    `weights` is a file, or a name of `jclip.available_models()`.
    """
    missing = []
    if not data.exists():
        missing.append(
            f"data: {data} is missing.\n"
            "    Put the contest's classes.txt, classes_b.txt, TrainSet and TestSetB there\n"
            "    (Dataset/README.md shows the tree), or name a folder of class folders with --data."
        )
    if weights in available_models():
        file = find_or_download(weights)
    else:
        file = Path(weights)
        if not file.is_file():
            missing.append(
                f"weights: {file} is missing.\n"
                "    Put JCLIP's ViT-B-32.pkl or OpenAI's ViT-B-32.pt there, or name another file\n"
                '    or a model such as "ViT-B/32" to download, with --weights.'
            )
    if missing:
        lines = "\n  ".join(missing)
        raise ValueError(f"\n  {lines}\n  To see all of it run with neither: bash train.sh --demo")
    return find_tree(data), file
