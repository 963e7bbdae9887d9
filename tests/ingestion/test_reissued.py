"""An Airbyte that was set up anew, or restored, gives job ids a second time: no sync is lost, none is another's."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobStatus
from adinsights_orchestration.ingestion.ledger import Place, Placed
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_intent
from adinsights_orchestration.tenants.model import Provider
from tests.ingestion.support import an_ingestion
from tests.ingestion.test_ledger import CONNECTION, MINUTE, NOW, asked, job, pending, record, rows

OTHER, OTHERS = uuid4(), Place("globex/meta-9", Provider.META, uuid4())
DAYS = timedelta(days=3)
LATER = {"connection_id": CONNECTION, "created_at": NOW + DAYS, "ended_at": NOW + DAYS + MINUTE}
ELSEWHERE = {"connection_id": OTHER}
AGAIN = pytest.mark.parametrize("again", [LATER, ELSEWHERE], ids=["restored", "set up anew"])


def place_of(one: AirbyteJob) -> Place:
    return OTHERS if one.connection_id == OTHER else ledger.Place("acme/meta-1", Provider.META, OTHERS.tenant_id)


@AGAIN
def test_the_new_job_is_written_and_reported_beside_the_old_one(ops_store: OpsStore, again: dict[str, object]) -> None:
    record(ops_store, [job(17, rows=1), job(18, rows=2)])
    new = job(17, JobStatus.SUCCEEDED, rows=3, **again)
    with ops_store.begin() as connection:
        assert ledger.nothing_new(connection, [new, job(18)], NOW, detailed=True) == {18}
        assert ledger.record_jobs(
            connection, [Placed(new, place_of(new)), Placed(job(18), place_of(job(18)))], NOW
        ) == {17}
    found = rows(ops_store)
    assert {number: row.rows_synced for number, row in found.items()} == {-1: 1, 17: 3, 18: 2}
    assert (found[17].connection_id, found[17].started_at) == (new.connection_id, new.created_at)
    assert found[17].partition_key == place_of(new).partition_key
    assert sorted(pending(ops_store)) == [-1, 17, 18]
    assert record(ops_store, [new], place_of(new)) == set()  # the same one again
    assert sorted(rows(ops_store)) == [-1, 17, 18]


@AGAIN
def test_a_job_that_ran_as_far_as_was_known_is_gone_and_so_it_is_for_whoever_waited(
    ops_store: OpsStore, again: dict[str, object]
) -> None:
    asked(ops_store, "run-1")
    with ops_store.begin() as connection:
        ledger.record_jobs(connection, [Placed(job(17, JobStatus.RUNNING), place_of(job(17)))], NOW)
        assert ledger.follow_running(connection, "run-1", NOW) == 1
    new = job(17, JobStatus.RUNNING, **again)
    record(ops_store, [new], place_of(new))
    found = rows(ops_store)
    assert (found[-1].status, found[-1].report_state, found[17].status) == ("vanished", "pending", "running")
    with ops_store.begin() as connection:
        (ended,) = ledger.ended_intents(connection)
    assert (ended.intent.job_id, ended.status) == (-1, None)


def test_an_id_that_is_given_a_third_time_keeps_both_before_it(ops_store: OpsStore) -> None:
    for day in range(3):
        record(ops_store, [job(17, created_at=NOW + timedelta(days=day), rows=day)])
    assert {number: row.rows_synced for number, row in rows(ops_store).items()} == {-1: 0, -2: 1, 17: 2}


def test_a_moment_that_is_told_in_whole_seconds_makes_no_other_job_of_it(ops_store: OpsStore) -> None:
    record(ops_store, [job(17, JobStatus.RUNNING)])
    record(ops_store, [job(17, created_at=NOW + timedelta(milliseconds=900))])
    assert {number: row.status for number, row in rows(ops_store).items()} == {17: "succeeded"}


def test_a_job_of_before_is_not_taken_for_one_that_a_lost_start_cannot_have_made(ops_store: OpsStore) -> None:
    record(ops_store, [job(17)])
    with ops_store.begin() as connection:
        planned = ledger.Planned(CONNECTION, "acme/meta-1", NOW + DAYS)
        ledger.plan(connection, [planned], planned.slot)
        (claimed,) = ledger.claim(connection, bound=1, limit=1, now=planned.slot)
        assert ledger.known_jobs(connection, claimed, [job(17)]) == {17}
        assert ledger.known_jobs(connection, claimed, [job(17, created_at=planned.slot + MINUTE)]) == set()


def test_a_start_at_a_new_airbyte_follows_its_own_job_to_its_end(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as before:
        before.trigger()
        before.advance(45)
        before.observe()
        (old,) = before.ledger()
        assert old.status == "succeeded"
    with an_ingestion(ops_store) as anew:
        assert anew.trigger().starts.started == 1
        assert anew.job_of().id == old.job_id
        anew.observe()
        assert [row.state for row in anew.intents()] == ["succeeded", "running"]
        anew.advance(45)
        anew.observe()
        assert [row.state for row in anew.intents()] == ["succeeded", "succeeded"]
        assert [(row.job_id, row.connection_id) for row in anew.ledger()] == [
            (-1, old.connection_id),
            (old.job_id, anew.connections[0].connection_id),
        ]
        with ops_store.begin() as connection:
            ids = connection.execute(sync_intent.select().order_by(sync_intent.c.id)).all()
        assert [row.job_id for row in ids] == [-1, old.job_id]
