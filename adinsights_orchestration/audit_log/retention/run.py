"""One run of retention over one table: what may go, going, what could not, and the record of it.

Belongs here: the order of these steps. Does not belong here: the decisions (`windows`), the transactions (`deletion`,
`walk`), Dagster and the command line. A run begins with what a run that died left behind, and may die anywhere itself.
It refuses to begin while it cannot know every legal hold: a registry that was never read, or whose last read failed.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from uuid import UUID

from psycopg import sql

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.holds import holds_in_force
from adinsights_orchestration.audit_log.retention.chunks import ChunkLedger, Live, Proof, live_chunks, mark_gone, settle
from adinsights_orchestration.audit_log.retention.deletion import NOBODY, Chunk, Deleter, Limits
from adinsights_orchestration.audit_log.retention.pace import Pace, PaceLimits
from adinsights_orchestration.audit_log.retention.walk import Walk, WalkReport
from adinsights_orchestration.audit_log.source import Archive, Column, Source
from adinsights_orchestration.audit_log.table.access import Access, Right, require_access
from adinsights_orchestration.audit_log.table.reaching import Link, has_time_index, pages_of, reached
from adinsights_orchestration.audit_log.table.statements import Run, Scope, Shape, runs_of_days
from adinsights_orchestration.audit_log.windows import Policy, Why, policy_of
from adinsights_orchestration.backend import audit
from adinsights_orchestration.clock import Clock
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import RetentionArchive, Settings
from adinsights_orchestration.tenants.store import NEVER_READ, load_registry, registry_health

DELETED = "audit_log_retention_deleted"
_PAGES_BY_AGE = 2_000  # about 40,000 rows of an audit log
Rearchive = Callable[[Source, Sequence[date]], None]
Unproven = Callable[[Source, Sequence[Chunk]], Mapping[Chunk, str]]


class RetentionRefusedError(AdinsightsError):
    """Retention did not begin; nothing was deleted."""


@dataclass(slots=True)
class RetentionReport:
    """What a run did, or would do.

    Attributes:
        source: The table.
        dry_run: Nothing was deleted: `deleted` is what would be.
        archive: Whether only archived rows may go.
        deleted: Rows by tenant's day; by tenant and the first day of its run where age alone decides.
        unequal: Tenants' days that still differ from their archive after they were archived anew.
        rearchived: Days that were archived anew because a tenant's rows differed.
        unproven: Tenants' days that stay because the store does not give back what was sealed, and why.
        gone: Tenants' days that somebody else had deleted.
        blocked: Tenants' days that somebody's lock kept, with the kind of it.
        left: Tenants' days for the next run.
        transactions: How many were needed.
        longest_seconds: The longest of them.
        paused_seconds: For how long the run gave way to others.
        reason: Why row level security does not bind the role; empty where it does.
    """

    source: str
    dry_run: bool
    archive: Archive
    deleted: dict[Chunk, int] = field(default_factory=dict)
    unequal: list[Chunk] = field(default_factory=list)
    rearchived: list[date] = field(default_factory=list)
    unproven: dict[Chunk, str] = field(default_factory=dict)
    gone: list[Chunk] = field(default_factory=list)
    blocked: dict[Chunk, str] = field(default_factory=dict)
    left: list[Chunk] = field(default_factory=list)
    transactions: int = 0
    longest_seconds: float = 0.0
    paused_seconds: float = 0.0
    reason: str = ""

    @property
    def rows(self) -> int:
        """Rows that were deleted, or would be."""
        return sum(self.deleted.values())

    def by_tenant_and_month(self) -> dict[tuple[UUID, str], int]:
        """Rows by tenant and month."""
        found: dict[tuple[UUID, str], int] = defaultdict(int)
        for (tenant, day), rows in self.deleted.items():
            found[tenant, f"{day:%Y-%m}"] += rows
        return dict(sorted(found.items()))

    def by_tenant(self) -> dict[UUID, int]:
        """Rows by tenant."""
        found: dict[UUID, int] = defaultdict(int)
        for (tenant, _), rows in self.deleted.items():
            found[tenant] += rows
        return dict(sorted(found.items()))

    def add(self, walked: WalkReport) -> None:
        """Adds what a walk did; what it found unequal is not final yet."""
        self.deleted |= walked.deleted
        self.gone += walked.gone
        self.blocked |= walked.blocked
        self.left += walked.left
        self.transactions += walked.transactions


@dataclass(frozen=True, slots=True)
class Retention:
    """One run over one table.

    Attributes:
        settings: Addresses and limits.
        store: The ops store.
        source: The table.
        clock: The present moment.
        actor: Who asked: a schedule, or a person.
        rearchive: Archives days anew; None leaves what differs to the next archive.
        apply: Delete; otherwise tell only.
        unproven: Asks the archive's store for what it does not hold any more as it was sealed, right before deleting;
            None believes the ledger alone.
        sleep: Pauses.
    """

    settings: Settings
    store: OpsStore
    source: Source
    clock: Clock
    actor: str
    rearchive: Rearchive | None = None
    apply: bool = False
    unproven: Unproven | None = None
    sleep: Callable[[float], None] = time.sleep

    def run(self) -> RetentionReport:
        """Deletes what may go, or tells what would.

        Raises:
            RetentionRefusedError: The registry cannot be trusted, or another run is under way.
            AuditAccessError: The role may not do this.
            TableError: The table's database does not answer, or refuses.
        """
        with self.store.exclusive(lock_name(self.source)) as mine:
            if not mine:
                raise RetentionRefusedError(
                    f"{self.source.name} is being deleted from or restored to already",
                    next_step="Wait for that to end.",
                )
            policy = current_policy(self.store, self.source, self.clock)
            with reached(self.settings, self.source) as connection:
                return self._run(connection, policy)

    def _run(self, connection: Link, policy: Policy) -> RetentionReport:
        archive = archive_mode(self.settings, self.source)
        access = _access(connection, self.source, sorted(policy.windows))
        report = RetentionReport(self.source.name, not self.apply, archive, reason=access.reason)
        pace = Pace(connection, self._pace_limits(), sleep=self.sleep)
        if archive is Archive.OFF:
            self._by_age(connection, access, policy, pace, report)
        else:
            self._archived(connection, access, policy, pace, report)
        report.longest_seconds, report.paused_seconds = pace.longest_seconds, pace.paused_seconds
        if self.apply:
            self._record(report)
        return report

    def _archived(
        self,
        connection: Link,
        access: Access,
        policy: Policy,
        pace: Pace,
        report: RetentionReport,
    ) -> None:
        self._resume(connection, access, policy)
        unequal = self._walk(connection, access, policy, pace, report, only=None)
        if unequal and self.apply and self.rearchive is not None:
            days = sorted({day for _, day in unequal})
            self.rearchive(self.source, days)
            report.rearchived = days
            unequal = self._walk(connection, access, policy, pace, report, only=set(unequal))
        report.unequal = unequal
        if report.gone and self.apply:
            with self.store.begin() as ledger:
                mark_gone(ledger, self.source.name, report.gone, self.clock())

    def _walk(
        self,
        connection: Link,
        access: Access,
        policy: Policy,
        pace: Pace,
        report: RetentionReport,
        only: set[Chunk] | None,
    ) -> list[Chunk]:
        """Walks once for each set of columns that was archived; returns what differs."""
        unequal: list[Chunk] = []
        with self.store.begin() as ledger:
            live = live_chunks(ledger, self.source.name, policy.latest_cutoff)
        due = {at: each for at, each in live.items() if policy.judge(*at) is Why.DUE and (only is None or at in only)}
        if due and self.apply and self.unproven is not None:
            report.unproven |= self.unproven(self.source, list(due))
            due = {at: each for at, each in due.items() if at not in report.unproven}
        for proof in dict.fromkeys(each.proof for each in due.values()):
            walked = self._walk_of(connection, access, policy, pace, proof, due, report.unproven)
            report.add(walked)
            unequal += walked.unequal
        return unequal

    def _walk_of(
        self,
        connection: Link,
        access: Access,
        policy: Policy,
        pace: Pace,
        proof: Proof,
        due: Mapping[Chunk, Live],
        unproven: Mapping[Chunk, str],
    ) -> WalkReport:
        same_server = proof.server_major == access.server_major
        shape = shape_of(self.source, proof.columns, fast=same_server)
        expected = {at: each.fast if same_server else each.portable for at, each in due.items() if each.proof == proof}
        walk = Walk(
            self._deleter(connection, shape, access),
            pace,
            expected,
            lambda tenant, day: policy.judge(tenant, day) is Why.DUE and (tenant, day) not in unproven,
            policy.resource_holds(),
            pages=pages_of(connection, self.source),
            indexed=has_time_index(connection, self.source),
            per_tenant=access.per_tenant,
        )
        return walk.run()

    def _deleter(self, connection: Link, shape: Shape, access: Access) -> Deleter:
        settings = self.settings.retention
        ledger = ChunkLedger(self.store, self.source.name, self.clock)
        limits = Limits(settings.lock_timeout_seconds, settings.statement_timeout_seconds)
        return Deleter(connection, shape, access, ledger, limits, dry=not self.apply)

    def _resume(self, connection: Link, access: Access, policy: Policy) -> None:
        """Finds out whether deletions that a dead process began, and of which a hold kept rows, were committed."""
        with self.store.begin() as ledger:
            live = live_chunks(ledger, self.source.name, policy.latest_cutoff, half_way=True)
        for (tenant, day), each in live.items():
            if each.staying is None or not each.staying.rows:
                continue
            shape = shape_of(self.source, each.proof.columns, fast=each.proof.server_major == access.server_major)
            scope = Scope(runs_of_days([(day, frozenset((tenant,)))]))
            found = self._deleter(connection, shape, access).look(scope).get(day)
            if found is not None and found.content == each.staying and self.apply:
                with self.store.begin() as ledger:
                    settle(ledger, self.source.name, {(tenant, day): each.staying}, self.clock())

    def _by_age(
        self,
        connection: Link,
        access: Access,
        policy: Policy,
        pace: Pace,
        report: RetentionReport,
    ) -> None:
        shape = shape_of(self.source, (), fast=True)
        deleter = self._deleter(connection, shape, access)
        for run in _runs_by_age(policy, access):
            held = tuple(
                hold for hold in policy.holds if any(hold.tenant_id in (None, tenant) for tenant in run.tenants)
            )
            for pages in _page_ranges(connection, self.source, access):
                if pace.over():
                    report.left += [(tenant, run.first) for tenant in run.tenants]
                    return
                began = pace.seconds()
                went = deleter.sweep_by_age(Scope((run,), pages, holds=held))
                pace.after(pace.seconds() - began)
                report.transactions += 1
                for (whose, month), rows in went.items():
                    at = (whose, month)
                    report.deleted[at] = report.deleted.get(at, 0) + rows

    def _pace_limits(self) -> PaceLimits:
        settings = self.settings.retention
        return PaceLimits(
            settings.transaction_seconds, settings.budget_minutes * 60, lag_seconds=settings.replica_lag_seconds
        )

    def _record(self, report: RetentionReport) -> None:
        """One audit row for each tenant that lost rows; a run that concerned nobody goes to the journal."""
        now, run = self.clock(), str(uuid.uuid4())
        rows = report.by_tenant()
        days: dict[UUID, list[date]] = defaultdict(list)
        for tenant, day in sorted(report.deleted):
            days[tenant].append(day)
        entries = []
        for tenant in rows or (NOBODY,):
            which = days[tenant]
            detail = {
                "run": run,
                "rows": rows.get(tenant, 0),
                "first_day": which[0].isoformat() if which else None,
                "last_day": which[-1].isoformat() if which else None,
                "archive": report.archive.value,
            }
            whose = None if tenant == NOBODY else tenant
            entries.append(audit.AuditEntry(whose, DELETED, "audit_log", self.source.name, self.actor, now, detail))
        with self.store.begin() as connection:
            audit.record(connection, *entries)


def lock_name(source: Source) -> str:
    """Held by whatever deletes rows of a table or brings them back."""
    return f"audit_log_rows:{source.name}"


def archive_mode(settings: Settings, source: Source) -> Archive:
    """Whether rows of a table may go unarchived: as it is declared, and for the backend's as the setting says."""
    if source.archive is Archive.OFF:
        return Archive.OFF
    return Archive.OFF if settings.retention.archive is RetentionArchive.OFF else Archive.REQUIRED


