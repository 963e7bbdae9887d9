"""Restoring: from sealed days in the store to rows in a table, proven equal on the way.

Belongs here: one restore, from the lock to the journal. Does not belong here: choosing (`plan`), reading objects
(`rows`), writing rows (`writing`), Dagster and the command line. What is read is proven while it is read, and what
arrives before it commits. Done twice it brings nothing twice, so a restore that died is begun again by the same
command. Into the live table no row goes before a hold with an end is in force: else the next night would delete it
again.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa

from adinsights_orchestration.audit_log import holds, journal, restored
from adinsights_orchestration.audit_log.ahead import read_ahead
from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger, Known
from adinsights_orchestration.audit_log.bookkeeping.manifest import ADVICE, ManifestError
from adinsights_orchestration.audit_log.days import named
from adinsights_orchestration.audit_log.model import State
from adinsights_orchestration.audit_log.reading.choosing import choose
from adinsights_orchestration.audit_log.restore.ledger import RestoreLedger, proofs_of
from adinsights_orchestration.audit_log.restore.plan import Part, Plan, Wanted, plan, portions
from adinsights_orchestration.audit_log.restore.report import RestoreReport
from adinsights_orchestration.audit_log.restore.rows import Loaded, loaded
from adinsights_orchestration.audit_log.restore.target import (
    RestoreError,
    Target,
    default_name,
    live_target,
    own_target,
    require_name,
)
from adinsights_orchestration.audit_log.restore.writing import Arrival, Writing
from adinsights_orchestration.audit_log.retention.run import lock_name
from adinsights_orchestration.audit_log.source import NOBODY, Source
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.audit_log.table.reaching import Link, connected, restoring_dsn_of
from adinsights_orchestration.audit_log.windows import Hold, HoldKind
from adinsights_orchestration.clock import Clock, elapsed_seconds, utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.audit_tables import audit_run
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.store import load_registry

_PORTIONS_AHEAD = 1
_CONNECTIONS = 2  # one inserts while the other reads its portion, or commits


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants back, and where.

    Attributes:
        wanted: Which rows.
        into: The table of its own that they go to; None: the default one, or the live table.
        live: Into the table that was archived.
        hold_until: When retention may delete them again; the live table's restores must say it.
        apply: Do it; otherwise tell only.
    """

    wanted: Wanted
    into: str | None = None
    live: bool = False
    hold_until: datetime | None = None
    apply: bool = False


