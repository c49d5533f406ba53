#!/usr/bin/env bash
# bash tests/run.sh [pytest arguments]   lint, types, direction of imports, then all tests; without a download of weights or a GPU
# bash tests/run.sh --fast [...]         the same with a selection of tests that takes about a minute
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ "${1:-}" = --fast ]; then
    # one regression of learning, one whole run of the main job, and the unit tests that take less than a second each
    set -- -m "not slow and not gpu" tests/integration/test_learning.py tests/integration/test_main_job.py tests/unit "${@:2}"
fi
. scripts/environment.sh
use_environment requirements.txt requirements-dev.txt
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$(dirname "$(command -v "$python")")/lint-imports" --no-logo
"$python" -m pytest "$@"
