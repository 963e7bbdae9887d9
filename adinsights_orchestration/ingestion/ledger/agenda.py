"""What waits to be done, in one look.

Belongs here: one cheap statement per engine that says which of the rarer tasks of a tick there are. Does not belong
here: doing them. Most ticks find nothing to do; they should cost next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from adinsights_orchestration.ingestion.airbyte_models import TERMINAL_STATUSES
from adinsights_orchestration.ingestion.intents import FindingKind, IntentState, Reason
from adinsights_orchestration.ingestion.ledger.jobs import VANISHED
from adinsights_orchestration.ops_store.tables import finding, sync_intent, sync_job


def _moment(name: str) -> sa.BindParameter[datetime]:
    return sa.bindparam(name, type_=sa.DateTime(timezone=True))


@dataclass(frozen=True, slots=True)
class ObserveAgenda:
    """What an observe tick has to do beside reading on.

    Attributes:
        unanswered: Starts without an answer.
        ended: Intents whose job is over.
        unseen: Running jobs that were not seen for long.
        unexplained: Failed jobs whose reason was not read yet.
        strangers: Connections that the registry did not know.
    """

    unanswered: bool
    ended: bool
    unseen: bool
    unexplained: bool
    strangers: bool


_OVER = (*TERMINAL_STATUSES, VANISHED)
_OBSERVE = sa.select(
    sa.exists().where(sync_intent.c.state == IntentState.STARTING.value),
    sa.exists().where(
        sync_intent.c.state == IntentState.RUNNING.value,
        sync_job.c.job_id == sync_intent.c.job_id,
        sync_job.c.status.in_(_OVER),
    ),
    sa.exists().where(sync_job.c.report_state == "none", sync_job.c.observed_at < _moment("unseen_since")),
    sa.exists().where(
        sync_job.c.attempts.is_(None),
        sync_job.c.report_state != "none",
        sync_job.c.ended_at >= _moment("details_since"),
        sync_job.c.status != "succeeded",
    ),
    sa.exists().where(finding.c.kind == FindingKind.UNKNOWN_CONNECTION.value, finding.c.cleared_at.is_(None)),
)
_WAITING = sa.select(
    sa.exists().where(
        sync_intent.c.state == IntentState.PLANNED.value,
        sync_intent.c.run_id.is_(None),
        sa.or_(sync_intent.c.not_before.is_(None), sync_intent.c.not_before <= _moment("now")),
    ),
    sa.exists().where(sync_intent.c.state == IntentState.PLANNED.value, sync_intent.c.reason == Reason.SCHEDULE.value),
)


def observe_agenda(connection: sa.Connection, unseen_since: datetime, details_since: datetime) -> ObserveAgenda:
    """Looks at what is open."""
    moments = {"unseen_since": unseen_since, "details_since": details_since}
    return ObserveAgenda(*connection.execute(_OBSERVE, moments).one())


def ready_to_start(connection: sa.Connection, now: datetime) -> tuple[bool, bool]:
    """Returns whether any intent may start now that no run waits for, and whether any scheduled one is planned."""
    ready, planned = connection.execute(_WAITING, {"now": now}).one()
    return ready, planned
