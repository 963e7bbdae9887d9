"""A person's run: starts or adopts, follows to the end, survives what Airbyte does, leaves nothing behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi
from adinsights_orchestration.ingestion.airbyte_errors import NotFoundError
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobType
from adinsights_orchestration.ingestion.outcomes import OutcomeStatus, Progress, SyncOutcome
from adinsights_orchestration.ingestion.wait import PATIENCE, sync_and_wait
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry
from adinsights_orchestration.tenants.model import Provider
from tests.ingestion.support import BY_HAND, Ingestion, an_ingestion, start_elsewhere
from tests.local.airbyte_support import MISCONFIGURED, failing

QUICK = 0.02  # seconds between two looks; each look lets time pass for the server


def wait(ingestion: Ingestion, **options: Any) -> list[SyncOutcome]:
    """Runs to the end, marking what is owned as a run does."""
    return list(waiting(ingestion, **options))


def waiting(
    ingestion: Ingestion, *, pace: float = 1.0, meanwhile: Callable[[], None] | None = None, **options: Any
) -> Generator[SyncOutcome, None, None]:
    """A run on a clock that every look at it moves by `pace` seconds, so that a run that waits gets somewhere.

    `meanwhile` is called at each look: what happens elsewhere while the run waits.
    """
    run_id = options.setdefault("run_id", "run-1")
    connections = options.pop("connections", ingestion.connections)

    def clock() -> datetime:
        ingestion.advance(pace)
        if meanwhile is not None:
            meanwhile()
        return ingestion.now

    settings = {"requested_by": "someone@example.com", "poll_seconds": QUICK, "clock": clock}
    for outcome in sync_and_wait(ingestion.deps, connections, **{**settings, **options}):
        yield outcome
        if outcome.owned:
            assert outcome.job is not None
            with ingestion.store.begin() as connection:
                ledger.mark_reported(connection, [outcome.job.job_id], run_id, ingestion.now)


def pending(store: OpsStore) -> list[int]:
    """Jobs that anybody may report."""
    with store.begin() as connection:
        return [job.job_id for provider in Provider for job in ledger.pending_reports(connection, provider, 100)]


def audited(store: OpsStore) -> list[sa.Row[Any]]:
    with store.begin() as connection:
        return list(connection.execute(sa.select(audit_entry)))


def test_every_connection_has_one_outcome_with_its_ledger_row(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 6, schedule=BY_HAND) as one:
        outcomes = wait(one)
        assert {o.partition_key for o in outcomes} == {c.partition_key for c in one.connections}
        assert {(o.status, o.reason, o.owned) for o in outcomes} == {(OutcomeStatus.SUCCEEDED, "", True)}
        assert {o.job.rows_synced for o in outcomes if o.job} == {200}
        assert len(one.jobs()) == 6
        assert {row.report_state for row in one.ledger()} == {"reported"}


def test_outcomes_come_as_they_happen_and_not_at_the_end(ops_store: OpsStore) -> None:
    slow = timedelta(minutes=5)

    def script(job: Any, number: int) -> Any:
        return failing(duration=slow if job.id == 1 else timedelta(seconds=30))(job, number)

    with an_ingestion(ops_store, 2, schedule=BY_HAND, script=script) as one:
        running = waiting(one)
        first = next(running)
        assert first.job is not None
        assert first.job.job_id == 2
        assert one.jobs()[0].terminal is False
        assert next(running).succeeded


def test_exactly_the_failed_connection_fails_with_airbytes_own_reason_and_at_once(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3, schedule=BY_HAND) as one:
        broken = one.connections[1]
        said = {"failureType": "transient_error", "externalMessage": "The platform is busy."}
        one.server.set("fail_connection", {str(broken.connection_id): said})
        outcomes = {o.partition_key: o for o in wait(one)}
        assert outcomes.pop(broken.partition_key).reason == "The platform is busy."
        assert all(o.succeeded for o in outcomes.values())
        assert len(one.jobs(broken)) == 1


def test_a_sync_that_runs_already_is_followed_and_not_doubled(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, schedule=BY_HAND) as one:
        known, unknown = start_elsewhere(one, 0), start_elsewhere(one, 1)
        one.server.set("vanish_job", [unknown])
        one.observe()
        one.server.set("vanish_job", [])
        outcomes = wait(one)
        assert {o.job.job_id for o in outcomes if o.job} == {known, unknown}
        assert all(o.succeeded and o.owned for o in outcomes)
        assert len(one.jobs()) == 2


def test_one_answer_that_a_job_is_not_known_does_not_fail_a_persons_run(
    ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with an_ingestion(ops_store, 1, schedule=BY_HAND, script=failing(duration=timedelta(minutes=5))) as one:
        looks, answered = 0, AirbyteApi.detailed_job

        async def second_time_unknown(api: AirbyteApi, job_id: int) -> AirbyteJob:
            nonlocal looks
            looks += 1
            if looks == 2:
                raise NotFoundError("no such job")
            return await answered(api, job_id)

        async def unknown(api: AirbyteApi, job_id: int) -> AirbyteJob:
            raise NotFoundError("no such job")

        monkeypatch.setattr(AirbyteApi, "detailed_job", second_time_unknown)
        monkeypatch.setattr(AirbyteApi, "job", unknown)
        (outcome,) = wait(one)
        assert looks > 2
        assert outcome.succeeded
        assert len(one.jobs()) == 1


def test_the_bound_holds_for_what_people_ask_for_too(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 7, schedule=BY_HAND) as one:
        one.bound = 2
        most = 0

        def look(progress: Progress) -> None:
            nonlocal most
            most = max(most, sum(not job.terminal for job in one.jobs()))

        assert len(wait(one, progress=look)) == 7
        assert most <= 2


def test_asking_is_audited_with_the_intents_and_only_once_per_run(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, schedule=BY_HAND) as one:
        wait(one)
        wait(one)
        rows = audited(ops_store)
        assert [(row.action, row.resource_type) for row in rows] == [
            ("airbyte_sync_triggered", "airbyte_connection")
        ] * 2
        assert {row.resource_id for row in rows} == {str(c.row_id) for c in one.connections}
        assert {row.detail["actor"] for row in rows} == {"someone@example.com"}
        assert len(one.jobs()) == 2


def test_nothing_is_sent_when_the_audit_row_cannot_be_written(
    ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adinsights_orchestration.ingestion import manual

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(manual, "record", full)
    with an_ingestion(ops_store, schedule=BY_HAND) as one:
        with pytest.raises(OSError, match="no space"):
            wait(one)
        assert (one.jobs(), one.intents()) == ([], [])


def test_another_run_asks_anew(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, schedule=BY_HAND) as one:
        wait(one, run_id="run-1")
        wait(one, run_id="run-2")
        assert len(one.jobs()) == 2


def test_of_two_runs_that_wait_for_one_sync_one_reports_it(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, schedule=BY_HAND, script=failing(duration=timedelta(minutes=3))) as one:
        first = waiting(one, run_id="run-1")
        results: list[SyncOutcome] = []
        thread = threading.Thread(target=lambda: results.extend(first))
        thread.start()
        _until(lambda: len(one.intents()) == 1 and one.intents()[0].state == "running")
        results += wait(one, run_id="run-2")
        thread.join()
        assert len(one.jobs()) == 1
        assert sorted(outcome.owned for outcome in results) == [False, True]


def test_progress_names_what_happens_and_what_is_in_the_way(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3, schedule=BY_HAND) as one:
        seen: list[Progress] = []
        wait(one, progress=seen.append)
        assert seen[-1].describe().startswith("3 of 3 done, 0 running")
        assert all(progress.total == 3 for progress in seen)
    told = Progress(waiting=1, starting=1, running=2, succeeded=3, failed=1, seconds=61, problem="no answer")
    assert told.describe() == "4 of 8 done, 2 running, 1 starting, 1 waiting, 1 failed after 61 s (no answer)"


def test_who_waits_for_a_place_is_told_who_has_them(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 5, script=failing(duration=timedelta(minutes=2))) as one:
        one.bound = 2
        one.trigger()  # of five that are due
        mine = one.add(9, BY_HAND)
        seen: list[str] = []

        def look(progress: Progress) -> None:
            seen.append(progress.describe())
            one.advance(150)  # the scheduled syncs end meanwhile, and the next tick sees that
            one.observe()

        (outcome,) = wait(one, connections=[mine], progress=look, pace=5)
        assert outcome.succeeded
        assert seen[0].startswith("0 of 1 done, 0 running, 1 waiting after ")
        assert "(2 of at most 2 syncs run, 2 scheduled and 0 asked for by people)" in seen[0]
        assert "syncs run" not in seen[-1]


def test_who_waits_for_another_job_of_the_connection_is_told_which(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, schedule=BY_HAND, script=failing(duration=timedelta(minutes=2))) as one:
        running = start_elsewhere(one)
        seen: list[str] = []
        (outcome,) = wait(one, job_type=JobType.CLEAR, progress=lambda p: seen.append(p.describe()), pace=5)
        assert outcome.succeeded
        assert f"job {running} (sync) runs" in seen[0]
        assert "tried again at 14:0" in seen[0]


# ------------------------------------------------------------------------------------------------------------- outages


def test_an_outage_of_minutes_while_following_fails_nothing_and_cancels_nothing(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 5, schedule=BY_HAND, request_timeout_seconds=0.5) as one:
        problems: set[str] = set()

        def outage() -> None:
            minutes = (one.now - begun).total_seconds() / 60
            one.server.set("html_error", 0.5 <= minutes <= 5)

        begun = one.now
        outcomes = wait(one, meanwhile=outage, progress=lambda p: problems.add(p.problem), pace=12)
        assert all(o.succeeded for o in outcomes)
        assert any("502" in problem for problem in problems)
        assert len(one.jobs()) == 5
        assert {job.status.value for job in one.jobs()} == {"succeeded"}


def test_an_airbyte_that_stays_away_ends_the_run_and_leaves_the_syncs_to_the_observer(ops_store: OpsStore) -> None:
    endless = failing(duration=timedelta(hours=2))
    with an_ingestion(ops_store, schedule=BY_HAND, script=endless, request_timeout_seconds=0.5) as one:
        (outcome,) = wait(one, meanwhile=lambda: _goes_down_once_followed(one), pace=10)
        assert outcome.status is OutcomeStatus.LEFT_RUNNING
        assert f"{PATIENCE.total_seconds() / 60:.0f} minutes" in outcome.reason
        assert not outcome.owned
        one.server.set("down", False)
        one.advance(7200)
        one.observe()
        assert pending(ops_store) == [1]


def test_a_start_that_is_refused_again_and_again_is_given_up_alone(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, schedule=BY_HAND, max_concurrent_requests=1) as one:
        one.server.set("conflict_running_next", 10_000)
        good = one.connections[1]
        start_elsewhere_despite(one, good)
        outcomes = {o.partition_key: o for o in wait(one, pace=10)}
        assert outcomes[good.partition_key].succeeded
        stuck = outcomes[one.connections[0].partition_key]
        assert stuck.status is OutcomeStatus.NOT_STARTED
        assert "given up after 6 refusals" in stuck.reason


def test_a_connection_that_is_switched_off_in_airbyte_is_not_started_and_says_so(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, schedule=BY_HAND) as one:
        one.server.public("PATCH", f"/connections/{one.connections[0].connection_id}", json={"status": "inactive"})
        (outcome,) = wait(one)
        assert outcome.status is OutcomeStatus.NOT_STARTED
        assert "state-conflict" in outcome.reason


def test_somebody_elses_lost_start_that_cannot_be_looked_into_fails_no_persons_run(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2) as one:
        bad, good = one.connections
        one.connections = [bad]
        one.server.set("html_error", True)
        one.trigger()
        one.server.set("html_error", False)
        one.server.set("forbidden", [str(bad.connection_id)])
        one.connections = [bad, good]
        one.advance(180)
        problems: set[str] = set()
        (outcome,) = wait(one, connections=[good], progress=lambda seen: problems.add(seen.problem))
        assert outcome.succeeded
        assert problems == {""}


def test_a_lost_start_that_cannot_be_looked_into_is_spoken_of_and_waited_for_as_long_as_for_a_silence(
    ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adinsights_orchestration.ingestion.wait._PROGRESS_SECONDS", 0.0)
    with an_ingestion(ops_store, schedule=BY_HAND) as one:
        one.server.set("post_lost_reply_next", 1)
        seen: list[Progress] = []
        began = one.now
        (outcome,) = wait(one, meanwhile=lambda: _forbids_what_was_lost(one), progress=seen.append, pace=10)
        assert outcome.status is OutcomeStatus.LEFT_RUNNING
        assert f"no answer from Airbyte for {PATIENCE.total_seconds() / 60:.0f} minutes" in outcome.reason
        assert "forbidden" in outcome.reason
        assert PATIENCE < one.now - began < 2 * PATIENCE
        assert "forbidden" in next(p.problem for p in seen if p.starting and p.seconds > 120)
        assert states_of(one) == {one.connections[0].partition_key: "starting"}  # left to the ticks, not given up


def test_a_lost_start_that_cannot_be_looked_into_cuts_no_other_sync_of_the_run_short(ops_store: OpsStore) -> None:
    longer = failing(duration=2 * PATIENCE)
    with an_ingestion(ops_store, 2, schedule=BY_HAND, script=longer, max_concurrent_requests=1) as one:
        one.server.set("post_lost_reply_next", 1)
        outcomes = wait(one, meanwhile=lambda: _forbids_what_was_lost(one), pace=20)
        (lost,) = [o for o in outcomes if o.status is OutcomeStatus.LEFT_RUNNING]
        (good,) = [o for o in outcomes if o is not lost]
        assert good.succeeded
        assert "forbidden" in lost.reason


def states_of(ingestion: Ingestion) -> dict[str, str]:
    return {intent.partition_key: intent.state for intent in ingestion.intents()}


def _forbids_what_was_lost(ingestion: Ingestion) -> None:
    """From the moment at which a start went without its reply, its connection's jobs cannot be listed."""
    lost = [str(intent.connection_id) for intent in ingestion.intents() if intent.state == "starting"]
    if lost:
        ingestion.server.set("forbidden", lost)