def current_policy(store: OpsStore, source: Source, clock: Clock) -> Policy:
    """Windows and holds as they are now.

    Raises:
        RetentionRefusedError: The registry was never read, or cannot be read now: a legal hold might be missed.
    """
    now = clock()
    with store.begin() as connection:
        restored = holds_in_force(connection, source.name, now)
    if source.tenant is None:
        assert source.window_days is not None
        return Policy(now, {NOBODY: source.window_days}, restored, least_days=1)
    health = registry_health(store, now)
    registry = load_registry(store)
    if registry is NEVER_READ or registry.read_at == NEVER_READ.read_at or health.error is not None:
        raise RetentionRefusedError(
            f"the registry is not to be trusted now ({health.error or 'it was never read'})",
            next_step="A legal hold might be missed. Run `adinsights registry refresh`; the next night tries again.",
        )
    return policy_of(registry, now, restored)


def shape_of(source: Source, columns: Sequence[Column], *, fast: bool) -> Shape:
    """The table as the statements want it."""
    return Shape(
        name=sql.Identifier(*source.schema_and_table),
        time=source.time,
        tenant=source.tenant,
        digest=_fingerprint(columns, fast=fast),
        resource_type=source.resource_type,
        resource_id=source.resource_id,
        only=sql.SQL(source.only) if source.only else None,
    )


