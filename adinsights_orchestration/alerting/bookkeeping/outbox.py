"""The outbox: what is to be said, kept until it was.

Belongs here: rows of `alert_outbox` and `alert_channel`: putting in, claiming, recording what came of it. Does not
belong here: sending (`deliver`). A row is claimed by one delivery until its lease ends; whoever records an outcome must
still hold the claim. Only the oldest unsent row of a message (group, episode, sink) can be claimed, so that a message
is there before it is edited or answered, and edits arrive in order.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.alerting.channels.sinks import Traits
from adinsights_orchestration.alerting.message import Message, from_json, to_json
from adinsights_orchestration.alerting.telling.grouping import FAREWELL, Op, Order
from adinsights_orchestration.ops_store.alert_tables import alert_channel, alert_outbox
from adinsights_orchestration.ops_store.compiling import compiled_once

_ROWS = alert_outbox.c
UNSENT = ("pending", "attempting")
LONGEST_WAIT = timedelta(hours=1)  # that a sink may ask for
_LONGEST_ERROR = 300


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row in the hands of one delivery.

    Attributes:
        notice_id: The notification id.
        claim: Proof that it is still in the same hands.
        group: The group.
        episode: Which of its messages.
        seq: Its place in the message's story.
        sink: Where it goes.
        op: What is to be done.
        message: What to say.
        attempt: Which try this is, from 1.
        refusals: How many times it was refused for certain.
        root: The message to edit or answer; None where there is none.
        may_have_arrived: Whether an earlier attempt ended without an answer.
        first_attempt_at: Before the first attempt.
        last_attempt_at: Before the last one before this.
        until: When the lease ends.
        created_at: Since when it is to be said.
    """

    notice_id: UUID
    claim: UUID
    group: str
    episode: int
    seq: int
    sink: str
    op: Op
    message: Message
    attempt: int
    refusals: int
    root: str | None
    may_have_arrived: bool
    first_attempt_at: datetime
    last_attempt_at: datetime
    until: datetime
    created_at: datetime


def _next(*wanted: sa.ColumnElement[bool], behind: Collection[Op] = tuple(Op)) -> sa.Select[Any]:
    """The next row of the sink `of` at the moment `now`, locked; one of those wanted, behind nothing of these kinds."""
    earlier = alert_outbox.alias("earlier")
    unsent_before = sa.exists().where(
        earlier.c.group_key == _ROWS.group_key,
        earlier.c.episode == _ROWS.episode,
        earlier.c.sink == _ROWS.sink,
        earlier.c.seq < _ROWS.seq,
        earlier.c.op.in_([op.value for op in behind]),
        earlier.c.state.in_(UNSENT),
    )
    is_free = sa.or_(_ROWS.state == "pending", _ROWS.lease_until <= _now)
    is_due = sa.or_(_ROWS.not_before.is_(None), _ROWS.not_before <= _now)
    new_page = sa.and_(_ROWS.op == Op.POST.value, _ROWS.message["severity"].astext == "page")
    query = sa.select(alert_outbox).where(_ROWS.sink == _of, _ROWS.state.in_(UNSENT), is_free, is_due)
    order = (new_page.desc(), _ROWS.created_at, _ROWS.seq, _ROWS.group_key)
    query = query.where(sa.not_(unsent_before), *wanted).order_by(*order).limit(1)
    return query.with_for_update(skip_locked=True)


# Made once: a delivery executes them for every row, and making them anew each time was a third of its CPU.
_of, _now = sa.bindparam("of", type_=sa.Text), sa.bindparam("now", type_=_ROWS.created_at.type)
_NEXT = _next()
# Whatever lines of its story were not taken, a message can say where it is told from now on.
_FAREWELL = _next(
    _ROWS.op == Op.UPDATE.value,
    _ROWS.message["note"].astext.startswith(FAREWELL),
    behind=(Op.POST, Op.UPDATE),
)
_KNOW = compiled_once(insert(alert_channel).values(sink=_of, used_until=_now).on_conflict_do_nothing())
_LOCKED = sa.select(alert_channel).where(alert_channel.c.sink == _of).with_for_update()
_USE = sa.update(alert_channel).where(alert_channel.c.sink == _of).values(used_until=sa.bindparam("until"))
_TAKE = (
    sa.update(alert_outbox)
    .where(_ROWS.notice_id == sa.bindparam("id"))
    .values(
        state="attempting",
        claim=sa.bindparam("token"),
        attempts=sa.bindparam("attempt"),
        lease_until=sa.bindparam("until"),
        first_attempt_at=sa.bindparam("first_at"),
        last_attempt_at=sa.bindparam("last_at"),
    )
)
_OF_MESSAGE = sa.and_(
    _ROWS.group_key == sa.bindparam("group"),
    _ROWS.episode == sa.bindparam("episode_"),
    _ROWS.sink == _of,
    _ROWS.op == Op.POST.value,
)
_ROOT = sa.select(_ROWS.ref).where(_OF_MESSAGE, _ROWS.state == "sent").order_by(_ROWS.seq.desc()).limit(1)
_WAITING = (
    sa.select(_ROWS.sink)
    .where(_ROWS.state.in_(UNSENT), sa.or_(_ROWS.not_before.is_(None), _ROWS.not_before <= _now))
    .group_by(_ROWS.sink)
    .order_by(sa.func.min(_ROWS.created_at), _ROWS.sink)
)


