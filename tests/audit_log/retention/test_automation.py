"""Retention in Dagster: by hand a dry run, by schedule the deletion, and checks that see what should not be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from uuid import UUID

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.bookkeeping.manifest import ADVICE
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.retention.automation import build_retention, to_archive_again
from adinsights_orchestration.audit_log.retention.census import Ages
from adinsights_orchestration.audit_log.retention.checks import TOO_OLD, VANISHED
from adinsights_orchestration.audit_log.retention.looking import settled_census
from adinsights_orchestration.audit_log.retention.run import lock_name
from adinsights_orchestration.audit_log.retention.showing import KEY
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Archive, Place, Source
from adinsights_orchestration.build import build_pipelines
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.dagster_internals import outcomes
from adinsights_orchestration.dead_runs import WORKER_TAG
from adinsights_orchestration.environments import Automation, Environment
from adinsights_orchestration.ops_store.alert_tables import alert_silence
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.tenants.model import ResourceHold, Tenant
from adinsights_orchestration.transformation import manifest
from tests.audit_log.archived import NOW, TODAY, World, seal, serve, settings_for
from tests.audit_log.rows import TABLE, Row, ids, insert, moment
from tests.backend.backend_tables import create_backend
from tests.conftest import PostgresServer
from tests.quiet import Windows

ONE = UUID(int=1)
FIRST = TODAY - timedelta(days=370)


@pytest.fixture
def world(postgres_server: PostgresServer, ops_store: OpsStore) -> World:
    backend = create_backend(postgres_server.create_database)
    backend.add_tenant("One", ONE)
    world = World(backend.dsn, ops_store, settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value()))
    insert(backend.dsn, [Row(ONE, moment(FIRST + timedelta(days=day), n)) for day in range(10) for n in range(20)])
    seal(world.settings, ops_store, [FIRST + timedelta(days=day) for day in range(10)])
    serve(ops_store, [Tenant(ONE, "One", "one")])
    return world


APPLY: dict[str, object] = {"ops": {"audit_log__retention": {"config": {"dry_run": False}}}}


def run(
    world: World, config: dict[str, object] | None = None, instance: dg.DagsterInstance | None = None
) -> dg.ExecuteInProcessResult:
    definitions = build_retention(world.settings, world.store, clock=lambda: NOW)
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    return job.execute_in_process(run_config=config or {}, instance=instance)


def check(result: dg.ExecuteInProcessResult, name: str) -> bool:
    return next(each.passed for each in result.get_asset_check_evaluations() if each.check_name == name)


def evaluated(result: dg.ExecuteInProcessResult, name: str) -> dg.AssetCheckEvaluation:
    return next(each for each in result.get_asset_check_evaluations() if each.check_name == name)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    """What the run left: the materialization, or the observation where it was a dry one."""
    node = "audit_log__retention"
    made, told = result.asset_materializations_for_node(node), result.asset_observations_for_node(node)
    events: list[dg.AssetMaterialization | dg.AssetObservation] = [*made, *told]
    (event,) = events
    return {name: value.value for name, value in event.metadata.items()}


def test_a_run_from_the_ui_deletes_nothing_and_says_what_would_go(world: World) -> None:
    before = ids(world.backend)
    result = run(world)
    assert ids(world.backend) == before
    told = metadata(result)
    assert told["dry run"] == "true"
    assert told["rows"] == 100
    assert f"| one | {FIRST:%Y-%m} |" in str(told["by tenant and month"])
    assert told["rows kept"] == 200
    assert "data:image/svg+xml" in str(told["rows per day"])
    assert not check(result, TOO_OLD)  # rows older than their window and two days are still there
    assert check(result, VANISHED)


def test_a_dry_run_does_not_make_late_retention_look_fresh(world: World, postgres_instance: dg.DagsterInstance) -> None:
    assert run(world, APPLY, postgres_instance).success
    made = outcomes.last_materialized(postgres_instance, [KEY.to_user_string()])
    assert run(world, None, postgres_instance).success
    assert outcomes.last_materialized(postgres_instance, [KEY.to_user_string()]) == made
    (newest,) = postgres_instance.fetch_materializations(KEY, limit=2).records
    (told,) = postgres_instance.fetch_observations(KEY, limit=2).records
    assert told.asset_observation is not None
    assert told.asset_observation.metadata["dry run"].value == "true"
    # Its checks are of the table as it is, so they count, and are shown for what was deleted last.
    keys = [dg.AssetCheckKey(KEY, each) for each in (TOO_OLD, VANISHED)]
    for latest in postgres_instance.event_log_storage.get_latest_asset_check_execution_by_key(keys).values():
        assert latest.event is not None
        assert latest.run_id == told.run_id
        evaluation = latest.event.get_dagster_event().asset_check_evaluation_data
        assert evaluation.target_materialization_data is not None
        assert evaluation.target_materialization_data.storage_id == newest.storage_id


def test_the_checks_alone_delete_nothing_and_leave_neither_event(
    world: World, postgres_instance: dg.DagsterInstance
) -> None:
    before = ids(world.backend)
    definitions = build_retention(world.settings, world.store, clock=lambda: NOW)
    for chosen in ({TOO_OLD, VANISHED}, {VANISHED}):
        selection = dg.AssetSelection.checks(*(dg.AssetCheckKey(KEY, each) for each in chosen))
        only = dg.Definitions(jobs=[dg.define_asset_job("only_checks", selection=selection)])
        job = dg.Definitions.merge(definitions, only).resolve_job_def("only_checks")
        result = job.execute_in_process(instance=postgres_instance, run_config=APPLY)
        assert {each.check_name for each in result.get_asset_check_evaluations()} == chosen
    assert ids(world.backend) == before
    assert postgres_instance.get_latest_materialization_event(KEY) is None
    assert postgres_instance.fetch_observations(KEY, limit=1).records == []


def test_the_schedule_deletes(world: World) -> None:
    definitions = build_retention(
        world.settings.model_copy(update={"environment": Environment.PRODUCTION}), world.store, clock=lambda: NOW
    )
    schedule = definitions.resolve_schedule_def(f"{Automation.RETENTION.value}_nightly")
    data = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=NOW))
    assert data.run_requests is not None
    result = run(world, dict(data.run_requests[0].run_config))
    assert metadata(result)["dry run"] == "false"
    assert metadata(result)["oldest day kept"] == (TODAY - timedelta(days=365)).isoformat()
    assert check(result, TOO_OLD)
    assert len(ids(world.backend)) == 100


OWN = Source("own_past", "own_past", "at", ("id",), place=Place.OPS_STORE, archive=Archive.OFF, window_days=90)


def prepare_own(store: OpsStore) -> None:
    """A table of the orchestrator's own with a row that is old enough to go, and one that is not."""
    with store.begin() as connection:
        connection.execute(sa.text("create table own_past (id int primary key, at timestamptz)"))
        rows = {"then": moment(FIRST), "now": NOW}
        connection.execute(sa.text("insert into own_past values (1, :then), (2, :now)"), rows)


