"""Upkeep of the outbox: what a delivery sees to beside sending.

Belongs here: finding in one statement whether there is anything, and what then is done: after a clock was set back, for
channels that there are no more, and with what was finished long ago. Does not belong here: claiming and recording
(`outbox`), when any of this is due (`deliver`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.alerting.bookkeeping.outbox import LONGEST_WAIT, UNSENT
from adinsights_orchestration.alerting.bookkeeping.rows import Event
from adinsights_orchestration.ops_store.alert_tables import alert_channel, alert_group, alert_outbox
from adinsights_orchestration.ops_store.tables import finding

UNDELIVERABLE = "alert_undeliverable"  # the kind of finding
_Moment = datetime | sa.ColumnElement[datetime]
_ROWS = alert_outbox.c
_SKEW = timedelta(minutes=1)  # by which two hosts' clocks may differ
_GOES_ON = sa.exists().where(
    alert_group.c.key == _ROWS.group_key, alert_group.c.episode == _ROWS.episode, alert_group.c.shown != ""
)


@dataclass(frozen=True, slots=True)
class Survey:
    """What a delivery finds.

    Attributes:
        unsent: Sinks for which something is unsent, due or not.
        is_ahead: Whether something is dated in the future, so that the clock must have been set back.
        undeliverable: Sinks of which a person was told that they did not take something.
    """

    unsent: frozenset[str]
    is_ahead: bool
    undeliverable: frozenset[str]


def _is_ahead(limit: _Moment) -> sa.ColumnElement[bool]:
    """Whether something unsent is dated after a moment."""
    return sa.and_(_ROWS.state.in_(UNSENT), sa.or_(_ROWS.created_at > limit, _ROWS.last_attempt_at > limit))


def _is_closed_too_long(limit: _Moment) -> sa.ColumnElement[bool]:
    """Whether a channel takes nothing for longer after a moment than any may ask for."""
    closed: sa.ColumnElement[bool] = alert_channel.c.not_before > limit + LONGEST_WAIT
    return closed


def _survey() -> sa.Select[Any]:
    ahead = sa.bindparam("ahead", type_=_ROWS.created_at.type)
    unsent = sa.select(_ROWS.sink).where(_ROWS.state.in_(UNSENT)).distinct()
    undeliverable = sa.select(finding.c.subject).where(
        finding.c.kind == sa.bindparam("kind"), finding.c.cleared_at.is_(None)
    )
    is_ahead = sa.or_(sa.exists().where(_is_ahead(ahead)), sa.exists().where(_is_closed_too_long(ahead)))
    return sa.select(
        sa.func.array(unsent.scalar_subquery()).label("unsent"),
        is_ahead.label("is_ahead"),
        sa.func.array(undeliverable.scalar_subquery()).label("undeliverable"),
    )


_SURVEY = _survey()


def survey(connection: sa.Connection, now: datetime) -> Survey:
    """Looks, in one statement, whether there is anything that a delivery has to see to."""
    row = connection.execute(_SURVEY, {"now": now, "ahead": now + _SKEW, "kind": UNDELIVERABLE}).one()
    return Survey(frozenset(row.unsent), bool(row.is_ahead), frozenset(row.undeliverable))


def take_back_the_clock(connection: sa.Connection, longest_lease: timedelta, now: datetime) -> int:
    """Brings what is dated in the future to now, after a clock that was ahead was set back; returns how many rows.

    Else what waited then would wait for as long as the clock was ahead. A claim keeps its whole lease: whoever holds it
    may be at work. When an attempt really was made nobody knows any more: it is looked for from the longest wait back.

    Args:
        connection: A transaction of the caller.
        longest_lease: The longest that a claim is held.
        now: The moment.
    """
    ahead = now + _SKEW
    tried = _ROWS.last_attempt_at > ahead
    values = {
        "created_at": _at_most(_ROWS.created_at, now),
        "not_before": sa.case((tried, sa.null()), else_=_ROWS.not_before),
        "lease_until": sa.case((tried, _at_most(_ROWS.lease_until, now + longest_lease)), else_=_ROWS.lease_until),
        "first_attempt_at": _at_most(_ROWS.first_attempt_at, now, now - LONGEST_WAIT),
        "last_attempt_at": _at_most(_ROWS.last_attempt_at, now),
    }
    sinks = connection.execute(sa.update(alert_outbox).where(_is_ahead(ahead)).values(values).returning(_ROWS.sink))
    found = list(sinks.scalars())
    closed = sa.or_(alert_channel.c.sink.in_(set(found)), _is_closed_too_long(ahead))
    opened = sa.update(alert_channel).where(alert_channel.c.not_before > now, closed)
    connection.execute(opened.values(not_before=None))
    return len(found)


def give_up(connection: sa.Connection, sink: str, before: datetime, now: datetime) -> list[Event]:
    """Ends what waits since before a moment for a sink that there is no more, where its matter is over.

    Args:
        connection: The caller's transaction.
        sink: Whose.
        before: What is newer waits on: a sink may come back.
        now: The moment.
    """
    over = sa.and_(_ROWS.sink == sink, _ROWS.state.in_(UNSENT), _ROWS.created_at < before, sa.not_(_GOES_ON))
    values = {"state": "dead", "finished_at": now, "lease_until": None, "last_error": "no such channel is configured"}
    ended = sa.update(alert_outbox).where(over).values(values)
    found = connection.execute(ended.returning(_ROWS.notice_id, _ROWS.group_key, _ROWS.episode))
    said = f"{sink}: no such channel is configured, and its matter is over"
    return [Event(now, "notice_dead", said, None, row.group_key, row.episode, row.notice_id) for row in found]


def prune(connection: sa.Connection, keep: timedelta, now: datetime) -> int:
    """Deletes the oldest finished rows beyond what is kept, a bounded number; those of open messages stay."""
    old = sa.select(_ROWS.notice_id).where(_ROWS.finished_at < now - keep, sa.not_(_GOES_ON)).limit(1000)
    return connection.execute(sa.delete(alert_outbox).where(_ROWS.notice_id.in_(old))).rowcount


def _at_most(
    column: sa.Column[datetime], limit: datetime, instead: datetime | None = None
) -> sa.ColumnElement[datetime]:
    """The moment, or the limit where it is beyond that; none stays none, which `least` would make the limit."""
    return sa.case((column > limit, sa.literal(instead or limit, column.type)), else_=column)
