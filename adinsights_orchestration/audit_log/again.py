"""Archiving days anew because the table differs from what was sealed, at the wish of retention.

Belongs here: the bridge between the two. Does not belong here: archiving (`archive`), deleting (`retention`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from adinsights_orchestration.audit_log.retention import Rearchive
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

_ACTOR = "retention"


def archive_again(settings: Settings, store: OpsStore) -> Rearchive:
    """Returns what archives days of a table anew, each run of neighbouring days by one scan."""

    def again(source: Source, days: Sequence[date]) -> None:
        from adinsights_orchestration.audit_log.archive import Archiver  # loads Arrow and DuckDB, for rare days

        archiver = Archiver(settings, store, source)
        for first, last in neighbours(days):
            archiver.run(first, last, actor=_ACTOR)

    return again


def neighbours(days: Sequence[date]) -> list[tuple[date, date]]:
    """Joins days that follow on each other."""
    runs: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if runs and runs[-1][1] + timedelta(days=1) == day:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs
