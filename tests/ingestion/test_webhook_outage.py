"""A sole sender after an outage: every job is told, in order and once, however long the backend was away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from uuid import UUID

import pytest

from adinsights_orchestration.ingestion.webhook_outcomes import WebhookReport
from adinsights_orchestration.ingestion.webhook_rules import VAIN_POSTS
from adinsights_orchestration.local.backend.app import AREA, BackendConfig, create_backend_app
from adinsights_orchestration.local.knobs import Knobs, Value
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import WebhookSender
from adinsights_orchestration.tenants.refresh import refresh
from tests.backend.backend_tables import Backend
from tests.conftest import free_port
from tests.ingestion.webhook_world import SECRET, KilledError, World, standing

JOBS = 20


@pytest.fixture
def world(backend: Backend, ops_store: OpsStore) -> Iterator[World]:
    """A backend whose only sender is the orchestrator; nothing has happened yet."""
    with standing(backend, ops_store, sender=WebhookSender.ORCHESTRATOR) as world:
        yield world


@pytest.fixture
def knobs(world: World, tmp_path: Path) -> Iterator[Knobs]:
    """The knobs of the local stack's backend, which the world posts to."""
    moments = count()
    knobs = Knobs()
    config = BackendConfig(world.backend.dsn, world.backend.dsn, tmp_path / "none.json", SECRET, "key", "key")
    clock = lambda: datetime(2026, 3, 2, tzinfo=UTC) + timedelta(seconds=next(moments))  # noqa: E731
    with running(create_backend_app(config, knobs, clock=clock)) as url:
        world.url = url
        yield knobs


def _told(world: World, connection: UUID) -> list[int]:
    """The jobs of a connection in the backend's audit log, in the order in which they came."""
    rows = world.backend.execute(
        "select metadata ->> 'job_id' from accounts_auditlog where action = 'airbyte_job_webhook'"
        " and metadata ->> 'connection_id' = %s order by created_at",
        str(connection),
    )
    return [int(str(row[0])) for row in rows]


def _telemetry(world: World) -> object:
    return world.backend.execute("select count(*) from integrations_airbytejobtelemetry")[0][0]


def _backlog(world: World, connections: list[UUID], jobs: int = JOBS) -> dict[UUID, list[int]]:
    """Jobs that end every quarter of an hour, with nobody telling the backend."""
    owed: dict[UUID, list[int]] = {connection: [] for connection in connections}
    for _ in range(jobs):
        world.now += timedelta(minutes=15)
        for connection in connections:
            owed[connection].append(world.finish(connection))
    return owed


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("down", True),
        ("webhook_drop_next", 10_000),
        pytest.param("html_error", True, marks=pytest.mark.soak),
        pytest.param("webhook_error_next", 10_000, marks=pytest.mark.soak),
    ],
)
def test_after_an_outage_of_twenty_jobs_a_connection_each_is_told_once_and_in_order(
    world: World, knobs: Knobs, knob: str, value: Value
) -> None:
    connections = [world.connect(f"Meta {number}") for number in range(3)]
    owed: dict[UUID, list[int]] = {connection: [] for connection in connections}
    report = world.round()
    assert report == WebhookReport()
    knobs.set(AREA, knob, value)
    for _ in range(JOBS):
        for connection in connections:
            owed[connection].append(world.finish(connection))
        report = world.round(minutes=15)
        assert (report.posted, report.failed) == (0, 0)
    assert report.put_off == 3 * JOBS
    assert world.findings("webhook_untold")
    knobs.reset()
    world.rounds_until_quiet()
    assert {connection: _told(world, connection) for connection in connections} == owed
    assert _telemetry(world) == 3 * JOBS
    assert [world.last_job(connection) for connection in connections] == [str(jobs[-1]) for jobs in owed.values()]
    assert world.findings("webhook_untold") == []
    assert world.findings("webhook_missed") == []


def test_a_backlog_is_told_within_each_rounds_time_and_what_is_left_is_counted(world: World) -> None:
    owed = _backlog(world, [world.connect(f"Meta {number}") for number in range(3)])
    left = 3 * JOBS
    while left:
        report = world.round(seconds_a_post=5)
        assert 0 < report.posted <= 8  # of 40 seconds
        assert report.put_off == left - report.posted
        left = report.put_off
    assert world.round() == WebhookReport()
    for connection, jobs in owed.items():
        assert _told(world, connection) == jobs


