#!/usr/bin/env bash
# bash tests/run.sh [pytest arguments]   lint and types, then the default tests; needs no download of weights and no GPU
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh
use_environment requirements.txt requirements-dev.txt
"$python" -m ruff check .
"$python" -m ruff format --check .
"$python" -m mypy
"$(dirname "$(command -v "$python")")/lint-imports"
"$python" -m pytest "$@"
