"""The executor that runs real connectors.

Belongs here: which job runs when (slots, retries) and what a job asks of the connectors. Does not belong here:
running a connector and writing its rows (`local/connectors`). Jobs may be submitted and cancelled from any thread;
the work itself lives in the server's event loop, as tasks of `run`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

import structlog

from adinsights_orchestration.local.airbyte.fates import forced_failure, schema_breaks, stays_empty
from adinsights_orchestration.local.airbyte.model import (
    Actor,
    AirbyteConnection,
    Catalog,
    CatalogStream,
    ConfigType,
    FailureReason,
    FailureType,
    Job,
    JobStatus,
    StreamName,
    StreamStats,
)
from adinsights_orchestration.local.airbyte.source_kinds import PROVIDERS
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.connectors.catalog import (
    StreamSpec,
    declared_streams,
    discovered_streams,
    load_manifest,
)
from adinsights_orchestration.local.connectors.sync import Failure, SyncRequest, SyncResult
from adinsights_orchestration.local.connectors.sync import StreamStats as Synced
from adinsights_orchestration.tenants.model import Provider

_FORCED_DELAY_SECONDS = 0.2
log = structlog.get_logger(component="local.airbyte.executor")


class Connectors(Protocol):
    """What the executor needs of `local.connectors.sync.ConnectorRuntime`."""

    async def sync(
        self, request: SyncRequest, *, on_progress: Any = None, cancel: asyncio.Event | None = None
    ) -> SyncResult:
        """Reads streams into the warehouse."""

    async def clear(
        self, connection_id: UUID, provider: Provider, tenant_id: UUID, streams: tuple[str, ...]
    ) -> SyncResult:
        """Deletes a connection's rows and state."""

    async def discover(self, provider: Provider, config: Mapping[str, object]) -> Mapping[str, Any]:
        """Asks the source for its catalog."""


@dataclass(frozen=True, slots=True)
class Attempted:
    """How an attempt ended."""

    streams: tuple[StreamStats, ...] = ()
    failure: FailureReason | None = None


@dataclass
class ConnectorExecutor:
    """Carries jobs out with real connectors.

    Args:
        world: Whose jobs; the executor attaches itself.
        connectors: What runs them.
        slots: How many attempts run at once; further jobs stay `pending`, in order.
        retry_delay: How long a job stays `incomplete` between two attempts.
    """

    world: AirbyteWorld
    connectors: Connectors
    slots: int = 2
    retry_delay: timedelta = timedelta(seconds=3)
    _waiting: deque[int] = field(default_factory=deque, init=False, repr=False)
    _running: dict[int, asyncio.Event] = field(default_factory=dict, init=False, repr=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False, repr=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False, repr=False)
    _wake: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False)

    def __post_init__(self) -> None:
        self.world.attach(self)

    def submitted(self, job: Job) -> None:
        """Queues the job."""
        self._waiting.append(job.id)
        self._notify()

    def cancelled(self, job: Job) -> None:
        """Ends the connector that runs for the job."""
        event = self._running.get(job.id)
        if event is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(event.set)

    def settle(self, now: datetime) -> None:
        """Nothing to do: real syncs tell of themselves."""

    async def discover(self, source: Actor) -> tuple[CatalogStream, ...]:
        """What the source offers now; `ConnectorError` when it fails."""
        provider = PROVIDERS[source.kind]
        found = await self.connectors.discover(provider, source.configuration)
        return tuple(_catalog_stream(spec) for spec in discovered_streams(provider, found))

    async def run(self) -> None:
        """Starts waiting jobs as slots become free, until cancelled; running connectors end with it."""
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                self._wake.clear()
                while self._waiting and len(self._running) < self.slots:
                    self._launch(self._waiting.popleft())
                await self._wake.wait()
        finally:
            self._loop = None
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _launch(self, job_id: int) -> None:
        job = self.world.jobs.get(job_id)
        if job.terminal:
            return
        self._running[job_id] = asyncio.Event()
        self._keep(asyncio.create_task(self._attempt(job), name=f"airbyte-job-{job_id}"))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _notify(self) -> None:
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    async def _attempt(self, job: Job) -> None:
        cancel = self._running[job.id]
        try:
            attempt = self.world.begin_attempt(job.id, self.world.clock())
            if job.config_type is ConfigType.SYNC and schema_breaks(self.world.knobs, job):
                self.world.break_schema(job.id, self.world.clock())
                return
            done = await self._work(job, attempt.number, cancel)
            after = self.world.end_attempt(job.id, self.world.clock(), done.streams, done.failure)
            if after.status is JobStatus.INCOMPLETE:
                self._keep(asyncio.create_task(self._retry(job)))
        finally:
            del self._running[job.id]
            self._wake.set()

    async def _retry(self, job: Job) -> None:
        await asyncio.sleep(self.retry_delay.total_seconds())
        self.submitted(job)

    async def _work(self, job: Job, number: int, cancel: asyncio.Event) -> Attempted:
        failure = forced_failure(self.world.knobs, job)
        if failure is not None:
            await asyncio.sleep(_FORCED_DELAY_SECONDS)
            return Attempted(failure=failure)
        if stays_empty(self.world.knobs, job):
            return Attempted(tuple(StreamStats(stream.name, stream.namespace) for stream in job.streams))
        try:
            return _attempted(await self._run_connector(job, number, cancel))
        except Exception as error:  # noqa: BLE001  (a platform that fails in a new way is one failed attempt, not a dead server)
            log.warning("airbyte.attempt_crashed", job=job.id, connection=str(job.connection_id), error=repr(error))
            return Attempted(failure=FailureReason("airbyte_platform", FailureType.SYSTEM_ERROR, "The sync crashed."))

    async def _run_connector(self, job: Job, number: int, cancel: asyncio.Event) -> SyncResult:
        connection = self.world.resources.connection(job.connection_id)
        source = self.world.resources.source(connection.source_id)
        provider, tenant_id = PROVIDERS[source.kind], UUID(str(source.configuration["tenant_id"]))
        names = tuple(stream.name for stream in job.streams)
        if job.config_type is ConfigType.RESET_CONNECTION:
            return await self.connectors.clear(connection.id, provider, tenant_id, names)
        progress = _Progress(self.world, job)
        return await self.connectors.sync(
            SyncRequest(
                job_id=job.id,
                attempt=number + 1,
                connection_id=connection.id,
                tenant_id=tenant_id,
                provider=provider,
                config=source.configuration,
                streams=names,
                generation_id=job.generation,
                catalog=_approved(connection, source),
            ),
            on_progress=progress.add,
            cancel=cancel,
        )


