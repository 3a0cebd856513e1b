#!/bin/sh
# install.sh LOCK TARGET [SOURCE]: Pointsman, and what LOCK pins, in a new virtual environment TARGET without pip.
# What an image's build runs, and what the tests run to see that it works. SOURCE: this repository; default: here.
set -eu
lock=$1 target=$2 source=${3:-.}
wheels=$(mktemp -d)
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR="${PIP_NO_CACHE_DIR-1}" SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH-315532800}"

# Built by the pinned hatchling, with the pinned packages that it needs.
PIP_CONSTRAINT="$source/requirements/base.txt" python3 -m pip wheel --quiet --no-deps --wheel-dir "$wheels" "$source"

python3 -m venv --without-pip "$target"
python3 -m pip --python "$target/bin/python" install --quiet --no-deps --no-compile -r "$source/$lock"
python3 -m pip --python "$target/bin/python" install --quiet --no-deps --no-compile "$wheels"/*.whl
# Bytecode whose name and content do not depend on when it was made. A few files are templates, not Python.
"$target/bin/python" -m compileall -qq --invalidation-mode unchecked-hash "$target/lib" || true
rm -r "$wheels"
