"""Telling the backend: who sends, what is told, what each answer means."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from adinsights_orchestration.ingestion.webhook_outcomes import WebhookReport
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import WebhookSender
from tests.backend.backend_tables import Backend
from tests.conftest import free_port
from tests.ingestion.webhook_world import World, standing


@pytest.fixture
def world(backend: Backend, ops_store: OpsStore) -> Iterator[World]:
    """Everything that a round needs; nothing has happened yet."""
    with standing(backend, ops_store) as world:
        yield world


def test_where_airbyte_is_the_sender_nothing_is_read_of_the_backend_and_nothing_is_posted(world: World) -> None:
    world.finish(world.connect())
    world.sender, world.dsn = WebhookSender.AIRBYTE, "postgresql://nowhere"
    assert world.round(minutes=60) == WebhookReport()
    assert world.states() == {}
    assert world.server.posts == []


@pytest.mark.parametrize("sender", [WebhookSender.RECONCILE, WebhookSender.ORCHESTRATOR])
def test_a_sender_without_a_secret_says_so_and_posts_nothing(world: World, sender: WebhookSender) -> None:
    world.finish(world.connect())
    world.sender, world.secret = sender, None
    assert "ADINSIGHTS_BACKEND__WEBHOOK_SECRET" in (world.round(minutes=60).error or "")
    assert world.server.posts == []


def test_what_the_backend_missed_is_posted_once_after_the_minutes_of_grace_and_is_a_finding(world: World) -> None:
    connection = world.connect()
    job = world.finish(connection, rows_synced=120, bytes_synced=4096)
    assert world.round(minutes=9) == WebhookReport()
    assert world.round(minutes=1) == WebhookReport(posted=1)
    assert world.last_job(connection) == str(job)
    assert world.round(minutes=30) == WebhookReport()
    assert world.server.counts() == {job: 1}
    (finding,) = world.findings("webhook_missed")
    assert finding.detail["job_id"] == job
    assert finding.subject.endswith(f"job {job}")
    audit = world.backend.execute("select count(*) from accounts_auditlog where action = 'airbyte_job_webhook'")
    assert audit == [(1,)]


def test_what_airbyte_told_is_never_posted_and_clears_what_was_missed_before(world: World) -> None:
    connection = world.connect()
    world.finish(connection)
    world.round(minutes=10)
    told = world.finish(connection)
    world.airbyte_tells(connection, told)
    assert world.round(minutes=10) == WebhookReport(not_needed=1)
    assert len(world.server.posts) == 1
    assert world.findings("webhook_missed") == []


def test_the_post_is_a_finished_job_as_the_backend_reads_it(world: World) -> None:
    connection = world.connect()
    job = world.finish(
        connection, status="failed", rows_synced=7, bytes_synced=70, failure_message="The token has expired."
    )
    world.round(minutes=10)
    (body,) = world.server.posts
    assert body["connectionId"] == str(connection)
    assert (body["job"]["id"], body["job"]["status"], body["job"]["jobType"]) == (job, "failed", "sync")
    assert body["job"]["updatedAt"] - body["job"]["createdAt"] == 60
    assert body["job"]["attempts"][0]["metrics"] == {"recordsCommitted": 7, "bytesSynced": 70, "timeInMillis": 60_000}
    row = world.backend.execute(
        "select last_job_status, last_job_error, last_job_completed_at is not null from integrations_airbyteconnection"
    )
    assert row == [("failed", "The token has expired.", True)]


def test_only_the_newest_missed_job_of_a_connection_is_posted(world: World) -> None:
    connection = world.connect()
    world.finish(connection)
    world.now += timedelta(minutes=1)
    newest = world.finish(connection)
    assert world.round(minutes=10) == WebhookReport(posted=1)
    world.rounds_until_quiet()
    assert world.server.counts() == {newest: 1}


def test_a_job_in_its_grace_does_not_keep_an_older_missed_one_from_being_told(world: World) -> None:
    connection = world.connect()
    told = []
    for _ in range(4):  # a connection that syncs every five minutes always has a job younger than the grace
        told.append(world.finish(connection))
        world.round(minutes=5)
    world.rounds_until_quiet()
    assert [job for _, job in world.server.taken] == told


def test_a_newer_missed_job_takes_over_from_one_whose_post_did_not_arrive(world: World) -> None:
    connection = world.connect()
    world.server.faults.append("drop")
    lost = world.finish(connection)
    world.round(minutes=10)
    newer = world.finish(connection)
    assert world.round(minutes=10) == WebhookReport(posted=1, not_needed=1)
    assert world.server.counts() == {newer: 1}
    assert world.states() == {lost: "not_needed", newer: "posted"}


@pytest.mark.parametrize("stored", ["", "varchar", "int", "null"])
def test_the_backends_last_job_may_be_empty_null_text_or_a_number(world: World, stored: str) -> None:
    connection = world.connect()
    older, newer = 10, 10_000  # as texts they would be ordered the other way
    table = "integrations_airbyteconnection"
    if stored == "int":
        world.backend.execute(f"alter table {table} alter last_job_id drop default, alter last_job_id drop not null")
        world.backend.execute(f"alter table {table} alter last_job_id type int using null")
    if stored == "null":
        world.backend.execute(f"alter table {table} alter last_job_id drop not null")
        world.backend.execute(f"update {table} set last_job_id = null")
    world.jobs = older
    if stored in ("varchar", "int"):
        world.backend.execute(f"update {table} set last_job_id = '{newer}'")
        world.finish(connection)
        assert world.round(minutes=10) == WebhookReport(not_needed=1)
        world.jobs = newer
    world.server.faults.append("204")
    world.finish(connection)
    assert world.round(minutes=10) == WebhookReport(posted=1)


def test_a_job_that_the_backend_knows_only_as_running_is_told(world: World) -> None:
    connection = world.connect()
    job = world.finish(connection)
    world.backend.execute(
        "update integrations_airbyteconnection set last_job_id = %s, last_job_status = 'pending'", str(job)
    )
    assert world.round(minutes=10) == WebhookReport(posted=1)


def test_a_last_job_that_is_no_number_is_a_finding_and_not_a_guess(world: World) -> None:
    connection = world.connect()
    world.finish(connection)
    world.backend.execute("update integrations_airbyteconnection set last_job_id = 'sync-7'")
    assert world.round(minutes=10) == WebhookReport(failed=1)
    (finding,) = world.findings("webhook_untold")
    assert "not a number" in finding.detail["reason"]
    assert world.server.posts == []


@pytest.mark.parametrize("role", ["plain", "forced owner", "bypassing"])
def test_row_level_security_hides_nothing_from_a_round(world: World, role: str) -> None:
    first = world.connect("One")
    world.tenant = world.backend.add_tenant("Globex")
    second = world.connect("Two")
    told, missed = world.finish(first), world.finish(second)
    world.airbyte_tells(first, told)
    if role == "forced owner":
        world.dsn = world.backend.owner_role(forced=True)
    else:
        world.dsn = world.backend.role("bypassrls" if role == "bypassing" else "")
    assert world.round(minutes=10) == WebhookReport(posted=1, not_needed=1)
    assert world.server.counts() == {missed: 1}


@pytest.mark.parametrize(
    ("sender", "expected"),
    [(WebhookSender.RECONCILE, ["succeeded", "failed", "refresh"]), (WebhookSender.ORCHESTRATOR, ["cancelled", "*"])],
)
def test_which_jobs_are_told(world: World, sender: WebhookSender, expected: list[str]) -> None:
    world.sender = sender
    kinds = {
        "succeeded": {},
        "failed": {"status": "failed"},
        "refresh": {"job_type": "refresh"},
        "cancelled": {"status": "cancelled"},
        "clear": {"job_type": "clear"},
        "running": {"status": "running", "ended_at": None},
        "vanished": {"status": "vanished"},
    }
    jobs = {world.finish(world.connect(kind), **columns): kind for kind, columns in kinds.items()}  # type: ignore[arg-type]
    world.round(minutes=10)
    expected = ["succeeded", "failed", "refresh", "cancelled"] if "*" in expected else expected
    assert sorted(jobs[job] for job in world.server.counts()) == sorted(expected)


def test_a_sole_sender_posts_every_job_at_once_and_in_order_without_findings(world: World) -> None:
    world.sender = WebhookSender.ORCHESTRATOR
    connection = world.connect()
    jobs = [world.finish(connection), world.finish(connection, status="failed")]
    assert world.round() == WebhookReport(posted=2)
    jobs.append(world.finish(connection))
    assert world.round() == WebhookReport(posted=1)
    assert [job for _, job in world.server.taken] == jobs
    assert world.findings("webhook_missed") == []


def test_a_sole_sender_never_lets_a_job_overtake_one_whose_post_is_uncertain(world: World) -> None:
    world.sender = WebhookSender.ORCHESTRATOR
    connection = world.connect()
    world.server.faults.append("drop")
    jobs = [world.finish(connection), world.finish(connection)]
    assert world.round() == WebhookReport(put_off=2)
    jobs.append(world.finish(connection))
    assert world.round(minutes=1) == WebhookReport()
    world.rounds_until_quiet()
    assert [job for _, job in world.server.taken] == jobs


@pytest.mark.parametrize("fault", ["error_after", "drop_after", "late"])
def test_a_post_whose_reply_was_lost_is_found_in_the_backend_and_not_sent_again(world: World, fault: str) -> None:
    connection = world.connect()
    job = world.finish(connection)
    world.server.faults.append(fault)
    assert world.round(minutes=10) == WebhookReport(put_off=1)
    assert world.round(minutes=1) == WebhookReport()  # it may still be at work there
    assert world.round(minutes=3) == WebhookReport(posted=1)
    assert len(world.server.posts) == 1
    assert world.states() == {job: "posted"}
    assert len(world.findings("webhook_missed")) == 1


@pytest.mark.parametrize("fault", ["error", "drop"])
def test_a_post_that_did_not_arrive_is_sent_again_only_after_looking(world: World, fault: str) -> None:
    connection = world.connect()
    job = world.finish(connection)
    world.server.faults.append(fault)
    world.round(minutes=10)
    assert world.round(minutes=3) == WebhookReport(posted=1)
    assert len(world.server.posts) == 2
    assert world.server.counts() == {job: 1}


def test_attempts_that_may_have_arrived_are_bounded_and_ever_further_apart(world: World) -> None:
    connection = world.connect()
    job = world.finish(connection)
    world.server.faults.extend(["error"] * 50)
    world.now += timedelta(minutes=10)
    moments = []
    for _ in range(35):
        before = len(world.server.posts)
        world.round(minutes=1)
        if len(world.server.posts) > before:
            moments.append(world.now)
    gaps = [(later - earlier) / timedelta(minutes=1) for earlier, later in pairwise(moments)]
    assert len(moments) == 5
    assert gaps[-1] > gaps[0] >= 2
    assert world.states() == {job: "failed"}
    (finding,) = world.findings("webhook_untold")
    assert "every attempt" in finding.detail["reason"]
    world.server.faults.clear()
    world.finish(connection)
    assert world.round(minutes=10) == WebhookReport(posted=1)
    assert world.findings("webhook_untold") == []


def test_a_backend_that_is_away_for_hours_is_told_when_it_is_back(world: World) -> None:
    connections = [world.connect(f"Meta {number}") for number in range(3)]
    jobs = [world.finish(connection) for connection in connections]
    world.url = f"http://127.0.0.1:{free_port()}"
    for _ in range(12):
        report = world.round(minutes=15)
        assert (report.posted, report.failed) == (0, 0)
    world.url = ""
    world.rounds_until_quiet()
    assert world.server.counts() == dict.fromkeys(jobs, 1)


@pytest.mark.parametrize("fault", ["busy", "403", "401"])
def test_a_backend_that_turns_everybody_away_is_asked_once_a_round(world: World, fault: str) -> None:
    for number in range(5):
        world.finish(world.connect(f"Meta {number}"))
    world.server.faults.extend([fault] * 5)
    assert world.round(minutes=10).put_off == 5
    assert len(world.server.posts) == 1


def test_a_refused_secret_is_a_finding_with_what_to_do_and_one_attempt_a_quarter_of_an_hour(world: World) -> None:
    jobs = [world.finish(world.connect(f"Meta {number}")) for number in range(3)]
    world.secret = "wrong-canary"
    report = world.round(minutes=10)
    for _ in range(29):
        later = world.round(minutes=1)
        assert "AIRBYTE_WEBHOOK_SECRET" in (later.error or "")
    assert "AIRBYTE_WEBHOOK_SECRET" in (report.error or "")
    assert len(world.server.posts) == 2
    (finding,) = world.findings("webhook_secret_refused")
    assert "ADINSIGHTS_BACKEND__WEBHOOK_SECRET" in finding.detail["next_step"]
    assert "wrong-canary" not in str(finding.detail) + str(report)
    world.secret = "canary-webhook-secret"
    world.rounds_until_quiet()
    assert world.server.counts() == dict.fromkeys(jobs, 1)
    assert world.findings("webhook_secret_refused") == []


@pytest.mark.parametrize("fault", ["404", "400", "422", "302"])
def test_a_job_that_the_webhook_refuses_is_a_finding_and_not_posted_again(world: World, fault: str) -> None:
    job = world.finish(world.connect())
    world.server.faults.append(fault)
    assert world.round(minutes=10) == WebhookReport(failed=1)
    world.rounds_until_quiet()
    assert len(world.server.posts) == 1
    assert world.states() == {job: "failed"}
    (finding,) = world.findings("webhook_untold")
    assert fault in finding.detail["reason"]
    assert finding.detail["next_step"]


def test_a_connection_that_the_backend_has_lost_is_a_finding_without_a_post(world: World) -> None:
    world.finish(world.connect())
    world.backend.execute("delete from integrations_airbyteconnection")
    assert world.round(minutes=10) == WebhookReport(failed=1)
    assert "no such connection" in world.findings("webhook_untold")[0].detail["reason"]
    assert world.server.posts == []


def test_jobs_of_retired_and_replaced_connections_are_nobodys_business(world: World) -> None:
    replaced = world.connect("Replaced")
    world.finish(replaced)
    world.backend.execute("update integrations_airbyteconnection set connection_id = %s", uuid.uuid4())
    world.connect("Another")
    assert world.round(minutes=10) == WebhookReport()


def test_a_connection_that_moved_to_another_tenant_is_read_where_it_is_now(world: World) -> None:
    job = world.finish(world.connect())
    globex = world.backend.add_tenant("Globex")
    world.backend.execute("update integrations_airbyteconnection set tenant_id = %s", globex)
    world.connect("Another")
    world.dsn = world.backend.role()
    assert world.round(minutes=10) == WebhookReport(posted=1)
    assert world.server.counts() == {job: 1}


def test_a_backend_database_that_is_down_ends_the_round_before_any_post(world: World) -> None:
    world.finish(world.connect())
    world.dsn = f"postgresql://u:canary-secret@127.0.0.1:{free_port()}/x"
    report = world.round(minutes=10)
    assert "ADINSIGHTS_BACKEND__DSN" in (report.error or "")
    assert world.server.posts == []
    world.dsn = ""
    assert world.round() == WebhookReport(posted=1)


def test_a_round_stops_at_its_budget_and_the_next_goes_on(world: World) -> None:
    jobs = [world.finish(world.connect(f"Meta {number}")) for number in range(4)]
    report = world.round(minutes=10, seconds_a_post=15)
    assert 0 < report.posted < 4
    assert report.put_off == 4 - report.posted
    world.rounds_until_quiet()
    assert world.server.counts() == dict.fromkeys(jobs, 1)


def test_a_limit_leaves_the_rest_to_later_rounds(world: World) -> None:
    for number in range(5):
        world.finish(world.connect(f"Meta {number}"))
    posted = [world.round(minutes=10 if not number else 0, limit=2).posted for number in range(4)]
    assert posted == [2, 2, 1, 0]


def test_a_round_that_meets_another_one_leaves_it_the_work(world: World) -> None:
    world.finish(world.connect())
    with world.store.exclusive("webhook"):
        assert world.round(minutes=10) == WebhookReport(busy=True)
    assert world.server.posts == []


@pytest.mark.parametrize(
    "broken", [{"url": "ftp://nowhere"}, {"url": "http://[broken"}, {"secret": "line\nend-canary"}]
)
def test_a_url_or_secret_that_cannot_be_sent_is_put_off_without_showing_it(
    world: World, broken: dict[str, Any]
) -> None:
    world.finish(world.connect())
    for name, value in broken.items():
        setattr(world, name, value)
    report = world.round(minutes=10)
    assert report.put_off == 1
    assert "canary" not in str(report)
    assert world.server.posts == []
