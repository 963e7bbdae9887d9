"""The ledger's own promises: reports once, runs that own and let go, rows that only gain, statements on many rows."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, Failure, JobStatus, JobType, StreamCount
from adinsights_orchestration.ingestion.ledger import Ask, JobRow, Place, Placed, Planned
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import report_batch, sync_intent, sync_job
from adinsights_orchestration.ops_store.taken_out import taken_out
from adinsights_orchestration.tenants.model import Provider

NOW = datetime(2026, 11, 23, 14, 0, tzinfo=UTC)
CONNECTION, TENANT = uuid4(), uuid4()
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
META = Place("acme/meta-1", Provider.META, TENANT)


def job(number: int, status: JobStatus = JobStatus.SUCCEEDED, **changes: object) -> AirbyteJob:
    ended = NOW + number * MINUTE if status.terminal else None
    plain = AirbyteJob(number, CONNECTION, JobType.SYNC, status, NOW, updated_at=ended, ended_at=ended, attempts=1)
    return replace(plain, **changes)  # type: ignore[arg-type]


def record(store: OpsStore, jobs: Sequence[AirbyteJob], place: Place = META) -> set[int]:
    with store.begin() as connection:
        return ledger.record_jobs(connection, [Placed(one, place) for one in jobs], NOW)


def rows(store: OpsStore) -> dict[int, JobRow]:
    with store.begin() as connection:
        ids = set(connection.execute(sa.select(sync_job.c.job_id)).scalars())
        return ledger.jobs_by_id(connection, ids)


def pending(store: OpsStore, limit: int = 100) -> list[int]:
    with store.begin() as connection:
        return [one.job_id for one in ledger.pending_reports(connection, Provider.META, limit)]


def begin(store: OpsStore, job_ids: Sequence[int], event_cursor: int = 7) -> ledger.ReportBatch:
    with store.begin() as connection:
        return ledger.begin_report_batch(connection, Provider.META, job_ids, event_cursor, NOW)


def finish(store: OpsStore, batch: ledger.ReportBatch, reported: Sequence[int]) -> None:
    with store.begin() as connection:
        ledger.finish_report_batch(connection, batch.id, reported, NOW)


def asked(store: OpsStore, run_id: str, connection_id: UUID = CONNECTION) -> int:
    with store.begin() as connection:
        wanted = [Ask(connection_id, META.partition_key)]
        (intent,) = ledger.ask(connection, wanted, run_id=run_id, requested_by="someone", now=NOW)
        return intent.id


# --------------------------------------------------------------------------------------------------------------- jobs


def test_jobs_are_written_in_one_statement_and_writing_them_again_changes_nothing(ops_store: OpsStore) -> None:
    jobs = [job(number) for number in range(300)]
    assert record(ops_store, jobs) == set(range(300))
    before = rows(ops_store)
    assert record(ops_store, jobs) == set()
    assert rows(ops_store) == before


def test_a_job_given_twice_in_one_call_is_one_row(ops_store: OpsStore) -> None:
    assert record(ops_store, [job(1, JobStatus.RUNNING), job(1)]) == {1}


def test_streams_and_reasons_come_back_as_they_went_in(ops_store: OpsStore) -> None:
    streams = (StreamCount("ads", "raw_meta", 5, 50), StreamCount("campaigns", None, 2, 20))
    record(ops_store, [job(1, streams=streams, rows=7, bytes=70)])
    reason = Failure("source", "config_error", 'The token was revoked: "it\'s over" - 100 % ünïcode')
    record(ops_store, [job(2, JobStatus.FAILED, failure=reason)])
    found = rows(ops_store)
    assert (found[1].streams, found[1].rows_synced, found[1].succeeded, found[1].reason) == (streams, 7, True, "")
    assert (found[2].failure_origin, found[2].failure_type, found[2].reason) == (
        "source",
        "config_error",
        reason.message,
    )


def test_a_clear_that_succeeded_is_noted_for_whoever_builds_on_the_rows(ops_store: OpsStore) -> None:
    def noted() -> dict[Provider, int]:
        with ops_store.begin() as connection:
            return taken_out(connection)

    record(ops_store, [job(1), job(2, JobStatus.RUNNING, type=JobType.CLEAR)])
    record(ops_store, [job(3, JobStatus.FAILED, type=JobType.CLEAR)])
    assert noted() == {}
    record(ops_store, [job(2, type=JobType.CLEAR)])
    assert noted() == {Provider.META: 2}
    record(ops_store, [job(4, type=JobType.RESET)], replace(META, provider=Provider.TIKTOK_ADS))
    assert noted() == {Provider.META: 2, Provider.TIKTOK_ADS: 4}


def test_a_job_without_a_reason_says_how_it_ended(ops_store: OpsStore) -> None:
    record(ops_store, [job(1, JobStatus.FAILED), job(2, JobStatus.CANCELLED)])
    assert [row.reason for row in rows(ops_store).values()] == [
        "Airbyte says only that the job failed",
        "Airbyte says only that the job was cancelled",
    ]


LIFE = st.lists(
    st.tuples(st.sampled_from(list(JobStatus)), st.booleans(), st.sampled_from([None, 5])), min_size=1, max_size=8
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LIFE)
def test_whatever_pages_arrive_in_whatever_order_an_end_stays_and_details_are_only_gained(
    ops_store: OpsStore, life: list[tuple[JobStatus, bool, int | None]]
) -> None:
    with ops_store.begin() as connection:
        connection.execute(sa.delete(sync_job))
    first_end: str | None = None
    detailed = False
    for status, with_details, counted in life:
        record(ops_store, [job(1, status, attempts=2 if with_details else None, rows=counted)])
        if status.terminal:
            first_end = first_end or status.value
            detailed = detailed or with_details
        row = rows(ops_store)[1]
        assert row.status == (first_end or row.status)
        assert (row.report_state == "none") == (first_end is None)
        assert (row.attempts is not None) == detailed


def test_when_an_end_was_first_seen_stays_whatever_is_learnt_of_the_job_later(ops_store: OpsStore) -> None:
    def seen(one: AirbyteJob, now: datetime) -> datetime | None:
        with ops_store.begin() as connection:
            ledger.record_jobs(connection, [Placed(one, META)], now)
            return connection.execute(sa.select(sync_job.c.end_observed_at)).scalar_one()

    assert seen(job(1, JobStatus.RUNNING), NOW) is None
    assert seen(job(1, attempts=None), NOW + 50 * MINUTE) == NOW + 50 * MINUTE
    assert seen(job(1, attempts=2), NOW + 60 * MINUTE) == NOW + 50 * MINUTE


def missing(store: OpsStore, now: datetime) -> bool:
    with store.begin() as connection:
        return ledger.note_missing(connection, 1, now)


def test_a_job_is_gone_when_airbyte_does_not_know_it_twice_a_minute_apart(ops_store: OpsStore) -> None:
    record(ops_store, [job(1, JobStatus.RUNNING)])
    assert [missing(ops_store, NOW + seconds * SECOND) for seconds in (0, 3, 59)] == [False, False, False]
    assert rows(ops_store)[1].status == "running"
    assert missing(ops_store, NOW + MINUTE)
    row = rows(ops_store)[1]
    assert (row.status, row.ended_at, row.report_state) == ("vanished", NOW, "pending")
    assert row.reason == "Airbyte does not know this job any more"
    assert not missing(ops_store, NOW + 2 * MINUTE)


@pytest.mark.parametrize("how", ["listed", "looked up"])
def test_a_job_that_is_seen_again_between_two_looks_is_not_gone(ops_store: OpsStore, how: str) -> None:
    record(ops_store, [job(1, JobStatus.RUNNING)])
    assert not missing(ops_store, NOW)
    with ops_store.begin() as connection:
        if how == "listed":
            assert ledger.nothing_new(connection, [job(1, JobStatus.RUNNING)], NOW, detailed=False) == set()
            ledger.record_jobs(connection, [Placed(job(1, JobStatus.RUNNING), META)], NOW)
        else:
            ledger.touch_running(connection, [1], NOW)
    assert not missing(ops_store, NOW + 2 * MINUTE)
    assert rows(ops_store)[1].status == "running"


@pytest.mark.parametrize("reported", [False, True])
@pytest.mark.parametrize("by_way_of_running", [False, True])
def test_a_job_that_seemed_gone_moves_on_when_airbyte_tells_of_it_again(
    ops_store: OpsStore, reported: bool, by_way_of_running: bool
) -> None:
    record(ops_store, [job(1, JobStatus.RUNNING)])
    missing(ops_store, NOW)
    assert missing(ops_store, NOW + MINUTE)
    if reported:
        finish(ops_store, begin(ops_store, [1]), [1])
        assert pending(ops_store) == []
    back = [job(1, rows=7, attempts=2)]
    if by_way_of_running:
        record(ops_store, [job(1, JobStatus.RUNNING)])
        row = rows(ops_store)[1]
        assert (row.status, row.report_state, row.ended_at, row.failure_message) == ("running", "none", None, None)
    with ops_store.begin() as connection:
        assert ledger.nothing_new(connection, back, NOW, detailed=True) == set()
    record(ops_store, back)
    row = rows(ops_store)[1]
    assert (row.status, row.report_state, row.reason, row.attempts) == ("succeeded", "pending", "", 2)
    assert (row.ended_at, row.rows_synced) == (back[0].ended_at, 7)
    assert pending(ops_store) == [1]


def test_a_job_that_seemed_gone_is_not_touched_while_that_is_being_reported(ops_store: OpsStore) -> None:
    record(ops_store, [job(1, JobStatus.RUNNING)])
    missing(ops_store, NOW)
    missing(ops_store, NOW + MINUTE)
    batch = begin(ops_store, [1])
    record(ops_store, [job(1)])
    assert rows(ops_store)[1].status == "vanished"
    finish(ops_store, batch, [1])
    record(ops_store, [job(1)])  # the next tick reads a little back
    assert pending(ops_store) == [1]


# ------------------------------------------------------------------------------------------------------------- reports


def test_reports_are_offered_in_the_order_in_which_syncs_ended(ops_store: OpsStore) -> None:
    record(ops_store, [job(3), job(1), job(2)])
    assert pending(ops_store) == [1, 2, 3]
    assert pending(ops_store, limit=2) == [1, 2]


def test_what_runs_or_brings_no_data_is_not_offered(ops_store: OpsStore) -> None:
    record(ops_store, [job(1, JobStatus.RUNNING), job(2, type=JobType.RESET), job(3, type=JobType.REFRESH)])
    assert pending(ops_store) == [3]


def test_each_provider_has_its_own_reports(ops_store: OpsStore) -> None:
    record(ops_store, [job(1)], Place("acme/ga4-1", Provider.GA4, TENANT))
    assert pending(ops_store) == []


def test_a_batch_is_taken_once_and_what_was_reported_is_never_offered_again(ops_store: OpsStore) -> None:
    record(ops_store, [job(1), job(2)])
    batch = begin(ops_store, [1, 2])
    assert [one.job_id for one in batch.jobs] == [1, 2]
    assert pending(ops_store) == []
    assert begin(ops_store, [1, 2]).jobs == ()
    finish(ops_store, batch, [1, 2])
    finish(ops_store, batch, [])
    assert pending(ops_store) == []
    assert {row.report_state for row in rows(ops_store).values()} == {"reported"}


def test_what_a_killed_process_did_not_report_is_offered_again(ops_store: OpsStore) -> None:
    record(ops_store, [job(1), job(2), job(3)])
    begin(ops_store, [1, 2, 3], event_cursor=42)
    with ops_store.begin() as connection:
        (left,) = ledger.open_report_batches(connection, Provider.META)
        assert ledger.open_report_batches(connection, Provider.GA4) == []
    assert left.event_cursor == 42
    finish(ops_store, left, [2])  # the event log shows that only this one arrived
    assert pending(ops_store) == [1, 3]
    with ops_store.begin() as connection:
        assert ledger.open_report_batches(connection) == []
        assert connection.execute(sa.select(report_batch.c.finished_at)).scalar_one() == NOW


def test_two_reporters_at_once_never_take_the_same_job(ops_store: OpsStore) -> None:
    record(ops_store, [job(number) for number in range(60)])
    taken: list[int] = []

    def take() -> None:
        batch = begin(ops_store, list(range(60)))
        taken.extend(one.job_id for one in batch.jobs)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(60))


# ---------------------------------------------------------------------------------------------------------------- runs


def follow(store: OpsStore, run_id: str) -> None:
    with store.begin() as connection:
        ledger.follow_running(connection, run_id, NOW)


def test_a_job_that_a_run_waits_for_is_the_runs_to_report(ops_store: OpsStore) -> None:
    record(ops_store, [job(1, JobStatus.RUNNING)])
    asked(ops_store, "run-1")
    follow(ops_store, "run-1")
    record(ops_store, [job(1)])
    assert pending(ops_store) == []
    with ops_store.begin() as connection:
        assert [one.job_id for one in ledger.jobs_of_run(connection, "run-1")] == [1]
        assert ledger.mark_reported(connection, [1], "another run", NOW) == 0
        assert ledger.mark_reported(connection, [1], "run-1", NOW) == 1
        assert ledger.mark_reported(connection, [1], "run-1", NOW) == 0
        assert ledger.jobs_of_run(connection, "run-1") == []


def test_the_first_run_that_waits_owns_the_report(ops_store: OpsStore) -> None:
    record(ops_store, [job(1, JobStatus.RUNNING)])
    for run_id in ("run-1", "run-2"):
        asked(ops_store, run_id)
        follow(ops_store, run_id)
    assert rows(ops_store)[1].run_id == "run-1"


def test_a_job_that_is_being_reported_does_not_become_a_runs_own(ops_store: OpsStore) -> None:
    record(ops_store, [job(1)])
    begin(ops_store, [1])
    intent = asked(ops_store, "run-1")
    with ops_store.begin() as connection:
        connection.execute(sa.update(sync_intent).values(state="running", job_id=1))
        ledger.hand_to_runs(connection, [intent])
    assert rows(ops_store)[1].run_id is None


def test_releasing_a_run_gives_up_what_it_had_not_started_and_hands_over_the_rest(ops_store: OpsStore) -> None:
    record(ops_store, [job(1, JobStatus.RUNNING)])
    asked(ops_store, "run-1")
    follow(ops_store, "run-1")
    with ops_store.begin() as connection:
        more = [Ask(CONNECTION, META.partition_key), Ask(uuid4(), "acme/other-1")]
        ledger.ask(connection, more, run_id="run-1", requested_by="someone", now=NOW)
        assert ledger.waiting_runs(connection) == ["run-1"]
        released = ledger.release_run(connection, "run-1", NOW)
        assert (released.jobs, released.abandoned) == (1, 1)
        assert ledger.waiting_runs(connection) == []
        assert ledger.release_run(connection, "run-1", NOW) == ledger.Released(0, 0)
    record(ops_store, [job(1)])
    assert pending(ops_store) == [1]


def test_asking_again_in_one_run_is_asking_once(ops_store: OpsStore) -> None:
    assert asked(ops_store, "run-1") == asked(ops_store, "run-1")
    assert asked(ops_store, "run-2") != asked(ops_store, "run-1")


# ------------------------------------------------------------------------------------------------------------- planning


def test_a_slot_is_planned_once_whoever_plans_it(ops_store: OpsStore) -> None:
    due = [Planned(uuid4(), f"acme/{number}", NOW) for number in range(200)]
    counts: list[int] = []

    def plan() -> None:
        with ops_store.begin() as connection:
            counts.append(ledger.plan(connection, due, NOW))

    threads = [threading.Thread(target=plan) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 200
    with ops_store.begin() as connection:
        slots = {one.connection_id: one.slot for one in due}
        assert ledger.unplanned(connection, slots) == set()
        assert ledger.unplanned(connection, {key: slot + MINUTE for key, slot in slots.items()}) == set(slots)


def test_a_change_to_an_intent_that_changed_meanwhile_is_not_made(ops_store: OpsStore) -> None:
    from adinsights_orchestration.ingestion import intents

    with ops_store.begin() as connection:
        ledger.plan(connection, [Planned(CONNECTION, META.partition_key, NOW)], NOW)
        (claimed,) = ledger.claim(connection, bound=5, limit=5, now=NOW)
        assert ledger.apply_changes(connection, [intents.accepted(claimed, 7)], NOW) == {claimed.id}
        assert ledger.apply_changes(connection, [intents.never_sent(claimed)], NOW) == set()
        assert ledger.apply_changes(connection, [], NOW) == set()


def test_one_connection_is_claimed_once_however_many_intents_it_has(ops_store: OpsStore) -> None:
    asked(ops_store, "run-1")
    with ops_store.begin() as connection:
        ledger.plan(connection, [Planned(CONNECTION, META.partition_key, NOW - MINUTE)], NOW)
        assert len(ledger.claim(connection, bound=9, limit=9, now=NOW)) == 1
        assert ledger.claim(connection, bound=9, limit=9, now=NOW, run_id="run-1") == []


def test_of_a_connections_jobs_only_those_that_airbyte_lists_are_looked_at(ops_store: OpsStore) -> None:
    record(ops_store, [job(1), job(2)])
    with ops_store.begin() as connection:
        ledger.plan(connection, [Planned(CONNECTION, META.partition_key, NOW + MINUTE)], NOW + MINUTE)
        (claimed,) = ledger.claim(connection, bound=1, limit=1, now=NOW + MINUTE)
        assert ledger.known_jobs(connection, claimed, [job(2), job(3)]) == {2}
        assert ledger.known_jobs(connection, claimed, []) == set()


@pytest.mark.parametrize(("bound", "limit", "taken"), [(0, 9, 0), (3, 9, 3), (9, 2, 2), (-1, 9, 0)])
def test_claims_keep_to_the_bound_and_the_limit(ops_store: OpsStore, bound: int, limit: int, taken: int) -> None:
    with ops_store.begin() as connection:
        ledger.plan(connection, [Planned(uuid4(), f"acme/{number}", NOW) for number in range(6)], NOW)
        assert len(ledger.claim(connection, bound=bound, limit=limit, now=NOW)) == taken