@dataclass(frozen=True, slots=True)
class Restore:
    """Restores of one table.

    Attributes:
        settings: Addresses and limits.
        store: The ops store.
        source: The table that was archived.
        actor: Who asked, for the audit rows.
        archive: The archive; None: the one that the settings name.
        clock: The moment of each step.
        run_id: The Dagster run.
    """

    settings: Settings
    store: OpsStore
    source: Source
    actor: str
    archive: Store | None = None
    clock: Clock = utc_now
    run_id: str | None = None

    def run(self, order: Order, report_to: Callable[[RestoreReport], None] = lambda _: None) -> RestoreReport:
        """Brings rows back, or tells which would come.

        Args:
            order: What is wanted.
            report_to: Given the report in the end, also when the restore fails half-way.

        Raises:
            RestoreError: The order makes no sense, names a tenant of whom nothing is archived, somebody else restores,
                or the database does not take rows.
            ManifestError: The archive's chain is broken.
            StoreError: The store does not serve us; the same order goes on where this one stopped.
        """
        into = self._require_sense(order)
        began = elapsed_seconds()
        archive = self.archive or open_store(self.settings.audit_log)
        report = RestoreReport(into, not order.apply, hold_until=order.hold_until)
        # What is chosen before the locks are held may have been erased by the time that they are.
        with self._locks(order) if order.apply else nullcontext():
            chosen, known = self._choose(archive, order, report)
            self._require_head(archive, known, report)
            try:
                _require_archived(order.wanted, chosen, report)
                if order.apply:
                    self._apply(archive, order, chosen, report)
                else:
                    self._tell(order, chosen, report)
            finally:
                report.seconds = elapsed_seconds() - began
                report_to(report)
        return report

    def _choose(self, archive: Store, order: Order, report: RestoreReport) -> tuple[Plan, Known]:
        known = ArchiveLedger(self.store, self.source.name).about(order.wanted.first_day, order.wanted.last_day)
        chosen = choose(archive, self.source, known, partial(plan, wanted=order.wanted))
        report.missing, report.days, report.size = list(chosen.missing), len(chosen.parts), chosen.size
        report.left = list(chosen.left)
        return chosen, known

    def _require_sense(self, order: Order) -> str:
        wanted = order.wanted
        if wanted.tenants and self.source.tenant is None:
            raise RestoreError(f"rows of {self.source.name} are nobody's", next_step="Leave the tenant out.")
        if wanted.first >= wanted.end:
            raise RestoreError("the range ends before it begins", next_step="Give the first day first.")
        if order.live:
            if order.into is not None:
                raise RestoreError("rows go either into the live table or into another", next_step="Leave one out.")
            if order.hold_until is None or order.hold_until <= self.clock():
                raise RestoreError(
                    "rows that go back into the live table need a hold that ends in the future",
                    next_step="Say until which day they are needed (--hold-until); then retention deletes them again.",
                )
            if order.hold_until > self.clock() + holds.LONGEST:
                raise RestoreError(
                    f"a hold until {order.hold_until:%Y-%m-%d %H:%M} is longer than the {holds.LONGEST.days:,} days"
                    " that one may last",
                    next_step="Give an earlier day; rows that are needed for longer are kept by `legal_hold` in"
                    " tenants.yaml, or by a longer `retention_days`.",
                )
            return self.source.table
        if order.hold_until is not None:
            raise RestoreError(
                "retention does not look at a table of its own", next_step="Leave --hold-until out, or say --live."
            )
        return require_name(self.source, order.into or default_name(self.source))

    def _require_head(self, archive: Store, known: Known, report: RestoreReport) -> None:
        """The store alone cannot tell that the end of its chain was removed; the ledger can."""
        if not known.number:
            return
        try:
            chain.load_known(archive, self.source.name, known.number, known.head)
        except ManifestError:
            report.problems.append(
                f"the archive's chain does not hold manifest {known.number} that the ledger knows: its newest days are"
                f" missing. {ADVICE}"
            )

    @contextmanager
    def _locks(self, order: Order) -> Iterator[None]:
        with self.store.exclusive(restored.lock_name(self.source)) as mine:
            if not mine:
                raise RestoreError(f"rows of {self.source.name} are being restored already", next_step="Wait for that.")
            if not order.live:
                yield
                return
            with self.store.exclusive(lock_name(self.source)) as rows:
                if not rows:
                    raise RestoreError(
                        f"retention deletes from {self.source.table} at this moment",
                        next_step="Wait for it to end, or restore into a table of its own.",
                    )
                yield

    def _tell(self, order: Order, chosen: Plan, report: RestoreReport) -> None:
        with self._connected() as connection:
            target = self._target(connection, order, chosen, make=False)
            for part in chosen.parts:
                for schema in part.schemas:
                    target.require_columns(schema)
        for part in chosen.parts:
            report.take(Arrival(part))

    def _apply(self, archive: Store, order: Order, chosen: Plan, report: RestoreReport) -> None:
        restored.close_dead_runs(self.store, self.source, self.clock())
        with ExitStack() as stack:
            connections = [stack.enter_context(self._connected()) for _ in range(_CONNECTIONS)]
            target = self._target(connections[0], order, chosen, make=True)
            for part in chosen.parts:
                for schema in part.schemas:
                    target.require_columns(schema)
            if order.live:
                self._require_settled(chosen)
                Archiver(self.settings, self.store, self.source, archive, self.clock).catch_up()
            run = journal.open_run(
                self.store,
                self.source.name,
                restored.KIND,
                actor=self.actor,
                now=self.clock(),
                run_id=self.run_id,
            )
            report.run = run
            with self._journalled(order, report, run):
                ledger = self._ledger(order, run, self._hold(order, run) if order.live else {})
                waits = self.settings.retention.lock_timeout_seconds
                writers = [Writing(each, self.source, target, order.wanted, waits, ledger) for each in connections]
                self._bring(archive, chosen.parts, target, writers, report)
                if again := self._again(archive, order, chosen, report):
                    self._bring(archive, again, target, writers, report)

    def _bring(
        self, archive: Store, parts: Sequence[Part], target: Target, writers: Sequence[Writing], report: RestoreReport
    ) -> None:
        with closing(_read(archive, self.source, parts, target, self.settings.audit_log.at_once)) as portions_:
            _write(writers, portions_, report)

    def _again(self, archive: Store, order: Order, chosen: Plan, report: RestoreReport) -> list[Part]:
        """Of what failed, the parts that lie in other objects by now: somebody compacted, erased or expired meanwhile.

        Only a restore into a table of its own meets that: the others hold the lock of whoever takes something out.
        """
        if not report.failed:
            return []
        before = {(part.chunk.tenant, part.chunk.day): part for part in chosen.parts}
        by_now = {(part.chunk.tenant, part.chunk.day): part for part in self._choose(archive, order, report)[0].parts}
        changed = [at for at in report.failed if by_now.get(at) != before[at]]
        for at in changed:
            report.forget(at)
        return [by_now[at] for at in changed if at in by_now]

    @contextmanager
    def _journalled(self, order: Order, report: RestoreReport, run: UUID) -> Iterator[None]:
        error: str | None = None
        try:
            yield
            error = f"{len(report.problems)} problems" if report.problems else None
        except BaseException as failure:
            error = str(failure) if isinstance(failure, AdinsightsError) else type(failure).__name__
            raise
        finally:
            with journal.unless_failing(error):
                summary = {**report.summary(), **_about(order)}
                restored.close_run(self.store, self.source, run, self.clock(), summary, error)

    def _require_settled(self, chosen: Plan) -> None:
        """A day of which nobody knows whether its rows are gone: what is added to it would never become equal."""
        days = sorted(part.chunk.day for part in chosen.parts)
        if not days:
            return
        known = ArchiveLedger(self.store, self.source.name).in_force(days[0], days[-1])
        mine = ((part.chunk.tenant, part.chunk.day) for part in chosen.parts)
        open_ = [at for at in mine if at in known and known[at].state is State.DELETING]
        if open_:
            raise RestoreError(
                f"rows of tenant {open_[0][0]} on {open_[0][1]} are half-way deleted ({len(open_)} tenants' days are)",
                next_step="Let `audit_log/retention` run first: it finds out what became of them.",
            )

    def _hold(self, order: Order, run: UUID) -> Mapping[str, Any]:
        """Before the first row: retention that runs a moment after it must know. Returns what the entry says of it."""
        wanted, now = order.wanted, self.clock()
        held: dict[str, list[int]] = {}
        with self.store.begin() as connection:
            for tenant in wanted.tenants or (None,):
                hold = Hold(
                    HoldKind.RESTORE,
                    f"restored by {self.actor}",
                    tenant,
                    first_day=wanted.first_day,
                    last_day=wanted.last_day,
                    until=order.hold_until,
                )
                if holds.add_hold(connection, self.source.name, hold, self.actor, now):
                    held |= {str(each): [0, 0] for each in holds.held_tenants(connection, self.source.name, hold)}
            said = {"tenants": held, **_about(order)}
            connection.execute(sa.update(audit_run).where(audit_run.c.id == run).values(summary=said))
        return said

    @contextmanager
    def _connected(self) -> Iterator[Link]:
        try:
            with connected(self.settings, self.source, restoring_dsn_of(self.settings, self.source)) as connection:
                yield connection
        except psycopg.Error as error:  # whose own words may quote a row, or the address
            raise RestoreError(
                f"the table's database refuses this ({error.sqlstate or 'no answer'})",
                place=f"{error.diag.table_name or self.source.table}",
                next_step="Check that it is up, and the role's grants: docs/audit-restore.md lists them.",
            ) from None

    def _target(self, connection: Link, order: Order, chosen: Plan, *, make: bool) -> Target:
        if order.live:
            registered = {tenant.id for tenant in load_registry(self.store).tenants}
            return live_target(connection, self.source, sorted({*chosen.tenants, *registered} - {NOBODY}))
        name = require_name(self.source, order.into or default_name(self.source))
        return own_target(connection, self.source, name, chosen, make=make)

    def _ledger(self, order: Order, run: UUID, hold: Mapping[str, Any]) -> RestoreLedger:
        wanted = order.wanted
        proofs = proofs_of(self.store, self.source, wanted.first_day, wanted.last_day)
        with self.store.begin() as connection:
            promises = restored.open_promises(connection, self.source.name)
        return RestoreLedger(self.store, self.source, run, self.clock, order.live, proofs, promises, hold)