def test_a_lost_reply_is_found_again_without_a_second_sync(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, schedule=BY_HAND, script=failing(duration=timedelta(minutes=4))) as one:
        one.server.set("post_lost_reply_next", 2)
        outcomes = wait(one, pace=5)
        assert all(o.succeeded and o.owned for o in outcomes)
        assert len(one.jobs()) == 2


def test_a_wrong_credential_ends_the_wait_with_the_connectors_words(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 4, schedule=BY_HAND, script=failing(*[MISCONFIGURED] * 9)) as one:
        outcomes = wait(one)
        assert {o.reason for o in outcomes} == {"The access token was revoked."}
        assert {o.status for o in outcomes} == {OutcomeStatus.FAILED}


# ------------------------------------------------------------------------------------------------------------- stopping


def test_stopping_the_run_starts_nothing_more_and_cancels_nothing(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 3, schedule=BY_HAND, script=failing(duration=timedelta(hours=1))) as one:
        one.bound = 2
        interrupts = iter([KeyboardInterrupt()])

        def interrupted() -> None:
            if sum(row.state == "running" for row in one.intents()) == 2:
                for interrupt in interrupts:  # once
                    raise interrupt

        with pytest.raises(KeyboardInterrupt):
            wait(one, meanwhile=interrupted)
        assert _running(one) == 2
        assert sorted(row.state for row in one.intents()) == ["abandoned", "running", "running"]
        one.advance(3600)
        one.observe()
        assert len(pending(ops_store)) == 2