def own_left(store: OpsStore) -> list[int]:
    with store.begin() as connection:
        return list(connection.execute(sa.text("select id from own_past")).scalars())


def test_a_day_that_cannot_be_archived_anew_keeps_nothing_else_waiting_and_fails_the_run_in_the_end(
    world: World, ops_store: OpsStore
) -> None:
    bad, good = FIRST, FIRST + timedelta(days=2)
    insert(world.backend, [Row(ONE, moment(day, 7.5)) for day in (bad, good)])

    def again(source: Source, days: Sequence[date]) -> None:
        if bad in days:
            raise ContentError("the object's bytes have changed")
        seal(world.settings, world.store, days, source)

    prepare_own(ops_store)
    definitions = build_retention(world.settings, world.store, [OWN], rearchive=again, clock=lambda: NOW)
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    result = job.execute_in_process(run_config=APPLY, raise_on_error=False)
    failure = result.get_step_failure_events()[0].step_failure_data.user_failure_data
    assert failure is not None
    told = f"1 days could not be archived anew; {bad}: the object's bytes have changed. {ADVICE}"
    assert failure.description == told
    kept = world.execute(f"select distinct (created_at at time zone 'utc')::date from {TABLE} order by 1")
    assert [row[0] for row in kept] == [bad, *(TODAY - timedelta(days=age) for age in range(365, 360, -1))]
    assert {each.check_name for each in result.get_asset_check_evaluations()} == {TOO_OLD, VANISHED}
    assert metadata(result)["days archived anew"] == 1
    assert own_left(ops_store) == [2]


def test_a_registry_that_is_not_to_be_trusted_keeps_no_own_history(world: World, ops_store: OpsStore) -> None:
    prepare_own(ops_store)
    later = NOW + timedelta(days=1)
    definitions = build_retention(world.settings, world.store, [OWN], clock=lambda: later)
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    before = ids(world.backend)
    result = job.execute_in_process(run_config=APPLY, raise_on_error=False)
    failure = result.get_step_failure_events()[0].step_failure_data.user_failure_data
    assert failure is not None
    assert "the registry is not to be trusted now" in str(failure.description)
    assert str(failure.description).count("the registry is not to be trusted now") == 1
    assert ids(world.backend) == before
    assert own_left(ops_store) == [2]


