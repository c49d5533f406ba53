"""Prepares Jittor before its first import; fixtures of all tests."""

import warnings

import runtime  # noqa: F401

with warnings.catch_warnings():
    # Python warns of invalid escapes whenever it compiles Jittor's source. Everywhere else in the
    # tests a warning is an error.
    warnings.simplefilter("ignore")
    import jittor

import pytest  # noqa: E402

from kernels import compiling  # noqa: E402

compiling.compile_in_parallel()


@pytest.fixture(autouse=True)
def same_draws():
    """Seeds Jittor, so that weights without a seed do not depend on earlier tests."""
    jittor.set_global_seed(0)


@pytest.fixture(scope="session")
def job(tmp_path_factory):
    """The folder of a trained main job on the demo's data. Tests must not change its files."""
    from tests.helpers.main_job import make_job

    return make_job(tmp_path_factory.mktemp("job"))
