"""The command line `adinsights`.

Belongs here: one module per group of commands, each a thin shell over a domain (parse, call, show). Does not belong:
any decision. The environment file is read before anything else, so that commands work beside a running local
stack without exports; every failure that a person can mend ends as two lines and exit code 2, never as a traceback.
"""

from __future__ import annotations

import os
import sys

from adinsights_orchestration.cli.entry import run


def main() -> None:
    """The entry point of `adinsights` and of `python -m adinsights_orchestration.cli`."""
    raise SystemExit(run(sys.argv[1:], os.environ))
