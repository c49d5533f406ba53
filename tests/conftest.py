"""Every test runs from the repository's root, with Jittor prepared before its first import."""

import warnings

import runtime  # noqa: E402, F401

with warnings.catch_warnings():
    # Jittor's source holds invalid escapes, which Python reports whenever it compiles that source;
    # everywhere else in the tests a warning is an error.
    warnings.simplefilter("ignore")
    import jittor

import pytest  # noqa: E402

from kernels import compiling  # noqa: E402

compiling.compile_in_parallel()


@pytest.fixture(autouse=True)
def same_draws():
    """Weights that a test draws without a seed are the same every time, whatever ran before it."""
    jittor.set_global_seed(0)


@pytest.fixture(scope="session")
def job(tmp_path_factory):
    """The demo's data with parts trained on a tiny CLIP; tests write beside it, not into it."""
    from tests.helpers.main_job import make_job

    return make_job(tmp_path_factory.mktemp("job"))
