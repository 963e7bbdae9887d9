"""Observe ticks: everything that Airbyte did ends up in the ledger exactly once, whoever started it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa

from adinsights_orchestration.ingestion import ledger, observe
from adinsights_orchestration.ingestion.absorb import MOST_UNKNOWN
from adinsights_orchestration.ingestion.automation import observe_summary
from adinsights_orchestration.ingestion.intents import CLEARED_BY_A_START, FindingKind
from adinsights_orchestration.ingestion.reporting import Reported
from adinsights_orchestration.local.airbyte.model import JobStatus, Workspace
from adinsights_orchestration.ops_store.findings import open_finding
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor, partition_connection, partition_key, sync_job
from adinsights_orchestration.settings import Driver
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import free_port
from tests.ingestion.support import HOUR, Ingestion, an_ingestion, external, start_elsewhere
from tests.local.airbyte_support import MISCONFIGURED, TRANSIENT, add_connection, add_workspace, failing


def finished(ingestion: Ingestion, count: int = 1) -> list[int]:
    """Somebody else's syncs of the first connections, all over."""
    ids = [start_elsewhere(ingestion, number) for number in range(count)]
    ingestion.advance(45)
    return ids


def reached(store: OpsStore) -> datetime:
    with store.begin() as connection:
        position = ledger.load_position(connection)
    assert position is not None
    return position.reached


def passed_over(ingestion: Ingestion) -> None:
    """As if the bulk reading had passed over everything until now."""
    beyond = ingestion.now + timedelta(hours=1)
    with ingestion.store.begin() as connection:
        ledger.save_position(connection, ledger.Position(beyond), ingestion.now)