def _fingerprint(columns: Sequence[Column], *, fast: bool) -> sql.Composable:
    if not columns:
        return sql.SQL("0")
    return digest.fast(columns) if fast else digest.portable(columns)


def _access(connection: Link, source: Source, tenants: Sequence[UUID]) -> Access:
    with connection.transaction(), connection.cursor() as cursor:
        return require_access(cursor, source.table, tenants, (Right.SELECT, Right.DELETE))


def _runs_by_age(policy: Policy, access: Access) -> Iterator[Run]:
    """Tenants with the same cutoff together; those that are held as a whole left out."""
    beginning = date(1, 1, 1)
    by_cutoff: dict[date, list[UUID]] = defaultdict(list)
    for tenant in sorted(policy.windows):
        cutoff = policy.cutoff(tenant)
        if cutoff is not None and policy.judge(tenant, cutoff - timedelta(days=1)) is not Why.LEGAL_HOLD:
            by_cutoff[cutoff].append(tenant)
    for cutoff, tenants in sorted(by_cutoff.items()):
        for group in access.groups(tenants):
            yield Run(tuple(group), beginning, cutoff)


def _page_ranges(connection: Link, source: Source, access: Access) -> Iterator[tuple[int, int] | None]:
    if access.per_tenant or has_time_index(connection, source):
        yield None  # through the tenant's index
        return
    pages = pages_of(connection, source)
    for first in range(0, pages, _PAGES_BY_AGE):
        yield first, min(first + _PAGES_BY_AGE, pages)