def test_one_round_tells_more_than_a_page_of_a_connection_where_there_is_time(world: World) -> None:
    (connection,) = owed = _backlog(world, [world.connect()], jobs=45)
    assert world.round() == WebhookReport(posted=45)
    assert _told(world, connection) == owed[connection]


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 6))])
def test_rounds_killed_in_the_middle_of_a_backlog_tell_each_of_its_jobs_once_and_in_order(
    world: World, seed: int
) -> None:
    owed = _backlog(world, [world.connect("One"), world.connect("Two")])
    for life in range(3):
        with suppress(KilledError):
            world.round(minutes=5, kill_at=6 + 11 * life + seed)
    world.rounds_until_quiet()
    for connection, jobs in owed.items():
        assert _told(world, connection) == jobs
    assert set(world.server.counts().values()) == {1}


def test_a_backend_in_trouble_is_not_asked_about_every_connection(world: World) -> None:
    _backlog(world, [world.connect(f"Meta {number}") for number in range(10)], jobs=1)
    world.server.faults.extend(["error"] * 10)
    assert world.round().put_off == 10
    assert len(world.server.posts) == VAIN_POSTS


def test_one_job_that_the_backend_never_takes_is_given_up_only_because_it_takes_others(world: World) -> None:
    good, bad = world.connect("Good"), world.connect("Bad")
    world.server.poison.add(poisoned := world.finish(bad))
    behind = world.finish(bad)
    for _ in range(30):
        world.finish(good)
        world.round(minutes=3)
    assert world.states()[poisoned] == "failed"
    assert world.last_job(bad) == str(behind)
    assert [job for where, job in world.server.taken if where == bad] == [behind]
    assert len([post for post in world.server.posts if post["job"]["id"] == poisoned]) == 5


def test_while_it_takes_nobody_no_job_is_given_up_however_often_it_was_tried(world: World) -> None:
    connection = world.connect()
    job = world.finish(connection)
    world.server.faults.extend(["error"] * 12)
    while world.server.faults:
        world.round(minutes=20)
    (finding,) = world.findings("webhook_untold")
    assert "takes no post" in finding.detail["reason"]
    world.rounds_until_quiet()
    assert world.server.counts() == {job: 1}
    assert world.findings("webhook_untold") == []


def test_a_job_tried_in_vain_all_through_an_outage_is_not_given_up_because_others_are_taken_after_it(
    world: World,
) -> None:
    first, second = world.connect("One"), world.connect("Two")
    told = world.finish(second)
    world.round()
    job = world.finish(first)
    world.server.faults.extend(["error"] * 5)
    while world.server.faults:
        world.round(minutes=20)
    others = world.finish(second)  # the backend is well again, and hears of this one while the first still waits
    world.round(minutes=1)
    assert world.server.counts() == {told: 1, others: 1}
    world.rounds_until_quiet()
    assert world.server.counts() == {told: 1, others: 1, job: 1}


@pytest.mark.parametrize("fault", ["404", "302", "400"])
def test_what_a_proxy_refuses_for_a_backend_that_is_away_is_told_once_it_is_back(world: World, fault: str) -> None:
    owed = _backlog(world, [world.connect("One"), world.connect("Two")], jobs=3)
    world.server.faults.extend([fault] * 50)
    for _ in range(10):
        assert world.round(minutes=20).failed == 0
    assert len(world.findings("webhook_untold")) == 2
    assert fault in world.findings("webhook_untold")[0].detail["reason"]
    world.rounds_until_quiet()
    for connection, jobs in owed.items():
        assert _told(world, connection) == jobs
    assert world.findings("webhook_untold") == []


def test_rows_that_the_backends_policies_hide_for_a_while_cost_no_job(world: World) -> None:
    owed = _backlog(world, [world.connect("One"), world.connect("Two")], jobs=3)
    world.dsn = world.backend.role()
    world.backend.execute("create policy nothing on integrations_airbyteconnection as restrictive using (false)")
    assert world.round(minutes=1).put_off == 6
    assert world.round(minutes=1) == WebhookReport()
    assert "no such connection" in world.findings("webhook_untold")[0].detail["reason"]
    world.backend.execute("drop policy nothing on integrations_airbyteconnection")
    world.rounds_until_quiet()
    for connection, jobs in owed.items():
        assert _told(world, connection) == jobs
    assert world.findings("webhook_untold") == []


