"""python train.py RECIPE [--field value]...   (python train.py RECIPE --help shows every field)"""

import sys

from runtime.environment import ensure_environment

RECIPES = {
    "clip_fewshot": "the main job: trained parts for test.py from a few images a class",
    "clip_pretrain": "a small CLIP from a list of images with captions",
    "clip_cifar": "CLIP's image tower and one linear layer, four ways",
    "simclr": "an image encoder without labels",
    "linear_eval": "what a frozen encoder is worth",
    "caltech_finetune": "a pretrained or fresh network fine-tuned on photos",
    "student_teacher": "a ViT teacher, its DeiT student, and few labels",
}


def main(arguments: list[str]) -> None:
    """Runs one recipe; a mistake of the user ends with one message and status 1 or 2."""
    if not arguments or arguments[0] not in RECIPES:
        lines = "\n".join(f"  {name:<18}{what}" for name, what in RECIPES.items())
        asked = arguments[:1] in (["--help"], ["-h"])
        wrong = f"no recipe is called {arguments[0]!r}\n\n" if arguments and not asked else ""
        print(f"{wrong}{__doc__}\n\nrecipes:\n{lines}", file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else 2)
    ensure_environment()
    from importlib import import_module

    from data.decoding import warn_on_stalled_reads
    from engine.config import exit_on_error, parse
    from engine.run_lock import run_lock
    from runtime.distributed import silence_other_ranks
    from runtime.signals import exit_on_signal, install_signal_handlers

    silence_other_ranks()
    name = arguments[0]
    program = f"train.py {name}"
    with exit_on_signal():
        install_signal_handlers(program)
        recipe = import_module(f"recipes.{name}")
        install_signal_handlers(program)
        with exit_on_error(program):
            config = parse(recipe.Config, arguments[1:], program)
            with run_lock(*config.folders), warn_on_stalled_reads():
                recipe.run(config)


if __name__ == "__main__":
    main(sys.argv[1:])
