"""Repairs in Dagster: a dry run by default, and exactly what was planned when somebody means it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import dagster as dg
import pytest

from adinsights_orchestration.ingestion.repair_jobs import REPAIR_OPS
from adinsights_orchestration.local.airbyte.model import Actor, CatalogStream, ConfigType, ConnectionStatus
from adinsights_orchestration.tenants.model import Connection
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


@pytest.mark.parametrize("job", REPAIR_OPS)
def test_a_partition_that_no_connection_has_is_refused_with_where_to_look(world: DagsterWorld, job: str) -> None:
    key = unknown_key()
    result, writes = _repair(world, job, key, dry_run=False)
    assert not result.success
    assert writes == []
    (event,) = [event for event in result.all_events if event.is_step_failure]
    described = event.step_failure_data.user_failure_data
    assert described is not None
    assert described.description == f"no connection has the partition {key!r}; `adinsights connections` lists them"
