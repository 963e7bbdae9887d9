"""The executor of real connectors, with connectors that do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from adinsights_orchestration.local.airbyte.connector_executor import ConnectorExecutor, declared_catalog
from adinsights_orchestration.local.airbyte.model import AirbyteConnection, ConfigType, FailureType, Job, JobStatus
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.connectors.sync import Failure, StreamStats, SyncRequest, SyncResult
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import HANG_SECONDS
from tests.local.airbyte_support import add_connection, add_workspace

BUSY = Failure("source", "transient_error", "The platform is busy.", "HTTP 503", "campaigns")
PATIENCE_SECONDS = HANG_SECONDS


@dataclass
class ScriptedConnectors:
    """Connectors whose n-th sync ends as told; what is not told succeeds."""

    failures: list[Failure | Exception | None] = field(default_factory=list)
    hold: asyncio.Event | None = None
    requests: list[SyncRequest] = field(default_factory=list)
    cleared: list[tuple[str, ...]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def sync(
        self,
        request: SyncRequest,
        *,
        on_progress: Callable[[StreamStats], None] | None = None,
        cancel: asyncio.Event | None = None,
    ) -> SyncResult:
        self.requests.append(request)
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if on_progress is not None:
                on_progress(StreamStats("campaigns", "raw_meta", 5, 500))
            if self.hold is not None and cancel is not None:
                await _first(self.hold, cancel)
            return self._result(request)
        finally:
            self.at_once -= 1

    def _result(self, request: SyncRequest) -> SyncResult:
        outcome = self.failures.pop(0) if self.failures else None
        if isinstance(outcome, Exception):
            raise outcome
        streams = tuple(StreamStats(name, "raw_meta", 7, 700) for name in request.streams)
        return SyncResult(outcome is None, streams, outcome)

    async def clear(
        self, connection_id: UUID, provider: Provider, tenant_id: UUID, streams: tuple[str, ...]
    ) -> SyncResult:
        self.cleared.append(streams)
        return SyncResult(True, (), None)

    async def discover(self, provider: Provider, config: Mapping[str, object]) -> Mapping[str, Any]:
        schema = {"properties": {"id": {"type": "string"}, "reach": {"type": "integer"}}}
        return {"streams": [{"name": "campaigns", "json_schema": schema, "source_defined_primary_key": [["id"]]}]}


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


async def eventually(condition: Callable[[], bool]) -> None:
    """Waits for the world, which is not asynchronous and has no event to wait for."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


class Running:
    """A world whose executor runs in this test's event loop."""

    def __init__(self, connectors: ScriptedConnectors, *, slots: int = 2, connections: int = 1) -> None:
        self.world = AirbyteWorld()
        workspace = add_workspace(self.world)
        self.connections = [add_connection(self.world, workspace, f"c{n}") for n in range(connections)]
        self.executor = ConnectorExecutor(self.world, connectors, slots=slots, retry_delay=timedelta(milliseconds=20))

    @asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.executor.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def start(self, connection: AirbyteConnection | None = None, kind: ConfigType = ConfigType.SYNC) -> Job:
        return self.world.start((connection or self.connections[0]).id, kind)

    async def until(self, job: Job, *statuses: JobStatus) -> None:
        await eventually(lambda: job.status in statuses)

    async def finish(self, job: Job) -> Job:
        await self.until(job, JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED)
        return job


def test_a_sync_asks_the_connector_for_what_the_connection_has_approved() -> None:
    connectors = ScriptedConnectors()
    running = Running(connectors)

    async def story() -> None:
        async with running.working():
            await running.finish(running.start())

    asyncio.run(story())
    request = connectors.requests[0]
    source = running.world.resources.source(running.connections[0].source_id)
    assert (request.job_id, request.attempt, request.provider) == (1, 1, Provider.META)
    assert request.streams == ("ad_insights", "campaigns")
    assert request.config == source.configuration
    assert request.catalog is not None
    assert [stream["name"] for stream in request.catalog["streams"]] == ["ad_insights", "campaigns"]
    job = running.world.jobs.get(1)
    assert job.status is JobStatus.SUCCEEDED
    assert {stream.name: stream.records_committed for stream in job.attempts[0].streams} == {
        "ad_insights": 7,
        "campaigns": 7,
    }


def test_a_transient_failure_is_tried_again_and_a_third_one_fails_the_job() -> None:
    connectors = ScriptedConnectors([BUSY, BUSY, BUSY])
    running = Running(connectors)

    async def story() -> Job:
        async with running.working():
            return await running.finish(running.start())

    job = asyncio.run(story())
    assert job.status is JobStatus.FAILED
    assert [request.attempt for request in connectors.requests] == [1, 2, 3]
    assert job.attempts[0].failure is not None
    assert job.attempts[0].failure.type is FailureType.TRANSIENT_ERROR
    assert job.attempts[0].failure.stream is not None


