"""Incidents, groups, events and silences in the ops store.

Belongs here: rows to values and back, in a bounded number of statements however many incidents there are. Does not
belong here: what they mean, and the outbox (`outbox`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter
from sqlalchemy.dialects.postgresql import aggregate_order_by, insert

from adinsights_orchestration.alerting.matching import Matcher, Quiet, Silence
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Change, Finding, Incident, State, Transition
from adinsights_orchestration.alerting.telling.digest import Lately
from adinsights_orchestration.alerting.telling.grouping import Group
from adinsights_orchestration.ops_store.alert_tables import alert_event, alert_group, alert_incident, alert_silence
from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.tables import cursor

PRUNED_AT_ONCE = 1000  # rows; what is left goes with the next evaluation
_MEMORY, _DELIVERY = "alert_evaluate", "alert_deliver"
_FINDINGS = TypeAdapter(Finding)
_OPEN = sa.or_(alert_incident.c.state != State.OK.value, alert_incident.c.told)
_KEPT_AS_THEY_ARE = (
    "fingerprint",
    "episode",
    "since",
    "pending_since",
    "fired_at",
    "ended_at",
    "absent_since",
    "unknown_since",
    "acked_by",
    "acked_at",
    "told",
    "suppressed_by",
)
_GROUP_FIELDS = tuple(field.name for field in fields(Group))


def load_incidents(connection: sa.Connection, found: Collection[str] = ()) -> dict[str, Incident]:
    """Returns the open incidents, and those of the given fingerprints whatever their state."""
    which: sa.ColumnElement[bool] = _OPEN
    if found:
        wanted = sa.func.unnest(sa.bindparam("found", list(found), type_=sa.ARRAY(sa.Text)))
        which = sa.or_(_OPEN, alert_incident.c.fingerprint.in_(sa.select(wanted)))
    rows = connection.execute(sa.select(alert_incident).where(which))
    return {row.fingerprint: _incident(row) for row in rows}


def load_named(connection: sa.Connection, found: Collection[str]) -> dict[str, Incident]:
    """Returns the incidents of the given fingerprints that there are."""
    if not found:
        return {}
    wanted = sa.func.unnest(sa.bindparam("found", list(found), type_=sa.ARRAY(sa.Text)))
    query = sa.select(alert_incident).where(alert_incident.c.fingerprint.in_(sa.select(wanted)))
    return {row.fingerprint: _incident(row) for row in connection.execute(query)}


def find_incidents(connection: sa.Connection, beginning: str) -> list[Incident]:
    """Returns the incidents whose fingerprint begins so; open or not."""
    which = alert_incident.c.fingerprint.startswith(beginning, autoescape=True)
    return [_incident(row) for row in connection.execute(sa.select(alert_incident).where(which).limit(50))]


def save_incidents(connection: sa.Connection, incidents: Sequence[Incident]) -> None:
    """Writes new and changed incidents; whoever remembers how they were finds that out by the mark."""
    if not incidents:
        return
    gone = sa.update(cursor).where(cursor.c.name == _MEMORY).values(value=cursor.c.value.op("-")("mark"))
    connection.execute(gone)
    upsert = insert(alert_incident)
    changed = {column.name: column for column in upsert.excluded if column.name != "fingerprint"}
    upsert = upsert.on_conflict_do_update(index_elements=[alert_incident.c.fingerprint], set_=changed)
    connection.execute(upsert, [_row(each) for each in incidents])


def load_groups(connection: sa.Connection, keys: Collection[str]) -> dict[str, Group]:
    """Returns the groups that have a clock or an open message, and the given ones; locked until the transaction ends.

    Delivery adds a sink to a group that another had to take over for; neither may overwrite the other.
    """
    group = alert_group.c
    has_clock = sa.or_(group.flush_at.is_not(None), group.shown != "")
    wanted = sa.func.unnest(sa.bindparam("keys", list(keys), type_=sa.ARRAY(sa.Text)))
    query = sa.select(alert_group).where(sa.or_(has_clock, group.key.in_(sa.select(wanted))))
    return {row.key: _group(row) for row in connection.execute(query.order_by(group.key).with_for_update())}


def opened_within(connection: sa.Connection, since: datetime, until: datetime) -> int:
    """Returns how many groups opened a message after one moment and up to another; a clock may have been set back."""
    counted = sa.select(sa.func.count()).where(alert_group.c.opened_at > since, alert_group.c.opened_at <= until)
    return connection.execute(counted).scalar_one()


def save_groups(connection: sa.Connection, groups: Sequence[Group]) -> None:
    """Writes new and changed groups."""
    if not groups:
        return
    upsert = insert(alert_group)
    changed = {column.name: column for column in upsert.excluded if column.name != "key"}
    upsert = upsert.on_conflict_do_update(index_elements=[alert_group.c.key], set_=changed)
    rows = [{name: getattr(each, name) for name in _GROUP_FIELDS} for each in groups]
    connection.execute(
        upsert, [{**row, "sinks": list(row["sinks"]), "severity": row["severity"].value} for row in rows]
    )


@dataclass(frozen=True, slots=True)
class Event:
    """One line of the history of incidents, groups and notices."""

    at: datetime
    kind: str
    detail: str = ""
    fingerprint: str | None = None
    group_key: str | None = None
    episode: int | None = None
    notice_id: UUID | None = None


def note(connection: sa.Connection, events: Iterable[Event]) -> None:
    """Adds lines to the history."""
    rows = [{field.name: getattr(event, field.name) for field in fields(Event)} for event in events]
    if rows:
        connection.execute(sa.insert(alert_event), rows)


def history(connection: sa.Connection, *, fingerprint: str, group_key: str, limit: int = 200) -> list[Event]:
    """Returns the newest lines about an incident and its group, oldest first."""
    columns = [alert_event.c[field.name] for field in fields(Event)]
    which = sa.or_(alert_event.c.fingerprint == fingerprint, alert_event.c.group_key == group_key)
    found = connection.execute(sa.select(*columns).where(which).order_by(alert_event.c.id.desc()).limit(limit))
    return [Event(*row) for row in reversed(found.all())]


def load_lately(connection: sa.Connection, since: datetime, until: datetime) -> Lately:
    """Returns what began and ended within some time, and all that fires now."""
    ends = (Change.FIRED.value, Change.RESOLVED.value)
    query = sa.select(alert_event.c.kind, alert_event.c.fingerprint).where(
        alert_event.c.at > since, alert_event.c.at <= until, alert_event.c.kind.in_(ends)
    )
    found = [(row.kind, row.fingerprint) for row in connection.execute(query)]
    began, ended = (frozenset(fp for kind, fp in found if kind == end) for end in ends)
    return Lately(began, ended, list(load_incidents(connection, began | ended).values()))


def events_of(transitions: Iterable[Transition]) -> list[Event]:
    """The lines that transitions of incidents leave."""
    return [
        Event(each.at, each.change.value, each.detail, each.fingerprint, None, each.episode) for each in transitions
    ]


def load_silences(connection: sa.Connection, after: datetime) -> list[Silence]:
    """Returns the silences that end after a moment, oldest first."""
    return [_silence(row._asdict()) for row in connection.execute(_silences(after))]


def load_kept(connection: sa.Connection, now: datetime) -> tuple[dict[str, Any], list[Silence]]:
    """Returns what the last evaluation left for this one and the silences that have not ended, in one statement."""
    memory = sa.select(cursor.c.value).where(cursor.c.name == _MEMORY).scalar_subquery()
    one = _silences(now).subquery("one")
    silences = sa.select(sa.func.jsonb_agg(aggregate_order_by(sa.func.to_jsonb(sa.literal_column("one")), one.c.id)))
    value, found = connection.execute(sa.select(memory, silences.select_from(one).scalar_subquery())).one()
    moments = ("starts_at", "ends_at")
    parsed = [{**each, **{name: datetime.fromisoformat(each[name]) for name in moments}} for each in found or ()]
    return dict(value or {}), [_silence(each) for each in parsed]


def _silences(after: datetime) -> sa.Select[Any]:
    return sa.select(alert_silence).where(alert_silence.c.ends_at > after).order_by(alert_silence.c.id)


def _silence(row: Mapping[str, Any]) -> Silence:
    matchers = tuple(Matcher.parse(text) for text in row["matchers"])
    ends = row["starts_at"], row["ends_at"]
    return Silence(row["id"], matchers, *ends, row["author"], row["reason"], Quiet(row["kind"]))


def add_silence(connection: sa.Connection, silence: Silence, now: datetime) -> int:
    """Keeps a silence, whose number is given here, and returns the number."""
    row = {
        "matchers": [str(matcher) for matcher in silence.matchers],
        "starts_at": silence.starts_at,
        "ends_at": silence.ends_at,
        "author": silence.author,
        "reason": silence.reason,
        "kind": silence.kind.value,
        "created_at": now,
    }
    added = connection.execute(sa.insert(alert_silence).values(row).returning(alert_silence.c.id))
    return int(added.scalar_one())


def end_silence(connection: sa.Connection, number: int, now: datetime) -> bool:
    """Ends a silence now; returns whether there was one that had not ended."""
    ended = (
        sa.update(alert_silence)
        .where(alert_silence.c.id == number, alert_silence.c.ends_at > now)
        .values(ends_at=sa.func.greatest(alert_silence.c.starts_at, now))
    )
    return connection.execute(ended).rowcount > 0


def last_evaluation(connection: sa.Connection) -> datetime | None:
    """Returns when the last evaluation was; None before the first."""
    return connection.execute(sa.select(cursor.c.updated_at).where(cursor.c.name == _MEMORY)).scalar()


def last_delivery(connection: sa.Connection) -> datetime | None:
    """Returns when the last delivery came to its end, with or without anything to say; None before the first."""
    return connection.execute(sa.select(cursor.c.updated_at).where(cursor.c.name == _DELIVERY)).scalar()


def note_delivery(connection: sa.Connection, now: datetime) -> None:
    """Notes that a delivery came to its end."""
    keep_cursor(connection, _DELIVERY, {}, now)


def save_memory(connection: sa.Connection, memory: Mapping[str, Any], now: datetime) -> None:
    """Keeps what the next evaluation must know."""
    keep_cursor(connection, _MEMORY, memory, now)


def prune(connection: sa.Connection, keep: timedelta, now: datetime) -> int:
    """Deletes the oldest lines of the history beyond what is kept, a bounded number, and returns how many."""
    old = sa.select(alert_event.c.id).where(alert_event.c.at < now - keep).order_by(alert_event.c.at)
    return connection.execute(sa.delete(alert_event).where(alert_event.c.id.in_(old.limit(PRUNED_AT_ONCE)))).rowcount


def _row(incident: Incident) -> dict[str, Any]:
    finding = incident.finding
    return {
        **{name: getattr(incident, name) for name in _KEPT_AS_THEY_ARE},
        "rule": finding.rule,
        "tenant": finding.tenant,
        "resource": finding.resource,
        "group_key": finding.group_key,
        "finding": _FINDINGS.dump_python(finding, mode="json"),
        "state": incident.state.value,
        "severity": incident.severity.value,
        "recent": list(incident.recent),
        "acked_severity": incident.acked_severity.value if incident.acked_severity else None,
        "told_severity": incident.told_severity.value if incident.told_severity else None,
    }


def _incident(row: sa.Row[Any]) -> Incident:
    values = row._asdict()
    return Incident(
        **{name: values[name] for name in _KEPT_AS_THEY_ARE},
        finding=_FINDINGS.validate_python(row.finding),
        state=State(row.state),
        severity=Severity(row.severity),
        recent=tuple(row.recent),
        acked_severity=Severity(row.acked_severity) if row.acked_severity else None,
        told_severity=Severity(row.told_severity) if row.told_severity else None,
    )


def _group(row: sa.Row[Any]) -> Group:
    values = row._asdict()
    return Group(**{**values, "sinks": tuple(row.sinks), "severity": Severity(row.severity)})
