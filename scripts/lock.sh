#!/bin/sh
# Renew the hashed pins in requirements/*.txt from pyproject.toml and requirements/*.in.
#
# Pins that still satisfy the bounds stay as they are; UPGRADE=1 takes the newest of everything. The files name no
# registry: whoever installs decides where from, and the hashes decide whether it is the right file.
set -eu
cd "$(dirname "$0")/.."

UV=${UV:-uv}
if ! command -v "$UV" >/dev/null 2>&1; then
  echo "lock: uv is not on PATH; installing it into .venv-lock"
  [ -x .venv-lock/bin/uv ] || { "${PYTHON:-python3.11}" -m venv .venv-lock && .venv-lock/bin/pip install --quiet uv; }
  UV=.venv-lock/bin/uv
fi

lock() { # lock OUTPUT SOURCE [OPTION...]
  output=$1
  shift
  echo "lock: $output"
  "$UV" pip compile --quiet --python-version 3.11 --python-platform linux --only-binary :all: --generate-hashes \
    --custom-compile-command "make lock" \
    ${UPGRADE:+--upgrade} --output-file "$output" "$@"
}

# dev first, and the image's set under its constraints: what was tested is what is deployed.
lock requirements/dev.txt pyproject.toml --all-extras
lock requirements/runtime.txt pyproject.toml --constraints requirements/dev.txt
lock requirements/build.txt requirements/build.in --constraints requirements/dev.txt
lock requirements/connectors.txt requirements/connectors.in
