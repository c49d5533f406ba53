"""python test.py [--field value]...   (python test.py --help shows every field)

Test images and trained parts -> result.txt, result.zip, manifest.json, report.html; with labels,
scores.json and one table of what each part brought. `--verify manifest.json` does it again and
compares.
"""

import sys

from runtime.environment import ensure_environment


def main(arguments: list[str]) -> None:
    """Scores test images, or verifies an earlier run."""
    ensure_environment()

    from data.decoding import warn_on_stalled_reads
    from engine.config import exit_on_error, parse
    from runtime.distributed import silence_other_ranks
    from runtime.signals import exit_on_signal, install_signal_handlers

    silence_other_ranks()
    install_signal_handlers("test.py")  # Jittor's import may compile for minutes
    with exit_on_signal():
        from recipes import predict

        install_signal_handlers("test.py")
        with exit_on_error("test.py"), warn_on_stalled_reads():
            config = parse(predict.Config, arguments, "test.py")
            if config.verify:
                predict.verify(config.verify, arguments)
            else:
                predict.main(config)


if __name__ == "__main__":
    main(sys.argv[1:])
