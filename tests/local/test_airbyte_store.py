"""The server's state in a real Postgres, over restarts and outages."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from adinsights_orchestration.local.airbyte.model import (
    AirbyteConnection,
    AirbyteSchedule,
    ConfigType,
    FailureType,
    JobStatus,
    PendingRefresh,
    StreamName,
    StreamStats,
)
from adinsights_orchestration.local.airbyte.simulated import SimulatedExecutor, steady
from adinsights_orchestration.local.airbyte.store import PostgresWorldStore
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from tests.conftest import PostgresServer
from tests.local.airbyte_support import SYNC_TIME, TRANSIENT, ManualClock, add_connection, add_workspace, failing


class Restartable:
    """A server whose state is in Postgres; `restart` is what a kill and a new start leave of it."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.clock = ManualClock()
        self.world = AirbyteWorld(clock=self.clock, store=PostgresWorldStore(dsn))
        self.connection = add_connection(
            self.world, add_workspace(self.world), schedule=AirbyteSchedule("basic", units=1)
        )
        SimulatedExecutor(self.world, steady(SYNC_TIME), slots=1)

    def restart(self) -> AirbyteWorld:
        self.world = AirbyteWorld(clock=self.clock, store=PostgresWorldStore(self.dsn))
        SimulatedExecutor(self.world, steady(SYNC_TIME), slots=1)
        return self.world

    def start(self, connection: AirbyteConnection | None = None) -> int:
        return self.world.start((connection or self.connection).id, ConfigType.SYNC).id

    def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.world.settle()


@pytest.fixture
def server(database: str) -> Restartable:
    return Restartable(database)


def test_finished_jobs_and_every_resource_are_the_same_after_a_restart(server: Restartable) -> None:
    connection = replace(
        server.connection,
        status_reason="MANUALLY_LOCKED",
        pending_refresh=PendingRefresh("Merge", (StreamName("campaigns", "raw"),)),
    )
    server.world.resources.put(connection)
    SimulatedExecutor(server.world, failing(TRANSIENT))
    job_id = server.start()
    server.after(100)
    before = server.world.jobs.get(job_id)
    after = server.restart()
    assert after.jobs.get(job_id) == before
    assert after.resources.connection(connection.id) == server.world.resources.connection(connection.id)
    assert after.resources.source(connection.source_id).configuration["account_ids"] == ["1"]
    assert after.resources.workspaces() == server.world.resources.workspaces()


def test_an_attempt_that_ran_when_the_server_died_failed_and_the_job_is_tried_again(server: Restartable) -> None:
    job_id = server.start()
    server.world.report(job_id, (StreamStats("campaigns", None, 4, 400, 4, 400),), server.clock())
    server.clock.advance(5)
    job = server.restart().jobs.get(job_id)
    assert [attempt.status for attempt in job.attempts] == ["failed", "running"]
    failure = job.attempts[0].failure
    assert failure is not None
    assert (failure.origin, failure.type) == ("airbyte_platform", FailureType.TRANSIENT_ERROR)
    server.after(31)
    assert server.world.jobs.get(job_id).status is JobStatus.SUCCEEDED


def test_a_job_whose_last_attempt_was_killed_has_failed(server: Restartable) -> None:
    job_id = server.start()
    for _ in range(3):
        server.clock.advance(1)
        server.restart()
    job = server.world.jobs.get(job_id)
    assert job.status is JobStatus.FAILED
    assert len(job.attempts) == 3


def test_jobs_that_waited_go_on_waiting_in_their_order(server: Restartable) -> None:
    others = [add_connection(server.world, server.connection.workspace_id, f"c{n}") for n in range(2)]
    ids = [server.start(), *(server.start(other) for other in others)]
    world = server.restart()
    assert [world.jobs.get(job_id).status for job_id in ids] == [
        JobStatus.RUNNING,
        JobStatus.PENDING,
        JobStatus.PENDING,
    ]
    server.after(1000)
    assert [job.id for job in sorted(world.jobs, key=lambda job: job.updated_at)] == ids


def test_job_ids_go_on_after_a_restart(server: Restartable) -> None:
    first = server.start()
    server.after(31)
    server.restart()
    assert server.start() == first + 1


def test_what_happens_while_postgres_is_away_is_kept_when_it_is_back(
    server: Restartable, postgres_server: PostgresServer
) -> None:
    job_id = server.start()
    with psycopg.connect(postgres_server.server.dsn(), autocommit=True) as admin:
        name = server.dsn.rpartition("/")[2]
        admin.execute(f'alter database "{name}" allow_connections false')
        admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        server.after(31)
        assert server.world.jobs.get(job_id).status is JobStatus.SUCCEEDED
        admin.execute(f'alter database "{name}" allow_connections true')
    second = server.start()
    world = server.restart()
    assert world.jobs.get(job_id).status is JobStatus.SUCCEEDED
    assert world.jobs.get(second).status is JobStatus.RUNNING
