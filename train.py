"""python train.py RECIPE [--field value]...   (python train.py RECIPE --help shows every field)"""

import sys
from importlib import import_module

from engine.session import session

RECIPES = {
    "clip_fewshot": "the main job: trained parts for test.py from a few images per class",
    "clip_pretrain": "a small CLIP from a list of images with captions",
    "clip_cifar": "CLIP's image tower and one linear layer, in four modes",
    "simclr": "an image encoder trained without labels",
    "linear_eval": "accuracy of a linear layer on the features of a frozen encoder",
    "caltech_finetune": "a pretrained or fresh network fine-tuned on photos",
    "student_teacher": "a ViT teacher, its DeiT student, and few labels",
}


def main(arguments: list[str]) -> None:
    """Runs one recipe. A mistake in the arguments ends with one message and status 1 or 2."""
    name = arguments[0] if arguments else ""
    if name in RECIPES:
        with session(f"train.py {name}") as current:
            recipe = import_module(f"recipes.{name}")
            current.run(recipe, current.parse(recipe.Config, arguments[1:]))
        return
    wants_help = name in ("--help", "-h")
    if name and not wants_help:
        print(f"no recipe is called {name!r}\n", file=sys.stderr)
    lines = [f"  {recipe:<18}{summary}" for recipe, summary in RECIPES.items()]
    page = "\n".join([__doc__, "", "recipes:", *lines])
    print(page, file=sys.stdout if wants_help else sys.stderr)
    sys.exit(0 if wants_help else 2)


if __name__ == "__main__":
    main(sys.argv[1:])
