"""Retention in Dagster: by hand a dry run, by schedule the deletion, and checks that see what should not be."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import dagster as dg
import pytest

from adinsights_orchestration.audit_log.retention.automation import KEY, TOO_OLD, VANISHED, build_retention
from adinsights_orchestration.environments import Automation, Environment
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import NOW, TODAY, World, seal, serve, settings_for
from tests.audit_log.rows import TABLE, Row, ids, insert, moment
from tests.backend.backend_tables import create_backend
from tests.conftest import PostgresServer

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


def run(world: World, config: dict[str, object] | None = None) -> dg.ExecuteInProcessResult:
    definitions = build_retention(world.settings, world.store, clock=lambda: NOW)
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    return job.execute_in_process(run_config=config or {})


def check(result: dg.ExecuteInProcessResult, name: str) -> bool:
    return next(each.passed for each in result.get_asset_check_evaluations() if each.check_name == name)


def metadata(result: dg.ExecuteInProcessResult) -> dict[str, object]:
    (event,) = result.asset_materializations_for_node("audit_log__retention")
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


def test_rows_that_somebody_deletes_before_their_time_are_noticed(world: World) -> None:
    world.execute(f"delete from {TABLE} where created_at >= %s and id = (select max(id::text) from {TABLE})::uuid", NOW)
    young = TODAY - timedelta(days=363)
    world.execute(f"delete from {TABLE} where created_at >= %s", moment(young))
    result = run(world)
    assert not check(result, VANISHED)


def test_old_rows_of_a_tenant_that_nobody_knows_are_told_and_kept(world: World) -> None:
    other = UUID(int=9)
    world.execute("insert into accounts_tenant values (%s, 'Left', now())", other)
    row = Row(other, moment(FIRST))
    insert(world.backend, [row])
    result = run(world, {"ops": {"audit_log__retention": {"config": {"dry_run": False}}}})
    assert row.id in ids(world.backend)
    evaluation = next(each for each in result.get_asset_check_evaluations() if each.check_name == TOO_OLD)
    assert not evaluation.passed
    assert str(other) in str(evaluation.metadata["unknown tenants"].value)


def test_an_archive_that_is_switched_off_shows_in_the_ui(world: World) -> None:
    ops = world.store._settings.dsn.get_secret_value()
    off = settings_for(world.backend, ops, archive="off")
    (asset,) = build_retention(off, world.store, clock=lambda: NOW).assets or ()
    assert isinstance(asset, dg.AssetsDefinition)
    assert "Nothing is archived first" in asset.descriptions_by_key[KEY]
