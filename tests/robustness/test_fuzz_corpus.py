"""Every file in `tests/robustness/corpus/<parser>/` gets a result or the one declared error.

The corpus holds the seeds of `tests/robustness/fuzz.py` and the files that fuzzing found.
"""

import pytest

from runtime.paths import ROOT
from tests.robustness.parsers import PARSERS, check

CORPUS = ROOT / "tests/robustness/corpus"
FILES = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_file(path, tmp_path):
    check(PARSERS[path.parent.name], path.read_bytes(), tmp_path)


def test_the_corpus_is_small_and_has_all_parsers():
    assert {path.parent.name for path in FILES} == set(PARSERS)
    assert sum(path.stat().st_size for path in FILES) < 200_000


def test_wrong_answers_are_seen(tmp_path):
    """Another error is a finding, and so is a declared one that does not serve."""
    parser = PARSERS["lists"]

    def answering(error: Exception):
        def reader(path):
            raise error

        return type(parser)((reader,))

    named = f"{tmp_path}: "
    for text in ("no file named", f"{named}two\nlines", named + "x" * 3000):
        with pytest.raises(AssertionError, match="does not serve"):
            check(answering(ValueError(text)), b"", tmp_path)
    with pytest.raises(KeyError):
        check(answering(KeyError(str(tmp_path))), b"", tmp_path)
    check(answering(ValueError(f"{tmp_path}: is damaged")), b"", tmp_path)
