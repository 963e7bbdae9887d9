"""The second channel: what one sink does not take for long, or for good, and another says instead.

Belongs here: finding such rows of the outbox, and handing them over. Does not belong here: when a sink counts as not
taking anything, and which one stands in for it (`deliver`, `opening`). The first sink keeps its rows: once it can, it
says them too. From the hand-over on, the group counts the second among those that its message is at.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.alerting.bookkeeping.outbox import UNSENT, Claimed
from adinsights_orchestration.alerting.message import Message, Standing, from_json, to_json
from adinsights_orchestration.alerting.telling.grouping import Op
from adinsights_orchestration.ops_store.alert_tables import alert_channel, alert_group, alert_outbox

_ROWS = alert_outbox.c


def hand_over(connection: sa.Connection, row: Claimed, sink: str, why: str, now: datetime) -> bool:
    """Lets another sink say what this one does not take, and everything after it; returns whether it is new there.

    A sink that is told of it anyway, as the next contact is, gets no second message of it.

    Args:
        connection: The caller's transaction.
        row: What was not taken; its message says there what happened.
        sink: The sink that takes over.
        why: What happened, in a sentence.
        now: The moment.
    """
    group = alert_group.c
    told = sa.not_(group.sinks.contains([sink]))
    # Locked first, as an evaluation does.
    connection.execute(
        sa.update(alert_group)
        .where(group.key == row.group, group.episode == row.episode, told)
        .values(sinks=sa.func.array_append(group.sinks, sink))
    )
    if _is_told_itself(connection, row, sink):
        return False
    copy = {
        "notice_id": uuid.uuid4(),
        "group_key": row.group,
        "episode": row.episode,
        "seq": row.seq,
        "sink": sink,
        "op": row.op.value,
        "message": {**to_json(row.message), "note": why},
        "state": "pending",
        "created_at": now,
    }
    copied = insert(alert_outbox).values(copy).on_conflict_do_nothing().returning(_ROWS.notice_id)
    return connection.execute(copied).first() is not None


def _is_told_itself(connection: sa.Connection, row: Claimed, sink: str) -> bool:
    """Whether a sink has a first message of its own, or has one to come, that says this and what came after it."""
    same = sa.and_(_ROWS.group_key == row.group, _ROWS.episode == row.episode, _ROWS.sink == sink)
    its_first = sa.and_(same, _ROWS.op == Op.POST.value, _ROWS.state.in_((*UNSENT, "sent")))
    if row.op is not Op.POST:
        its_first = sa.and_(its_first, _ROWS.seq > row.seq)
    query = sa.select(sa.exists().where(its_first))
    return bool(connection.execute(query).scalar_one())


def instead(connection: sa.Connection, row: Claimed, sink: str) -> Claimed | None:
    """Returns what another sink is to say in place of a row that was refused for good; None where there is nothing.

    To a sink that does not have the message an edit or an answer means nothing: it gets the whole of it, as it stands.
    """
    group = alert_group.c
    mine = sa.and_(group.key == row.group, group.episode == row.episode, group.sinks.contains([sink]))
    if row.op is Op.POST or connection.execute(sa.select(sa.exists().where(mine))).scalar_one():
        return row
    message = unless_over(connection, row)
    return None if message is None else replace(row, op=Op.POST, message=message)


def unless_over(connection: sa.Connection, row: Claimed) -> Message | None:
    """Returns the message that a row belongs to as it stands in its sink; None where it is over or not kept."""
    message = _as_it_stands(connection, row.group, row.episode, row.sink)
    return None if message is None or message.standing is Standing.RESOLVED else message


def lock_groups(connection: sa.Connection, rows: Sequence[Claimed]) -> None:
    """Locks the groups of several rows in the order in which evaluations lock them, which only Postgres knows."""
    keys = sa.bindparam("keys", list({row.group for row in rows}), type_=sa.ARRAY(sa.Text))
    wanted = alert_group.c.key.in_(sa.select(sa.func.unnest(keys)))
    connection.execute(sa.select(alert_group.c.key).where(wanted).order_by(alert_group.c.key).with_for_update())


def overdue(connection: sa.Connection, sink: str, before: datetime, now: datetime) -> list[Claimed]:
    """Returns first messages that a sink has not taken since before a moment; they are claimed by nobody here.

    What was not tried because nobody delivered is not among them, unless the sink is closed.
    """
    closed = sa.exists().where(alert_channel.c.sink == sink, alert_channel.c.not_before > now)
    tried = sa.or_(_ROWS.attempts > 0, closed)
    mine = sa.and_(_ROWS.sink == sink, _ROWS.state.in_(UNSENT), _ROWS.op == Op.POST.value)
    query = sa.select(alert_outbox).where(mine, tried, _ROWS.created_at < before)
    return [_unclaimed(row) for row in connection.execute(query.order_by(_ROWS.created_at).limit(50))]


def unheard(connection: sa.Connection, sink: str, other: str, before: datetime, now: datetime) -> list[Claimed]:
    """Returns what is new in messages that a sink has, which it has not taken since before a moment.

    One a message, as the whole message that the other sink is to say. Those that the other has too are not among them:
    it is told of what is new there itself; nor what is over meanwhile.

    Args:
        connection: The caller's transaction.
        sink: Whose.
        other: The sink that is to take over.
        before: The moment.
        now: Now, by which the sink may be closed.
    """
    same = (_ROWS.group_key, _ROWS.episode, _ROWS.sink)
    mine = sa.and_(_ROWS.sink == sink, _ROWS.state.in_(UNSENT))
    alarms = sa.and_(_ROWS.op == Op.REPLY.value, _ROWS.message["alarms"].as_boolean())
    # An answer waits behind the edit before it, which is tried for both.
    was_tried = sa.select(*same).where(mine, _ROWS.attempts > 0)
    closed = sa.exists().where(alert_channel.c.sink == sink, alert_channel.c.not_before > now)
    has_it = sa.exists().where(
        alert_group.c.key == _ROWS.group_key,
        alert_group.c.episode == _ROWS.episode,
        alert_group.c.sinks.contains([other]),
    )
    posted = alert_outbox.alias("posted")
    is_there = sa.exists().where(
        posted.c.group_key == _ROWS.group_key,
        posted.c.episode == _ROWS.episode,
        posted.c.sink == _ROWS.sink,
        posted.c.op == Op.POST.value,
        posted.c.state == "sent",
    )
    late = sa.and_(mine, alarms, _ROWS.created_at < before, sa.or_(closed, sa.tuple_(*same).in_(was_tried)))
    query = sa.select(alert_outbox).where(late, is_there, sa.not_(has_it)).order_by(_ROWS.created_at).limit(50)
    first = {(row.group_key, row.episode): row for row in reversed(connection.execute(query).all())}
    whole = [_whole(connection, row) for row in first.values()]
    return [row for row in whole if row.message.standing is not Standing.RESOLVED]


def _whole(connection: sa.Connection, row: sa.Row[Any]) -> Claimed:
    """The row as the message that it is an answer to, as that stands."""
    message = _as_it_stands(connection, row.group_key, row.episode, row.sink)
    assert message is not None, "its post is there"
    return replace(_unclaimed(row), op=Op.POST, message=message)


def _as_it_stands(connection: sa.Connection, group: str, episode: int, sink: str) -> Message | None:
    """A sink's message with its newest edit, whether or not the sink took it; None where it is not kept any more."""
    same = sa.and_(_ROWS.group_key == group, _ROWS.episode == episode, _ROWS.sink == sink)
    query = sa.select(_ROWS.message).where(same, _ROWS.op.in_((Op.POST.value, Op.UPDATE.value)))
    newest = connection.execute(query.order_by(_ROWS.seq.desc()).limit(1)).scalar_one_or_none()
    return None if newest is None else from_json(newest)


def _unclaimed(row: sa.Row[Any]) -> Claimed:
    return Claimed(
        notice_id=row.notice_id,
        claim=row.claim or row.notice_id,
        group=row.group_key,
        episode=row.episode,
        seq=row.seq,
        sink=row.sink,
        op=Op(row.op),
        message=from_json(row.message),
        attempt=row.attempts,
        refusals=row.refusals,
        root=None,
        may_have_arrived=row.state == "attempting",
        first_attempt_at=row.first_attempt_at or row.created_at,
        last_attempt_at=row.last_attempt_at or row.created_at,
        until=row.lease_until or row.created_at,
        created_at=row.created_at,
    )
