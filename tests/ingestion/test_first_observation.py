"""A new deployment starts nothing before it knows what others did: it would sync again what they just synced."""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa

from adinsights_orchestration.ingestion import ledger
from adinsights_orchestration.ingestion.automation import trigger_summary
from adinsights_orchestration.ingestion.ledger import Position
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor
from tests.ingestion.support import HOUR, an_ingestion, external, start_elsewhere


def test_what_others_synced_minutes_ago_is_not_started_again_by_a_new_deployment(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, observed=False) as one:
        start_elsewhere(one, 0)
        one.advance(45)
        assert trigger_summary(one.trigger()).startswith("waiting for the first observation")
        assert (len(one.jobs()), one.intents()) == (1, [])
        one.observe()
        report = one.trigger()
        assert (report.planned, report.starts.started) == (1, 1)
        assert len(one.jobs(one.connections[0])) == 1


def test_an_airbyte_that_is_away_at_first_is_waited_for_and_the_tick_says_so(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, observed=False) as one:
        one.server.set("down", True)
        one.configure(ingestion={"tick_budget_seconds": 5.0})  # which is what a server that is down costs a tick
        for _ in range(2):
            assert one.observe().problem
            said = trigger_summary(one.trigger())
            assert "ingestion_observe" in said
            assert "see what that sensor's ticks say" in said
            one.advance(60)
        one.server.set("down", False)
        one.observe()
        assert one.trigger().starts.started == 1


def test_an_observation_that_was_not_read_to_its_end_is_none_yet(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 12, observed=False, page_size=5) as one:
        for number in range(12):
            start_elsewhere(one, number)
            one.advance(3)
        one.advance(45)
        one.configure(ingestion={"observe_max_jobs_per_tick": 5})
        assert not one.observe().complete
        assert one.trigger().skipped
        while not one.observe().complete:
            pass
        assert (one.trigger().planned, len(one.jobs())) == (0, 12)


def test_a_reader_that_falls_behind_later_holds_nothing_up(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, observed=False) as one:
        with ops_store.begin() as connection:
            ledger.save_position(connection, Position(one.now, complete=False, caught_up=False), one.now)
        assert one.trigger().skipped
        one.observe()
        with ops_store.begin() as connection:
            (now_read,) = [ledger.load_position(connection)]
            assert now_read is not None
            assert now_read.caught_up
            behind = Position(one.now + timedelta(seconds=1), complete=False)
            ledger.save_position(connection, behind, one.now)
        assert one.trigger().starts.started == 1


def test_a_position_of_before_this_was_noted_is_of_a_deployment_that_has_observed(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store) as one:
        with ops_store.begin() as connection:
            old = {"reached": one.now.isoformat(), "complete": True}
            connection.execute(sa.update(cursor).where(cursor.c.name == "airbyte_jobs").values(value=old))
            assert ledger.load_position(connection) == Position(one.now)
        assert one.trigger().starts.started == 1


def test_a_night_that_was_planned_before_the_first_observation_waits_for_it(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, 2, observed=False) as one:
        one.advance(16 * HOUR.total_seconds())
        one.plan_night()
        start_elsewhere(one, 0)
        one.advance(45)
        assert one.start_planned().skipped
        one.observe()
        report = one.start_planned()
        assert (report.satisfied, report.starts.started) == (1, 1)
        assert len(one.jobs()) == 2


def test_with_an_external_driver_the_tick_says_that_and_waits_for_nothing(ops_store: OpsStore) -> None:
    with an_ingestion(ops_store, observed=False) as one:
        external(one)
        assert one.trigger().skipped == "the driver is external: nothing is started from here"