def test_closing_the_generator_lets_go_of_what_runs_but_not_of_what_was_handed_over(ops_store: OpsStore) -> None:
    def script(job: Any, number: int) -> Any:
        return failing(duration=timedelta(hours=1) if job.id == 2 else timedelta(seconds=30))(job, number)

    with an_ingestion(ops_store, 2, schedule=BY_HAND, script=script) as one:
        running = waiting(one, run_id="run-1")
        first = next(running)
        running.close()  # interrupted after the report was written and before it was marked
        assert first.owned
        with ops_store.begin() as connection:
            assert ledger.waiting_runs(connection) == ["run-1"]
            assert [job.job_id for job in ledger.jobs_of_run(connection, "run-1")] == [1]
        one.advance(3600)
        one.observe()
        assert pending(ops_store) == [2]
        with ops_store.begin() as connection:
            ledger.mark_reported(connection, [1], "run-1", one.now)
            ledger.release_run(connection, "run-1", one.now)
        assert pending(ops_store) == [2]


def test_a_run_is_let_go_of_while_somebody_takes_its_job_in_and_neither_waits_for_the_other(
    ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with an_ingestion(ops_store, 1, schedule=BY_HAND, script=failing(duration=timedelta(hours=1))) as one:
        start_elsewhere(one, 0)
        one.observe()
        asked = ledger.Ask(one.job_of(0).connection_id, one.connections[0].partition_key or "")
        with ops_store.begin() as connection:
            ledger.ask(connection, [asked], run_id="dead", requested_by="someone", now=one.now)
            ledger.follow_running(connection, "dead", one.now)
        one.advance(7200)
        job_taken, released = threading.Event(), threading.Event()
        adopt = ledger.adopt_started

        def slowly(*args: Any) -> int:  # the job's row is written, the intent's not yet
            job_taken.set()
            released.wait(0.5)
            return adopt(*args)

        monkeypatch.setattr(ledger, "adopt_started", slowly)
        observer = threading.Thread(target=one.observe)
        observer.start()
        assert job_taken.wait(30)
        with ops_store.begin() as connection:
            ledger.release_run(connection, "dead", one.now)
        released.set()
        observer.join(30)
        assert [row.state for row in one.intents()] == ["succeeded"]
        assert pending(ops_store) == [1]


def test_a_run_that_died_is_released_and_its_syncs_are_reported_by_others(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, schedule=BY_HAND) as one:
        one.bound = 1
        dead = waiting(one, run_id="dead", pace=0)
        thread = threading.Thread(target=lambda: next(dead, None), daemon=True)
        thread.start()
        _until(lambda: sorted(row.state for row in one.intents()) == ["planned", "running"])
        one.advance(45)
        with ops_store.begin() as connection:
            assert ledger.waiting_runs(connection) == ["dead"]
            released = ledger.release_run(connection, "dead", one.now)
        assert (released.jobs, released.abandoned) == (1, 1)
        thread.join(30)
        dead.close()
        one.observe()
        assert pending(ops_store) == [1]


# --------------------------------------------------------------------------------------------------------- other kinds


def test_a_clear_waits_for_a_running_sync_instead_of_cancelling_it(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, schedule=BY_HAND) as one:
        sync = start_elsewhere(one)
        (outcome,) = wait(one, job_type=JobType.CLEAR)
        assert outcome.succeeded
        assert not outcome.owned
        jobs = {job.id: job.status.value for job in one.jobs()}
        assert jobs == {sync: "succeeded", sync + 1: "succeeded"}
        assert [row.action for row in audited(ops_store)] == ["airbyte_clear_triggered"]


def test_a_refresh_is_followed_like_a_sync(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, schedule=BY_HAND) as one:
        outcomes = wait(one, job_type=JobType.REFRESH)
        assert {o.job.job_type for o in outcomes if o.job} == {"refresh"}
        assert all(o.owned for o in outcomes)


def test_nothing_to_wait_for_is_over_at_once(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, schedule=BY_HAND) as one:
        assert wait(one, connections=[]) == []


def _running(ingestion: Ingestion) -> int:
    return sum(not job.terminal for job in ingestion.jobs())


def _goes_down_once_followed(ingestion: Ingestion) -> None:
    if any(row.state == "running" for row in ingestion.intents()):
        ingestion.server.set("down", True)
        ingestion.advance(30)


def start_elsewhere_despite(ingestion: Ingestion, connection: Any) -> None:
    """Starts a sync although POST /jobs refuses everybody."""
    ingestion.server.config("/connections/sync", {"connectionId": str(connection.connection_id)})
    ingestion.observe()


def _until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.02)
