"""Jobs in simulated time: slots, queues, attempts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from adinsights_orchestration.local.airbyte.model import (
    AirbyteConnection,
    AlreadyRunningError,
    ConfigType,
    Job,
    JobStatus,
    NotRunningError,
)
from adinsights_orchestration.local.airbyte.simulated import Script, SimulatedExecutor, steady
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from tests.local.airbyte_support import (
    MISCONFIGURED,
    START,
    SYNC_TIME,
    TRANSIENT,
    ManualClock,
    add_connection,
    add_workspace,
    failing,
)

RETRY_DELAY = timedelta(seconds=10)


class Simulation:
    """A world, its clock and some connections."""

    def __init__(self, script: Script, *, slots: int = 10, connections: int = 1) -> None:
        self.clock = ManualClock()
        self.world = AirbyteWorld(clock=self.clock)
        workspace = add_workspace(self.world)
        self.connections = [add_connection(self.world, workspace, f"c{n}") for n in range(connections)]
        SimulatedExecutor(self.world, script, slots=slots, retry_delay=RETRY_DELAY)

    def start(self, connection: AirbyteConnection | None = None) -> Job:
        return self.world.start((connection or self.connections[0]).id, ConfigType.SYNC)

    def after(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.world.settle()


def test_a_sync_ends_at_the_moment_it_was_due_and_not_when_somebody_looked() -> None:
    simulation = Simulation(steady(SYNC_TIME))
    job = simulation.start()
    simulation.after(500)
    assert job.status is JobStatus.SUCCEEDED
    assert job.updated_at == START + SYNC_TIME


def test_jobs_beyond_the_slots_wait_in_order_and_start_when_a_slot_is_free() -> None:
    simulation = Simulation(steady(SYNC_TIME), slots=2, connections=5)
    jobs = [simulation.start(connection) for connection in simulation.connections]
    assert [job.status for job in jobs] == [JobStatus.RUNNING] * 2 + [JobStatus.PENDING] * 3
    simulation.after(31)
    assert [job.status for job in jobs] == [JobStatus.SUCCEEDED] * 2 + [JobStatus.RUNNING] * 2 + [JobStatus.PENDING]
    simulation.after(1000)
    assert [(job.updated_at - START) / SYNC_TIME for job in jobs] == [1, 1, 2, 2, 3]


def test_a_connection_runs_one_job_at_a_time() -> None:
    simulation = Simulation(steady(SYNC_TIME))
    simulation.start()
    with pytest.raises(AlreadyRunningError, match=str(simulation.connections[0].id)):
        simulation.start()
    simulation.after(31)
    assert simulation.start().id == 2


def test_a_transient_failure_makes_the_job_incomplete_and_then_another_attempt_succeeds() -> None:
    simulation = Simulation(failing(TRANSIENT))
    job = simulation.start()
    states = []
    for seconds in (31, 10, 30):
        simulation.after(seconds)
        states.append(job.status)
    assert states == [JobStatus.INCOMPLETE, JobStatus.RUNNING, JobStatus.SUCCEEDED]
    assert [attempt.status for attempt in job.attempts] == ["failed", "succeeded"]
    assert job.attempts[0].failure == TRANSIENT


def test_three_transient_failures_fail_the_job() -> None:
    simulation = Simulation(failing(TRANSIENT, TRANSIENT, TRANSIENT))
    job = simulation.start()
    simulation.after(1000)
    assert job.status is JobStatus.FAILED
    assert len(job.attempts) == 3


def test_a_wrong_configuration_is_not_tried_again() -> None:
    simulation = Simulation(failing(MISCONFIGURED))
    job = simulation.start()
    simulation.after(1000)
    assert job.status is JobStatus.FAILED
    assert len(job.attempts) == 1


def test_a_cancelled_job_frees_its_slot_and_never_moves_again() -> None:
    simulation = Simulation(steady(SYNC_TIME), slots=1, connections=2)
    first, second = (simulation.start(connection) for connection in simulation.connections)
    simulation.after(5)
    simulation.world.cancel(first.id)
    assert second.status is JobStatus.RUNNING
    simulation.after(1000)
    assert first.status is JobStatus.CANCELLED
    assert first.updated_at == START + timedelta(seconds=5)
    assert first.attempts[0].failure is not None
    with pytest.raises(NotRunningError):
        simulation.world.cancel(first.id)


def test_a_job_cancelled_while_it_waits_never_starts() -> None:
    simulation = Simulation(steady(SYNC_TIME), slots=1, connections=2)
    simulation.start(simulation.connections[0])
    waiting = simulation.start(simulation.connections[1])
    simulation.world.cancel(waiting.id)
    simulation.after(1000)
    assert waiting.status is JobStatus.CANCELLED
    assert waiting.attempts == []


def test_a_reset_cancels_the_running_sync_and_takes_its_place() -> None:
    simulation = Simulation(steady(SYNC_TIME))
    sync = simulation.start()
    reset = simulation.world.start(simulation.connections[0].id, ConfigType.RESET_CONNECTION)
    assert sync.status is JobStatus.CANCELLED
    simulation.after(31)
    assert reset.status is JobStatus.SUCCEEDED


def test_a_refresh_asked_for_during_a_sync_is_carried_out_by_the_next_job() -> None:
    simulation = Simulation(steady(SYNC_TIME))
    connection = simulation.connections[0]
    simulation.start()
    assert simulation.world.refresh(connection.id, "Truncate") is None
    simulation.after(31)
    job = simulation.start()
    assert job.config_type is ConfigType.REFRESH
    assert job.refresh_mode == "Truncate"
    assert job.generation == 1
    simulation.after(31)
    assert simulation.start().config_type is ConfigType.SYNC
