"""What retention wants of the archive: days archived anew that differ, and the store asked before rows go.

Belongs here: the bridge between the two. Does not belong here: archiving (`archive`), deleting (`run`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date

from adinsights_orchestration.audit_log.days import ranges, span
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.errors import AwayError
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

Rearchive = Callable[[Source, Sequence[date]], None]
Unproven = Callable[[Source, Sequence[At]], Mapping[At, str]]
_ACTOR = "retention"


def archive_again(settings: Settings, store: OpsStore) -> Rearchive:
    """Returns what archives days of a table anew, each run of neighbouring days by one scan."""

    def again(source: Source, days: Sequence[date]) -> None:
        from adinsights_orchestration.audit_log.archive.run import Archiver  # loads Arrow and DuckDB, for rare days

        archiver = Archiver(settings, store, source)
        for first, last in ranges(sorted(set(days))):
            archiver.run(first, last, actor=_ACTOR)

    return again


def archived_anew(rearchive: Rearchive, source: Source, days: Sequence[date]) -> dict[date, str]:
    """Archives days anew, each run of neighbouring days by itself; returns those of which that failed, and why.

    One day that cannot be (its object is damaged, it is before the archive's first day, somebody else archives now)
    keeps no other one waiting; a store that is away is waited for once.
    """
    failed: dict[date, str] = {}
    away = ""
    for first, last in ranges(sorted(set(days))):
        here = list(span(first, last))
        if not away:
            try:
                rearchive(source, here)
                continue
            except AwayError as error:
                away = str(error)
            except AdinsightsError as error:
                failed |= dict.fromkeys(here, str(error))
                continue
        failed |= dict.fromkeys(here, away)
    return failed


def not_held_any_more(settings: Settings, store: OpsStore) -> Unproven:
    """Returns what asks the archive's store for tenants' days right before they are deleted."""

    def unproven(source: Source, chunks: Sequence[At]) -> Mapping[At, str]:
        from adinsights_orchestration.audit_log.reading.held import not_held  # loads DuckDB, where something is to go

        return not_held(settings, store, source, chunks)

    return unproven
