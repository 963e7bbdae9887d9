"""Every connection's freshness in the ops store, and what Dagster was shown of it.

Belongs here: rows of `connection_freshness` and the evaluation's place in `cursor`. Does not belong here: concluding
anything. Only rows that changed are written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.freshness.model import ConnectionState, Facts, Freshness, Verdict
from adinsights_orchestration.freshness.watermark import Delivered
from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.tables import connection_freshness, cursor
from adinsights_orchestration.tenants.model import Provider

_ROWS = connection_freshness.c
CURSOR = "freshness"
_FACTS = tuple(field.name for field in fields(Facts))
_TURNED = _ROWS.shown_state.is_distinct_from(_ROWS.state)
UNSHOWN = sa.or_(_TURNED, _ROWS.shown_job.is_distinct_from(_ROWS.materialized_job))
_RANK = sa.case({state.value: state.rank for state in Freshness}, value=_ROWS.state)
# What a late connection has delivered until; its last success may be younger than the watermark's policy warns at,
# where its own SLA is tighter: then it counts as that old when it turned late.
_DELIVERED = sa.text("""
select provider,
       count(*) filter (where not state = any(:not_driven)) as active,
       count(until) as late,
       min(until) as late_since,
       (array_agg(partition_key order by until, partition_key) filter (where until is not null))[1] as worst
from (
    select provider, state, partition_key,
           case when state = any(:late)
                then least(coalesce(last_success_at, expected_since), deadline - :warn_after) end as until
    from adinsights_ops.connection_freshness
) as one
group by provider
""").bindparams(sa.bindparam("warn_after", type_=sa.Interval))


@dataclass(frozen=True, slots=True)
class Place:
    """How far the evaluation has come.

    Attributes:
        read_at: Up to when news were read.
        snapshot_id: The registry that it went by.
        rules: The rules that it went by.
        mark: Of the last evaluation that wrote or dropped a row, and committed with it: whoever finds the same mark
            again knows that no row is another. Empty where a release that knows no marks wrote last.
        turned: The same of the last evaluation in which a connection changed its state or was dropped.
        behind_since: Since when the ledger may lie behind Airbyte; None while it does not.
    """

    read_at: datetime
    snapshot_id: int
    rules: str
    mark: str = ""
    turned: str = ""
    behind_since: datetime | None = None


def load_place(connection: sa.Connection) -> Place | None:
    """Returns where the last evaluation ended; None before the first."""
    value = connection.execute(sa.select(cursor.c.value).where(cursor.c.name == CURSOR)).scalar()
    if value is None:
        return None
    return as_place(value)


def as_place(value: Mapping[str, Any]) -> Place:
    """Returns the place that a row of `cursor` holds."""
    read_at = datetime.fromisoformat(value["read_at"])
    behind = value.get("behind_since")
    return Place(
        read_at,
        value["snapshot_id"],
        value["rules"],
        value.get("mark", ""),  # a release before this one knows nothing of what follows
        value.get("turned", ""),
        datetime.fromisoformat(behind) if behind else None,
    )


def save_place(connection: sa.Connection, place: Place, now: datetime) -> None:
    """Notes where this evaluation ended."""
    value = {
        "read_at": place.read_at.isoformat(),
        "snapshot_id": place.snapshot_id,
        "rules": place.rules,
        "mark": place.mark,
        "turned": place.turned,
        "behind_since": place.behind_since.isoformat() if place.behind_since else None,
    }
    keep_cursor(connection, CURSOR, value, now)


def expectations(connection: sa.Connection) -> dict[str, str]:
    """Returns what was expected of every connection that is kept, by partition key."""
    return {row[0]: row[1] for row in connection.execute(sa.select(_ROWS.partition_key, _ROWS.expectation))}


def load_states(connection: sa.Connection, keys: Collection[str] | None = None) -> dict[str, ConnectionState]:
    """Returns what is kept of the partitions, of all when none are named."""
    query = sa.select(connection_freshness)
    if keys is not None:
        wanted = sa.func.unnest(sa.bindparam("keys", list(keys), type_=sa.ARRAY(sa.Text)))
        query = query.where(_ROWS.partition_key.in_(sa.select(wanted)))
    return {row.partition_key: _state(row) for row in connection.execute(query)}


def states_after(connection: sa.Connection, provider: Provider, after: str, limit: int) -> list[ConnectionState]:
    """Returns a provider's connections behind a partition key, in the order of their keys."""
    query = sa.select(connection_freshness).where(_ROWS.provider == provider.value, _ROWS.partition_key > after)
    return [_state(row) for row in connection.execute(query.order_by(_ROWS.partition_key).limit(limit))]