def test_a_finished_sync_is_recorded_with_rows_bytes_streams_and_times(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        (job_id,) = finished(one)
        report = one.observe()
        assert (report.absorbed.finished, report.complete, report.detailed, report.requests) == (1, True, True, 1)
        (row,) = one.ledger()
        assert (row.job_id, row.status, row.job_type, row.started_by) == (job_id, "succeeded", "sync", "external")
        assert (row.rows_synced, row.attempts, row.duration_seconds) == (200, 1, 30.0)
        assert [stream["name"] for stream in row.streams] == ["ad_insights", "campaigns"]
        assert row.partition_key == one.connections[0].partition_key
        assert row.report_state == "pending"


def test_an_external_driver_is_observed_all_the_same(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3) as one:
        external(one)
        finished(one, 3)
        assert one.observe().absorbed.finished == 3


def test_observing_again_finds_nothing_new_and_writes_nothing(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        finished(one, 2)
        one.observe()
        before = one.ledger()
        for _ in range(3):
            report = one.observe()
            assert (report.absorbed.finished, report.requests) == (0, 1)
        assert one.ledger() == before


def test_a_running_sync_of_somebody_else_is_seen_and_later_its_end(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        start_elsewhere(one)
        one.advance(5)
        assert one.observe().absorbed.running == 1
        assert [(row.status, row.report_state) for row in one.ledger()] == [("running", "none")]
        one.advance(45)
        one.observe()
        assert [(row.status, row.report_state) for row in one.ledger()] == [("succeeded", "pending")]


def test_a_queued_job_is_one_that_still_runs(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3, slots=1) as one:
        one.server.set("queued_state", True)
        one.trigger()
        one.observe()
        assert sorted(row.status for row in one.ledger()) == ["queued", "queued", "running"]
        for _ in range(3):
            one.advance(35)
            one.observe()
        assert {row.state for row in one.intents()} == {"succeeded"}


def test_a_failure_is_recorded_with_airbytes_own_reason(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(*[MISCONFIGURED] * 5)) as one:
        finished(one)
        one.observe()
        (row,) = one.ledger()
        assert (row.status, row.failure_origin, row.failure_type) == ("failed", "source", "config_error")
        assert row.failure_message == "The access token was revoked."
        assert row.report_state == "pending"


def test_cancelled_syncs_are_recorded_and_clears_are_not_to_be_reported(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        made = [one.server.world.resources.connection(c.connection_id) for c in one.connections]
        job_id = one.server.start(made[0]).json()["jobId"]
        one.server.public("DELETE", f"/jobs/{job_id}")
        one.server.start(made[1], "clear")
        one.advance(60)
        one.observe()
        assert [(r.job_type, r.status, r.report_state) for r in one.ledger()] == [
            ("sync", "cancelled", "pending"),
            ("reset", "succeeded", "skipped"),
        ]


def test_a_breaking_schema_change_ends_the_intent_as_cancelled_and_the_next_start_as_not_active(
    ops_store: OpsStore,
) -> None:
    with an_ingestion(ops_store) as one:
        one.server.set("schema_break", [str(one.connections[0].connection_id)])
        one.trigger()
        one.advance(5)
        one.observe()
        assert one.intent().state == "cancelled"
        one.advance(HOUR.total_seconds())
        one.trigger()
        assert list(one.findings()) == ["connection_not_active"]


@pytest.mark.parametrize("leaves", ["paused", "removed", "started elsewhere"])
def test_what_was_found_of_a_refused_start_is_over_when_nothing_starts_the_connection_any_more(
    ops_store: OpsStore, leaves: str
) -> None:
    with an_ingestion(ops_store) as one:
        with ops_store.begin() as connection:
            for kind in CLEARED_BY_A_START:
                open_finding(connection, kind, one.connections[0].partition_key, {}, one.now)
        one.observe()
        assert set(one.findings()) == set(CLEARED_BY_A_START), "it is to be started, and was not"
        if leaves == "paused":
            one.replace(0, is_active=False)
        elif leaves == "removed":
            one.connections.clear()
        else:
            one.configure(ingestion={"driver": Driver.EXTERNAL})
        one.observe()
        assert set(one.findings()) == {FindingKind.UNREADABLE}, "what waits for one of its jobs may find that anew"
        one.advance(HOUR.total_seconds())
        one.observe()
        assert one.findings() == {}


# ------------------------------------------------------------------------------------------------------------ position


def test_a_backlog_is_taken_in_bounded_portions_and_none_is_missed(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 40, page_size=5) as one:
        for number in range(40):
            start_elsewhere(one, number)
            one.advance(3)
        one.advance(60)
        one.configure(ingestion={"observe_max_jobs_per_tick": 10})
        first = one.observe()
        assert not first.complete
        assert 10 <= first.absorbed.finished <= 20
        reports = [one.observe() for _ in range(4)]
        assert reports[-1].complete
        assert len(one.ledger()) == 40


def test_the_first_observation_reads_back_no_further_than_it_is_told(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, observed=False) as one:
        start_elsewhere(one, 0)
        one.advance(3 * HOUR.total_seconds())
        start_elsewhere(one, 1)
        one.advance(45)
        one.configure(ingestion={"first_observation_hours": 1.0})
        one.observe()
        assert [row.connection_id for row in one.ledger()] == [one.connections[1].connection_id]


@pytest.mark.parametrize("skew", [60.0, -60.0])
def test_the_position_is_airbytes_own_time_whatever_its_clock_says(ops_store: OpsStore, skew: float) -> None:
    with an_ingestion(ops_store, 3) as one:
        one.server.set("clock_skew_seconds", skew)
        for number in range(3):
            start_elsewhere(one, number)
            one.advance(40)
            one.observe()
        assert [row.status for row in one.ledger()] == ["succeeded"] * 3


def test_one_server_whose_clock_runs_ahead_does_not_make_us_pass_over_the_others(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        finished(one)
        ahead = one.job_of(0)
        ahead.updated_at += timedelta(hours=3)
        one.server.world.jobs.changed(ahead)
        one.observe()
        assert reached(ops_store) <= one.now + timedelta(seconds=5)
        start_elsewhere(one, 1)
        one.advance(45)
        one.observe()
        assert len(one.ledger()) == 2


def test_a_change_that_becomes_visible_late_is_read_by_looking_back(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        hidden, shown = start_elsewhere(one, 0), start_elsewhere(one, 1)
        one.advance(45)
        one.server.set("vanish_job", [hidden])
        one.observe()
        assert [row.job_id for row in one.ledger()] == [shown]
        one.server.set("vanish_job", [])
        one.advance(30)
        one.observe()
        assert [row.job_id for row in one.ledger()] == [hidden, shown]


def test_a_kill_before_the_commit_loses_neither_jobs_nor_the_position(
    ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with an_ingestion(ops_store, 2) as one:
        one.observe()
        before = reached(ops_store)
        finished(one, 2)

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(ledger, "save_position", killed)
            with pytest.raises(KeyboardInterrupt):
                asyncio.run(observe.tick(one.deps, one.now))
        assert one.ledger() == []
        assert reached(ops_store) == before
        one.observe()
        assert len(one.ledger()) == 2


def test_positions_only_move_forward(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one, ops_store.begin() as connection:
        later, earlier = one.now, one.now - HOUR
        ledger.save_position(connection, ledger.Position(later), one.now)
        ledger.save_position(connection, ledger.Position(earlier, complete=False), one.now)
        assert ledger.load_position(connection) == ledger.Position(later)
        assert connection.execute(sa.select(sa.func.count()).select_from(cursor)).scalar_one() == 1


# --------------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("knob", ["down", "html_error", "refuse_connections"])
def test_an_airbyte_that_does_not_answer_is_a_problem_and_nothing_is_lost(ops_store: OpsStore, knob: str) -> None:
    with an_ingestion(ops_store, 2) as one:
        one.configure(ingestion={"tick_budget_seconds": 3.0})
        one.observe()
        finished(one, 2)
        one.server.set(knob, True)
        report = one.observe()
        assert report.problem
        assert one.ledger() == []
        one.server.set(knob, False)
        assert one.observe().absorbed.finished == 2


IN_THE_WAY = {
    "down": ("HTTP 503", "see the Airbyte server's log"),
    "html_error": ("HTTP 502 with text/html", "the proxy before Airbyte"),
    "refuse_connections": ("no whole reply", "something between cuts connections"),
    "": ("Airbyte cannot be reached", "Check that Airbyte is up"),
}


@pytest.mark.parametrize("knob", IN_THE_WAY)
def test_a_tick_whose_time_ran_out_while_it_asked_again_says_what_was_in_the_way(
    ops_store: OpsStore, knob: str
) -> None:
    with an_ingestion(ops_store) as one:
        one.configure(ingestion={"tick_budget_seconds": 2.0})
        if knob:
            one.server.set(knob, True)
        else:
            nobody = f"http://127.0.0.1:{free_port()}"
            one.configure(airbyte={"public_api_url": nobody, "config_api_url": nobody})
        said = one.observe().problem
        for part in (*IN_THE_WAY[knob], "not done within the tick's 2 s; the next one reads on"):
            assert part in said


def test_a_tick_whose_time_ran_out_with_nothing_in_the_way_says_only_that(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, request_timeout_seconds=5.0) as one:
        one.configure(ingestion={"tick_budget_seconds": 0.5})
        one.server.set("slow_ms", 2000)
        assert one.observe().problem == "not done within the tick's 0.5 s; the next one reads on"


def test_what_was_in_the_way_and_is_not_any_more_is_no_problem(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.server.set("rate_limited_next", 2)
        assert one.observe().problem == ""


def test_without_the_configuration_api_syncs_are_recorded_and_reasons_are_filled_in_later(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        failing_id = str(one.connections[1].connection_id)
        said = {"failureType": "config_error", "failureOrigin": "source", "externalMessage": "revoked"}
        one.server.set("fail_connection", {failing_id: said})
        one.server.set("config_api_down", True)
        one.trigger()
        one.advance(45)
        report = one.observe()
        assert (report.detailed, report.absorbed.finished) == (False, 2)
        assert [(row.status, row.attempts, row.rows_synced) for row in one.ledger()] == [
            ("succeeded", None, 200),
            ("failed", None, None),
        ] or [(row.status, row.attempts) for row in one.ledger()] == [("failed", None), ("succeeded", None)]
        assert one.findings()["airbyte_config_api"] == ["airbyte"]
        one.server.set("config_api_down", False)
        one.observe()
        one.observe()
        failed = next(row for row in one.ledger() if row.status == "failed")
        assert (failed.failure_type, failed.failure_message) == ("config_error", "revoked")
        assert all(row.attempts is not None for row in one.ledger())
        assert one.findings() == {}


def test_a_configuration_api_that_stays_away_costs_little_each_tick(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(*[TRANSIENT] * 9)) as one:
        one.configure(airbyte={"config_api_url": f"{one.server.url}/nowhere/api/v1"})
        finished(one)
        one.advance(120)
        one.observe()
        assert one.observe().requests == 4  # one refusal, then three listings of the public API


def test_pages_that_repeat_are_a_problem_that_the_next_tick_gets_over(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 9, page_size=3) as one:
        finished(one, 9)
        one.server.set("repeat_page", True)
        assert "same page again" in one.observe().problem
        one.server.set("repeat_page", False)
        one.observe()
        assert one.observe().problem == ""
        assert len(one.ledger()) == 9


def test_a_job_that_vanishes_is_a_finding_and_its_slot_is_tried_again(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        one.trigger()
        one.observe()
        gone = one.job_of(0).id
        one.server.set("vanish_job", [gone])
        one.advance(45)
        one.observe()
        one.advance(601)
        assert one.observe().settled.vanished == 0  # one answer is not enough
        one.advance(90)
        report = one.observe()
        assert report.settled.vanished == 1
        row = next(row for row in one.ledger() if row.job_id == gone)
        assert (row.status, row.report_state) == ("vanished", "pending")
        assert one.findings()["job_vanished"] == [one.connections[0].partition_key]
        one.advance(90)
        assert one.trigger().starts.started == 1
        one.advance(45)
        one.observe()
        assert one.findings() == {}


def test_a_job_that_airbyte_does_not_know_for_a_while_brings_its_data_and_its_slot_is_not_synced_again(
    ops_store: OpsStore,
) -> None:
    with an_ingestion(ops_store, 1, script=failing(duration=timedelta(minutes=20))) as one:
        one.trigger()
        one.observe()
        job = one.job_of(0).id
        one.advance(601)
        one.server.set("vanish_job", [job])
        assert one.observe().settled.vanished == 0
        one.server.set("vanish_job", [])
        one.advance(60)
        one.observe()
        one.advance(600)
        one.trigger()
        one.observe()
        assert [(row.job_id, row.status) for row in one.ledger()] == [(job, "succeeded")]
        assert [(intent.state, intent.attempt) for intent in one.intents()] == [("succeeded", 1)]
        assert one.findings() == {}


def test_a_job_that_counted_as_gone_is_still_reported_when_it_turns_up_with_its_data(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 1, script=failing(duration=timedelta(minutes=20))) as one:
        one.trigger()
        one.observe()
        job = one.job_of(0).id
        one.server.set("vanish_job", [job])
        for seconds in (601, 90):
            one.advance(seconds)
            one.observe()
        assert one.findings()["job_vanished"] == [one.connections[0].partition_key]
        one.server.set("vanish_job", [])
        one.advance(200)
        assert one.trigger().starts.followed == 1  # the slot is tried again, and Airbyte says that its sync runs
        one.advance(600)
        one.observe()
        assert [(row.job_id, row.status, row.report_state) for row in one.ledger()] == [(job, "succeeded", "pending")]
        assert [intent.state for intent in one.intents()] == ["succeeded"]
        assert one.findings() == {}


def test_long_running_jobs_are_looked_up_in_bulk_and_left_alone(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 8, script=failing(duration=timedelta(hours=3))) as one:
        one.trigger()
        one.observe()
        one.advance(601)
        passed_over(one)
        report = one.observe()
        assert report.requests == 2
        assert report.settled.vanished == 0
        assert one.observe().requests == 1


def test_an_end_that_no_listing_showed_is_found_by_looking_the_job_up(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.trigger()
        one.observe()
        one.advance(600)
        one.server.world.settle()
        passed_over(one)
        one.advance(5)
        one.observe()
        assert one.intent().state == "succeeded"


# --------------------------------------------------------------------------------------------------------- lost replies


def lost(ingestion: Ingestion) -> None:
    ingestion.server.set("post_lost_reply_next", 1)
    report = ingestion.trigger()
    assert report.starts.unanswered == 1


def test_a_start_whose_reply_was_lost_is_adopted_from_the_next_bulk_reading(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        lost(one)
        one.advance(40)
        report = one.observe()
        assert (report.absorbed.adopted, report.requests) == (1, 1)
        assert one.intent().state == "succeeded"
        (row,) = one.ledger()
        assert (row.started_by, row.intent_id) == ("orchestrator", one.intent().id)
        assert len(one.jobs()) == 1


def test_a_start_whose_reply_was_lost_is_found_without_the_configuration_api_too(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(duration=timedelta(minutes=5))) as one:
        lost(one)
        one.server.set("config_api_down", True)
        one.advance(25)
        report = one.observe()
        assert (report.detailed, report.absorbed.adopted) == (False, 1)
        assert one.intent().state == "running"
        one.advance(300)
        one.observe()
        assert one.intent().state == "succeeded"
        assert len(one.jobs()) == 1


def test_a_start_that_no_bulk_reading_shows_is_found_among_the_connections_own_jobs(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        lost(one)
        passed_over(one)
        one.advance(140)
        report = one.observe()
        assert report.settled.found == 1
        assert one.intent().state == "succeeded"
        (row,) = one.ledger()
        assert (row.started_by, row.intent_id) == ("orchestrator", one.intent().id)


def test_a_start_that_made_no_job_is_planned_again_once_that_is_certain(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.server.set("html_error", True)  # 502: it may have arrived
        one.trigger()
        one.server.set("html_error", False)
        for _ in range(4):
            one.advance(30)
            one.observe()
            one.trigger()
        assert (one.intent().state, one.jobs()) == ("starting", [])
        one.advance(30)
        assert one.observe().settled.never_made == 1
        assert (one.intent().state, one.intent().attempt, one.intent().refusals) == ("planned", 0, 1)
        one.advance(90)
        one.trigger()
        assert len(one.jobs()) == 1


def never_answered(ingestion: Ingestion) -> None:
    ingestion.configure(airbyte={"max_concurrent_requests": 10})
    ingestion.server.set("html_error", True)  # 502: it may have arrived
    ingestion.trigger()
    ingestion.server.set("html_error", False)
    assert {intent.state for intent in ingestion.intents()} == {"starting"}


def test_a_connection_whose_jobs_cannot_be_listed_keeps_no_other_lost_start_waiting(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3) as one:
        never_answered(one)
        bad = one.connections[0]
        one.server.set("forbidden", [str(bad.connection_id)])
        one.advance(180)
        report = one.observe()
        assert (report.problem, report.settled.never_made) == ("", 2)
        assert one.findings() == {"connection_jobs_unreadable": [bad.partition_key]}
        states = {intent.partition_key: intent.state for intent in one.intents()}
        assert states.pop(bad.partition_key) == "starting"
        assert set(states.values()) == {"planned"}
        one.advance(3600)
        one.observe()
        given_up = next(intent for intent in one.intents() if intent.partition_key == bad.partition_key)
        assert given_up.state == "abandoned"
        assert "cannot be listed" in given_up.last_error
        one.server.set("forbidden", [])
        one.trigger()
        assert one.findings() == {}


def in_workspaces_of_their_own(ingestion: Ingestion) -> list[UUID]:
    """Moves each connection to a workspace that no other one is in."""
    resources, ids = ingestion.server.world.resources, []
    for number, one in enumerate(ingestion.connections):
        assert one.connection_id is not None
        ids.append(uuid4())
        resources.put(Workspace(ids[-1], f"Workspace {number}"))
        resources.put(replace(resources.connection(one.connection_id), workspace_id=ids[-1]))
        ingestion.connections[number] = replace(one, workspace_id=ids[-1])
    return ids


@pytest.mark.parametrize(
    ("knob", "config_api"),
    [
        ("forbidden", True),
        ("forbidden", False),
        ("no_jobs", True),
        pytest.param("no_jobs", False, marks=pytest.mark.soak),
    ],
)
def test_a_workspace_that_airbyte_refuses_hides_nobody_elses_syncs_and_is_caught_up_with(
    ops_store: OpsStore, knob: str, config_api: bool
) -> None:
    with an_ingestion(ops_store, 3) as one:
        refused, *_ = in_workspaces_of_their_own(one)
        if not config_api:
            one.server.set("config_api_down", True)
        one.observe()
        one.server.set(knob, [str(refused)])
        start_elsewhere(one, 0)
        start_elsewhere(one, 1)
        one.advance(45)
        assert one.observe().absorbed.finished == 1
        assert one.findings()["workspace_unreadable"] == [str(refused)]
        start_elsewhere(one, 2)
        one.advance(1800)
        assert one.observe().absorbed.finished == 1, "the position moves on, beyond what a reading looks back"
        assert one.connections[0].partition_key not in {row.partition_key for row in one.ledger()}
        one.server.set(knob, [])
        one.observe()
        assert one.connections[0].partition_key in {row.partition_key for row in one.ledger()}
        assert "workspace_unreadable" not in one.findings()


def test_among_many_workspaces_one_that_is_hidden_and_one_that_is_refused_are_found(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 12) as one:
        workspaces = in_workspaces_of_their_own(one)
        one.observe()
        one.server.set("forbidden", [str(workspaces[3])])
        one.server.set("no_jobs", [str(workspaces[8])])
        for number in range(12):
            start_elsewhere(one, number)
        one.advance(45)
        assert one.observe().absorbed.finished == 10
        assert set(one.findings()["workspace_unreadable"]) == {str(workspaces[3]), str(workspaces[8])}


def test_more_workspaces_than_one_listing_can_name_are_read_in_portions(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        many = [add_workspace(one.server.world, f"Agency {number}") for number in range(170)]
        one.configure(airbyte={"workspace_ids": (*many, *in_workspaces_of_their_own(one))})
        one.server.set("config_api_down", True)
        one.observe()
        start_elsewhere(one, 0)
        one.advance(45)
        assert (one.observe().absorbed.finished, one.observe().problem) == (1, "")
        one.server.set("no_jobs", [str(many[7])])
        start_elsewhere(one, 1)
        one.advance(45)
        assert one.observe().absorbed.finished == 1
        assert one.findings()["workspace_unreadable"] == [str(many[7])]


def test_a_refused_workspace_that_nobody_wants_to_read_any_more_is_forgotten(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        refused, _ = in_workspaces_of_their_own(one)
        one.server.set("forbidden", [str(refused)])
        one.observe()
        assert one.findings() == {"workspace_unreadable": [str(refused)]}
        del one.connections[0]
        one.observe()
        assert one.findings() == {}


def test_credentials_that_see_no_workspace_at_all_are_a_problem_and_not_silence(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        one.server.set("forbidden", [str(workspace) for workspace in in_workspaces_of_their_own(one)])
        assert one.observe().problem
        assert one.findings() == {}


def test_an_airbyte_that_is_down_still_ends_the_tick_while_starts_are_lost(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        never_answered(one)
        one.advance(180)
        one.server.set("down", True)
        one.configure(ingestion={"tick_budget_seconds": 5.0})  # which is what a server that is down costs a tick
        assert one.observe().problem
        assert {intent.state for intent in one.intents()} == {"starting"}
        assert "connection_jobs_unreadable" not in one.findings()


def test_a_job_that_was_known_before_is_not_taken_for_a_lost_starts_own(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.trigger()
        one.advance(45)
        one.observe()
        one.advance(3580)  # half a minute into the next slot
        one.server.set("html_error", True)
        one.trigger()
        one.server.set("html_error", False)
        one.advance(40)
        assert one.observe().absorbed.adopted == 0
        assert [row.state for row in one.intents()] == ["succeeded", "starting"]


# -------------------------------------------------------------------------------------------------------------- places


def test_jobs_of_an_unknown_connection_are_a_finding_and_taken_in_once_it_is_known(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        newcomer = one.add(1)
        known = one.connections
        one.connections = known[:1]
        for _ in range(2):
            one.server.start(one.server.world.resources.connection(newcomer.connection_id))
            one.advance(45)
            one.observe()
        assert one.findings()["unknown_connection"] == [str(newcomer.connection_id)]
        assert one.ledger() == []
        one.advance(600)
        one.connections = known
        one.observe()
        assert len(one.ledger()) == 2
        assert one.findings() == {}


def test_jobs_of_more_unknown_connections_than_are_kept_in_mind_are_spoken_of(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        newcomer = one.add(1)
        one.connections = one.connections[:1]
        with ops_store.begin() as connection:
            for _ in range(MOST_UNKNOWN):
                detail = {"newest_job_id": 1, "since": one.now.isoformat()}
                open_finding(connection, FindingKind.UNKNOWN_CONNECTION, str(uuid4()), detail, one.now)
        one.server.start(one.server.world.resources.connection(newcomer.connection_id))
        one.advance(45)
        report = one.observe()
        assert report.absorbed.forgotten == {newcomer.connection_id}
        assert str(newcomer.connection_id) not in one.findings()["unknown_connection"]
        said = observe_summary(report, Reported())
        assert "1 more unknown connections than the 200 that are kept in mind" in said
        assert "ADINSIGHTS_AIRBYTE__WORKSPACE_IDS" in said


def test_a_recreated_connection_keeps_the_history_of_its_partition(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        old = one.connections[0]
        with ops_store.begin() as connection:
            seen = {"first_seen_at": one.now}
            frozen = {"key": old.partition_key, "provider": "meta", "tenant_id": old.tenant_id, "row_id": old.row_id}
            connection.execute(sa.insert(partition_key).values(**frozen, **seen, connection_name=old.name))
            former = {"connection_id": old.connection_id, "key": old.partition_key}
            connection.execute(sa.insert(partition_connection).values(**former, **seen))
        finished(one)
        made = add_connection(one.server.world, one.server.workspace_id, "again")
        one.connections[0] = replace(old, connection_id=made.id)
        one.observe()
        assert [(row.connection_id, row.partition_key) for row in one.ledger()] == [
            (old.connection_id, old.partition_key)
        ]
        one.trigger()
        assert one.ledger()[-1].connection_id == made.id


def test_where_nobody_names_the_workspaces_all_visible_ones_are_read(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.replace(0, workspace_id=None)
        finished(one)
        assert one.observe().absorbed.finished == 1
        one.configure(airbyte={"workspace_ids": (uuid4(),)})
        start_elsewhere(one)
        one.advance(45)
        assert one.observe().absorbed.finished == 0


def test_an_old_page_never_takes_an_end_back(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        finished(one)
        one.observe()
        place = ledger.Place(one.connections[0].partition_key, Provider.META, one.connections[0].tenant_id)
        from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobType
        from adinsights_orchestration.ingestion.airbyte_models import JobStatus as Status

        stale = AirbyteJob(1, one.connections[0].connection_id, JobType.SYNC, Status.RUNNING, one.now)
        with ops_store.begin() as connection:
            assert ledger.record_jobs(connection, [ledger.Placed(stale, place)], one.now) == set()
            status = connection.execute(sa.select(sync_job.c.status)).scalar_one()
        assert status == "succeeded"
        assert one.job_of(0).status is JobStatus.SUCCEEDED
