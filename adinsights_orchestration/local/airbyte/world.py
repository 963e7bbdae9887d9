"""The server's state and the only ways it changes.

Belongs here: what a request, a scheduler or an executor may do to connections and jobs, and in which order (at most
one unfinished job per connection; attempts inside a job; `incomplete` between them). Does not belong here: HTTP, what
a sync does, when Airbyte's own schedule is due. Every method may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.local.airbyte import catalogs
from adinsights_orchestration.local.airbyte.faults import declare
from adinsights_orchestration.local.airbyte.index import JobIndex, JobQuery
from adinsights_orchestration.local.airbyte.model import (
    NEVER_RETRIED,
    Actor,
    AirbyteConnection,
    AlreadyRunningError,
    Attempt,
    ConfigType,
    ConnectionStatus,
    FailureReason,
    FailureType,
    Job,
    JobStatus,
    LockedError,
    NotActiveError,
    NotFoundError,
    NotRunningError,
    PendingRefresh,
    StreamName,
    StreamStats,
    Workspace,
)
from adinsights_orchestration.local.airbyte.registry import Resources
from adinsights_orchestration.local.knobs import KnobArea, Knobs

MAX_ATTEMPTS = 3


class Executor(Protocol):
    """What carries jobs out. It learns of jobs from the world and tells it how attempts begin and end."""

    def submitted(self, job: Job) -> None:
        """A job waits to be carried out."""

    def cancelled(self, job: Job) -> None:
        """A job was cancelled; whatever runs for it must end."""

    def settle(self, now: datetime) -> None:
        """Everything that has happened up to `now` is told to the world."""


class WorldStore(Protocol):
    """Where the state survives a restart."""

    def load_resources(self) -> list[Workspace | Actor | AirbyteConnection]:
        """Everything but the jobs."""

    def load_jobs(self) -> list[Job]:
        """Every job, by id."""

    def save_resource(self, resource: Workspace | Actor | AirbyteConnection) -> None:
        """Keeps the resource in its newest form."""

    def save_job(self, job: Job) -> None:
        """Keeps the job in its newest form."""


class AirbyteWorld:
    """One Airbyte server's state.

    Args:
        knobs: Where the fault knobs of area `airbyte` live; a store of its own when None.
        clock: The true time; `clock_skew_seconds` shifts only what is told outside.
        store: Keeps the state over restarts; in memory only when None.
    """

    def __init__(self, knobs: Knobs | None = None, *, clock: Clock = utc_now, store: WorldStore | None = None) -> None:
        self.lock = threading.RLock()
        self.knobs: KnobArea = declare(knobs or Knobs())
        self.clock = clock
        self.jobs = JobIndex()
        self.on_finished: list[Callable[[Job], None]] = []
        self._store = store
        self._executor: Executor | None = None
        self.resources = Resources(on_change=store.save_resource if store else None)
        if store is not None:
            self._restore(store)

    # ------------------------------------------------------------------------------------------------- executor

    def attach(self, executor: Executor) -> None:
        """Gives the world its executor; jobs that were unfinished at the last stop are handed to it again."""
        with self.lock:
            self._executor = executor
            for job in self.jobs.active():
                executor.submitted(job)

    def settle(self) -> None:
        """Brings the state up to the present moment."""
        with self.lock:
            if self._executor is not None:
                self._executor.settle(self.clock())

    def begin_attempt(self, job_id: int, at: datetime) -> Attempt:
        """An executor takes the job up."""
        with self.lock:
            job = self.jobs.get(job_id)
            attempt = Attempt(number=len(job.attempts), created_at=at, updated_at=at)
            job.attempts.append(attempt)
            job.started_at = job.started_at or at
            self._move(job, JobStatus.RUNNING, at)
            return attempt

    def report(self, job_id: int, streams: tuple[StreamStats, ...], at: datetime) -> None:
        """A running attempt tells how far it is; nothing of it is committed yet unless its numbers say so."""
        with self.lock:
            attempt = self.jobs.get(job_id).attempt
            if attempt is not None and attempt.status == "running":
                attempt.streams, attempt.updated_at = streams, at

    def end_attempt(
        self, job_id: int, at: datetime, streams: tuple[StreamStats, ...] = (), failure: FailureReason | None = None
    ) -> Job:
        """An attempt is over; the job becomes succeeded, incomplete (another attempt follows) or failed."""
        with self.lock:
            job = self.jobs.get(job_id)
            if job.terminal:
                return job  # cancelled in the meantime: what the executor still says does not matter
            _close(job, at, streams, failure)
            if failure is None:
                self._move(job, JobStatus.SUCCEEDED, at)
            elif failure.type in NEVER_RETRIED or len(job.attempts) >= MAX_ATTEMPTS:
                self._move(job, JobStatus.FAILED, at)
            else:
                self._move(job, JobStatus.INCOMPLETE, at)
            return job

    def break_schema(self, job_id: int, at: datetime) -> Job:
        """Discovery before a sync found a breaking change: the connection is switched off and the job is cancelled."""
        with self.lock:
            job = self.jobs.get(job_id)
            connection = self.resources.connection(job.connection_id)
            source = self.resources.source(connection.source_id)
            self.resources.put(replace(source, discovered=catalogs.broken(connection.catalog)))
            self.resources.put(
                replace(
                    connection,
                    status=ConnectionStatus.INACTIVE,
                    status_reason="SCHEMA_CHANGES_ARE_BREAKING",
                    breaking_change=True,
                )
            )
            if job.attempts and job.attempts[-1].status == "running":
                job.attempts[-1].status, job.attempts[-1].ended_at = "failed", at
            self._move(job, JobStatus.CANCELLED, at)
            return job

    # ------------------------------------------------------------------------------------------------- requests

    def start(self, connection_id: UUID, config_type: ConfigType, streams: tuple[StreamName, ...] = ()) -> Job:
        """Starts a job, as a manual sync or a reset does.

        Args:
            connection_id: Which connection.
            config_type: `sync` (which becomes `refresh` when a refresh was asked for), or `reset_connection`.
            streams: The streams to reset; all when empty.

        Raises:
            NotFoundError: No such connection.
            NotActiveError: It is not active.
            AlreadyRunningError: It has an unfinished job. A reset cancels that job instead.
        """
        with self.lock:
            self.settle()
            connection = self.resources.connection(connection_id)
            if connection.status is not ConnectionStatus.ACTIVE and config_type is ConfigType.SYNC:
                raise NotActiveError("Can only sync an active connection")
            running = self.jobs.running(connection_id)
            if running is not None and config_type is ConfigType.SYNC:
                raise AlreadyRunningError(f"A sync is already running for: {connection_id}")
            if running is not None:
                self.cancel(running.id)
            return self._submit(self._new_job(connection, config_type, streams))

    def refresh(self, connection_id: UUID, mode: str, streams: tuple[StreamName, ...] = ()) -> Job | None:
        """Asks for a refresh; returns its job, or None when a job is running and the next one will carry it out."""
        with self.lock:
            connection = self.resources.connection(connection_id)
            pending = PendingRefresh(mode, streams or connection.streams)
            self.resources.put(replace(connection, pending_refresh=pending))
            try:
                return self.start(connection_id, ConfigType.SYNC)
            except AlreadyRunningError:
                return None

    def cancel(self, job_id: int) -> Job:
        """Cancels an unfinished job; `NotRunningError` when it is over."""
        with self.lock:
            self.settle()
            job = self.jobs.get(job_id)
            if job.terminal:
                raise NotRunningError("Job is not currently running")
            if job.attempt is not None and job.attempt.status == "running":
                _close(job, self.clock(), job.attempt.streams, _CANCELLATION)
            self._move(job, JobStatus.CANCELLED, self.clock())
            if self._executor is not None:
                self._executor.cancelled(job)
            return job

    def job(self, job_id: int) -> Job:
        """Returns the job as of now; `NotFoundError` when there is none, or when it is made to vanish."""
        with self.lock:
            self.settle()
            if job_id in self.knobs.get("vanish_job"):
                raise NotFoundError("job", job_id)
            return self.jobs.get(job_id)

    def forbids(self, query: JobQuery) -> bool:
        """Whether a listing names a connection or a workspace that the caller may not read."""
        named = {str(one) for one in (query.connection_id, *(query.workspace_ids or ())) if one is not None}
        return not named.isdisjoint([*self.knobs.get("forbidden"), *self.knobs.get("no_jobs")])

    def list_jobs(self, query: JobQuery) -> list[Job]:
        """Returns one page of a listing as of now."""
        with self.lock:
            self.settle()
            return self.jobs.page(self._visible(query))

    def count_jobs(self, query: JobQuery) -> int:
        """How many jobs a listing has on all its pages."""
        with self.lock:
            return self.jobs.count(self._visible(query))

    def change(self, connection_id: UUID, changed: AirbyteConnection) -> AirbyteConnection:
        """Puts a connection's new form in place; `LockedError` when it is locked."""
        with self.lock:
            if self.resources.connection(connection_id).status is ConnectionStatus.LOCKED:
                raise LockedError("the connection is locked")
            self.resources.put(changed)
            return changed

    # ------------------------------------------------------------------------------------------------- internals

    def _visible(self, query: JobQuery) -> JobQuery:
        hidden = frozenset(self.knobs.get("vanish_job"))
        offset = 0 if self.knobs.get("repeat_page") else query.offset
        return query if not hidden and offset == query.offset else replace(query, excluded_ids=hidden, offset=offset)

    def _new_job(self, connection: AirbyteConnection, config_type: ConfigType, streams: tuple[StreamName, ...]) -> Job:
        refresh = connection.pending_refresh if config_type is ConfigType.SYNC else None
        whole_reset = config_type is not ConfigType.SYNC and set(streams or connection.streams) >= set(
            connection.streams
        )
        if refresh is not None or whole_reset:
            connection = replace(connection, pending_refresh=None, generation=connection.generation + 1)
            self.resources.put(connection)
        now = self.clock()
        return Job(
            id=self.jobs.last_id + 1,
            connection_id=connection.id,
            workspace_id=connection.workspace_id,
            config_type=ConfigType.REFRESH if refresh else config_type,
            created_at=now,
            updated_at=now,
            streams=refresh.streams if refresh else streams or connection.streams,
            generation=connection.generation,
            refresh_mode=refresh.mode if refresh else None,
        )

    def _submit(self, job: Job) -> Job:
        self.jobs.add(job)
        self._save(job)
        if self._executor is not None:
            self._executor.submitted(job)
        return job

    def _move(self, job: Job, status: JobStatus, at: datetime) -> None:
        job.status, job.updated_at = status, max(at, job.updated_at)
        self.jobs.changed(job)
        self._save(job)
        if job.terminal:
            for notify in self.on_finished:
                notify(job)

    def _save(self, job: Job) -> None:
        if self._store is not None:
            self._store.save_job(job)

    def _restore(self, store: WorldStore) -> None:
        """Takes up the stored state; attempts that ran when the server died failed with it."""
        for resource in store.load_resources():
            self.resources.restore(resource)
        for job in store.load_jobs():
            self.jobs.add(job)
        for job in self.jobs.active():
            if job.attempt is not None and job.attempt.status == "running":
                self.end_attempt(job.id, self.clock(), job.attempt.streams, _WORKER_LOST)


def _close(job: Job, at: datetime, streams: tuple[StreamStats, ...], failure: FailureReason | None) -> None:
    attempt = job.attempts[-1]
    attempt.status = "succeeded" if failure is None else "failed"
    attempt.ended_at = attempt.updated_at = max(at, attempt.created_at)
    attempt.streams, attempt.failure = streams, failure


_CANCELLATION = FailureReason(
    origin="airbyte_platform",
    type=FailureType.MANUAL_CANCELLATION,
    external_message="Setting attempt to FAILED because the job was cancelled",
)
_WORKER_LOST = FailureReason(
    origin="airbyte_platform",
    type=FailureType.TRANSIENT_ERROR,
    external_message="Airbyte could not track the sync's progress. No heartbeat within the time limit.",
    internal_message="the worker ended while the attempt was running",
)
