"""A process that a test kills: evaluations or deliveries, which kill themselves before the n-th statement or commit.

python -m tests.alerting.killed_alerts '{"dsn": ..., "what": "evaluate", "at": 7, "folder": ..., "now": ...}'

SIGKILL runs no handler and no `finally`. The channel is a folder: a file for each post, so that what arrived outlives
the process, as in a real channel. `at` zero kills nothing and prints how many points there were.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.alerting.channels.sinks import (
    Absent,
    Attempted,
    Found,
    LookedUp,
    Notice,
    Outcome,
    Sent,
    Sinks,
    Traits,
)
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.evaluation import evaluate
from adinsights_orchestration.alerting.evaluation.evaluate import Memory, Policies
from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules.rule import Rule, Verdict
from adinsights_orchestration.alerting.telling.grouping import Options
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from tests.alerting.support import finding

RESOURCES = ("a", "b", "c")
Wrong = tuple[str, ...]


class Folder:
    """A channel whose messages are files: named by the notification for posts, appended lines for the rest."""

    name = "main"
    traits = Traits(every=timedelta(0), burst=1000)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def post(self, notice: Notice) -> Outcome:
        return self._written("post", notice)

    def update(self, notice: Notice, ref: str) -> Outcome:
        (self._folder / f"edit-{ref}").write_text(notice.message.standing.value)
        return Sent(ref)

    def reply(self, notice: Notice, root: str) -> Outcome:
        return self._written("reply", notice)

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:
        known = [path for path in self._folder.iterdir() if path.name.split("-", 2)[-1] == str(notice.id)]
        return Found(str(notice.id)) if known else Absent()

    def _written(self, what: str, notice: Notice) -> Outcome:
        count = len(list(self._folder.iterdir()))
        said = {"group": notice.message.group, "episode": notice.message.episode, "lines": notice.message.lines}
        (self._folder / f"{count:04}-{what}-{notice.id}").write_text(json.dumps(said))
        return Sent(str(notice.id))


def policies(wrong: Wrong) -> Policies:
    """One rule that finds what is wrong, each in a group of its own."""

    def judge(_: Facts) -> Verdict:
        found: list[Finding] = [finding(each, group=(each,)) for each in wrong]
        return Verdict(found)

    return Policies((Rule("all", ("connection_stale",), judge),), Options(Routes(("main",))))


def read(_: sa.Connection, now: datetime, memory: Memory) -> tuple[Facts, Memory]:
    """Facts that say nothing; how often one was committed is remembered."""
    places = Places.of(Settings(environment=Environment.PRODUCTION), None)
    return Facts(now, load_sla(Environment.PRODUCTION), places), {"evaluations": memory.get("evaluations", 0) + 1}


def work(store: OpsStore, what: str, folder: Path, wrong: Wrong, now: datetime) -> dict[str, Any]:
    """One tick of either sensor."""
    if what == "evaluate":
        return asdict(evaluate.run(store, read, policies(wrong), now))
    done = deliver.run(store, Sinks({"main": Folder(folder)}, ("main",)), TickClock(now, 600.0, lambda: 0.0))
    return dict(done.counts)


def main() -> None:
    """Works once, and kills itself at the given point."""
    arguments = json.loads(sys.argv[1])
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(arguments["dsn"])))
    passed = 0

    def point(*_: object) -> None:
        nonlocal passed
        passed += 1
        if passed == arguments["at"]:
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", point)
    sa.event.listen(sa.Engine, "commit", point)
    now = datetime.fromisoformat(arguments["now"])
    work(store, arguments["what"], Path(arguments["folder"]), tuple(arguments["wrong"]), now)
    sys.stdout.write(f"{passed}\n")


if __name__ == "__main__":
    main()
