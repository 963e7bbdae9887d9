"""What the ledger knows of each connection, read in bulk.

Belongs here: SQL on `sync_job` and on how far it was read, read only. Does not belong here: what follows (`evaluate`),
what is kept (`states`). A connection's facts are computed from its rows alone, in no particular order, so a job that is
observed late changes them exactly as if it had been observed in time.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.freshness.catching_up import LedgerReading
from adinsights_orchestration.freshness.model import Facts
from adinsights_orchestration.ops_store.tables import connection_freshness, cursor, partition_key, sync_job
from adinsights_orchestration.tenants.model import Connection

DATA_JOB_TYPES = ("sync", "refresh")  # a clear brings no data
READER = "airbyte_jobs"  # whose place in `cursor` says how far the ledger was read
HISTORY = 30  # syncs that say what is usual; more would remember times long gone
# A job counts from when it ended, but never from later than when it was first seen to be over: of a server whose clock
# is ahead a success makes nothing look fresh, and hides none of the failures after it. Jobs that were seen at one
# moment follow their numbers. All three are read along the index on partition, that moment and number.
FACTS = sa.text("""
select wanted.partition_key, successes.last_success_at, successes.usual_seconds, successes.materialized_job,
       last.job_id as last_job_id, last.status as last_job_status, last.failure_message as last_job_reason,
       last.over_at as last_job_ended_at, running.running_since, failures.failures
from unnest(cast(:keys as text[])) as wanted (partition_key)
cross join lateral (
    select max(recent.over_at) as last_success_at,
           (array_agg(recent.job_id order by recent.over_at desc, recent.job_id desc))[1] as last_success_job,
           percentile_cont(0.95) within group (order by recent.duration_seconds) as usual_seconds,
           (array_agg(recent.job_id order by recent.reported_at desc, recent.job_id desc)
            filter (where recent.report_state = 'reported'))[1] as materialized_job
    from (
        select job_id, least(ended_at, end_observed_at) as over_at, duration_seconds, report_state, reported_at
        from adinsights_ops.sync_job
        where partition_key = wanted.partition_key and ended_at is not null
          and status = 'succeeded' and job_type = any(:data)
        order by least(ended_at, end_observed_at) desc, job_id desc
        limit :history
    ) as recent
) as successes
left join lateral (
    select job_id, status, failure_message, least(ended_at, end_observed_at) as over_at
    from adinsights_ops.sync_job
    where partition_key = wanted.partition_key and ended_at is not null and job_type = any(:data)
    order by least(ended_at, end_observed_at) desc, job_id desc
    limit 1
) as last on true
cross join lateral (
    select min(started_at) as running_since
    from adinsights_ops.sync_job
    where partition_key = wanted.partition_key and ended_at is null and job_type = any(:data)
) as running
cross join lateral (
    select count(*) as failures
    from adinsights_ops.sync_job
    where partition_key = wanted.partition_key and ended_at is not null and status = 'failed' and job_type = any(:data)
      and (least(ended_at, end_observed_at), job_id)
          > (coalesce(successes.last_success_at, '-infinity'), coalesce(successes.last_success_job, 0))
) as failures
""")


def changed_partitions(connection: sa.Connection, since: datetime, now: datetime) -> set[str]:
    """Returns the partitions with news since a moment, and those whose last verdict does not hold any longer.

    Args:
        connection: The caller's transaction.
        since: Read a little back: a job is stamped before it is committed.
        now: The moment of this evaluation.
    """
    news = sa.select(sync_job.c.partition_key).where(
        sa.or_(sync_job.c.observed_at >= since, sync_job.c.reported_at >= since)
    )
    expired = sa.select(connection_freshness.c.partition_key).where(connection_freshness.c.valid_until <= now)
    return set(connection.execute(sa.union(news, expired)).scalars())


def ledger_reading(connection: sa.Connection) -> LedgerReading | None:
    """Returns how far the ledger's reader has come; None before its first tick."""
    query = sa.select(cursor.c.value, cursor.c.updated_at).where(cursor.c.name == READER)
    row = connection.execute(query).one_or_none()
    return LedgerReading(row.updated_at, bool(row.value["complete"])) if row is not None else None


def load_facts(connection: sa.Connection, connections: Collection[Connection]) -> dict[str, Facts]:
    """Returns each connection's facts by partition key, in one statement; those without a sync have empty ones."""
    found = {row.partition_key: row for row in connection.execute(FACTS, parameters(connections))}
    return {one.partition_key: _facts(one, found.get(one.partition_key)) for one in connections}


def parameters(connections: Collection[Connection]) -> dict[str, Any]:
    """What `FACTS` is asked with."""
    keys = [one.partition_key for one in connections]
    return {"keys": keys, "data": list(DATA_JOB_TYPES), "history": HISTORY}


def first_seen(connection: sa.Connection, keys: Collection[str]) -> dict[str, datetime]:
    """Returns when the registry first named each of these partitions."""
    query = sa.select(partition_key.c.key, partition_key.c.first_seen_at).where(partition_key.c.key.in_(list(keys)))
    return {row[0]: row[1] for row in connection.execute(query)} if keys else {}


def _facts(one: Connection, row: sa.Row[Any] | None) -> Facts:
    known = {} if row is None else row._asdict()
    return Facts(**{**known, "partition_key": one.partition_key, "provider": one.provider, "tenant_id": one.tenant_id})
