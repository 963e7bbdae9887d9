"""Repairs in Dagster: a dry run by default, and exactly what was planned when somebody means it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from adinsights_orchestration.cli import selection
from adinsights_orchestration.cli.selection import SelectionError
from adinsights_orchestration.ingestion.assets import choose
from adinsights_orchestration.ingestion.repair_jobs import PLAN_TAG, REPAIR_OPS
from adinsights_orchestration.local.airbyte.model import Actor, CatalogStream, ConfigType, ConnectionStatus
from adinsights_orchestration.tenants.model import Connection, Standing
from adinsights_orchestration.tenants.store import load_registry
from tests.conftest import PostgresServer
from tests.ingestion.dagster_world import DagsterWorld, a_dagster_world, unknown_key
from tests.local.airbyte_support import MISCONFIGURED, STREAMS

_WRITES = ("/jobs", "/connections/update", "/connections/apply_schema_change", "/web_backend/connections/update")


async def _offers_a_new_stream(_: Actor) -> tuple[CatalogStream, ...]:
    adsets = CatalogStream(
        "adsets", {"type": "object", "properties": {"id": {"type": "string"}}}, primary_key=(("id",),)
    )
    insights = STREAMS[0]
    properties = {**insights.json_schema["properties"], "reach": {"type": "integer"}}
    return (replace(insights, json_schema={**insights.json_schema, "properties": properties}), STREAMS[1], adsets)


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterWorld]:
    folder = tmp_path_factory.mktemp("registry")
    with a_dagster_world(postgres_server, folder, discover=_offers_a_new_stream) as one:
        yield one


def _repair(
    world: DagsterWorld, job: str, connection: Connection | str, **config: object
) -> tuple[dg.ExecuteInProcessResult, list[str]]:
    """Runs a repair; returns its run and the requests with which it changed something."""
    seen = len(world.log.paths)
    partition = connection if isinstance(connection, str) else connection.partition_key
    result = world.run(job, REPAIR_OPS[job], partition=partition, **config)
    return result, [path for path in world.log.paths[seen:] if path.startswith("POST") and path.endswith(_WRITES)]


def _told(world: DagsterWorld, result: dg.ExecuteInProcessResult) -> str:
    """What the run's log says to people."""
    entries = world.instance.all_logs(result.run_id)
    return "\n".join(entry.user_message for entry in entries if entry.dagster_event is None)


@pytest.mark.parametrize("job", REPAIR_OPS)
def test_without_a_word_about_it_a_repair_is_a_dry_run_that_changes_nothing(world: DagsterWorld, job: str) -> None:
    connection = world.add(f"Dry {job}")
    before = world.in_airbyte(connection)
    result, writes = _repair(world, job, connection)
    assert result.success
    assert writes == []
    assert world.jobs(connection) == []
    assert world.in_airbyte(connection) == before
    assert world.audited(connection) == []
    assert world.status(connection) is None
    assert _told(world, result).startswith(connection.partition_key)


def test_a_dry_run_says_what_would_be_done(world: DagsterWorld) -> None:
    connection = world.add("Told")
    refresh, _ = _repair(world, "refresh_connection", connection)
    clear, _ = _repair(world, "clear_connection", connection)
    schema, _ = _repair(world, "approve_schema_change", connection)
    assert "read all history again" in _told(world, refresh)
    assert "delete all its rows in the warehouse" in _told(world, clear)
    assert "reach" in _told(world, schema)


def test_a_refresh_reads_everything_again_and_is_the_partitions_newest_materialization(world: DagsterWorld) -> None:
    connection = world.add("Refreshed")
    result, _ = _repair(world, "refresh_connection", connection, dry_run=False, requested_by="ops@example.com")
    assert result.success
    (job,) = world.jobs(connection)
    assert job.config_type is ConfigType.REFRESH
    assert world.materialized_jobs(connection) == [job.id]
    assert world.status(connection) == "MATERIALIZED"
    assert world.audited(connection) == [("airbyte_refresh_triggered", "ops@example.com", result.run_id)]


