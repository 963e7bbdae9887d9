#!/bin/sh
# Find a Python that can run this project, then let it install the virtual environments.
#
# PYTHON, when set, is taken at its word: falling back to another interpreter than the one asked for would hide a typo.
set -eu
cd "$(dirname "$0")/.."

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
  supported "$PYTHON" || { echo "install: PYTHON=$PYTHON is not a Python 3.11 or 3.12" >&2; exit 1; }
else
  for candidate in python3.11 python3 python3.12; do
    if supported "$candidate"; then PYTHON=$candidate; break; fi
  done
fi
if [ -z "${PYTHON:-}" ]; then
  echo "install: no Python 3.11 or 3.12 found; run: apt-get install python3.11 python3.11-venv (or: make PYTHON=/path/to/python3.11)" >&2
  exit 1
fi
exec "$PYTHON" scripts/install.py "$@"
