"""python test.py [--field value]...   (python test.py --help shows every field)"""

import sys

from engine.session import session


def main(arguments: list[str]) -> None:
    """Scores test images, or repeats an earlier run and compares."""
    with session("test.py") as current:
        from recipes import predict

        config = current.parse(predict.Config, arguments)
        if config.verify:
            predict.verify(config.verify, arguments)
        else:
            current.run(predict, config)


if __name__ == "__main__":
    main(sys.argv[1:])
