"""Saying something again: what a channel refused for good, or a message that somebody deleted or never saw.

Belongs here: putting rows of the outbox back, each as one transaction that keeps evaluations out. Does not belong here:
sending (`deliver`), evaluating again (job `run_alert_evaluation`). What is over is not told again unless it is asked
for by name: on-call who mends a channel wants what still matters, not the morning's history.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import sqlalchemy as sa

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.bookkeeping.rows import Event
from adinsights_orchestration.alerting.evaluation.evaluate import hold
from adinsights_orchestration.alerting.message import moment
from adinsights_orchestration.alerting.operating import hands
from adinsights_orchestration.alerting.telling.grouping import Op
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.ops_store.alert_tables import alert_group, alert_outbox
from adinsights_orchestration.ops_store.store import OpsStore

_ROWS = alert_outbox.c


@dataclass(frozen=True, slots=True)
class Replayed:
    """One thing that is said again."""

    group: str
    episode: int
    sink: str
    title: str


def dead_letters(store: OpsStore, who: str, now: datetime, *, everything: bool = False) -> list[Replayed]:
    """Puts what channels refused for good back into the outbox, and returns it.

    Args:
        store: The ops store.
        who: Who asks for it.
        now: The moment.
        everything: Also what is over by now.
    """
    with store.begin() as connection:
        hold(connection)
        is_open = sa.exists().where(
            alert_group.c.key == _ROWS.group_key,
            alert_group.c.episode == _ROWS.episode,
            alert_group.c.shown != "",
        )
        said = alert_outbox.alias("said")  # the whole message, once the channel took something again
        was_said = sa.exists().where(
            *(said.c[name] == _ROWS[name] for name in ("group_key", "episode", "sink")),
            said.c.op == Op.POST.value,
            said.c.state == "sent",
            said.c.seq > _ROWS.seq,
        )
        dead = sa.and_(_ROWS.state == "dead", sa.not_(was_said))
        which = dead if everything else sa.and_(dead, is_open)
        again = {"state": "pending", "refusals": 0, "not_before": None, "first_attempt_at": None, "finished_at": None}
        revived = (
            sa.update(alert_outbox)
            .where(which)
            .values(**again, lease_until=None, last_error=None)
            .returning(_ROWS.group_key, _ROWS.episode, _ROWS.sink, _ROWS.message["title"].astext)
        )
        found = [Replayed(*row) for row in connection.execute(revived)]
        _note(connection, found, who, now)
    return found


def message_of(store: OpsStore, incident_id: str, who: str, now: datetime) -> list[Replayed]:
    """Sends the message that an incident belongs to anew to each of its channels; later edits are of the new one.

    Args:
        store: The ops store.
        incident_id: The incident's id.
        who: Who asks for it; the message says so.
        now: The moment.

    Raises:
        ConfigurationError: There is no such incident, or nothing was ever said of it that is still kept.
    """
    incident = hands.story(store, incident_id).incident
    with store.begin() as connection:
        hold(connection)
        key = incident.finding.group_key
        group = rows.load_groups(connection, [key]).get(key)
        kept = _newest(connection, key, group.episode) if group is not None else []
        if group is None or not kept:
            raise ConfigurationError(
                f"nothing is kept that was said of {incident.id}",
                next_step="See adinsights alerts show: what keeps it quiet?",
            )
        found, seq = [], group.seq
        for row in kept:
            seq += 1
            note = f"Sent again by {who}, {moment(now)}."
            copy = {"notice_id": uuid4(), "group_key": key, "episode": group.episode, "seq": seq, "sink": row.sink}
            copy |= {"op": Op.POST.value, "message": {**row.message, "note": note}, "state": "pending"}
            connection.execute(sa.insert(alert_outbox).values(**copy, created_at=now))
            found.append(Replayed(key, group.episode, row.sink, row.message["title"]))
        connection.execute(sa.update(alert_group).where(alert_group.c.key == key).values(seq=seq))
        _note(connection, found, who, now)
    return found


def _newest(connection: sa.Connection, key: str, episode: int) -> Sequence[sa.Row[tuple[str, dict[str, str]]]]:
    """The newest form of a message in each channel."""
    ops = (Op.POST.value, Op.UPDATE.value)
    query = sa.select(_ROWS.sink, _ROWS.message).where(
        _ROWS.group_key == key, _ROWS.episode == episode, _ROWS.op.in_(ops)
    )
    return connection.execute(query.distinct(_ROWS.sink).order_by(_ROWS.sink, _ROWS.seq.desc())).all()


def _note(connection: sa.Connection, found: Sequence[Replayed], who: str, now: datetime) -> None:
    rows.note(
        connection, [Event(now, "replayed", f"{each.sink} by {who}", None, each.group, each.episode) for each in found]
    )
