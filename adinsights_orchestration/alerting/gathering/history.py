"""Facts that take looking back: syncs that brought nothing, what the night did, how available the API was.

Belongs here: SQL, read only, a statement each. Does not belong here: what follows from it (`rules`). Each is bounded by
an index: no statement reads the ledger of a day.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.alerting.facts import EMPTY_COUNTED, Availability, EmptySyncs, NightDone
from adinsights_orchestration.alerting.night import Night
from adinsights_orchestration.freshness.sla import Threshold
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.health.samples import Resolution
from adinsights_orchestration.ops_store.tables import dbt_invocation
from adinsights_orchestration.tenants.model import Provider

EMPTY_LOOKED_AT = timedelta(days=2)  # of a connection whose newest sync is older than that, its age is told
EMPTY_IS_USUAL_AFTER = timedelta(days=30)  # and as many syncs as say what is usual
_TOLD = "status = 'succeeded' and job_type = 'sync' and rows_synced is not null and ended_at is not null"
_HISTORY = 20  # syncs that say what is usual
_FEWEST = 10
_USUALLY = 0.9
_WHOLE = 0.9  # as `health.dbt`: a build of so large a part of the largest one is a build of everything
_BUILDS_BACK = timedelta(days=14)
_PACE = timedelta(seconds=30)  # between two probes

# The partial index on empty syncs names the candidates. Of each the index by what syncs brought leads to the last one
# with rows, to the first and the newest one without since, and to those before: whatever the streak's length, and
# whatever failed in between, a bounded number of rows.
_EMPTY = sa.text(
    """
with candidate as (
    select partition_key, max(observed_at) as seen_at from adinsights_ops.sync_job
    where rows_synced = 0 and status = 'succeeded' and job_type = 'sync' and observed_at > :since
    group by partition_key
)
select candidate.partition_key, candidate.seen_at, brought.ended_at as last_rows_at, streak.in_a_row, streak.since,
    newest.provider, newest.tenant_id, newest.job_id as last_job, usual.before, usual.brought
from candidate
cross join lateral (
    select ended_at from adinsights_ops.sync_job
    where partition_key = candidate.partition_key and least(rows_synced, 1) = 1 and {told}
    order by ended_at desc limit 1
) as brought
cross join lateral (
    select job_id, provider, tenant_id from adinsights_ops.sync_job
    where partition_key = candidate.partition_key and least(rows_synced, 1) = 0 and ended_at > brought.ended_at
        and {told}
    order by ended_at desc limit 1
) as newest
cross join lateral (
    select count(*) as in_a_row, min(ended_at) as since from (
        select ended_at from adinsights_ops.sync_job
        where partition_key = candidate.partition_key and least(rows_synced, 1) = 0 and ended_at > brought.ended_at
            and {told}
        order by ended_at limit :counted
    ) as first
) as streak
cross join lateral (
    select count(*) as before, count(*) filter (where had_rows) as brought from (
        select had_rows from (
            (
                select ended_at, true as had_rows from adinsights_ops.sync_job
                where partition_key = candidate.partition_key and least(rows_synced, 1) = 1 and {told}
                order by ended_at desc limit :history
            ) union all (
                select ended_at, false from adinsights_ops.sync_job
                where partition_key = candidate.partition_key and least(rows_synced, 1) = 0
                    and ended_at <= brought.ended_at and {told}
                order by ended_at desc limit :history
            )
        ) as either order by ended_at desc limit :history
    ) as earlier
) as usual
where streak.in_a_row >= :least
""".replace("{told}", _TOLD)
)
_AVAILABILITY = sa.text(
    """
select span.n, sample.component, sum(probed.readings), sum(sample.down),
    sum(sample.value_count) filter (where said), sum(sample.value_sum) filter (where said)
from unnest(cast(:numbers as integer[]), cast(:resolutions as text[]), cast(:begins as timestamptz[]))
    as span (n, resolution, begins)
join adinsights_ops.health_sample as sample
  on sample.resolution = span.resolution and sample.at >= span.begins and sample.at <= :now
