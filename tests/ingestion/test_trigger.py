"""Trigger ticks against a real server and a real ledger: once per slot, within the bound, whatever goes wrong."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion import trigger
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob
from adinsights_orchestration.ingestion.automation import trigger_summary
from adinsights_orchestration.ingestion.deps import RegistryView
from adinsights_orchestration.ingestion.intents import SENT_WITHIN, Intent
from adinsights_orchestration.ingestion.ledger import Ask, Placed, ask, claim, follow_running, keep_waiting, shares
from adinsights_orchestration.ingestion.shares import Demand, Shares
from adinsights_orchestration.ingestion.starter import Starter
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_intent
from tests.conftest import free_port
from tests.ingestion.support import BY_HAND, HOUR, HOURLY, Ingestion, an_ingestion, external, secret, start_elsewhere
from tests.local.airbyte_support import MISCONFIGURED, TRANSIENT, failing


def states(rows: list[sa.Row[tuple[object, ...]]]) -> Counter[str]:
    return Counter(row.state for row in rows)


def test_every_due_connection_is_started_once_and_its_job_is_on_record(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 60) as one:
        report = one.trigger()
        assert (report.planned, report.starts.started, report.requests) == (60, 60, 60)
        assert states(one.intents()) == {"running": 60}
        rows = one.ledger()
        assert {row.connection_id for row in rows} == {c.connection_id for c in one.connections}
        assert {(row.started_by, row.report_state, row.intent_id is None) for row in rows} == {
            ("orchestrator", "none", False)
        }


def test_a_second_tick_starts_nothing_more_for_the_same_slot(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3) as one:
        one.trigger()
        one.advance(45)
        one.observe()
        report = one.trigger()
        assert (report.planned, report.requests) == (0, 0)
        assert len(one.jobs()) == 3


def test_the_next_slot_is_a_new_start(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        for _ in range(3):
            one.trigger()
            one.advance(45)
            one.observe()
            one.advance(HOUR.total_seconds() - 45)
        assert [row.state for row in one.intents()] == ["succeeded"] * 3
        assert len(one.jobs()) == 3


def test_with_an_external_driver_nothing_is_started(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        external(one)
        assert "external" in one.trigger().skipped
        assert one.jobs() == []
        assert one.intents() == []


def test_only_active_connections_are_started(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 4) as one:
        one.replace(0, is_active=False)
        one.replace(1, retired=True)
        one.replace(2, problem="its cron expression is wrong")
        assert one.trigger().starts.started == 1
        assert [job.connection_id for job in one.jobs()] == [one.connections[3].connection_id]


def test_a_connection_that_is_switched_off_between_plan_and_start_is_not_started(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        one.bound = 1
        one.trigger()
        one.replace(0, is_active=False)
        one.replace(1, is_active=False)
        one.advance(45)
        one.observe()
        one.trigger()
        assert states(one.intents()) == {"succeeded": 1, "abandoned": 1}
        assert len(one.jobs()) == 1


def test_never_more_syncs_run_at_once_than_the_bound(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 10) as one:
        one.bound = 4
        seen = []
        for _ in range(4):
            seen.append(one.trigger().starts.started)
            one.advance(45)
            one.observe()
        assert seen == [4, 4, 2, 0]


def test_scheduled_starts_leave_room_for_a_person_who_waits(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 4) as one:
        one.bound = 3
        one.replace(3, schedule=BY_HAND)
        waiting = one.connections[3]
        with ops_store.begin() as connection:
            asked = [Ask(waiting.connection_id, waiting.partition_key)]
            ask(connection, asked, run_id="run-1", requested_by="someone", now=one.now)
        assert one.trigger().starts.started == 2
        with ops_store.begin() as connection:
            (mine,) = claim(connection, bound=3, limit=10, now=one.now, run_id="run-1")
        assert mine.connection_id == waiting.connection_id


def asked_by_hand(one: Ingestion, connections: int, run_id: str = "run-1") -> None:
    """Somebody asks for so many connections that have no schedule."""
    mine = [one.add(1000 + number, BY_HAND) for number in range(connections)]
    with one.store.begin() as connection:
        asks = [Ask(each.connection_id, each.partition_key) for each in mine]
        ask(connection, asks, run_id=run_id, requested_by="someone", now=one.now)


def claimed(one: Ingestion, run_id: str | None = "run-1") -> int:
    """What a run that looks now may start; what the trigger may, without a run."""
    with one.store.begin() as connection:
        if run_id is not None:
            keep_waiting(connection, run_id, one.now)
        return len(claim(connection, bound=one.bound, limit=100, now=one.now, run_id=run_id))


def test_a_person_who_asks_for_more_than_fits_does_not_stop_the_schedules(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 8) as one:
        one.bound = 4
        asked_by_hand(one, 9)
        report = one.trigger()
        assert (report.planned, report.starts.started, report.waiting) == (8, 2, 6)
        assert claimed(one) == 2
        assert trigger_summary(one.trigger()) == (
            "6 waiting for a place; 4 of at most 4 syncs run, 2 scheduled and 2 asked for by people"
        )


def test_schedules_that_wait_get_their_half_back_from_a_person_who_took_all_places(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 8) as one:
        one.bound = 4
        asked_by_hand(one, 9)
        assert claimed(one) == 4  # nothing else was due yet
        assert one.trigger().starts.started == 0
        with ops_store.begin() as connection:  # one of them ends, and the person looks first
            first = sa.select(sync_intent.c.id).where(sync_intent.c.state == "starting").limit(1)
            connection.execute(sa.update(sync_intent).where(sync_intent.c.id.in_(first)).values(state="succeeded"))
        assert claimed(one) == 0
        assert one.trigger().starts.started == 1


def test_one_place_goes_to_a_schedule_and_to_a_person_in_turn(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 4) as one:
        one.bound = 0
        one.trigger()  # plans, and may start nothing
        one.bound = 1
        asked_by_hand(one, 4)
        turns = []
        for _ in range(6):
            one.advance(1)
            turns.append((claimed(one), claimed(one, run_id=None)))  # the person always looks first
            with ops_store.begin() as connection:
                over = sa.update(sync_intent).where(sync_intent.c.state == "starting")
                connection.execute(over.values(state="succeeded"))
        assert turns == [(1, 0), (0, 1)] * 3


def test_starts_that_nobody_sends_any_more_keep_no_places_from_people(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 8) as one:
        one.bound = 0
        one.trigger()
        one.bound = 4
        external(one)
        one.advance(25 * HOUR.total_seconds())
        asked_by_hand(one, 9)
        assert claimed(one) == 4


def test_a_person_who_follows_a_scheduled_sync_takes_no_place_beside_it(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        one.bound = 2
        one.trigger()
        with ops_store.begin() as connection:
            asked = [Ask(each.connection_id, each.partition_key) for each in one.connections]
            ask(connection, asked, run_id="run-1", requested_by="someone", now=one.now)
            follow_running(connection, "run-1", one.now)
            assert shares(connection, 2, one.now) == Shares(2, people=Demand(), schedules=Demand(2))


def test_a_person_who_went_away_keeps_no_room(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        one.bound = 1
        one.replace(1, schedule=BY_HAND)
        gone = one.connections[1]
        with ops_store.begin() as connection:
            asked = [Ask(gone.connection_id, gone.partition_key)]
            ask(connection, asked, run_id="dead", requested_by="someone", now=one.now - timedelta(minutes=5))
        assert one.trigger().starts.started == 1


def test_two_processes_that_claim_at_once_share_the_bound(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 40) as one:
        one.bound = 0
        one.trigger()  # plans, and may start nothing
        taken: list[int] = []

        def claims() -> None:
            for _ in range(6):
                with ops_store.begin() as connection:
                    taken.extend(i.id for i in claim(connection, bound=25, limit=4, now=one.now))

        threads = [threading.Thread(target=claims) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(taken) == 25
        assert len(set(taken)) == 25


def test_two_ticks_at_once_do_the_work_of_one(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 5) as one, ops_store.exclusive(trigger.LOCK):
        assert one.trigger().skipped == "another tick is at work"
        assert one.jobs() == []


def test_missed_slots_collapse_and_a_plan_that_never_started_is_superseded(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.bound = 0
        for _ in range(3):
            one.trigger()
            one.advance(HOUR.total_seconds())
        one.bound = 1
        one.trigger()
        assert [row.state for row in one.intents()] == ["abandoned", "abandoned", "abandoned", "running"]
        assert len(one.jobs()) == 1


# ----------------------------------------------------------------------------------------------- syncs of somebody else


def test_a_sync_that_somebody_else_started_after_the_slot_satisfies_it(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        start_elsewhere(one)
        one.observe()
        assert one.trigger().planned == 0
        one.advance(45)
        one.observe()
        assert one.trigger().planned == 0
        assert len(one.jobs()) == 1
        assert [row.started_by for row in one.ledger()] == ["external"]


def test_a_running_sync_that_nobody_knew_of_is_followed_and_not_doubled(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        job_id = start_elsewhere(one)
        report = one.trigger()
        assert report.starts.followed == 1
        assert (one.intent().state, one.intent().job_id) == ("running", job_id)
        assert [row.started_by for row in one.ledger()] == ["external"]
        one.advance(45)
        one.observe()
        assert one.intent().state == "succeeded"
        assert len(one.jobs()) == 1


def test_a_planned_start_is_satisfied_by_what_somebody_else_started_meanwhile(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.bound = 0
        one.trigger()
        start_elsewhere(one)
        one.advance(45)
        one.observe()
        one.bound = 5
        report = one.trigger()
        assert (report.satisfied, report.requests) == (1, 0)
        one.observe()
        assert one.intent().state == "succeeded"
        assert len(one.jobs()) == 1


def test_a_slot_is_not_satisfied_by_what_failed_elsewhere(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(MISCONFIGURED)) as one:
        one.bound = 0
        one.trigger()
        start_elsewhere(one)
        one.advance(45)
        one.observe()
        one.bound = 5
        report = one.trigger()
        assert (report.satisfied, report.starts.started) == (0, 1)
        assert one.intent().state == "running"
        assert len(one.jobs()) == 2


def test_a_slot_that_was_not_planned_yet_is_not_satisfied_by_what_failed_elsewhere(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(MISCONFIGURED)) as one:
        start_elsewhere(one)
        one.observe()
        assert one.trigger().planned == 0  # it may yet succeed
        one.advance(45)
        one.observe()
        report = one.trigger()
        assert (report.planned, report.starts.started) == (1, 1)
        assert len(one.jobs()) == 2


def test_a_sync_that_began_before_its_slot_is_let_end_and_then_the_slot_has_its_own(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(duration=timedelta(minutes=50))) as one:
        one.advance(1200)  # 14:20
        start_elsewhere(one)
        one.advance(2460)  # 15:01, the sync goes on until 15:10
        one.observe()
        assert one.trigger().planned == 0
        one.advance(600)  # 15:11
        one.observe()
        assert one.trigger().starts.started == 1
        assert len(one.jobs()) == 2


def test_a_clock_that_is_a_minute_off_makes_no_slot_run_twice(ops_store: OpsStore) -> None:
    for skew in (-60.0, 60.0):
        with an_ingestion(ops_store) as one:
            one.server.set("clock_skew_seconds", skew)
            for _ in range(3):
                one.trigger()
                one.advance(45)
                one.observe()
                one.trigger()
            assert len(one.jobs()) == 1
            assert [row.state for row in one.intents()][-1] == "succeeded"


# --------------------------------------------------------------------------------------------------------------- faults


def test_a_connection_that_is_not_active_is_given_up_until_its_next_slot_with_a_finding(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3) as one:
        one.server.set("conflict_state_next", 1)
        assert one.trigger().starts.given_up == 1
        assert states(one.intents()) == {"running": 2, "abandoned": 1}
        (subject,) = one.findings()["connection_not_active"]
        one.trigger()
        assert len(one.jobs()) == 2
        one.advance(HOUR.total_seconds())
        one.observe()
        one.trigger()
        assert one.findings() == {}
        assert subject in {row.partition_key for row in one.ledger()}


def test_an_airbyte_that_is_down_is_asked_a_few_times_a_tick_and_nothing_is_lost(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 30) as one:
        up, one.settings = one.settings, one.settings
        down = f"http://127.0.0.1:{free_port()}"
        one.configure(airbyte={"public_api_url": f"{down}/api/public/v1"})
        for _ in range(3):
            report = one.trigger()
            assert report.starts.stopped is not None
            assert report.requests <= 5
            one.advance(30)
        assert states(one.intents()) == {"planned": 30}
        assert {row.attempt for row in one.intents()} == {0}
        one.settings = up
        one.advance(300)
        one.trigger()
        assert states(one.intents()) == {"running": 30}
        assert len(one.jobs()) == 30


@pytest.mark.parametrize("knob", ["html_error", "no_route", "down", "refuse_connections"])
def test_a_proxy_without_an_airbyte_behind_it_stops_the_tick_and_no_sync_is_doubled(
    ops_store: OpsStore, knob: str
) -> None:
    with an_ingestion(ops_store, 12) as one:
        one.server.set(knob, True)
        report = one.trigger()
        assert report.starts.stopped is not None
        assert report.requests <= 10
        one.server.set(knob, False)
        for _ in range(6):
            one.advance(100)
            one.observe()
            one.trigger()
        one.advance(60)
        one.observe()
        assert states(one.intents()) == {"succeeded": 12}
        assert Counter(job.connection_id for job in one.jobs()).most_common(1)[0][1] == 1


@pytest.mark.parametrize(("knob", "said"), [("down", "HTTP 503"), ("refuse_connections", "no whole reply")])
def test_a_single_start_that_is_not_answered_says_why_and_what_to_look_at(
    ops_store: OpsStore, knob: str, said: str
) -> None:
    with an_ingestion(ops_store) as one:
        one.server.set(knob, True)
        starts = one.trigger().starts
        assert (starts.unanswered, starts.stopped) == (1, None)
        assert said in starts.problem
        assert "Airbyte POST /jobs" in starts.problem


def test_a_tick_that_got_no_token_within_its_time_says_what_was_in_the_way(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, client_id="an-id", client_secret=secret("a-secret")) as one:
        one.configure(ingestion={"tick_budget_seconds": 2.0})
        one.server.set("down", True)
        starts = one.trigger().starts
        assert starts.unanswered == 1
        assert "/applications/token: HTTP 503" in starts.problem
        assert "see the Airbyte server's log" in starts.problem
        assert "not done within the tick's 2 s; the next one goes on" in starts.problem
        assert "a-secret" not in starts.problem


def test_starts_that_went_well_have_no_problem(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3) as one:
        assert one.trigger().starts.problem == ""


def test_a_rate_limit_postpones_and_does_not_use_up_attempts(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 4, max_concurrent_requests=1) as one:
        one.server.set("rate_limited_next", 1)
        report = one.trigger()
        assert (report.starts.postponed, report.starts.started) == (1, 0)
        put_off = [row for row in one.intents() if row.not_before is not None]
        assert [(row.attempt, row.refusals) for row in put_off] == [(0, 1)]
        assert one.trigger().starts.started == 3
        one.advance(90)
        assert one.trigger().starts.started == 1


def test_a_wrong_password_stops_the_tick_after_one_answer(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 10, max_concurrent_requests=1) as one:
        one.server.set("unauthorized_next", 1)
        report = one.trigger()
        assert report.requests == 1
        assert "ADINSIGHTS_AIRBYTE__CLIENT_ID" in str(report.starts.stopped)
        assert states(one.intents()) == {"planned": 10}


def test_one_connection_whose_start_is_slow_does_not_hold_up_the_others(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 20, request_timeout_seconds=15.0) as one:
        one.server.set("post_lost_reply_next", 1)
        report = one.trigger()
        assert report.starts.unanswered == 1
        assert report.starts.started == 19
        assert len(one.jobs()) == 20


def test_a_tick_ends_within_its_budget_and_the_next_one_goes_on(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 20, max_concurrent_requests=1, request_timeout_seconds=1.5) as one:
        one.server.set("post_ms", 300)
        one.configure(ingestion={"tick_budget_seconds": 4.0})
        first = one.trigger().starts
        assert 0 < first.started < 20
        assert first.unsent > 0
        counted = states(one.intents())
        assert counted["running"] == first.started
        assert counted["starting"] <= 1
        assert {row.attempt for row in one.intents() if row.state == "planned"} == {0}


def test_a_claim_that_could_not_be_sent_in_time_is_returned_unsent(ops_store: OpsStore) -> None:
    """A process that slept after its claim must not send: others may have concluded that nothing was made."""
    with an_ingestion(ops_store, 2) as one:
        one.bound = 0
        one.trigger()
        one.bound = 5
        deps = one.deps

        async def round_of_starts() -> Starter:
            async with deps.api() as api:
                starter = Starter(deps, api, TickClock(one.now, 40), RegistryView(deps.registry))
                starter._claim()
                asleep = SENT_WITHIN.total_seconds() + 1
                object.__setattr__(starter.clock, "_begun", starter.clock._begun - asleep)
                starter._exhausted = True  # nothing may be claimed again in this round
                await starter.run()
                return starter

        starter = asyncio.run(round_of_starts())
        assert starter.report.unsent == 2
        assert one.jobs() == []
        assert [(row.state, row.attempt) for row in one.intents()] == [("planned", 0), ("planned", 0)]


class _DefectError(Exception):
    """What nobody expects of a start."""


def test_a_defect_in_one_start_records_what_the_others_did_and_puts_back_what_was_not_sent(
    ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, sent = AirbyteApi.start, itertools.count(1)

    async def fails_at_the_fifth(api: AirbyteApi, *asked: Any, **options: Any) -> AirbyteJob:
        if next(sent) == 5:
            raise _DefectError
        return await send(api, *asked, **options)

    monkeypatch.setattr(AirbyteApi, "start", fails_at_the_fifth)
    with an_ingestion(ops_store, 30, max_concurrent_requests=3) as one:
        with pytest.raises(_DefectError):
            one.trigger()
        made = len(one.jobs())
        assert 4 <= made <= 6  # what two others had asked before the fifth failed is still heard
        assert states(one.intents()) == {"running": made, "starting": 1, "planned": 29 - made}
        assert {row.attempt for row in one.intents() if row.state == "planned"} == {0}
        assert {row.job_id for row in one.intents() if row.state == "running"} == {job.id for job in one.jobs()}
        assert one.trigger().starts.started == 29 - made  # no waiting for the claims of the round that broke


def test_what_must_not_be_sent_for_a_reason_that_cannot_be_had_is_put_back_too(ops_store: OpsStore) -> None:
    def breaks(intent: Intent) -> str | None:
        raise _DefectError

    with an_ingestion(ops_store, 3) as one:
        one.bound = 0
        one.trigger()
        one.bound = 5
        deps = one.deps

        async def round_of_starts() -> None:
            async with deps.api() as api:
                await Starter(deps, api, TickClock(one.now, 40), RegistryView(deps.registry), may_start=breaks).run()

        with pytest.raises(_DefectError):
            asyncio.run(round_of_starts())
        assert one.jobs() == []
        assert [(row.state, row.attempt) for row in one.intents()] == [("planned", 0)] * 3


def test_an_outcome_that_cannot_be_recorded_keeps_no_other_claim(
    ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: sa.Connection, jobs: Sequence[Placed], now: datetime) -> None:
        if jobs:
            raise _DefectError

    monkeypatch.setattr("adinsights_orchestration.ingestion.starter.record_jobs", breaks)
    monkeypatch.setattr("adinsights_orchestration.ingestion.starter._RECORD_EVERY", 2)
    with an_ingestion(ops_store, 12, max_concurrent_requests=1) as one:
        with pytest.raises(_DefectError):
            one.trigger()
        assert len(one.jobs()) == 2
        assert states(one.intents()) == {"starting": 2, "planned": 10}


# -------------------------------------------------------------------------------------------------------- failed syncs


def test_a_failed_sync_is_tried_again_with_growing_delays_and_at_most_five_times(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(*[TRANSIENT] * 99), schedule=HOURLY) as one:
        started = []
        for _ in range(57 * 4):  # until just before the next slot
            if one.trigger().starts.started:
                started.append(one.now)
            one.advance(15)
            one.observe()
        assert len(one.jobs()) == 5
        gaps = [later - earlier for earlier, later in itertools.pairwise(started)]
        assert gaps == sorted(gaps)
        assert one.intent().state == "failed"
        assert one.intent().last_error == "The platform is busy."


def test_a_wrong_credential_is_not_tried_again_for_the_slot(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(*[MISCONFIGURED] * 9)) as one:
        one.trigger()
        one.advance(45)
        one.observe()
        one.advance(600)
        assert one.trigger().requests == 0
        assert (one.intent().state, one.intent().last_error) == ("failed", "The access token was revoked.")


def test_a_retry_gives_way_to_a_newer_slot(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, script=failing(*[TRANSIENT] * 99)) as one:
        one.advance(3480)  # 14:58:07
        one.trigger()
        one.advance(110)
        one.observe()
        assert one.intent().state == "planned"
        one.advance(20)  # 15:00:17
        one.trigger()
        first, second = one.intents()
        assert (first.state, second.state) == ("abandoned", "running")
        assert second.attempt == 1


def test_one_connections_failures_do_not_touch_another(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3) as one:
        failing_id = str(one.connections[1].connection_id)
        one.server.set("fail_connection", {failing_id: {"failureType": "config_error", "externalMessage": "revoked"}})
        one.trigger()
        one.advance(45)
        one.observe()
        assert states(one.intents()) == {"succeeded": 2, "failed": 1}


def test_an_intent_row_cannot_run_without_a_job(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        one.bound = 0
        one.trigger()
        with pytest.raises(sa.exc.IntegrityError), ops_store.begin() as connection:
            connection.execute(sa.update(sync_intent).values(state="running"))
