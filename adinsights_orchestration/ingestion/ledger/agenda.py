"""What waits to be done, in one look.

Belongs here: one cheap statement per engine that says which of the rarer tasks of a tick there are. Does not belong
here: doing them. Most ticks find nothing to do; they should cost next to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from adinsights_orchestration.ingestion.airbyte_models import TERMINAL_STATUSES
from adinsights_orchestration.ingestion.intents import CLEARED_BY_A_START, FindingKind, IntentState, Reason
from adinsights_orchestration.ingestion.ledger.job_rows import VANISHED
from adinsights_orchestration.ingestion.ledger.positions import has_caught_up
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
        refused: Workspaces that could not be read.
        noted: Connections whose start Airbyte refused, or whose jobs could not be listed.
    """

    unanswered: bool
    ended: bool
    unseen: bool
    unexplained: bool
    strangers: bool
    refused: bool
    noted: bool


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
    sa.exists().where(finding.c.kind == FindingKind.WORKSPACE.value, finding.c.cleared_at.is_(None)),
    sa.exists().where(finding.c.kind.in_([kind.value for kind in CLEARED_BY_A_START]), finding.c.cleared_at.is_(None)),
)
_running = (
    sa.select(sa.func.count(sa.distinct(sync_intent.c.connection_id)))
    .where(sync_intent.c.state.in_((IntentState.STARTING.value, IntentState.RUNNING.value)))
    .scalar_subquery()
)
_TRIGGER = sa.select(
    _running,
    sa.exists().where(
        sync_intent.c.state == IntentState.PLANNED.value,
        sync_intent.c.run_id.is_(None),
        sa.or_(sync_intent.c.not_before.is_(None), sync_intent.c.not_before <= _moment("now")),
    ),
    sa.exists().where(sync_intent.c.state == IntentState.PLANNED.value, sync_intent.c.reason == Reason.SCHEDULE.value),
    has_caught_up,
)


@dataclass(frozen=True, slots=True)
class TriggerAgenda:
    """What a trigger tick finds.

    Attributes:
        running: Connections that are being started or synced.
        ready: Whether anything may start now that no run waits for.
        planned: Whether any scheduled start is planned.
        observed: Whether all that Airbyte did lately was read at least once.
    """

    running: int
    ready: bool
    planned: bool
    observed: bool


def observe_agenda(connection: sa.Connection, unseen_since: datetime, details_since: datetime) -> ObserveAgenda:
    """Looks at what is open."""
    moments = {"unseen_since": unseen_since, "details_since": details_since}
    return ObserveAgenda(*connection.execute(_OBSERVE, moments).one())


def trigger_agenda(connection: sa.Connection, now: datetime) -> TriggerAgenda:
    """Looks at what may start."""
    return TriggerAgenda(*connection.execute(_TRIGGER, {"now": now}).one())