def declared_catalog(provider: Provider) -> tuple[CatalogStream, ...]:
    """The streams that a provider's manifest declares: what a connection is set up with."""
    return tuple(_catalog_stream(spec) for spec in declared_streams(provider, load_manifest(provider)))


def _catalog_stream(spec: StreamSpec) -> CatalogStream:
    return CatalogStream(
        name=spec.name,
        json_schema=spec.json_schema,
        primary_key=tuple((name,) for name in spec.primary_key),
        cursor_field=(spec.cursor_field,) if spec.cursor_field else (),
    )


class _Progress:
    """Collects what streams have committed and passes it on."""

    def __init__(self, world: AirbyteWorld, job: Job) -> None:
        self._world = world
        self._job_id = job.id
        self._streams: dict[str, StreamStats] = {}

    def add(self, synced: Synced) -> None:
        self._streams[synced.name] = _stats(synced)
        self._world.report(self._job_id, tuple(self._streams.values()), self._world.clock())


def _attempted(result: SyncResult) -> Attempted:
    failure = None if result.succeeded else _reason(result.failure)
    return Attempted(tuple(_stats(stream) for stream in result.streams), failure)


def _stats(synced: Synced) -> StreamStats:
    """Namespaces stay out: the connection's destination decides about schemas, the streams themselves have none."""
    return StreamStats(synced.name, None, synced.rows, synced.bytes, synced.rows, synced.bytes)


def _reason(failure: Failure | None) -> FailureReason:
    if failure is None:
        return FailureReason("airbyte_platform", FailureType.SYSTEM_ERROR, "The sync failed without saying why.")
    return FailureReason(
        origin=failure.origin,
        type=FailureType(failure.type),
        external_message=failure.external_message,
        internal_message=failure.internal_message,
        stream=StreamName(failure.stream) if failure.stream else None,
    )


def _approved(connection: AirbyteConnection, source: Actor) -> Mapping[str, Any] | None:
    """The schema that the connection has approved, as the protocol spells a catalog.

    After a simulated break (knob `schema_break`) the approved schema names fields that the platform never had; then the
    connector reads what its manifest declares.
    """
    catalog: Catalog = connection.catalog
    if source.discovered is not None and source.discovered.simulated and source.discovered.id == catalog.id:
        return None
    return {
        "streams": [
            {
                "name": stream.name,
                "json_schema": stream.json_schema,
                "source_defined_primary_key": [list(path) for path in stream.primary_key],
                "default_cursor_field": list(stream.cursor_field),
            }
            for stream in catalog.streams
        ]
    }