cross join lateral (select sample.ok + sample.degraded + sample.down as readings) as probed
-- A release before this one counted the figures of unknown readings too: such an hour says nothing that can be used.
cross join lateral (select sample.value_count > 0 and sample.value_count <= probed.readings as said) as usable
where sample.component = any(cast(:components as text[]))
group by span.n, sample.component
"""
)
_ROWS_AT = sa.text("""
select ended_at from adinsights_ops.sync_job
where observed_at >= :begins and ended_at >= :begins and status = 'succeeded' and rows_synced > 0
order by observed_at limit 1
""")


def empty_syncs(connection: sa.Connection, level: Threshold, now: datetime) -> list[EmptySyncs]:
    """Returns the connections whose newest syncs brought no rows, as many as warn, where nearly all before did.

    What has been so for a month, and for as many syncs as say what is usual, has become usual and is not among them.
    """
    found = (_empty(row) for row in connection.execute(_EMPTY, empty_parameters(level, now)) if _was_unusual(row))
    return [one for one in found if one.until > now]


def empty_parameters(level: Threshold, now: datetime) -> dict[str, Any]:
    """What the statement about empty syncs is given."""
    counted = max(EMPTY_COUNTED, round(level.page)) + 1
    return {"since": now - EMPTY_LOOKED_AT, "least": round(level.warn), "history": _HISTORY, "counted": counted}


def _was_unusual(row: sa.Row[Any]) -> bool:
    return bool(row.before >= _FEWEST and row.brought >= _USUALLY * row.before)


def _empty(row: sa.Row[Any]) -> EmptySyncs:
    until, usual_from = row.seen_at + EMPTY_LOOKED_AT, None
    if row.in_a_row >= _HISTORY:
        usual_from = row.since + EMPTY_IS_USUAL_AFTER
        until = min(until, usual_from)
    return EmptySyncs(
        partition=row.partition_key,
        provider=Provider(row.provider),
        tenant_id=row.tenant_id,
        in_a_row=row.in_a_row,
        since=row.since,
        last_rows_at=row.last_rows_at,
        before=row.before,
        last_job=row.last_job,
        until=until,
        usual_from=usual_from,
    )


def night_done(connection: sa.Connection, night: Night) -> NightDone:
    """Returns what the night did."""
    row = dbt_invocation.c
    completed = sa.and_(row.completed, row.models > 0)
    lately = sa.and_(completed, row.generated_at >= night.begins - _BUILDS_BACK)
    since = sa.and_(completed, row.generated_at >= night.begins)
    most = sa.select(sa.func.max(row.models)).where(lately).scalar_subquery()
    ever = sa.exists().where(completed, row.generated_at < night.begins)  # builds that stopped long ago are late too
    counted = sa.select(
        ever,
        sa.func.min(row.generated_at).filter(since, row.models >= _WHOLE * most),
    ).where(lately)
    expected, built_at = connection.execute(counted).one()
    rows_at = connection.execute(_ROWS_AT, {"begins": night.begins}).scalar()
    fresh_at = None
    if rows_at is not None:
        after = sa.select(sa.func.min(row.generated_at)).where(completed, row.generated_at >= rows_at)
        fresh_at = connection.execute(after).scalar()
    return NightDone(expected, built_at, fresh_at)


def availability(
    connection: sa.Connection, windows: Iterable[timedelta], now: datetime
) -> dict[timedelta, Availability]:
    """Returns the API's availability over each window, as the stored readings tell it.

    Probes see an API that does not answer at all, the error rate sees one that answers some with errors: the worse of
    the two counts. Readings that said nothing (too little traffic, no answer of the metrics) do not.
    """
    wanted = sorted(set(windows))
    spans = {
        "numbers": list(range(len(wanted))),
        "resolutions": [_resolution(window).value for window in wanted],
        "begins": [now - window for window in wanted],
        "now": now,
        "components": [Component.API.value, Component.BACKEND.value],
    }
    found: dict[timedelta, Availability] = {}
    for n, component, readings, down, rates, percents in connection.execute(_AVAILABILITY, spans):
        span = wanted[n]
        is_rate = component == Component.API.value
        known, bad = ((rates or 0), (percents or 0.0) / 100) if is_rate else (readings, down)
        if known:
            seen = Availability(bad / known, min(known * _PACE / span, 1.0))
            other = found.get(span, seen)
            found[span] = Availability(max(seen.bad, other.bad), max(seen.covered, other.covered))
    return found


def _resolution(window: timedelta) -> Resolution:
    """Minutes for what is told by the minute; a day is 24 hours of samples, not 1,440."""
    return Resolution.HOUR if window >= timedelta(days=1) else Resolution.MINUTE
