"""Facts that take looking back: syncs that brought nothing, what the night did, how available the API was.

Belongs here: SQL, read only, a statement each. Does not belong here: what follows from it (`rules`). Each is bounded by
an index: no statement reads the ledger of a day.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.alerting.facts import Availability, EmptySyncs, NightDone
from adinsights_orchestration.alerting.night import Night
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.health.samples import Resolution
from adinsights_orchestration.ops_store.tables import dbt_invocation, health_sample
from adinsights_orchestration.tenants.model import Provider

EMPTY_LOOKED_AT = timedelta(days=2)  # of a connection whose newest sync is older than that, its age is told
_HISTORY = 20  # syncs that say what is usual
_FEWEST = 10
_USUALLY = 0.9
_WHOLE = 0.9  # as `health.dbt`: a build of so large a part of the largest one is a build of everything
_BUILDS_BACK = timedelta(days=14)
_PACE = timedelta(seconds=30)  # between two probes

# The partial index on empty syncs names the candidates; only of those the history is read.
_EMPTY = sa.text("""
with candidate as (
    select distinct partition_key from adinsights_ops.sync_job
    where rows_synced = 0 and status = 'succeeded' and job_type = 'sync' and observed_at > :since
), recent as (
    select candidate.partition_key, job.*,
        row_number() over (partition by candidate.partition_key order by ended_at desc)
    from candidate cross join lateral (
        select job_id, provider, tenant_id, ended_at, rows_synced
        from adinsights_ops.sync_job
        where partition_key = candidate.partition_key and status = 'succeeded' and job_type = 'sync'
          and rows_synced is not null and ended_at is not null
        order by ended_at desc limit :looked_at
    ) as job
), streak as (
    select partition_key, min(row_number) filter (where rows_synced > 0) - 1 as in_a_row
    from recent group by partition_key
)
select recent.partition_key, min(provider) as provider, (array_agg(tenant_id))[1] as tenant_id, streak.in_a_row,
    min(ended_at) filter (where row_number <= in_a_row) as since,
    max(ended_at) filter (where rows_synced > 0) as last_rows_at,
    count(*) filter (where row_number > in_a_row) as before,
    count(*) filter (where row_number > in_a_row and rows_synced > 0) as brought,
    max(job_id) filter (where row_number <= in_a_row) as last_job
from recent join streak using (partition_key)
where streak.in_a_row >= :least
group by recent.partition_key, streak.in_a_row
""")
_ROWS_AT = sa.text("""
select ended_at from adinsights_ops.sync_job
where observed_at >= :begins and ended_at >= :begins and status = 'succeeded' and rows_synced > 0
order by observed_at limit 1
""")


def empty_syncs(connection: sa.Connection, least: int, now: datetime) -> list[EmptySyncs]:
    """Returns the connections whose newest syncs brought no rows, at least so many, where nearly all before did."""
    parameters = {"since": now - EMPTY_LOOKED_AT, "least": least, "looked_at": _HISTORY + least + 30}
    return [
        EmptySyncs(
            row.partition_key,
            Provider(row.provider),
            row.tenant_id,
            row.in_a_row,
            row.since,
            row.last_rows_at,
            row.before,
            row.last_job,
        )
        for row in connection.execute(_EMPTY, parameters)
        if row.before >= _FEWEST and row.brought >= _USUALLY * row.before
    ]


def night_done(connection: sa.Connection, night: Night) -> NightDone:
    """Returns what the night did."""
    row = dbt_invocation.c
    completed = sa.and_(row.completed, row.models > 0)
    lately = sa.and_(completed, row.generated_at >= night.begins - _BUILDS_BACK)
    since = sa.and_(completed, row.generated_at >= night.begins)
    most = sa.select(sa.func.max(row.models)).where(lately).scalar_subquery()
    counted = sa.select(
        sa.func.count().filter(row.generated_at < night.begins),
        sa.func.min(row.generated_at).filter(since, row.models >= _WHOLE * most),
    ).where(lately)
    before, built_at = connection.execute(counted).one()
    rows_at = connection.execute(_ROWS_AT, {"begins": night.begins}).scalar()
    fresh_at = None
    if rows_at is not None:
        after = sa.select(sa.func.min(row.generated_at)).where(completed, row.generated_at >= rows_at)
        fresh_at = connection.execute(after).scalar()
    return NightDone(before > 0, built_at, fresh_at)


def availability(
    connection: sa.Connection, windows: Iterable[timedelta], now: datetime
) -> dict[timedelta, Availability]:
    """Returns the API's availability over each window, as the stored readings tell it.

    Probes see an API that does not answer at all, the error rate sees one that answers some with errors: the worse of
    the two counts. Readings that said nothing (too little traffic, no answer of the metrics) do not.
    """
    wanted = sorted(set(windows))
    spans = sa.values(
        sa.column("n", sa.Integer), sa.column("resolution", sa.Text), sa.column("since", sa.DateTime(timezone=True))
    )
    data = [(n, _resolution(window).value, now - window) for n, window in enumerate(wanted)]
    window = spans.data(data).alias("span")
    sample = health_sample.c
    probed = sample.ok + sample.degraded + sample.down
    # A release before this one counted the figures of unknown readings too: such an hour says nothing that can be used.
    said = sa.and_(sample.value_count > 0, sample.value_count <= probed)
    query = (
        sa.select(
            window.c.n,
            sample.component,
            sa.func.sum(probed),
            sa.func.sum(sample.down),
            sa.func.sum(sample.value_count).filter(said),
            sa.func.sum(sample.value_sum).filter(said),
        )
        .join(window, sa.and_(sample.resolution == window.c.resolution, sample.at >= window.c.since, sample.at <= now))
        .where(sample.component.in_((Component.API.value, Component.BACKEND.value)))
        .group_by(window.c.n, sample.component)
    )
    found: dict[timedelta, Availability] = {}
    for n, component, readings, down, rates, percents in connection.execute(query):
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