def test_days_that_cannot_be_archived_again_do_not_keep_later_ones_out() -> None:
    days = [TODAY - timedelta(days=2 * number) for number in range(1, 24)]
    ages = Ages(late={(ONE, day): 1 for day in days})
    nights = [set(to_archive_again(ages, TODAY + timedelta(days=number))) for number in range(23)]
    assert {len(night) for night in nights} == {10}
    assert set().union(*nights) == set(days)
    few = Ages(late={(ONE, day): 1 for day in days[:10]})
    assert to_archive_again(few, TODAY) == sorted(days[:10])


def test_while_rows_are_deleted_nobody_is_told_that_they_are_late_to_be(world: World) -> None:
    windows = Windows()
    definitions = build_retention(world.settings, world.store, clock=lambda: NOW, quietly=windows)
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    assert job.execute_in_process().success
    assert windows.opened == [], "a dry run deletes nothing"
    assert job.execute_in_process(run_config=APPLY).success
    assert windows.cover(rule="audit_log_late", resource="audit_log/retention")
    assert windows.cover(rule="audit_log_failed", resource=f"audit_log/retention:{TOO_OLD}")
    assert not windows.cover(rule="audit_log_late", resource="audit_log/archive")
    assert not windows.cover(rule="component_down", resource="warehouse")
    assert windows.open_now == 0


def test_the_location_s_own_retention_opens_a_window_in_the_ops_store(world: World) -> None:
    manifest.prepare(world.settings)
    serve(world.store, [Tenant(ONE, "One", "one")], now=utc_now())  # the location's clock is the real one
    job = build_pipelines(world.settings, world.store).resolve_job_def(Automation.RETENTION.value)
    assert job.execute_in_process(run_config=APPLY).success
    with world.store.begin() as connection:
        ((kind, author, begun, ends),) = connection.execute(
            sa.select(alert_silence.c.kind, alert_silence.c.author, alert_silence.c.starts_at, alert_silence.c.ends_at)
        ).all()
    assert (kind, author) == ("maintenance", "the Dagster UI")
    assert timedelta() < ends - begun < timedelta(hours=1), "it ended with the run"


def test_rows_that_somebody_deletes_before_their_time_are_noticed(world: World) -> None:
    world.execute(f"delete from {TABLE} where created_at >= %s and id = (select max(id::text) from {TABLE})::uuid", NOW)
    young = TODAY - timedelta(days=363)
    world.execute(f"delete from {TABLE} where created_at >= %s", moment(young))
    result = run(world)
    assert not check(result, VANISHED)


@pytest.mark.parametrize("day", [1, 8], ids=["past its window", "inside its window"])
def test_rows_that_somebody_deletes_of_a_tenant_under_legal_hold_are_noticed(world: World, day: int) -> None:
    serve(world.store, [Tenant(ONE, "One", "one", legal_hold=True)])
    assert check(run(world), VANISHED)
    at = moment(FIRST + timedelta(days=day))
    world.execute(f"delete from {TABLE} where created_at >= %s and created_at < %s", at, at + timedelta(seconds=5))
    evaluation = next(each for each in run(world).get_asset_check_evaluations() if each.check_name == VANISHED)
    assert (evaluation.passed, evaluation.metadata["rows"].value) == (False, 5)


@pytest.mark.parametrize("held", [False, True])
def test_rows_that_went_with_a_tenant_who_left_did_not_vanish(world: World, held: bool) -> None:
    serve(world.store, [Tenant(ONE, "One", "one", retired=True, legal_hold=held), Tenant(UUID(int=2), "Two", "two")])
    world.execute(f"delete from {TABLE}")  # as the backend's foreign key does
    sealed = world.states()
    evaluation = evaluated(run(world), VANISHED)
    assert evaluation.passed
    assert "200 went with 1 tenants who left" in str(evaluation.description)
    assert world.states() == sealed, "a dry run writes nothing down"
    assert check(run(world, APPLY), VANISHED)
    assert world.states() == {"deleted": 10}
    assert "left" not in str(evaluated(run(world), VANISHED).description)


def test_single_rows_of_a_tenant_who_left_vanish_as_anybody_s(world: World) -> None:
    serve(world.store, [Tenant(ONE, "One", "one", retired=True)])
    world.execute(f"delete from {TABLE} where created_at >= %s", moment(TODAY - timedelta(days=363)))
    assert not check(run(world, APPLY), VANISHED)
    assert world.states()["sealed"] > 0


def test_days_that_were_due_and_that_somebody_else_deleted_are_counted_in_the_metadata(world: World) -> None:
    world.execute(f"delete from {TABLE} where created_at < %s", moment(FIRST + timedelta(days=2)))
    told = metadata(run(world, APPLY))
    assert (told["tenants' days that were gone already"], told["rows"]) == (2, 60)


def test_what_went_by_age_alone_is_gone_in_the_ledger_too(world: World) -> None:
    world.settings = settings_for(world.backend, world.store._settings.dsn.get_secret_value(), archive="off")
    assert run(world).success
    assert world.states() == {"sealed": 10}
    assert run(world, APPLY).success
    assert world.states() == {"sealed": 5, "deleted": 5}


