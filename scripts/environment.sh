# Sourced by train.sh and tests/run.sh: finds or makes a Python that holds the pinned packages, as $python.
#   . scripts/environment.sh; use_environment requirements.txt [more.txt]

fail() {
    printf '%s\n' "$@" >&2
    exit 1
}

# Is every pinned package of the given files installed in Python $1, at its version?
has_packages() {
    "$1" - "${@:2}" <<'PY' 2>/dev/null
import sys
from importlib.metadata import version

for path in sys.argv[1:]:
    for line in open(path):
        name, _, pinned = line.split("#")[0].strip().partition("==")
        if name and version(name) != pinned:
            sys.exit(1)
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
        if has_packages "$python" "$@"; then return; fi
    done
    echo "installing the pinned packages into .venv ..."
    "$base" -m venv .venv || fail "no virtual environment could be made: apt-get install python3-venv"
    local files=()
    for file in "$@"; do files+=(-r "$file"); done
    local pip=("$python" -m pip install --quiet --disable-pip-version-check)
    # wheel first: Jittor comes as source, which older versions of pip build only with it
    "${pip[@]}" "$(grep '^wheel==' requirements.txt)" && "${pip[@]}" "${files[@]}" ||
        fail "pip could not install the pinned packages (see above); with a network, run this again"
}
