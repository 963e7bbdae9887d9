"""Answering for archived rows that vanished from their table: somebody has found out why, and wants to hear no more.

Belongs here: which rows an answer is about, and giving it. Does not belong here: noticing them (`vanishing`, `census`),
bringing them back (`restore`). The archive keeps the rows all the same. One answer is one entry in the journal and one
audit row for each tenant whose rows it is about, with the reason.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log import journal
from adinsights_orchestration.audit_log.bookkeeping import vanishing
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention.looking import census_of, settle
from adinsights_orchestration.audit_log.retention.run import lock_name
from adinsights_orchestration.audit_log.source import NOBODY, Source
from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.audit_tables import audit_run
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

KIND = "accept_vanished"
ACCEPTED = "audit_log_vanished_accepted"


class AnswerError(AdinsightsError):
    """Nothing was answered."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody answers for.

    Attributes:
        first: The first day.
        last: The last one, included.
        reason: Why the rows are gone; kept in the journal and in the tenants' audit rows.
        tenant: Whose rows; None: everybody's.
    """

    first: date
    last: date
    reason: str
    tenant: UUID | None = None

    def about(self, at: At) -> bool:
        """Whether it is about rows of this tenant's day."""
        return self.first <= at[1] <= self.last and self.tenant in (None, at[0])


@dataclass(slots=True)
class Answered:
    """What is answered for, or would be.

    Attributes:
        dry_run: Nothing was answered.
        rows: By tenant's day.
        others: How many rows the answer is not about.
        run: The entry in the journal.
    """

    dry_run: bool
    rows: dict[At, int] = field(default_factory=dict)
    others: int = 0
    run: UUID | None = None


def accept_vanished(
    settings: Settings,
    store: OpsStore,
    source: Source,
    answer: Answer,
    *,
    actor: str,
    apply: bool = False,
    clock: Clock = utc_now,
) -> Answered:
    """Answers for rows that vanished, or tells for which it would.

    Raises:
        AnswerError: There is no reason, or rows are being deleted or restored at this moment.
        AdinsightsError: The table cannot be counted, or the registry not be trusted.
    """
    if not apply:
        return _chosen(census_of(settings, store, source, clock)[1].vanished, answer, dry_run=True)
    if not answer.reason.strip():
        raise AnswerError("an answer needs a reason", next_step="Say why the rows are gone: --reason; it is kept.")
    with store.exclusive(lock_name(source)) as mine:
        if not mine:
            raise AnswerError(
                f"{source.name} is being deleted from or restored to at this moment",
                next_step="Wait for that to end; the same command then answers.",
            )
        _, ages = census_of(settings, store, source, clock)
        found = _chosen(ages.vanished, answer, dry_run=False)
        if found.rows:
            found.run = uuid.uuid4()
            with store.begin() as connection:
                settle(connection, source, ages, clock())
                vanishing.forget(connection, source.name, found.rows)
                _journal(connection, source, answer, found, actor, clock())
    return found


def _chosen(vanished: Mapping[At, int], answer: Answer, *, dry_run: bool) -> Answered:
    rows = {at: count for at, count in sorted(vanished.items()) if answer.about(at)}
    return Answered(dry_run, rows, sum(vanished.values()) - sum(rows.values()))


def _journal(
    connection: sa.Connection, source: Source, answer: Answer, found: Answered, actor: str, now: datetime
) -> None:
    assert found.run is not None
    days: dict[UUID, dict[date, int]] = defaultdict(dict)
    for (tenant, day), rows in found.rows.items():
        days[tenant][day] = rows
    about = {"first": answer.first.isoformat(), "last": answer.last.isoformat(), "reason": answer.reason}
    summary = {**about, "tenants": len(days), "rows": sum(found.rows.values())}
    opened = {"id": found.run, "source": source.name, "kind": KIND, "actor": actor}
    connection.execute(sa.insert(audit_run).values(**opened, started_at=now, finished_at=now, summary=summary))
    for tenant, rows_of in days.items():
        detail = {
            "first_day": min(rows_of).isoformat(),
            "last_day": max(rows_of).isoformat(),
            "days": len(rows_of),
            "rows": sum(rows_of.values()),
            "reason": answer.reason,
            "source": source.name,
            "run": str(found.run),
        }
        entry = AuditEntry(
            tenant_id=None if tenant == NOBODY else tenant,
            action=ACCEPTED,
            resource_type=journal.RESOURCE,
            resource_id=source.name[:64],
            actor=actor,
            created_at=now,
            detail=detail,
            id=uuid.uuid5(found.run, str(tenant)),
        )
        record(connection, entry)