def test_what_a_repair_sets_off_is_quiet_while_it_works_and_what_fails_is_not(world: DagsterWorld) -> None:
    one, other = world.add("Repaired"), world.add("Beside it")
    _repair(world, "refresh_connection", one)
    assert not world.windows.cover(rule="connection_running_long", resource=one.partition_key), "it only planned"
    _repair(world, "refresh_connection", one, dry_run=False, requested_by="ops@example.com")
    assert world.windows.cover(rule="connection_running_long", resource=one.partition_key)
    assert world.windows.cover(rule="connection_stale", resource=one.partition_key)
    assert not world.windows.cover(rule="connection_failing", resource=one.partition_key)
    assert not world.windows.cover(rule="connection_stale", resource=other.partition_key)
    assert world.windows.opened[-1][1] == "ops@example.com"
    assert world.open_windows[one.connection_id] == 1, "the window is open while Airbyte works, not only before"
    assert world.windows.open_now == 0
    _repair(world, "clear_connection", other, dry_run=False)
    assert world.open_windows[other.connection_id] == 1
    assert world.windows.open_now == 0


def test_a_clear_empties_the_connection_and_brings_no_data(world: DagsterWorld) -> None:
    connection = world.add("Cleared")
    result, writes = _repair(world, "clear_connection", connection, dry_run=False, requested_by="ops@example.com")
    assert result.success
    assert len(writes) == 1
    (job,) = world.jobs(connection)
    assert job.config_type in (ConfigType.CLEAR, ConfigType.RESET_CONNECTION)
    assert world.materialized_jobs(connection) == []
    assert world.checks(connection) == []
    assert world.audited(connection) == [("airbyte_clear_triggered", "ops@example.com", result.run_id)]


def test_a_refresh_that_fails_fails_the_run_and_the_partition_with_airbytes_reason(world: DagsterWorld) -> None:
    connection = world.add("Refresh fails")
    world.fates[connection.connection_id] = MISCONFIGURED
    result, _ = _repair(world, "refresh_connection", connection, dry_run=False)
    assert not result.success
    assert world.status(connection) == "FAILED"
    ((passed, description),) = world.checks(connection)
    assert not passed
    assert description.endswith("The access token was revoked.")


def test_what_stands_in_the_way_fails_the_dry_run_already(world: DagsterWorld) -> None:
    connection = world.add("Switched off in Airbyte")
    world.airbyte.change(
        connection.connection_id, replace(world.in_airbyte(connection), status=ConnectionStatus.INACTIVE)
    )
    for dry_run in (True, False):
        result, writes = _repair(world, "clear_connection", connection, dry_run=dry_run)
        assert not result.success
        assert writes == []
        assert "it is inactive" in _told(world, result)


def test_approving_a_schema_takes_what_the_source_offers_and_then_nothing_is_left_to_approve(
    world: DagsterWorld,
) -> None:
    connection = world.add("Changed schema")
    config = {"dry_run": False, "requested_by": "ops@example.com"}
    result, writes = _repair(world, "approve_schema_change", connection, **config)
    assert result.success
    assert writes
    insights = world.in_airbyte(connection).catalog.streams[0]
    assert "reach" in insights.json_schema["properties"]
    assert world.audited(connection) == [("airbyte_schema_change_approved", "ops@example.com", result.run_id)]
    again, writes = _repair(world, "approve_schema_change", connection, **config)
    assert again.success
    assert writes == []
    assert len(world.audited(connection)) == 1


def _digest(world: DagsterWorld, result: dg.ExecuteInProcessResult) -> str:
    """The plan's digest: the run's tag, and what its log says."""
    (record,) = world.instance.get_run_records(dg.RunsFilter(run_ids=[result.run_id]))
    digest = record.dagster_run.tags[PLAN_TAG]
    assert f"plan {digest}" in _told(world, result).splitlines()
    return digest


@pytest.mark.parametrize("job", REPAIR_OPS)
def test_a_plan_that_was_read_is_carried_out_when_nothing_changed_since(world: DagsterWorld, job: str) -> None:
    connection = world.add(f"Confirmed {job}")
    shown, _ = _repair(world, job, connection)
    digest = _digest(world, shown)
    assert f"plan_digest {digest}" in _told(world, shown)
    assert f"{connection.partition_key} --yes --plan {digest}`" in _told(world, shown)
    done, _ = _repair(world, job, connection, dry_run=False, plan_digest=digest)
    assert done.success
    assert _digest(world, done) == digest
    assert len(world.audited(connection)) == 1