def enqueue(connection: sa.Connection, orders: Iterable[Order], now: datetime) -> None:
    """Puts orders into the outbox; an edit replaces what is not on its way yet, so that a storm of edits is one.

    Args:
        connection: The transaction in which the states that they follow from are written.
        orders: In their order.
        now: The moment.
    """
    for order in orders:
        if order.op is Op.UPDATE and _replace(connection, order):
            continue
        row = {
            "notice_id": uuid.uuid4(),
            "group_key": order.group,
            "episode": order.episode,
            "seq": order.seq,
            "sink": order.sink,
            "op": order.op.value,
            "message": to_json(order.message),
            "state": "pending",
            "created_at": now,
        }
        connection.execute(sa.insert(alert_outbox).values(row))


def numbered(connection: sa.Connection, order: Order) -> Order:
    """Returns the order behind all that its message has: a digest's moment comes twice where a clock was days ahead."""
    same = sa.and_(_ROWS.group_key == order.group, _ROWS.episode == order.episode, _ROWS.sink == order.sink)
    last = connection.execute(sa.select(sa.func.max(_ROWS.seq)).where(same)).scalar_one_or_none()
    return replace(order, seq=(last or 0) + 1)


def waiting_sinks(connection: sa.Connection, now: datetime) -> list[str]:
    """Returns the sinks for which something is unsent, those that waited longest first."""
    return list(connection.execute(_WAITING, {"now": now}).scalars())


def prompt_sinks(connection: sa.Connection, among: Iterable[str]) -> set[str]:
    """Returns the sinks that something waits for and that owe nothing: nothing unsent was tried before."""
    query = sa.select(_ROWS.sink).where(_ROWS.state.in_(UNSENT), _ROWS.sink.in_(list(among)))
    return set(connection.execute(query.group_by(_ROWS.sink).having(sa.func.max(_ROWS.attempts) == 0)).scalars())


def is_due_by(connection: sa.Connection, sinks: Collection[str], moment: datetime) -> bool:
    """Whether one of these sinks takes something unsent by a moment, as far as is known; claimed rows aside."""
    free = sa.or_(_ROWS.state == "pending", _ROWS.lease_until <= moment)
    due = sa.or_(_ROWS.not_before.is_(None), _ROWS.not_before <= moment)
    closed = sa.exists().where(alert_channel.c.sink == _ROWS.sink, alert_channel.c.not_before > moment)
    waits = sa.exists().where(_ROWS.state.in_(UNSENT), _ROWS.sink.in_(list(sinks)), free, due, sa.not_(closed))
    return bool(connection.execute(sa.select(waits)).scalar_one())


def lease(traits: Traits) -> timedelta:
    """How long a claim is held: a look-up and an attempt fit into it, and what that started has settled at its end."""
    return timedelta(seconds=2 * traits.deadline_seconds + traits.settle_seconds)


def claim(
    connection: sa.Connection, sink: str, traits: Traits, now: datetime, *, only_farewells: bool = False
) -> Claimed | None:
    """Claims the next row of a sink, and a place in its allowance; None where there is none of either.

    Args:
        connection: A transaction of its own, committed before anything is sent.
        sink: Whose.
        traits: Its allowance and deadlines.
        now: The moment.
        only_farewells: Whether it is only to be said in its messages where they are told from now on.
    """
    used_until = _allowance(connection, sink, traits, now)
    if used_until is None:
        return None
    row = connection.execute(_FAREWELL if only_farewells else _NEXT, {"of": sink, "now": now}).one_or_none()
    if row is None:
        return None
    until = now + lease(traits)
    token = uuid.uuid4()
    taken = {"id": row.notice_id, "token": token, "attempt": row.attempts + 1, "until": until}
    connection.execute(_TAKE, {**taken, "first_at": row.first_attempt_at or now, "last_at": now})
    connection.execute(_USE, {"of": sink, "until": used_until + traits.every})
    return Claimed(
        notice_id=row.notice_id,
        claim=token,
        group=row.group_key,
        episode=row.episode,
        seq=row.seq,
        sink=row.sink,
        op=Op(row.op),
        message=from_json(row.message),
        attempt=row.attempts + 1,
        refusals=row.refusals,
        root=_root(connection, row),
        may_have_arrived=row.state == "attempting",
        first_attempt_at=row.first_attempt_at or now,
        last_attempt_at=row.last_attempt_at or now,
        until=until,
        created_at=row.created_at,
    )