def test_a_connector_that_crashes_is_a_failed_attempt_and_the_server_goes_on() -> None:
    connectors = ScriptedConnectors([RuntimeError("boom")])
    running = Running(connectors)

    async def story() -> Job:
        async with running.working():
            return await running.finish(running.start())

    job = asyncio.run(story())
    assert [attempt.status for attempt in job.attempts] == ["failed", "succeeded"]


def test_no_more_syncs_run_at_once_than_there_are_slots() -> None:
    connectors = ScriptedConnectors()
    running = Running(connectors, slots=2, connections=6)

    async def story() -> None:
        connectors.hold = asyncio.Event()
        async with running.working():
            jobs = [running.start(connection) for connection in running.connections]
            await running.until(jobs[1], JobStatus.RUNNING)
            assert [job.status for job in jobs[2:]] == [JobStatus.PENDING] * 4
            connectors.hold.set()
            for job in jobs:
                await running.finish(job)

    asyncio.run(story())
    assert connectors.most_at_once == 2


def test_cancelling_ends_the_connector_and_frees_its_slot() -> None:
    connectors = ScriptedConnectors()
    running = Running(connectors, slots=1, connections=2)

    async def story() -> tuple[Job, Job]:
        connectors.hold = asyncio.Event()
        async with running.working():
            first, second = (running.start(connection) for connection in running.connections)
            await running.until(first, JobStatus.RUNNING)
            running.world.cancel(first.id)
            await running.until(second, JobStatus.RUNNING)
            connectors.hold.set()
            await running.finish(second)
        return first, second

    first, second = asyncio.run(story())
    assert (first.status, second.status) == (JobStatus.CANCELLED, JobStatus.SUCCEEDED)


def test_progress_is_visible_while_the_connector_runs() -> None:
    connectors = ScriptedConnectors()
    running = Running(connectors)

    async def story() -> int:
        connectors.hold = asyncio.Event()
        async with running.working():
            job = running.start()
            await running.until(job, JobStatus.RUNNING)
            await eventually(lambda: bool(job.attempts[0].streams))
            return job.attempts[0].streams[0].records_committed

    assert asyncio.run(story()) == 5


def test_a_clear_deletes_and_the_next_sync_is_of_another_generation() -> None:
    connectors = ScriptedConnectors()
    running = Running(connectors)

    async def story() -> None:
        async with running.working():
            await running.finish(running.start(kind=ConfigType.RESET_CONNECTION))
            await running.finish(running.start())

    asyncio.run(story())
    assert connectors.cleared == [("ad_insights", "campaigns")]
    assert [request.generation_id for request in connectors.requests] == [1]


@pytest.mark.parametrize(
    ("knob", "status"), [("fail_connection", JobStatus.FAILED), ("empty_connection", JobStatus.SUCCEEDED)]
)
def test_knobs_decide_before_a_connector_is_asked(knob: str, status: JobStatus) -> None:
    connectors = ScriptedConnectors()
    running = Running(connectors)
    name = str(running.connections[0].id)
    value: Any = {name: {"failureType": "config_error"}} if knob == "fail_connection" else [name]
    running.world.knobs.set(knob, value)

    async def story() -> Job:
        async with running.working():
            return await running.finish(running.start())

    assert asyncio.run(story()).status is status
    assert connectors.requests == []


def test_after_a_simulated_break_the_connector_reads_what_its_manifest_declares() -> None:
    connectors = ScriptedConnectors()
    running = Running(connectors)
    world, connection = running.world, running.connections[0]
    world.knobs.set("schema_break", [str(connection.id)])

    async def story() -> None:
        async with running.working():
            assert (await running.finish(running.start())).status is JobStatus.CANCELLED
            broken = world.resources.connection(connection.id)
            discovered = world.resources.source(connection.source_id).discovered
            assert discovered is not None
            approved = AirbyteConnection(
                **{
                    **{name: getattr(broken, name) for name in broken.__dataclass_fields__},
                    "catalog": discovered,
                    "status": connection.status,
                    "breaking_change": False,
                }
            )
            world.change(connection.id, approved)
            await running.finish(running.start())

    asyncio.run(story())
    assert [request.catalog for request in connectors.requests] == [None]


def test_a_discovery_is_what_the_source_says() -> None:
    running = Running(ScriptedConnectors())
    source = running.world.resources.source(running.connections[0].source_id)
    found = asyncio.run(running.executor.discover(source))
    assert [(stream.name, stream.primary_key) for stream in found] == [("campaigns", (("id",),))]


@pytest.mark.parametrize("provider", list(Provider))
def test_every_provider_declares_streams_with_keys(provider: Provider) -> None:
    streams = declared_catalog(provider)
    assert streams
    assert all(stream.primary_key[0] == ("tenant_id",) for stream in streams)