def _refused(world: DagsterWorld, job: str, connection: Connection, digest: str, *, dry_run: bool) -> str:
    """Asks for a plan that is not there any more; returns the digest of the one that is."""
    refused, writes = _repair(world, job, connection, dry_run=dry_run, plan_digest=digest)
    assert not refused.success
    assert writes == []
    fresh = _digest(world, refused)
    assert fresh != digest
    (event,) = [event for event in refused.all_events if event.is_step_failure]
    said = event.step_failure_data.user_failure_data
    assert said is not None
    assert str(said.description) == (
        f"{connection.partition_key}: the plan changed since it was shown: {digest} was asked for, it is {fresh} "
        f"now; nothing was changed. Read the plan as it is now; if it is still what you want, ask for {fresh}."
    )
    return fresh


@pytest.mark.parametrize("job", REPAIR_OPS)
def test_a_plan_that_is_not_what_was_read_is_refused_and_nothing_is_changed(world: DagsterWorld, job: str) -> None:
    connection = world.add(f"Changed since {job}")
    digest = _digest(world, _repair(world, job, connection)[0])
    made = world.in_airbyte(connection)
    insights, campaigns = made.catalog.streams
    somebody_chose = replace(made.catalog, streams=(insights, replace(campaigns, selected=False)))
    world.airbyte.change(connection.connection_id, replace(made, catalog=somebody_chose))
    _refused(world, job, connection, digest, dry_run=True)
    fresh = _refused(world, job, connection, digest, dry_run=False)
    assert world.in_airbyte(connection).catalog == somebody_chose
    assert world.jobs(connection) == []
    assert world.audited(connection) == []
    assert world.status(connection) is None
    done, _ = _repair(world, job, connection, dry_run=False, plan_digest=fresh)
    assert done.success


def test_a_run_that_names_no_plan_carries_out_what_it_shows_and_has_its_digest_on_record(world: DagsterWorld) -> None:
    connection = world.add("Without a plan")
    digest = _digest(world, _repair(world, "clear_connection", connection)[0])
    done, writes = _repair(world, "clear_connection", connection, dry_run=False)
    assert done.success
    assert len(writes) == 1
    assert _digest(world, done) == digest


def test_a_dry_run_of_what_cannot_be_done_offers_no_way_to_do_it(world: DagsterWorld) -> None:
    connection = world.add("Nothing to offer")
    made = world.in_airbyte(connection)
    world.airbyte.change(connection.connection_id, replace(made, status=ConnectionStatus.INACTIVE))
    result, _ = _repair(world, "refresh_connection", connection)
    assert "--yes" not in _told(world, result)


@pytest.mark.parametrize("job", REPAIR_OPS)
def test_a_partition_that_no_connection_has_is_refused_with_where_to_look(world: DagsterWorld, job: str) -> None:
    key = unknown_key()
    result, writes = _repair(world, job, key, dry_run=False)
    assert not result.success
    assert writes == []
    (event,) = [event for event in result.all_events if event.is_step_failure]
    described = event.step_failure_data.user_failure_data
    assert described is not None
    assert described.description == f"{key}: no connection has this partition; `adinsights connections` lists them"


@pytest.mark.parametrize("job", REPAIR_OPS)
@pytest.mark.parametrize("standing", [Standing.PAUSED, Standing.RETIRED])
def test_what_a_tenant_paused_or_nobody_is_served_by_any_more_is_refused_as_everywhere(
    world: DagsterWorld, job: str, standing: Standing
) -> None:
    connection = world.add(f"{standing} {job}")
    world.pause(connection) if standing is Standing.PAUSED else world.retire(connection)
    assert world.connection(connection.connection_id).standing is standing
    for dry_run in (True, False):
        result, writes = _repair(world, job, connection, dry_run=dry_run)
        assert not result.success
        assert writes == []
        assert world.jobs(connection) == []
        (event,) = [event for event in result.all_events if event.is_step_failure]
        said = event.step_failure_data.user_failure_data
        assert said is not None
        assert f"{connection.partition_key}: the connection is {standing}" in str(said.description)
    _, refused = choose(world.deps, [connection.partition_key])
    with pytest.raises(SelectionError, match=f"the connection is {standing}") as error:
        selection.one(load_registry(world.store), connection.partition_key)
    assert refused[connection.partition_key] in str(error.value), "one rule, whichever way somebody asks"
