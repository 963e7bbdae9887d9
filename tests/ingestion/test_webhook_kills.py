"""Killed at any step, answered in any way: the backend has each job at most once, and in the end it has it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adinsights_orchestration.ingestion.webhook_outcomes import WebhookReport
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import WebhookSender
from tests.backend.backend_tables import Backend
from tests.ingestion.webhook_world import KilledError, World, standing

SENDERS = [WebhookSender.RECONCILE, WebhookSender.ORCHESTRATOR]
FAULTS = ["error", "error_after", "drop", "drop_after", "late", "busy", "403"]


@pytest.fixture
def world(backend: Backend, ops_store: OpsStore) -> Iterator[World]:
    """Everything that a round needs; more attempts than a test makes faults, so that none gives up."""
    with standing(backend, ops_store, max_attempts=10) as world:
        yield world


@pytest.mark.parametrize("sender", SENDERS)
def test_a_round_killed_between_any_two_steps_tells_every_job_exactly_once(world: World, sender: WebhookSender) -> None:
    world.sender = sender
    connections = [world.connect("One"), world.connect("Two")]
    jobs = [world.finish(connection) for connection in connections]
    world.round(minutes=10)
    assert world.steps > 10
    killed = 0
    for step in range(world.steps):
        jobs += [world.finish(connection) for connection in connections]
        with pytest.raises(KilledError):
            world.round(minutes=10, kill_at=step)
        killed += 1
        world.rounds_until_quiet()
    assert killed > 10
    assert world.server.counts() == dict.fromkeys(jobs, 1)
    assert set(world.states().values()) == {"posted"}


@pytest.mark.parametrize(
    "fault", ["drop_after", "late", *(pytest.param(fault, marks=pytest.mark.soak) for fault in ("drop", "403"))]
)
def test_a_round_killed_at_any_step_of_a_faulty_post_still_tells_the_job_exactly_once(world: World, fault: str) -> None:
    connection = world.connect()
    world.finish(connection)
    world.round(minutes=10)
    steps = world.steps
    for step in range(3, steps):
        job = world.finish(connection)
        world.server.faults.append(fault)
        with suppress(KilledError):
            world.round(minutes=20, kill_at=step)
        world.rounds_until_quiet()
        assert world.server.counts()[job] == 1
    assert world.last_job(connection) == str(world.jobs)


_EVENTS = st.one_of(
    st.just(("finish", 0)),
    st.just(("airbyte tells", 0)),
    st.tuples(st.just("healthy"), st.integers(0, 20)),
    st.tuples(st.sampled_from(FAULTS), st.integers(0, 20)),
    st.tuples(st.just("killed"), st.integers(0, 25)),
)


_HISTORIES = st.lists(_EVENTS, max_size=12)
_ON_ONE_WORLD = [HealthCheck.function_scoped_fixture]


@pytest.mark.parametrize("sender", SENDERS)
@given(events=_HISTORIES)
@settings(max_examples=10, deadline=None, suppress_health_check=_ON_ONE_WORLD)
def test_whatever_happens_no_job_is_told_twice_and_the_backend_never_goes_back(
    world: World, sender: WebhookSender, events: list[tuple[str, int]]
) -> None:
    _live_through(world, sender, events)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sender", SENDERS)
@given(events=_HISTORIES)
@settings(max_examples=400, deadline=None, suppress_health_check=_ON_ONE_WORLD)
def test_whatever_happens_for_a_long_time_no_job_is_told_twice_and_the_backend_never_goes_back(
    world: World, sender: WebhookSender, events: list[tuple[str, int]]
) -> None:
    _live_through(world, sender, events)


def _live_through(world: World, sender: WebhookSender, events: list[tuple[str, int]]) -> None:
    world.sender = sender
    world.server.faults.clear()
    connection = world.connect(f"Connection {world.jobs}")
    jobs, by_airbyte = [world.finish(connection)], set()
    for event, number in events:
        if event == "finish":
            world.now += timedelta(minutes=3)
            jobs.append(world.finish(connection))
        elif event == "airbyte tells":
            if int(world.last_job(connection) or 0) < jobs[-1]:
                world.airbyte_tells(connection, jobs[-1])
                by_airbyte.add(jobs[-1])
        elif event == "killed":
            with suppress(KilledError):
                world.round(minutes=3, kill_at=number)
        else:
            world.server.faults.extend([event] if event in FAULTS else [])
            world.round(minutes=number)
    world.rounds_until_quiet()
    taken = [job for where, job in world.server.taken if where == connection]
    assert taken == sorted(set(taken))
    assert not by_airbyte & set(taken)
    assert world.last_job(connection) == str(jobs[-1])
    if sender is WebhookSender.ORCHESTRATOR and not by_airbyte:
        assert taken == jobs


_ONE_ROUND = """
import sys
from datetime import datetime
import httpx
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion.webhook import reconcile
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import load_settings
settings = load_settings()
clock = TickClock(datetime.fromisoformat(sys.argv[1]), 40)
reconcile(settings, OpsStore(settings.ops_store), httpx.Client(), clock)
"""


def test_a_process_killed_for_real_in_the_middle_of_a_backlog_leaves_every_job_told_once_and_in_order(
    world: World,
) -> None:
    world.sender = WebhookSender.ORCHESTRATOR
    connections = [world.connect("One"), world.connect("Two")]
    owed = {connection: [world.finish(connection) for _ in range(20)] for connection in connections}
    for healthy in (7, 12):
        world.server.held.clear()
        world.server.release.clear()
        world.server.faults.extend([*[""] * healthy, "hold"])
        _killed_while_posting(world)
        world.server.release.set()
        world.server.wait_until_idle()
    assert 0 < len(world.server.taken) < 40
    world.rounds_until_quiet()
    for connection, jobs in owed.items():
        assert [job for where, job in world.server.taken if where == connection] == jobs
    assert set(world.states().values()) == {"posted"}


def _killed_while_posting(world: World) -> None:
    """Runs a round in a process of its own and kills it while the backend holds its post."""
    chosen = world.settings()
    environment = {
        "ADINSIGHTS_OPS_STORE__DSN": world.store._settings.dsn.get_secret_value(),
        "ADINSIGHTS_BACKEND__DSN": chosen.backend.dsn.get_secret_value(),
        "ADINSIGHTS_BACKEND__URL": chosen.backend.url,
        "ADINSIGHTS_BACKEND__WEBHOOK_SECRET": world.secret or "",
        "ADINSIGHTS_WEBHOOK__SENDER": world.sender.value,
    }
    world.now += timedelta(minutes=10)
    command = [sys.executable, "-c", _ONE_ROUND, world.now.isoformat()]
    process = subprocess.Popen(command, env=environment)
    try:
        assert world.server.held.wait(60)
    finally:
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_a_process_killed_for_real_while_the_backend_works_on_its_post_leaves_one_job_told_once(world: World) -> None:
    connection = world.connect()
    job = world.finish(connection)
    world.server.faults.append("hold")
    _killed_while_posting(world)
    world.server.release.set()
    world.server.wait_until_idle()
    assert world.states() == {job: "posting"}
    assert world.round(minutes=1) == WebhookReport()
    assert world.round(minutes=2) == WebhookReport(posted=1)
    assert world.server.counts() == {job: 1}
    assert len(world.server.posts) == 1
