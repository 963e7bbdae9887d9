"""Orphans: edits and answers in the outbox whose message was refused for good, so that nothing is there to carry them.

Belongs here: whether a row is one, and whether its sink is asked with the whole message instead. Does not belong here:
what that message is (`takeover`), sending it (`deliver`). A channel that was mended tells nobody, so what alarms asks
it; one that is still broken is asked so at most once a minute, whatever waits for it.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.alerting.bookkeeping.outbox import Claimed
from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.telling.grouping import Op
from adinsights_orchestration.ops_store.alert_tables import alert_outbox
from adinsights_orchestration.ops_store.tables import finding

BETWEEN_PROBES = timedelta(minutes=1)  # as long as a page waits at most for a channel that refuses for now
_ROWS = alert_outbox.c
_of = sa.bindparam("of", type_=sa.Text)
_before, _now = (sa.bindparam(name, type_=_ROWS.finished_at.type) for name in ("before", "now"))
_DEAD_ROOTS = sa.and_(
    _ROWS.group_key == sa.bindparam("group"),
    _ROWS.episode == sa.bindparam("episode_"),
    _ROWS.sink == _of,
    _ROWS.op == Op.POST.value,
    _ROWS.state == "dead",
)
_HAS_DEAD_ROOT = sa.select(sa.exists().where(_DEAD_ROOTS))


def _taken() -> sa.Select[tuple[bool]]:
    """Whether the sink took something, or passed a test, since it refused the message."""
    refused = sa.select(sa.func.max(_ROWS.finished_at)).where(_DEAD_ROOTS).scalar_subquery()
    later = alert_outbox.alias("later")
    took = sa.exists().where(later.c.sink == _of, later.c.state == "sent", later.c.finished_at > refused)
    # A test is no row of the outbox; what it leaves is a finding that is over.
    passed = sa.exists().where(
        finding.c.kind == UNDELIVERABLE, finding.c.subject == _of, finding.c.cleared_at > refused
    )
    return sa.select(sa.or_(took, passed))


def _refused_lately() -> sa.Select[tuple[bool]]:
    """Whether the sink refused any whole message for good between two moments; a clock may have been ahead."""
    dead = sa.and_(_ROWS.sink == _of, _ROWS.op == Op.POST.value, _ROWS.state == "dead")
    return sa.select(sa.exists().where(dead, _ROWS.finished_at.between(_before, _now)))


_TAKEN, _REFUSED_LATELY = _taken(), _refused_lately()


def has_dead_root(connection: sa.Connection, row: Claimed) -> bool:
    """Whether the message that it belongs to could not be sent."""
    return bool(connection.execute(_HAS_DEAD_ROOT, _message(row)).scalar_one())


def is_worth_asking(connection: sa.Connection, row: Claimed, now: datetime) -> bool:
    """Whether the sink of an orphan may take its whole message by now.

    Args:
        connection: The caller's transaction.
        row: The orphan.
        now: The moment.
    """
    if connection.execute(_TAKEN, _message(row)).scalar_one():
        return True
    asked = {"of": row.sink, "before": now - BETWEEN_PROBES, "now": now}
    return row.message.alarms and not connection.execute(_REFUSED_LATELY, asked).scalar_one()


def _message(row: Claimed) -> dict[str, str | int]:
    return {"group": row.group, "episode_": row.episode, "of": row.sink}
