"""What a run has deleted of each tenant, kept in its entry of the journal while it works: the audit rows that it owes.

Belongs here: counting, and closing the entries of this run and of those that died. Does not belong here: deleting.
Archived rows are counted in the transaction that says that they are gone, so the count is exact whenever the process
dies; what it left `deleting` is counted once somebody has looked. Rows that go by age alone leave no such trace: they
are counted before their COMMIT, and a run that dies right there tells of at most one transaction too many.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log import journal
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.source import NOBODY, Archive, Source
from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.clock import Clock
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.audit_tables import audit_run
from adinsights_orchestration.ops_store.store import OpsStore

KIND = "retention"
DELETED = "audit_log_retention_deleted"
_DIED = "the run died; what it had deleted is told, and the next run went on"


@dataclass(frozen=True, slots=True)
class Lost:
    """What one tenant has lost."""

    rows: int
    first: date
    last: date

    def __add__(self, other: Lost) -> Lost:
        return Lost(self.rows + other.rows, min(self.first, other.first), max(self.last, other.last))


@dataclass(slots=True)
class Account:
    """The account of one run.

    Attributes:
        store: The ops store.
        source: The table.
        archive: Whether what goes is archived.
        run: Its entry in the journal.
        clock: The moment of each step.
        summary: What else is to be told of the run in the end.
    """

    store: OpsStore
    source: Source
    archive: Archive
    run: UUID
    clock: Clock
    summary: dict[str, int] = field(default_factory=dict)
    _gone: dict[UUID, Lost] = field(default_factory=dict)
    _going: dict[UUID, Lost] = field(default_factory=dict)

    def begin(self, rows: Mapping[At, int]) -> None:
        """Commits that these may be gone at any moment."""
        with self.store.begin() as connection:
            self.count(connection, rows)

    def count(self, connection: sa.Connection, rows: Mapping[At, int]) -> None:
        """The same in the caller's transaction."""
        self._going = _of_tenants(rows)
        self._write(connection, _together(self._gone, self._going))

    def finish(self) -> None:
        """They are gone."""
        self._gone, self._going = _together(self._gone, self._going), {}

    def abandon(self) -> None:
        """Commits that they are all still there."""
        self._going = {}
        with self.store.begin() as connection:
            self._write(connection, self._gone)

    def take_over(self, connection: sa.Connection, settled: Mapping[At, int]) -> None:
        """Closes the entries of runs that died; to be called once, in the transaction that settles what they left.

        Args:
            connection: To the ops store.
            settled: Rows that are gone and that no run has counted. They are of the run that died first, since each run
                settles before it deletes; of this one where whoever deleted them closed its entry.
        """
        dead = [row.id for row in journal.open_runs_in(connection, self.source.name, KIND) if row.id != self.run]
        if dead:
            first = Account(self.store, self.source, self.archive, dead[0], self.clock)
            first._gone = _told(connection, dead[0])
            first.count(connection, settled)
        elif settled:
            self.count(connection, settled)
        for run in dead:
            self._close(connection, run, {}, _DIED)

    def close(self, error: str | None) -> None:
        """Closes this run's entry, and journals one audit row for each tenant that lost rows by it."""
        with self.store.begin() as connection:
            self._close(connection, self.run, self.summary, error)

    def _close(self, connection: sa.Connection, run: UUID, summary: Mapping[str, int], error: str | None) -> None:
        opened = connection.execute(sa.select(audit_run).where(audit_run.c.id == run)).one()
        lost = _told(connection, run)
        for tenant, each in lost.items():
            record(connection, self._entry(run, opened.actor, tenant, each))
        if not lost and error is None:  # it concerned nobody
            record(connection, self._entry(run, opened.actor, NOBODY, None))
        journal.end_run(connection, run, self.clock(), {**opened.summary, **summary}, error)

    def _entry(self, run: UUID, actor: str, tenant: UUID, lost: Lost | None) -> AuditEntry:
        detail = {
            "run": str(run),
            "rows": lost.rows if lost else 0,
            "first_day": lost.first.isoformat() if lost else None,
            "last_day": lost.last.isoformat() if lost else None,
            "archive": self.archive.value,
        }
        return AuditEntry(
            tenant_id=None if tenant == NOBODY else tenant,
            action=DELETED,
            resource_type=journal.RESOURCE,
            resource_id=self.source.name[:64],
            actor=actor,
            created_at=self.clock(),
            detail=detail,
            id=uuid.uuid5(run, str(tenant)),
        )

    def _write(self, connection: sa.Connection, lost: Mapping[UUID, Lost]) -> None:
        tenants = {
            str(tenant): [each.rows, each.first.isoformat(), each.last.isoformat()] for tenant, each in lost.items()
        }
        summary = {"tenants": tenants}
        connection.execute(sa.update(audit_run).where(audit_run.c.id == self.run).values(summary=summary))


@contextmanager
def accounted(store: OpsStore, source: Source, archive: Archive, actor: str, clock: Clock) -> Iterator[Account]:
    """The account of one run, from opening its entry to closing it, however it ends."""
    account = Account(
        store, source, archive, journal.open_run(store, source.name, KIND, actor=actor, now=clock()), clock
    )
    error: str | None = None
    try:
        yield account
    except BaseException as failure:
        error = str(failure) if isinstance(failure, AdinsightsError) else type(failure).__name__
        raise
    finally:
        with journal.unless_failing(error):
            account.close(error)


def so_far(store: OpsStore, sources: Sequence[Source]) -> str:
    """How many rows the runs that are under way have deleted, in words; nothing where they have deleted none."""
    rows = Counter[str]()
    with store.begin() as connection:
        for source in sources:
            for run in journal.open_runs_in(connection, source.name, KIND):
                rows[source.name] += sum(lost.rows for lost in _told(connection, run.id).values())
    return ", ".join(f"{count:,} rows of {name} deleted so far" for name, count in rows.items() if count)


def _told(connection: sa.Connection, run: UUID) -> dict[UUID, Lost]:
    """What a run has counted so far."""
    summary = connection.execute(sa.select(audit_run.c.summary).where(audit_run.c.id == run)).scalar_one()
    return {
        UUID(tenant): Lost(rows, date.fromisoformat(first), date.fromisoformat(last))
        for tenant, (rows, first, last) in sorted(summary.get("tenants", {}).items())
    }


def _of_tenants(rows: Mapping[At, int]) -> dict[UUID, Lost]:
    days: dict[UUID, list[date]] = defaultdict(list)
    counted = Counter[UUID]()
    for (tenant, day), count in rows.items():
        days[tenant].append(day)
        counted[tenant] += count
    return {tenant: Lost(count, min(days[tenant]), max(days[tenant])) for tenant, count in counted.items()}


def _together(one: Mapping[UUID, Lost], other: Mapping[UUID, Lost]) -> dict[UUID, Lost]:
    found = dict(one)
    for tenant, lost in other.items():
        found[tenant] = found[tenant] + lost if tenant in found else lost
    return found
