"""One run of retention over one table: what may go, going, what could not, and the record of it.

Belongs here: the order of these steps. Does not belong here: the decisions (`windows`), the transactions (`deletion`,
`walk`), when the registry is good enough to delete by (`policy`), Dagster and the command line. A run begins with what
a run that died left behind, and may die anywhere itself.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from uuid import UUID

from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention.account import Account, accounted
from adinsights_orchestration.audit_log.retention.again import Rearchive, Unproven, archived_anew
from adinsights_orchestration.audit_log.retention.by_age import ByAge
from adinsights_orchestration.audit_log.retention.chunks import ChunkLedger, Live, Proof, live_chunks, mark_gone
from adinsights_orchestration.audit_log.retention.deletion import Deleter, Limits
from adinsights_orchestration.audit_log.retention.pace import Pace, PaceLimits
from adinsights_orchestration.audit_log.retention.policy import RetentionRefusedError, current_policy
from adinsights_orchestration.audit_log.retention.settling import Settling
from adinsights_orchestration.audit_log.retention.shape import beyond, lacking, names_of, shape_of
from adinsights_orchestration.audit_log.retention.walk import Walk, WalkReport
from adinsights_orchestration.audit_log.source import Archive, Source
from adinsights_orchestration.audit_log.table.access import Access, Right, require_access
from adinsights_orchestration.audit_log.table.clocks import ASK, require_same_time
from adinsights_orchestration.audit_log.table.reaching import Link, has_time_index, pages_of, reached
from adinsights_orchestration.audit_log.table.statements import Shape
from adinsights_orchestration.audit_log.windows import Policy, Why
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import RetentionArchive, Settings


@dataclass(slots=True)
class RetentionReport:
    """What a run did, or would do.

    Attributes:
        source: The table.
        dry_run: Nothing was deleted: `deleted` is what would be.
        archive: Whether only archived rows may go.
        deleted: Rows by tenant's day; by tenant and the first day of a month where age alone decides.
        unequal: Tenants' days that still differ from their archive after they were archived anew.
        anew: Tenants' days that differ and that a run that deletes archives anew first, with those of their rows that
            would go after that; they are in `deleted` too. In a dry run only.
        rearchived: Days that were archived anew because a tenant's rows differed.
        not_rearchived: Days that should have been archived anew and could not be, and why; they stay.
        unproven: Tenants' days that stay because the store does not give back what was sealed, and why.
        incomparable: Tenants' days that stay because the table lacks a column that was archived, and which.
        gone: Tenants' days that somebody else had deleted.
        blocked: Tenants' days that somebody's lock kept, with the kind of it; where age alone decides, up to this day.
        left: Tenants' days for the next run; where age alone decides, up to this day.
        transactions: How many were needed.
        longest_seconds: The longest of them.
        paused_seconds: For how long the run gave way to others.
        reason: Why row level security does not bind the role; empty where it does.
    """

    source: str
    dry_run: bool
    archive: Archive
    deleted: dict[At, int] = field(default_factory=dict)
    unequal: list[At] = field(default_factory=list)
    anew: dict[At, int] = field(default_factory=dict)
    rearchived: list[date] = field(default_factory=list)
    not_rearchived: dict[date, str] = field(default_factory=dict)
    unproven: dict[At, str] = field(default_factory=dict)
    incomparable: dict[At, str] = field(default_factory=dict)
    gone: list[At] = field(default_factory=list)
    blocked: dict[At, str] = field(default_factory=dict)
    left: list[At] = field(default_factory=list)
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

    @property
    def failure(self) -> str:
        """What of the run failed, in words; the rest of it was done."""
        if not self.not_rearchived:
            return ""
        first = min(self.not_rearchived)
        return f"{len(self.not_rearchived)} days could not be archived anew; {first}: {self.not_rearchived[first]}"

    def summary(self) -> dict[str, int]:
        """For the journal; of what was deleted that has counts of its own."""
        return {
            "unequal": len(self.unequal),
            "rearchived": len(self.rearchived),
            "not_rearchived": len(self.not_rearchived),
            "unproven": len(self.unproven),
            "incomparable": len(self.incomparable),
            "gone": len(self.gone),
            "blocked": len(self.blocked),
            "left": len(self.left),
            "transactions": self.transactions,
        }

    def add(self, walked: WalkReport) -> None:
        """Adds what a walk did; what it found unequal is not final yet."""
        self.deleted |= walked.deleted
        self.gone += walked.gone
        self.blocked |= walked.blocked
        self.left += walked.left
        self.transactions += walked.transactions


@dataclass(frozen=True, slots=True)
class _Passage:
    """What the steps of one run share; without an account it only tells."""

    connection: Link
    access: Access
    policy: Policy
    pace: Pace
    report: RetentionReport
    account: Account | None = None


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
        unproven: Asks the archive's store for what it does not hold any more as it was sealed, right before deleting,
            or telling what would go; None believes the ledger alone.
        sleep: Pauses.
        host: This host's clock, which the servers must agree with before anything goes.
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
    host: Clock = utc_now

    def run(self) -> RetentionReport:
        """Deletes what may go, or tells what would.

        Raises:
            RetentionRefusedError: The registry cannot be trusted, or another run is under way.
            AuditAccessError: The role may not do this.
            TableError: The table's database does not answer, or refuses.
            ClockError: This host's clock and a server's are far apart.
        """
        with self.store.exclusive(lock_name(self.source)) as mine:
            if not mine:
                raise RetentionRefusedError(
                    f"{self.source.name} is being deleted from or restored to already",
                    next_step="Wait for that to end.",
                )
            policy = current_policy(self.settings, self.store, self.source, self.clock, self.host)
            with reached(self.settings, self.source) as connection:
                ((server,),) = connection.execute(ASK).fetchall()
                require_same_time(self.host(), server, "the table's server")
                return self._run(connection, policy)

    def _run(self, connection: Link, policy: Policy) -> RetentionReport:
        archive = archive_mode(self.settings, self.source)
        access = _access(connection, self.source, sorted(policy.windows))
        report = RetentionReport(self.source.name, not self.apply, archive, reason=access.reason)
        pace = Pace(connection, self._pace_limits(), sleep=self.sleep)
        if not self.apply:
            self._delete(_Passage(connection, access, policy, pace, report))
            return report
        with accounted(self.store, self.source, archive, self.actor, self.clock) as account:
            passage = _Passage(connection, access, policy, pace, report, account)
            deleter = partial(self._deleter, passage)
            Settling(self.store, self.source, connection, access, deleter, account).run()
            self._delete(passage)
            account.summary = report.summary()
        return report

    def _delete(self, passage: _Passage) -> None:
        pace, report = passage.pace, passage.report
        if report.archive is Archive.OFF:
            self._by_age(passage)
        else:
            self._archived(passage)
        report.longest_seconds, report.paused_seconds = pace.longest_seconds, pace.paused_seconds

    def _archived(self, passage: _Passage) -> None:
        report = passage.report
        differing = self._walk(passage, only=None)
        if differing and self.rearchive is not None:
            differing = self._anew(passage, self.rearchive, differing)
        report.unequal = list(differing)
        if report.gone and self.apply:
            with self.store.begin() as ledger:
                mark_gone(ledger, self.source.name, report.gone, self.clock())

    def _anew(self, passage: _Passage, rearchive: Rearchive, differing: Mapping[At, int]) -> dict[At, int]:
        """Archives what differs anew and walks there again, or tells what would go then; returns what still differs."""
        report = passage.report
        if not self.apply:
            report.anew = dict(differing)
            report.deleted |= {at: rows for at, rows in differing.items() if rows}
            return {}
        days = sorted({day for _, day in differing})
        report.not_rearchived = archived_anew(rearchive, self.source, days)
        report.rearchived = [day for day in days if day not in report.not_rearchived]
        left = {at: rows for at, rows in differing.items() if at[1] in report.not_rearchived}
        anew = differing.keys() - left.keys()
        return left | (self._walk(passage, only=anew) if anew else {})

    def _walk(self, passage: _Passage, only: set[At] | None) -> dict[At, int]:
        """Walks once for each set of columns that was archived; returns what differs."""
        policy, report = passage.policy, passage.report
        differing: dict[At, int] = {}
        with self.store.begin() as ledger:
            live = live_chunks(ledger, self.source.name, policy.latest_cutoff)
        due = {at: each for at, each in live.items() if policy.judge(*at) is Why.DUE and (only is None or at in only)}
        present = names_of(passage.connection, self.source) if due else frozenset[str]()
        if due:
            without = {at: lacking(each.proof.columns, present) for at, each in due.items()}
            report.incomparable |= {at: f"without column {', '.join(names)}" for at, names in without.items() if names}
            due = {at: each for at, each in due.items() if at not in report.incomparable}
        if due and self.unproven is not None:
            report.unproven |= self.unproven(self.source, list(due))
            due = {at: each for at, each in due.items() if at not in report.unproven}
        for proof in dict.fromkeys(each.proof for each in due.values()):
            walked = self._walk_of(passage, proof, due, beyond(proof.columns, present))
            report.add(walked)
            differing |= walked.differing
        return differing

    def _walk_of(self, passage: _Passage, proof: Proof, due: Mapping[At, Live], later: Collection[str]) -> WalkReport:
        connection, access, policy = passage.connection, passage.access, passage.policy
        kept = passage.report.unproven.keys() | passage.report.incomparable.keys()
        same_server = proof.server_major == access.server_major
        shape = shape_of(self.source, proof.columns, fast=same_server, later=later)
        expected = {at: each.fast if same_server else each.portable for at, each in due.items() if each.proof == proof}
        walk = Walk(
            self._deleter(passage, shape),
            passage.pace,
            expected,
            lambda tenant, day: policy.judge(tenant, day) is Why.DUE and (tenant, day) not in kept,
            policy.resource_holds(),
            pages=pages_of(connection, self.source),
            indexed=has_time_index(connection, self.source),
            per_tenant=access.per_tenant,
        )
        return walk.run()

    def _deleter(self, passage: _Passage, shape: Shape) -> Deleter:
        settings = self.settings.retention
        ledger = ChunkLedger(self.store, self.source.name, self.clock, passage.account)
        limits = Limits(settings.lock_timeout_seconds, settings.statement_timeout_seconds)
        return Deleter(passage.connection, shape, passage.access, ledger, limits, dry=not self.apply)

    def _by_age(self, passage: _Passage) -> None:
        connection, access = passage.connection, passage.access
        by_pages = not access.per_tenant and not has_time_index(connection, self.source)
        swept = ByAge(
            self._deleter(passage, shape_of(self.source, (), fast=True)),
            passage.pace,
            passage.policy,
            access,
            passage.account,
            pages=pages_of(connection, self.source) if by_pages else 0,
        )
        passage.report.add(swept.run())

    def _pace_limits(self) -> PaceLimits:
        settings = self.settings.retention
        return PaceLimits(
            settings.transaction_seconds, settings.budget_minutes * 60, lag_seconds=settings.replica_lag_seconds
        )


def lock_name(source: Source) -> str:
    """Held by whatever deletes rows of a table or brings them back."""
    return f"audit_log_rows:{source.name}"


def archive_mode(settings: Settings, source: Source) -> Archive:
    """Whether rows of a table may go unarchived: as it is declared, and for the backend's as the setting says."""
    if source.archive is Archive.OFF:
        return Archive.OFF
    return Archive.OFF if settings.retention.archive is RetentionArchive.OFF else Archive.REQUIRED


def _access(connection: Link, source: Source, tenants: Sequence[UUID]) -> Access:
    with connection.transaction(), connection.cursor() as cursor:
        return require_access(cursor, source.table, tenants, (Right.SELECT, Right.DELETE), tenant=source.tenant)