def test_a_last_job_that_is_no_number_holds_its_connections_jobs_until_a_person_mends_it(world: World) -> None:
    owed = _backlog(world, [world.connect()], jobs=3)
    world.backend.execute("update integrations_airbyteconnection set last_job_id = 'sync-7'")
    assert world.round(minutes=1).put_off == 3
    world.backend.execute("update integrations_airbyteconnection set last_job_id = ''")
    world.rounds_until_quiet()
    assert [_told(world, connection) for connection in owed] == list(owed.values())


def test_what_was_found_about_a_connection_goes_with_it(world: World) -> None:
    _backlog(world, [world.connect("Leaving")], jobs=1)
    world.connect("Staying")
    world.backend.execute("update integrations_airbyteconnection set last_job_id = 'sync-7' where name = 'Leaving'")
    world.round(minutes=1)
    assert len(world.findings("webhook_untold")) == 1
    world.backend.execute("delete from integrations_airbyteconnection where name = 'Leaving'")
    assert refresh(world.settings(), world.store, world.now).error is None
    assert world.round(minutes=1) == WebhookReport()
    assert world.findings("webhook_untold") == []


def test_a_job_that_the_backend_started_itself_does_not_hide_older_ones_that_it_never_heard_of(world: World) -> None:
    connection = world.connect()
    world.round()
    owed = _backlog(world, [connection], jobs=5)[connection]
    url, world.url = world.url, f"http://127.0.0.1:{free_port()}"
    assert world.round().put_off == 5
    world.backend.execute(
        "update integrations_airbyteconnection set last_job_id = %s, last_job_status = 'pending'", str(world.jobs + 1)
    )
    world.url = url
    world.rounds_until_quiet()
    owed.append(world.finish(connection))
    world.rounds_until_quiet()
    assert _told(world, connection) == owed


def test_jobs_that_airbyte_told_before_the_orchestrator_took_over_are_never_told_again(world: World) -> None:
    world.sender = WebhookSender.AIRBYTE
    connection = world.connect()
    for _ in range(60):
        world.now += timedelta(minutes=15)
        world.airbyte_tells(connection, world.finish(connection))
    by_airbyte = _told(world, connection)
    # The backend has begun the next one: its row says nothing any more of what Airbyte told.
    world.backend.execute(
        "update integrations_airbyteconnection set last_job_id = %s, last_job_status = 'running'", str(world.jobs + 1)
    )
    world.sender = WebhookSender.ORCHESTRATOR
    assert world.round().not_needed > 0
    assert world.round() == WebhookReport()
    ours = world.finish(connection)
    world.rounds_until_quiet()
    assert _told(world, connection) == [*by_airbyte, ours]


@pytest.mark.parametrize("meanwhile", [WebhookSender.AIRBYTE, WebhookSender.RECONCILE])
def test_jobs_that_airbyte_told_while_it_was_the_sender_again_are_not_told_by_the_next_one(
    world: World, meanwhile: WebhookSender
) -> None:
    connection = world.connect()
    ours = world.finish(connection)
    world.round()
    world.sender = meanwhile
    by_airbyte = []
    for _ in range(8):
        by_airbyte.append(world.finish(connection))
        world.airbyte_tells(connection, by_airbyte[-1])
        world.round(minutes=15)
    world.backend.execute(
        "update integrations_airbyteconnection set last_job_id = %s, last_job_status = 'pending'", str(world.jobs + 1)
    )
    world.sender = WebhookSender.ORCHESTRATOR
    world.rounds_until_quiet()
    assert world.server.counts() == {ours: 1}
    assert Counter(_told(world, connection)) == Counter([ours, *by_airbyte])


def test_a_sender_that_takes_over_where_nobody_ever_told_begins_as_far_back_as_a_first_observation(
    world: World,
) -> None:
    connection = world.connect()
    owed = _backlog(world, [connection], jobs=400)[connection]  # 100 hours
    world.rounds_until_quiet()
    assert _told(world, connection) == owed[-len(_told(world, connection)) :]
    assert 48 * 4 - 2 <= len(_told(world, connection)) <= 48 * 4 + 2
