"""Taking something out of the archive in two phases: a manifest says so, then the store is asked to let go of it.

Belongs here: that protocol, its locks, its journal and the audit rows. Does not belong here: what is to leave
(`expiry`, `offboarding`, `erasure`, `compaction`). The manifest comes first, so an object that is missing is always one
of which the chain says that it is gone. Whoever dies in between leaves objects that the ledger knows to be due, and the
next run asks for them again; so does one that meets an object lock, which is a state here and no failure.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log import journal
from adinsights_orchestration.audit_log.archive.run import Archiver, lock_name
from adinsights_orchestration.audit_log.archive.sealing import versions
from adinsights_orchestration.audit_log.bookkeeping import chain, removal_ledger
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
from adinsights_orchestration.audit_log.bookkeeping.links import Links
from adinsights_orchestration.audit_log.bookkeeping.manifest import ADVICE, Manifest, ManifestKind
from adinsights_orchestration.audit_log.bookkeeping.removal_ledger import Account
from adinsights_orchestration.audit_log.bookkeeping.standing import Standing
from adinsights_orchestration.audit_log.model import At, Cause, Chunk, DataFile, Gone
from adinsights_orchestration.audit_log.retention.run import lock_name as rows_lock_name
from adinsights_orchestration.audit_log.source import NOBODY, Source
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.errors import RefusedError, StoreError
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.audit_tables import audit_run
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.store import load_registry

ACTIONS: Mapping[Cause, str] = {
    Cause.EXPIRED: "audit_log_archive_expired",
    Cause.OFFBOARDED: "audit_log_archive_offboarded",
    Cause.ERASED: "audit_log_archive_erased",
    Cause.COMPACTED: "audit_log_archive_compacted",
}
KINDS: Mapping[Cause, str] = {
    Cause.EXPIRED: "expiry",
    Cause.OFFBOARDED: "offboarding",
    Cause.ERASED: "erasure",
    Cause.COMPACTED: "compaction",
}
_ACCOUNTED_FOR = timedelta(days=7)  # far shorter than delivered audit rows are kept
_DIED = "the run died; what its manifests say is gone goes, the rest was left"


class RemovalError(AdinsightsError):
    """Nothing was taken out of the archive."""


@dataclass(slots=True)
class Swept:
    """What became of the objects that were to go.

    Attributes:
        removed: How many the store let go of.
        size: Their bytes.
        refused: Those that its rules keep for now, and what it said.
        left: Those that nobody asked for, because the store did not answer any more.
        problem: Why it did not.
    """

    removed: int = 0
    size: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    left: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Leaving:
    """What one manifest is to say.

    Attributes:
        first_day: The first day that it is about.
        last_day: The last one.
        chunks: Tenants' days that leave, as they stand.
        files: Objects that leave.
        instead: What stands in place of some of them, and other tenants' days that lie in other objects from now on.
        instead_files: The objects of those.
    """

    first_day: date
    last_day: date
    chunks: tuple[Chunk, ...]
    files: tuple[DataFile, ...]
    instead: tuple[Chunk, ...] = ()
    instead_files: tuple[DataFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Archive:
    """One table's archive, as those need it that take something out of it.

    Attributes:
        settings: Where it is.
        ops: The ops store, with the ledger.
        source: The table.
        actor: Who asks.
        given: The store; None: the one that the settings name.
        clock: The moment of each step.
        run_id: The Dagster run.
    """

    settings: Settings
    ops: OpsStore
    source: Source
    actor: str
    given: Store | None = None
    clock: Clock = utc_now
    run_id: str | None = None

    @property
    def store(self) -> Store:
        """Where it lies."""
        return self.given or open_store(self.settings.audit_log)

    @property
    def ledger(self) -> ArchiveLedger:
        """The ledger of its chunks."""
        return ArchiveLedger(self.ops, self.source.name)

    def read(self, store: Store, wanted: Callable[[At], bool]) -> Standing:
        """What the chain says of the tenants' days that are wanted, once all of it has been found in order.

        Raises:
            RemovalError: The chain does not add up, or does not reach as far as the ledger knows: what is wrong with
                it may not be buried under a tombstone.
        """
        found = Standing()
        for _, standing in self.read_by_month(store):
            found.take_in(standing, wanted)
        return found

    def read_by_month(self, store: Store, links: Links | None = None) -> Iterator[tuple[date, Standing]]:
        """What the chain says, month by month, so that not all of it is in memory; only at the end all of it holds.

        Args:
            store: Where it is.
            links: Filled with the chain's links.

        Raises:
            RemovalError: As with `read`; whoever goes through it may do nothing before it has ended.
        """
        links = links if links is not None else Links(store, self.source.name)
        number, head = self.ledger.head()
        links.follow()
        _require_in_order((), number, reaches=not head or links.hash_of(number) == head)
        for month in links.months:
            standing = links.standing(month)
            _require_in_order(standing.problems)
            yield month, standing

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps archiving, retention and restoring into the live table away, and catches up with the chain.

        Raises:
            RemovalError: One of them is under way.
        """
        with (
            self.ops.exclusive(lock_name(self.source)) as chain_,
            self.ops.exclusive(rows_lock_name(self.source)) as rows,
        ):
            if not (chain_ and rows):
                raise RemovalError(
                    f"{self.source.name} is being archived, deleted from or restored at this moment",
                    next_step="Wait for that to end; the same command then goes on.",
                )
            Archiver(self.settings, self.ops, self.source, self.store, self.clock).catch_up()
            for cause in Cause:
                for row in journal.open_runs(self.ops, self.source.name, KINDS[cause]):
                    self._close(row.id, cause, {}, _DIED)
            self._account_for_the_last_days()
            yield

    @contextmanager
    def journalled(self, cause: Cause) -> Iterator[tuple[UUID, dict[str, Any]]]:
        """One run: its id, and what it tells the journal in the end, which then owes each tenant its audit row."""
        run = journal.open_run(
            self.ops, self.source.name, KINDS[cause], actor=self.actor, now=self.clock(), run_id=self.run_id
        )
        error: str | None = None
        summary: dict[str, Any] = {}
        try:
            yield run, summary
        except BaseException as failure:
            error = str(failure) if isinstance(failure, AdinsightsError) else type(failure).__name__
            raise
        finally:
            with journal.unless_failing(error):
                self._close(run, cause, summary, error)

    def bury(self, store: Store, run: UUID, cause: Cause, leaving: Leaving, reason: str = "") -> Manifest:
        """The first phase: the chain says what is gone. From here on it is, whatever happens."""
        number, previous = self.ledger.head()
        # What a run that died had written already, and nobody named, may be the very object that stands from now on.
        stands = {file.key for file in leaving.instead_files}
        files = tuple(file for file in leaving.files if file.key not in stands)
        kind = ManifestKind.COMPACTION if cause is Cause.COMPACTED else ManifestKind.TOMBSTONE
        manifest = Manifest(
            source=self.source.name,
            sequence=number + 1,
            previous=previous,
            kind=kind,
            first_day=leaving.first_day,
            last_day=leaving.last_day,
            revision=0,
            chunks=tuple(sorted(leaving.instead, key=lambda chunk: (chunk.day, chunk.tenant))),
            files=tuple(sorted(leaving.instead_files, key=lambda file: file.key)),
            written_at=self.clock(),
            versions=versions(),
            reason=reason,
            gone=Gone(cause, self.actor, run, leaving.chunks, files),
        )
        chain.append(store, manifest)
        if chain.load(store, self.source.name, manifest.sequence) != manifest:
            raise RemovalError(
                "the store does not give the manifest back as it was written",
                place=store.url,
                next_step="What leaves is in the chain already: run it again once `adinsights audit verify` holds.",
            )
        self.ledger.record(manifest, self.clock())
        return manifest

    def sweep(self, store: Store) -> Swept:
        """The second phase: the store is asked to let go of everything that the chain says is gone."""
        due = removal_ledger.pending(self.ops, self.source.name)
        swept = Swept()
        outcomes: dict[str, str | None] = {}
        with ThreadPoolExecutor(self.settings.audit_log.at_once) as pool:
            for number, (each, outcome) in enumerate(zip(due, pool.map(_remover(store), due), strict=True)):
                if isinstance(outcome, RefusedError):
                    outcomes[each.key] = swept.refused[each.key] = str(outcome)
                elif isinstance(outcome, StoreError):
                    swept.left, swept.problem = len(due) - number, str(outcome)
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
                else:
                    outcomes[each.key] = None
                    swept.removed, swept.size = swept.removed + 1, swept.size + each.size
        removal_ledger.tried(self.ops, self.source.name, outcomes, self.clock())
        return swept

    def _account_for_the_last_days(self) -> None:
        """A run whose manifest stood before the ledger failed could not tell what it had removed; now it is known."""
        served = self._served()
        with self.ops.begin() as connection:
            for run, cause in removal_ledger.runs_since(connection, self.source.name, self.clock() - _ACCOUNTED_FOR):
                self._account(connection, run, cause, served)

    def _served(self) -> set[UUID]:
        return {tenant.id for tenant in load_registry(self.ops).tenants if not tenant.retired}

    def _account(self, connection: sa.Connection, run: UUID, cause: Cause, served: set[UUID]) -> list[Account]:
        """Journals one audit row for each tenant that lost something by a run; twice is once."""
        opened = connection.execute(sa.select(audit_run).where(audit_run.c.id == run)).one_or_none()
        accounts = removal_ledger.of_run(connection, self.source.name, run)
        for account in accounts if opened is not None else ():
            record(connection, self._entry(run, cause, account, opened, served))
        return accounts

    def _close(self, run: UUID, cause: Cause, summary: Mapping[str, Any], error: str | None) -> None:
        """Closes a run's entry, and journals one audit row for each tenant that lost something by it."""
        served = self._served()
        with self.ops.begin() as connection:
            accounts = self._account(connection, run, cause, served)
            told = {"tenants": len(accounts), "rows": sum(each.rows for each in accounts)}
            journal.end_run(connection, run, self.clock(), {**told, **summary}, error)

    def _entry(self, run: UUID, cause: Cause, account: Account, opened: Any, served: set[UUID]) -> AuditEntry:
        # The log of a tenant who has left is nobody's to read any more: the row stays in the journal.
        left = account.tenant == NOBODY or (cause is Cause.OFFBOARDED and account.tenant not in served)
        detail = {
            "tenant": str(account.tenant),
            "first_day": account.first_day.isoformat(),
            "last_day": account.last_day.isoformat(),
            "days": account.days,
            "rows": account.rows,
            "objects": account.objects,
            "reason": account.reason,
            "source": self.source.name,
            "run": str(run),
            "dagster_run": opened.run_id,
        }
        return AuditEntry(
            tenant_id=None if left else account.tenant,
            action=ACTIONS[cause],
            resource_type=journal.RESOURCE,
            resource_id=self.source.name[:64],
            actor=opened.actor,
            created_at=self.clock(),
            detail=detail,
            id=uuid.uuid5(run, str(account.tenant)),
        )


def _require_in_order(problems: Sequence[str], number: int = 0, *, reaches: bool = True) -> None:
    missing = [] if reaches else [f"the archive does not hold manifest {number} that the ledger knows"]
    if wrong := [*problems, *missing]:
        raise RemovalError(
            f"the archive's chain is not in order: {wrong[0]}",
            next_step=f"Nothing leaves the archive before that is mended; {ADVICE}",
        )


def by_month(days: Sequence[At]) -> list[list[At]]:
    """Tenants' days by month, in order: what one manifest is about stays small."""
    found: dict[date, list[At]] = {}
    for at in sorted(days, key=lambda each: (each[1], each[0])):
        found.setdefault(at[1].replace(day=1), []).append(at)
    return list(found.values())


def unnamed(files: Sequence[DataFile]) -> Leaving:
    """Objects that leave although no tenant's day in force has to do with them."""
    days = sorted(chain.day_of_key(file.key) for file in files)
    return Leaving(days[0], days[-1], (), tuple(files))


def _remover(store: Store) -> Callable[[removal_ledger.Pending], StoreError | None]:
    def remove(each: removal_ledger.Pending) -> StoreError | None:
        try:
            store.delete(each.key)
        except StoreError as error:
            return error
        return None

    return remove
