"""What retention wants of the archive: days archived anew that differ, and the store asked before rows go.

Belongs here: the bridge between the two. Does not belong here: archiving (`archive`), deleting (`run`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from adinsights_orchestration.audit_log.retention.deletion import Chunk
from adinsights_orchestration.audit_log.retention.run import Rearchive, Unproven
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

_ACTOR = "retention"


def archive_again(settings: Settings, store: OpsStore) -> Rearchive:
    """Returns what archives days of a table anew, each run of neighbouring days by one scan."""

    def again(source: Source, days: Sequence[date]) -> None:
        from adinsights_orchestration.audit_log.archive.run import Archiver  # loads Arrow and DuckDB, for rare days

        archiver = Archiver(settings, store, source)
        for first, last in neighbours(days):
            archiver.run(first, last, actor=_ACTOR)

    return again


def not_held_any_more(settings: Settings, store: OpsStore) -> Unproven:
    """Returns what asks the archive's store for tenants' days right before they are deleted."""

    def unproven(source: Source, chunks: Sequence[Chunk]) -> Mapping[Chunk, str]:
        from adinsights_orchestration.audit_log.reading.held import not_held  # loads DuckDB, where something is to go

        return not_held(settings, store, source, chunks)

    return unproven


def neighbours(days: Sequence[date]) -> list[tuple[date, date]]:
    """Joins days that follow on each other."""
    runs: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if runs and runs[-1][1] + timedelta(days=1) == day:
            runs[-1] = (runs[-1][0], day)
        else:
            runs.append((day, day))
    return runs