def sent(connection: sa.Connection, row: Claimed, ref: str, now: datetime) -> bool:
    """Records that it arrived; returns False, and does nothing, when it is in other hands."""
    return _record(connection, row, state="sent", ref=ref, finished_at=now, lease_until=None, last_error=None)


def dead(connection: sa.Connection, row: Claimed, reason: str, now: datetime) -> bool:
    """Records that it never will; returns False, and does nothing, when it is in other hands."""
    return _record(connection, row, state="dead", finished_at=now, lease_until=None, last_error=_short(reason))


def refused(connection: sa.Connection, row: Claimed, reason: str, not_before: datetime) -> bool:
    """Records that it did not arrive for certain, and when it is tried again."""
    again: dict[str, Any] = {"state": "pending", "refusals": row.refusals + 1, "not_before": not_before}
    return _record(connection, row, **again, lease_until=None, first_attempt_at=None, last_error=_short(reason))


def uncertain(connection: sa.Connection, row: Claimed, reason: str, look_at: datetime) -> bool:
    """Records that it may have arrived, and when it is looked up."""
    return _record(connection, row, lease_until=look_at, last_error=_short(reason))


def becomes_post(connection: sa.Connection, row: Claimed, reason: str) -> bool:
    """Records that the message it was about is gone: it is said anew."""
    anew: dict[str, Any] = {"state": "pending", "op": Op.POST.value, "first_attempt_at": None}
    return _record(connection, row, **anew, lease_until=None, last_error=_short(reason))


def becomes_whole(connection: sa.Connection, row: Claimed, message: Message) -> Claimed:
    """Makes of an edit or an answer the post of a whole message, still in the same hands; returns the row as it is."""
    mine = sa.and_(_ROWS.notice_id == row.notice_id, _ROWS.claim == row.claim)
    values = {"op": Op.POST.value, "message": to_json(message)}
    connection.execute(sa.update(alert_outbox).where(mine).values(**values))
    return replace(row, op=Op.POST, message=message)


def close_channel(connection: sa.Connection, sink: str, not_before: datetime, reason: str) -> None:
    """Records that a sink takes nothing before a moment."""
    closed = sa.update(alert_channel).where(alert_channel.c.sink == sink)
    connection.execute(closed.values(not_before=not_before, last_error=_short(reason)))


def _replace(connection: sa.Connection, order: Order) -> bool:
    """Puts an edit in the place of a post or edit that is not on its way."""
    same = sa.and_(_ROWS.group_key == order.group, _ROWS.episode == order.episode, _ROWS.sink == order.sink)
    ops = (Op.POST.value, Op.UPDATE.value)
    newest = sa.select(_ROWS.notice_id).where(same, _ROWS.state == "pending", _ROWS.op.in_(ops))
    newest = newest.order_by(_ROWS.seq.desc()).limit(1)
    # `note` says how it came here, or where it went, and stays; what is not there yet goes nowhere.
    note: sa.ColumnElement[Any] = _ROWS.message["note"]
    if order.message.note:
        left = sa.func.to_jsonb(sa.cast(order.message.note, sa.Text))
        note = sa.case((_ROWS.op == Op.UPDATE.value, left), else_=note)
    merged = sa.func.jsonb_build_object("note", note)
    fresh = sa.bindparam("fresh", to_json(order.message), type_=_ROWS.message.type)
    replaced = (
        sa.update(alert_outbox)
        .where(_ROWS.notice_id.in_(newest), _ROWS.state == "pending")
        .values(message=fresh.op("||")(merged))
    )
    return connection.execute(replaced).rowcount > 0


def _allowance(connection: sa.Connection, sink: str, traits: Traits, now: datetime) -> datetime | None:
    """The moment up to which the sink's allowance is used; None while it takes nothing. Locks the sink."""
    connection.execute(_KNOW, {"of": sink, "now": now})
    channel = connection.execute(_LOCKED, {"of": sink}).one()
    if channel.not_before is not None and channel.not_before > now:
        return None
    # A clock that was set back must not close the sink for as long as it was ahead.
    used: datetime = min(max(channel.used_until, now), now + traits.every * traits.burst)
    return used if used - now < traits.every * traits.burst or not traits.every else None


def _root(connection: sa.Connection, row: sa.Row[Any]) -> str | None:
    message = {"group": row.group_key, "episode_": row.episode, "of": row.sink}
    return connection.execute(_ROOT, message).scalar()


def _record(connection: sa.Connection, row: Claimed, **values: Any) -> bool:
    mine = sa.and_(_ROWS.notice_id == row.notice_id, _ROWS.claim == row.claim, _ROWS.state == "attempting")
    return connection.execute(sa.update(alert_outbox).where(mine).values(**values)).rowcount > 0


def _short(reason: str) -> str:
    return reason[:_LONGEST_ERROR]