def unshown_states(connection: sa.Connection, limit: int) -> list[ConnectionState]:
    """Returns connections whose check in Dagster says something else, or was cleared by a sync; the worst first."""
    query = sa.select(connection_freshness).where(UNSHOWN)
    order = (_RANK.desc(), _TURNED.desc(), _ROWS.partition_key)
    return [_state(row) for row in connection.execute(query.order_by(*order).limit(limit))]


def stalest_states(connection: sa.Connection, limit: int) -> list[ConnectionState]:
    """The worst state first, and within a state the oldest success; one that never synced is the oldest."""
    order = (_RANK.desc(), _ROWS.last_success_at.asc().nulls_first(), _ROWS.partition_key)
    return [_state(row) for row in connection.execute(sa.select(connection_freshness).order_by(*order).limit(limit))]


def count_by_state(connection: sa.Connection) -> Counter[Freshness]:
    """Returns how many connections are in each state."""
    query = sa.select(_ROWS.state, sa.func.count()).group_by(_ROWS.state)
    return Counter({Freshness(state): count for state, count in connection.execute(query)})


def delivered(connection: sa.Connection, warn_after: timedelta) -> list[Delivered]:
    """Returns what each provider's connections have delivered, counted by the database.

    Args:
        connection: The caller's transaction.
        warn_after: From which age on a watermark warns.
    """
    parameters = {
        "not_driven": [state.value for state in Freshness if not state.is_driven],
        "late": [state.value for state in Freshness if state.is_late],
        "warn_after": warn_after,
    }
    rows = connection.execute(_DELIVERED, parameters)
    return [Delivered(Provider(row.provider), row.active, row.late, row.late_since, row.worst) for row in rows]


def write_states(connection: sa.Connection, states: Sequence[ConnectionState], now: datetime) -> None:
    """Writes new and changed states; what was shown stays as it is."""
    if not states:
        return
    upsert = insert(connection_freshness)
    changed = {c.name: c for c in upsert.excluded if c.name not in ("partition_key", "shown_job", "shown_state")}
    upsert = upsert.on_conflict_do_update(index_elements=[_ROWS.partition_key], set_=changed)
    connection.execute(upsert, [{**_row(state), "evaluated_at": now} for state in states])


def forget(connection: sa.Connection, keys: Collection[str]) -> None:
    """Drops connections that are not served any more."""
    if keys:
        connection.execute(sa.delete(connection_freshness).where(_ROWS.partition_key.in_(list(keys))))


def mark_shown(connection: sa.Connection, states: Iterable[ConnectionState]) -> None:
    """Notes what Dagster's checks were told; a state that changed meanwhile is shown again."""
    rows = [
        {"at": one.facts.partition_key, "to_job": one.facts.materialized_job, "to_state": one.verdict.state.value}
        for one in states
    ]
    if not rows:
        return
    shown: dict[str, sa.BindParameter[Any]] = {
        "shown_job": sa.bindparam("to_job"),
        "shown_state": sa.bindparam("to_state"),
    }
    connection.execute(
        sa.update(connection_freshness).where(_ROWS.partition_key == sa.bindparam("at")).values(shown), rows
    )


def _state(row: sa.Row[Any]) -> ConnectionState:
    values = row._asdict()
    facts = Facts(**{**{name: values[name] for name in _FACTS}, "provider": Provider(values["provider"])})
    return ConnectionState(
        facts=facts,
        verdict=Verdict(Freshness(row.state), row.detail, row.valid_until, row.deadline),
        since=row.since,
        expectation=row.expectation,
        expected_since=row.expected_since,
        shown_job=row.shown_job,
        shown_state=row.shown_state,
    )


def _row(state: ConnectionState) -> dict[str, Any]:
    facts, verdict = state.facts, state.verdict
    return {
        **{name: getattr(facts, name) for name in _FACTS},
        "provider": facts.provider.value,
        "state": verdict.state.value,
        "detail": verdict.detail,
        "valid_until": verdict.valid_until,
        "deadline": verdict.deadline,
        "since": state.since,
        "expectation": state.expectation,
        "expected_since": state.expected_since,
    }
