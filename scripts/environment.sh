# Sourced by train.sh and tests/run.sh in the kit's folder: sets $python to a Python that is ready for the kit.
#   . scripts/environment.sh; use_environment requirements.txt [more.txt]
# A Python is ready if it holds the pinned packages, and the kit is installed in it from this folder. If none is, .venv
# is made; another Python is never changed.

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Is Python $1 ready, with the pinned packages of the given files?
is_ready() {
    "$1" - "$PWD" "${@:2}" <<'PY' 2>/dev/null
import json
import sys
from importlib.metadata import distribution, version
from pathlib import Path

for path in sys.argv[2:]:
    for line in open(path):
        name, _, pinned = line.split("#")[0].strip().partition("==")
        if name and ";" not in pinned and version(name) != pinned:
            sys.exit(1)
source = json.loads(distribution("jittor-fewshot-clip").read_text("direct_url.json"))
sys.exit(source["url"] != Path(sys.argv[1]).as_uri())
PY
}

check_compiler() {
    command -v g++ >/dev/null || fail "g++ is missing; Jittor compiles C++: apt-get install g++"
    "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(sysconfig.get_paths()["include"] + "/Python.h"))' ||
        fail "the headers of $("$1" --version) are missing; Jittor compiles against them: apt-get install python3-dev"
}

use_environment() {
    local base=${PYTHON:-python3}
    command -v "$base" >/dev/null || fail "$base is missing: apt-get install python3 python3-venv python3-dev"
    "$base" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' ||
        fail "$base is $("$base" --version), but 3.11 is needed: PYTHON=python3.11 bash $0 ..."
    check_compiler "$base"
    for python in "$base" "$PWD/.venv/bin/python"; do
        if is_ready "$python" "$@"; then return; fi
    done
    echo "installing the pinned packages and the kit into .venv ..."
    "$base" -m venv .venv || fail "no virtual environment could be made: apt-get install python3-venv"
    local files=()
    for file in "$@"; do files+=(-r "$file"); done
    local pip=("$python" -m pip install --quiet --disable-pip-version-check)
    # wheel first: Jittor comes as source, which older versions of pip build only with it
    "${pip[@]}" "$(grep '^wheel==' requirements.txt)" && "${pip[@]}" "${files[@]}" &&
        "${pip[@]}" --no-deps --no-build-isolation -e . ||
        fail "pip could not install the pinned packages (see above); with a network, run this again"
}
