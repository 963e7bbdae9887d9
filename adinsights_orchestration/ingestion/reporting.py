"""From the ledger to Dagster: finished syncs as materializations, once per job, and each partition's `sync` check.

Belongs here: batches, and what a killed process left of one. Does not belong here: what a report looks like
(`specs`) and how it is written (`dagster_internals`). A materialization's batch is committed in the ledger before
it is written, with the event log's position; after a crash the log is searched from there, so that nothing is
reported twice or never. A check may be written twice; it always speaks of the partition's newest job that is over,
whichever job is being reported, so that one that is reported late never turns it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import dagster as dg

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.dagster_internals.connections import keep_connections
from adinsights_orchestration.ingestion import ledger, specs
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ingestion.ledger import JobRow, ReportBatch
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider, Registry

_log = get_logger(__name__)
LOCK = "ingestion_report"
BATCH = 500
MAX_REPORTS_PER_TICK = 5000


@dataclass(frozen=True, slots=True)
class Reported:
    """What was told to Dagster: jobs that brought data, jobs that did not, and those of an earlier, killed attempt.

    `cut_short` is whether the tick's time ran out before everything was told.
    """

    materialized: int = 0
    failed: int = 0
    recovered: int = 0
    cut_short: bool = False

    def __add__(self, other: Reported) -> Reported:
        return Reported(
            self.materialized + other.materialized,
            self.failed + other.failed,
            self.recovered + other.recovered,
            self.cut_short or other.cut_short,
        )


def report_tick(instance: dg.DagsterInstance, deps: Deps, now: datetime, *, clock: TickClock | None = None) -> Reported:
    """What follows a reading of Airbyte: tells Dagster what ended, unless another tick is at it.

    Args:
        instance: Whom to tell.
        deps: What engines work with.
        now: The moment of the report.
        clock: The tick's clock: once its budget is used up, no further batch is begun.
    """
    with deps.store.exclusive(LOCK) as mine:
        if not mine:
            return Reported()
        keep_connections(instance)
        reporter = Reporter(instance, deps.store, deps.settings, deps.registry)
        reporter.release_dead_runs(now)
        return reporter.report(now, clock=clock)


@dataclass(frozen=True, slots=True)
class SyncChecks:
    """The `sync` checks of one Dagster instance, as one ledger knows them."""

    instance: dg.DagsterInstance
    store: OpsStore
    settings: Settings
    registry: Registry

    def newest(self, partitions: Iterable[str]) -> dict[str, JobRow]:
        """Returns each partition's newest job that is over: the one that its check has to speak of."""
        with self.store.begin() as connection:
            return ledger.newest_ended(connection, set(partitions))

    def tell(self, provider: Provider, partitions: Iterable[str], now: datetime) -> None:
        """Evaluates these partitions' checks; a materialization of whatever age clears one, so do it after that."""
        self.correct(provider, dict.fromkeys(partitions, 0), now)

    def correct(self, provider: Provider, said: Mapping[str, int], now: datetime) -> None:
        """Evaluates again where the newest job is not the one that was spoken of.

        A run and a tick may report one partition at once. Each looks again after it has written, so that whichever
        writes last has seen the newest job.

        Args:
            provider: Whose partitions.
            said: The job that each partition's check speaks of now; 0 where it speaks of none.
            now: The moment of the evaluation.
        """
        known = self.registry.by_partition() if said else {}
        while behind := [job for key, job in self.newest(said).items() if job.job_id != said[key]]:
            results = (specs.check_result(job, known.get(job.partition_key), self.settings) for job in behind)
            events.report_checks(self.instance, specs.asset_key(provider), specs.SYNC_CHECK, results, at=now)
            said = {job.partition_key: job.job_id for job in behind}


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reports finished jobs of one ledger to one Dagster instance."""

    instance: dg.DagsterInstance
    store: OpsStore
    settings: Settings
    registry: Registry

    def report(self, now: datetime, limit: int = MAX_REPORTS_PER_TICK, *, clock: TickClock | None = None) -> Reported:
        """Reports everything that waits, provider by provider, up to `limit` jobs in all and until the time is up.

        One batch is told however late it is: a tick whose time is always up must not leave everything untold.
        """
        total = Reported()
        with self.store.begin() as connection:
            agenda = ledger.report_agenda(connection)
        if not agenda.pending and not agenda.begun:
            return total
        for provider in agenda.begun:
            total += self._recover(provider, now)
        cursor = events.newest_entry(self.instance)  # before the first batch, and so before every one
        for provider in sorted(agenda.pending | agenda.begun):  # what a killed attempt did not tell waits again
            while (left := limit - total.materialized - total.failed) > 0:
                if left < limit and clock is not None and clock.left() <= 0:
                    return total + Reported(cut_short=self._something_waits())
                jobs = self._take(provider, min(left, BATCH), cursor, now)
                if not jobs:
                    break
                total += jobs
        return total

    def _something_waits(self) -> bool:
        with self.store.begin() as connection:
            return bool(ledger.report_agenda(connection).pending)

    def release_dead_runs(self, now: datetime) -> int:
        """Takes unreported jobs from runs that are over, and returns from how many; their syncs go on in Airbyte."""
        with self.store.begin() as connection:
            waiting = ledger.waiting_runs(connection)
        dead = [run_id for run_id in waiting if self._is_over(run_id)]
        for run_id in dead:
            self._release(run_id, now)
        return len(dead)

    def _release(self, run_id: str, now: datetime) -> None:
        """What the run materialized is told; its checks may not be, so they are evaluated before that is noted."""
        arrived = {int(value) for value in events.run_materialized_values(self.instance, run_id)}
        with self.store.begin() as connection:
            told = [job for job in ledger.jobs_of_run(connection, run_id) if job.job_id in arrived]
        for provider in {job.provider for job in told}:
            self._checks.tell(provider, _partitions(job for job in told if job.provider is provider), now)
        with self.store.begin() as connection:
            ledger.mark_reported(connection, arrived, run_id, now)
            ledger.release_run(connection, run_id, now)

    def _take(self, provider: Provider, limit: int, cursor: int, now: datetime) -> Reported | None:
        with self.store.begin() as connection:
            pending = ledger.pending_reports(connection, provider, limit)
            if not pending:
                return None
            batch = ledger.begin_report_batch(connection, provider, [job.job_id for job in pending], cursor, now)
        brought = [job for job in batch.jobs if job.succeeded]
        known = self.registry.by_partition()
        found = (specs.materialized(job, known.get(job.partition_key), self.settings) for job in brought)
        events.report_materializations(self.instance, specs.asset_key(provider), found)
        self._finish(batch, batch.jobs, now)
        return Reported(materialized=len(brought), failed=len(batch.jobs) - len(brought))

    def _recover(self, provider: Provider, now: datetime) -> Reported:
        with self.store.begin() as connection:
            batches = ledger.open_report_batches(connection, provider)
        recovered = 0
        for batch in batches:
            values = events.materialized_values(self.instance, specs.asset_key(provider), after=batch.event_cursor)
            arrived = {int(value) for value in values}
            done = [job for job in batch.jobs if job.job_id in arrived]
            self._finish(batch, done, now)
            recovered += len(done)
        return Reported(recovered=recovered)

    def _finish(self, batch: ReportBatch, jobs: Sequence[JobRow], now: datetime) -> None:
        self._checks.tell(batch.provider, _partitions(jobs), now)
        with self.store.begin() as connection:
            ledger.finish_report_batch(connection, batch.id, [job.job_id for job in jobs], now)
        for job in jobs:
            log_sync(job)

    @property
    def _checks(self) -> SyncChecks:
        return SyncChecks(self.instance, self.store, self.settings, self.registry)

    def _is_over(self, run_id: str) -> bool:
        run = self.instance.get_run_by_id(run_id)
        return run is None or run.is_finished


def log_sync(job: JobRow) -> None:
    """Writes one line about a sync that is over."""
    _log.info(
        "sync over",
        connection=job.partition_key,
        job=job.job_id,
        status=job.status,
        tenant_id=str(job.tenant_id),
        duration_ms=None if job.duration_seconds is None else round(job.duration_seconds * 1000),
        rows=job.rows_synced,
        reason=job.reason or None,
    )


def _partitions(jobs: Iterable[JobRow]) -> set[str]:
    return {job.partition_key for job in jobs}