def _about(order: Order) -> dict[str, str]:
    until = {"hold_until": order.hold_until.isoformat()} if order.hold_until is not None else {}
    return {"first": order.wanted.first.isoformat(), "end": order.wanted.end.isoformat(), **until}


def _require_archived(wanted: Wanted, chosen: Plan, report: RestoreReport) -> None:
    """Refuses a tenant of whom there is nothing, before a table is made or a hold is: an id that is mistyped is one."""
    if not chosen.absent:
        return
    besides = [*report.problems, *(f"{days}: not archived" for days in named(report.missing))]
    who = ", ".join(map(str, chosen.absent))
    raise RestoreError(
        f"nothing is archived of tenant {who} from {wanted.first_day} to {wanted.last_day}"
        + (f" ({'; '.join(besides)})" if besides else ""),
        next_step="Nothing was restored. Check the id, and by `adinsights audit status` the days; or leave it out.",
    )


def _write(writers: Sequence[Writing], portions_: Iterator[list[Loaded]], report: RestoreReport) -> None:
    """Each connection writes a portion at a time; what is under way is finished, and told, when another one fails."""
    free, busy = list(writers), dict[Future[list[Arrival]], Writing]()
    failures: list[BaseException] = []

    def take(when: str) -> None:
        for future in wait(busy, return_when=when).done:
            free.append(busy.pop(future))
            if (failure := future.exception()) is not None:
                failures.append(failure)
                continue
            for arrival in future.result():
                report.take(arrival)

    with ThreadPoolExecutor(len(writers), thread_name_prefix="audit-write") as pool:
        try:
            for portion in portions_:
                if not free:
                    take(FIRST_COMPLETED)
                if failures:
                    break
                writing = free.pop()
                busy[pool.submit(writing.write, portion)] = writing
        finally:
            take(ALL_COMPLETED)
            report.transactions = sum(writing.transactions for writing in writers)
    if failures:
        raise failures[0]


def _read(
    archive: Store, source: Source, parts: Sequence[Part], target: Target, at_once: int
) -> Generator[list[Loaded], None, None]:
    """Portions as they are ready to be written; the next is read while one is written."""
    with ThreadPoolExecutor(at_once) as pool:
        portions_ = (
            loaded(archive, source, portion, pool) for portion in portions(parts, per_tenant=target.access.per_tenant)
        )
        with read_ahead(portions_, _PORTIONS_AHEAD) as ahead:
            yield from ahead
