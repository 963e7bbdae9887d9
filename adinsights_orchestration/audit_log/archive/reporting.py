"""What Dagster has not been told of the archive: days that were sealed outside its runs, or of which it was lost.

Belongs here: which days these are, and reporting them. Does not belong here: what is shown of a day (`showing`), how
events are stored (`dagster_internals`). The command line archives whether or not Dagster answers, so the ledger and
Dagster's log may differ; whoever archives next makes them agree again. Events bear the moment at which they are told:
Dagster takes what was stored last for the newest, and one with an old moment would make the archive look late.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime

import dagster as dg

from adinsights_orchestration.audit_log.archive import showing
from adinsights_orchestration.audit_log.archive.report import ArchiveReport
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchivedDay
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.dagster_internals.events import Materialized, report_materializations


def tell(
    instance: dg.DagsterInstance,
    source: Source,
    archived: Mapping[date, ArchivedDay],
    now: datetime,
    report: ArchiveReport | None = None,
) -> int:
    """Reports days as materialized that Dagster does not know as such, and returns how many.

    Args:
        instance: Whom to tell.
        source: The table.
        archived: What is archived, from the asset's first day on.
        now: The moment of telling.
        report: A run outside Dagster; the days that it sealed are told again, with what it did.
    """
    key = showing.key_of(source)
    known = instance.get_materialized_partitions(key)
    ran = {day.day: day for day in report.days} if report else {}
    sealed = {day for day, each in ran.items() if each.changed}
    days = sorted(day for day in archived if day in sealed or day.isoformat() not in known)
    items = []
    for day in days:
        metadata = showing.of_day(ran[day]) if day in ran else showing.of_archived(archived[day])
        if report is not None and day == days[-1]:
            metadata |= showing.of_run(report, {each.day: each.rows for each in archived.values()})
        items.append(Materialized(day.isoformat(), now, metadata))
    return report_materializations(instance, key, items)
