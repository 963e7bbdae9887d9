"""A process that forks runs of retention for a test to kill; forking saves each of them the imports.

python -m tests.audit_log.retention.killed '{"backend": ..., "ops": ..., "now": ...}', then a line for each run: it
answers with the process id, and once the process is gone with its exit status.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime
from typing import Any

from adinsights_orchestration.audit_log.retention import walk
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.ops_store.store import OpsStore
from tests.audit_log.archived import settings_for


def retain(arguments: dict[str, Any]) -> None:
    """One run, in many small transactions: kills are to fall between them."""
    walk._FIRST_PAGES = walk._LEAST_PAGES = 4
    now = datetime.fromisoformat(arguments["now"])
    settings = settings_for(arguments["backend"], arguments["ops"], transaction_seconds=0.004)
    Retention(settings, OpsStore(settings.ops_store), AUDIT_LOG, lambda: now, "a test", None, apply=True).run()


def say(number: int) -> None:
    """One number to the test."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def main() -> None:
    """Forks until its input ends; itself it opens no connection."""
    arguments = json.loads(sys.argv[1])
    while sys.stdin.readline():
        child = os.fork()
        if child == 0:
            try:
                retain(arguments)
            except BaseException:  # noqa: BLE001  (the status tells the test)
                os._exit(1)
            os._exit(0)
        say(child)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