def test_what_is_gone_is_not_written_down_while_somebody_restores(world: World) -> None:
    serve(world.store, [Tenant(ONE, "One", "one", retired=True)])
    world.execute(f"delete from {TABLE}")
    with world.store.exclusive(lock_name(AUDIT_LOG)) as mine:
        assert mine
        _, ages = settled_census(world.settings, world.store, AUDIT_LOG, lambda: NOW)
    assert len(ages.departed) == 10
    assert world.states() == {"sealed": 10}


def test_a_run_proves_that_its_process_lives(world: World, postgres_instance: dg.DagsterInstance) -> None:
    result = run(world, APPLY, postgres_instance)
    made = postgres_instance.get_run_by_id(result.run_id)
    assert made is not None
    assert WORKER_TAG in made.tags


def test_a_hold_on_a_resource_hides_no_other_row_that_is_too_old(world: World) -> None:
    held = [Row(ONE, moment(FIRST, 900 + n), "user", "7") for n in range(3)]
    insert(world.backend, held)  # the day equals its archive no more, so that nothing of it can go
    serve(world.store, [Tenant(ONE, "One", "one", legal_holds=(ResourceHold("user", "7"),))])
    result = run(world, APPLY)
    evaluation = next(each for each in result.get_asset_check_evaluations() if each.check_name == TOO_OLD)
    assert not evaluation.passed
    assert evaluation.metadata["overdue rows"].value == 20
    assert evaluation.metadata["held rows past their window"].value == 3
    world.execute(f"delete from {TABLE} where created_at < %s and resource_type <> 'user'", moment(FIRST, 3600))
    assert check(run(world), TOO_OLD), "held rows alone are as they should be"


def test_old_rows_of_a_tenant_that_nobody_knows_are_told_and_kept(world: World) -> None:
    other = UUID(int=9)
    world.execute("insert into accounts_tenant values (%s, 'Left', now())", other)
    row = Row(other, moment(FIRST))
    insert(world.backend, [row])
    result = run(world, APPLY)
    assert row.id in ids(world.backend)
    evaluation = next(each for each in result.get_asset_check_evaluations() if each.check_name == TOO_OLD)
    assert not evaluation.passed
    assert str(other) in str(evaluation.metadata["unknown tenants"].value)


def test_rows_whose_time_is_no_day_are_told_and_hide_neither_the_run_nor_what_else_is_wrong(world: World) -> None:
    world.execute(f"alter table {TABLE} alter created_at drop not null")
    for time in (None, "infinity", "-infinity", "0044-03-15 12:00+00 BC"):
        world.execute(f"insert into {TABLE} values (gen_random_uuid(), %s, null, 'a', 'b', 'c', '{{}}', %s)", ONE, time)
    world.execute(f"delete from {TABLE} where created_at::date = %s", TODAY - timedelta(days=363))
    result = run(world, APPLY)
    assert metadata(result)["rows"] == 100
    assert "3 rows have no time" in str(evaluated(result, TOO_OLD).description)
    assert (check(result, TOO_OLD), check(result, VANISHED)) == (False, False)
    assert evaluated(result, VANISHED).metadata["rows"].value == 20


def test_an_archive_that_is_switched_off_shows_in_the_ui(world: World) -> None:
    ops = world.store._settings.dsn.get_secret_value()
    off = settings_for(world.backend, ops, archive="off")
    (asset,) = build_retention(off, world.store, clock=lambda: NOW).assets or ()
    assert isinstance(asset, dg.AssetsDefinition)
    assert "Nothing is archived first" in asset.descriptions_by_key[KEY]


def test_rows_before_the_archive_s_first_day_name_the_setting_that_keeps_them(world: World) -> None:
    early = moment(FIRST - timedelta(days=100))
    serve(world.store, [Tenant(ONE, "One", "one"), Tenant(UUID(int=2), "Two", "two")])
    world.execute("insert into accounts_tenant values (%s, 'Two', %s)", UUID(int=2), NOW)
    insert(world.backend, [Row(ONE, early), Row(ONE, early), Row(UUID(int=2), early)])
    begins = world.settings.audit_log.model_copy(update={"first_day": FIRST})
    world.settings = world.settings.model_copy(update={"audit_log": begins})
    found = evaluated(run(world, APPLY), TOO_OLD)
    assert (found.passed, found.metadata["overdue rows before the archive's first day"].value) == (False, 3)
    assert f"set ADINSIGHTS_AUDIT_LOG__FIRST_DAY to {early.date()} or earlier" in str(found.description)
    world.settings = world.settings.model_copy(
        update={"audit_log": begins.model_copy(update={"first_day": early.date()})}
    )
    assert "FIRST_DAY" not in str(evaluated(run(world), TOO_OLD).description)
