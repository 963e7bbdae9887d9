"""Archiving: from closed days of a table to sealed days in the store.

Belongs here: one run over a range of days, from the lock to the journal. Does not belong here: Dagster (`automation`).
The range is one scan of the table. Rows stream through: what is read is encoded, written and taken back group by group,
and a day is sealed, in the order of days, as soon as all of it is verified. A run that dies leaves sealed days sealed
and the others as if nobody had begun: the next one does them again, and finds their objects there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from datetime import date, timedelta

from pydantic import SecretStr

from adinsights_orchestration.audit_log import days, journal
from adinsights_orchestration.audit_log.archive.report import ArchiveReport
from adinsights_orchestration.audit_log.archive.sealing import Parts, RangeRun
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.audit_log.table.reaching import dsn_of
from adinsights_orchestration.backend.database import BackendDatabase
from adinsights_orchestration.clock import Clock, elapsed_seconds, utc_now
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings


class ArchiveError(AdinsightsError):
    """These days cannot be archived now; nothing was changed."""


def lock_name(source: Source) -> str:
    """The lock in the ops store that whoever adds to a table's chain holds: archiving, and what leaves the archive."""
    return f"audit_log:{source.name}"


def database_of(settings: Settings, source: Source) -> BackendDatabase:
    """A handle on the table's database, with the role that archives."""
    return BackendDatabase(settings.backend.model_copy(update={"dsn": SecretStr(dsn_of(settings, source))}))


class Archiver:
    """Archives one table.

    Args:
        settings: Addresses, and how the archive is written.
        ops: The ops store, with the ledger.
        source: The table.
        store: The archive; None: the one that the settings name.
        clock: The moment of each step.
        host: This host's clock, which the table's server must agree with.
    """

    def __init__(
        self,
        settings: Settings,
        ops: OpsStore,
        source: Source,
        store: Store | None = None,
        clock: Clock = utc_now,
        host: Clock = utc_now,
    ) -> None:
        self._settings = settings
        self._ops = ops
        self._source = source
        self._store = store or open_store(settings.audit_log)
        self._clock = clock
        self._host = host
        self._ledger = ArchiveLedger(ops, source.name)

    def run(
        self,
        first: date,
        last: date,
        *,
        actor: str,
        run_id: str | None = None,
        report_to: Callable[[ArchiveReport], None] = lambda _: None,
        anew: Collection[At] = (),
        narrower: bool = False,
    ) -> ArchiveReport:
        """Archives the days from the first to the last; those that are as they were archived stay as they are.

        Args:
            first: The first day.
            last: The last one, included; must be closed.
            actor: Who asked, for the audit rows.
            run_id: The Dagster run.
            report_to: Given the report in the end, also when the run fails on one of the days.
            anew: Tenants' days that are written anew although nothing changed: their objects are damaged.
            narrower: A person asked for these days: those that were archived with a column that the table lacks by now
                are archived without it. Otherwise they stay as they are.

        Raises:
            ArchiveError: A day is not closed yet, or somebody else archives the same table.
            AdinsightsError: A database, the store or the content failed; the message says what to do.
        """
        self._require_closed(first, last)
        with self._ops.exclusive(lock_name(self._source)) as mine:
            if not mine:
                raise ArchiveError(
                    f"{self._source.name} is being archived already, or something leaves its archive",
                    next_step="Wait for the other run; what it leaves can be archived afterwards.",
                )
            with self._journalled(actor, run_id, report_to) as report:
                RangeRun(self._parts(), first, last, report, anew, narrower=narrower).run()
            return report

    def catch_up(self) -> None:
        """Records manifests that the chain has and the ledger lacks: their writer died in between.

        Raises:
            WrongArchiveError: The store does not hold what the ledger knows of the chain; its disk is not mounted.
        """
        sequence, hash_ = self._ledger.head()
        if sequence:
            chain.require_end(self._store, self._source.name, sequence, hash_)
        for manifest in chain.follow(self._store, self._source.name, sequence, hash_):
            self._ledger.record(manifest, self._clock())

    def _parts(self) -> Parts:
        settings, source = self._settings, self._source
        database = database_of(settings, source)
        return Parts(
            source,
            dsn_of(settings, source),
            database,
            self._store,
            self._ledger,
            settings.audit_log,
            self._clock,
            self._host,
        )

    def _require_closed(self, first: date, last: date) -> None:
        log = self._settings.audit_log
        closed = days.last_closed(self._clock(), timedelta(minutes=log.settle_minutes))
        if first > last or first < log.first_day:
            raise ArchiveError(
                f"there is nothing to archive from {first} to {last}",
                next_step=f"Days begin with {log.first_day} (ADINSIGHTS_AUDIT_LOG__FIRST_DAY).",
            )
        if last > closed:
            raise ArchiveError(
                f"{last} is not closed yet",
                next_step=f"A day can be archived {log.settle_minutes} minutes after it has ended (UTC); the newest"
                f" closed one is {closed}.",
            )

    @contextmanager
    def _journalled(
        self, actor: str, run_id: str | None, report_to: Callable[[ArchiveReport], None]
    ) -> Iterator[ArchiveReport]:
        """One run under the lock: its report, and its entry in the journal however it ends."""
        began = elapsed_seconds()
        self.catch_up()
        journal.close_dead_runs(self._ops, self._source.name, self._clock())
        run = journal.open_run(self._ops, self._source.name, "archive", actor=actor, now=self._clock(), run_id=run_id)
        report = ArchiveReport(run)
        error: str | None = None
        try:
            yield report
        except BaseException as failure:
            error = str(failure) if isinstance(failure, AdinsightsError) else type(failure).__name__
            raise
        finally:
            report.seconds = elapsed_seconds() - began
            report_to(report)
            with journal.unless_failing(error):
                journal.close_run(self._ops, self._source.name, run, self._clock(), report.summary(), error)
