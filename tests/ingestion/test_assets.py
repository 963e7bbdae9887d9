"""A person's sync in Dagster: what was asked for runs once, and exactly what failed shows as failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.dead_runs import WORKER_TAG, look
from adinsights_orchestration.ingestion.airbyte_models import JobStatus
from adinsights_orchestration.ingestion.ledger import Place, Placed
from adinsights_orchestration.liveness import GONE_AFTER, alive
from adinsights_orchestration.local.airbyte.model import ConfigType, ConnectionStatus
from adinsights_orchestration.tenants.model import Connection, Provider
from tests.conftest import PostgresServer
from tests.ingestion import finished
from tests.ingestion.dagster_world import DagsterWorld, a_dagster_world, unknown_key
from tests.local.airbyte_support import MISCONFIGURED

REVOKED = "The access token was revoked."
FAR = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def world(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterWorld]:
    with a_dagster_world(postgres_server, tmp_path_factory.mktemp("registry")) as one:
        yield one


def _followed(world: DagsterWorld, connection: Connection) -> bool:
    """Waits until a run follows the connection's sync."""
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        if any(row.run_id for row in world.ledger(connection)):
            return True
        time.sleep(0.05)
    return False


def _failure(result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, str]]:
    """The failed step's message, and its reasons by partition."""
    (event,) = [event for event in result.all_events if event.is_step_failure]
    data = event.step_failure_data
    assert data.error is not None
    assert data.user_failure_data is not None
    return data.user_failure_data.description or "", dict(data.user_failure_data.metadata["failed"].value)  # type: ignore[arg-type]


def test_materializing_one_partition_syncs_its_connection_and_nothing_else(world: DagsterWorld) -> None:
    wanted, other = world.add("One"), world.add("Not this one")
    assert world.materialize(wanted).success
    (job,) = world.jobs(wanted)
    assert world.jobs(other) == []
    assert world.materialized_jobs(wanted) == [job.id]
    assert (world.status(wanted), world.status(other)) == ("MATERIALIZED", None)
    assert world.checks(wanted) == [(True, f"Airbyte job {job.id} succeeded: 42 rows.")]


def test_a_contiguous_range_is_one_run_in_which_only_the_failed_partition_fails(world: DagsterWorld) -> None:
    good, bad, fine = (world.add(name, Provider.TIKTOK_ADS) for name in ("A good", "B bad", "C fine"))
    world.fates[bad.connection_id] = MISCONFIGURED
    result = world.materialize(good, bad, fine)
    assert not result.success
    assert [world.status(one) for one in (good, bad, fine)] == ["MATERIALIZED", "FAILED", "MATERIALIZED"]
    assert [len(world.jobs(one)) for one in (good, bad, fine)] == [1, 1, 1]
    message, reasons = _failure(result)
    assert message.startswith("1 of 3 connections failed: ")
    assert REVOKED in message
    assert list(reasons) == [bad.partition_key]


def test_one_job_syncs_partitions_of_several_providers_and_fails_exactly_those_that_failed(
    world: DagsterWorld,
) -> None:
    meta, ga4, bad = world.add("Meta"), world.add("GA4", Provider.GA4), world.add("Bad", Provider.GOOGLE_ADS)
    world.fates[bad.connection_id] = MISCONFIGURED
    result = world.sync([one.partition_key for one in (meta, ga4, bad)])
    assert not result.success
    assert [world.status(one) for one in (meta, ga4, bad)] == ["MATERIALIZED", "MATERIALIZED", "FAILED"]
    _, reasons = _failure(result)
    assert reasons.keys() == {bad.partition_key}
    assert REVOKED in reasons[bad.partition_key]
    ((passed, description),) = world.checks(bad)
    assert not passed
    assert description == f"Airbyte job {world.jobs(bad)[0].id} failed (source, config_error): {REVOKED}"


def test_a_failed_partition_is_green_again_after_a_sync_that_succeeds(world: DagsterWorld) -> None:
    mended = world.add("Mended", Provider.LINKEDIN_ADS)
    world.fates[mended.connection_id] = MISCONFIGURED
    assert not world.sync([mended.partition_key]).success
    del world.fates[mended.connection_id]
    assert world.sync([mended.partition_key]).success
    assert world.status(mended) == "MATERIALIZED"
    assert [passed for passed, _ in world.checks(mended)] == [False, True]


def test_what_a_run_reported_is_not_reported_again_by_observe(world: DagsterWorld) -> None:
    good, bad = world.add("Reported"), world.add("Reported as failed")
    world.fates[bad.connection_id] = MISCONFIGURED
    run = world.sync([good.partition_key, bad.partition_key])
    before = [world.materialized_jobs(good), world.checks(good), world.checks(bad)]
    world.tick("ingestion_observe")
    assert [world.materialized_jobs(good), world.checks(good), world.checks(bad)] == before
    rows = [*world.ledger(good), *world.ledger(bad)]
    assert [(row.report_state, row.run_id) for row in rows] == [("reported", run.run_id)] * 2


def test_a_sync_that_is_running_already_is_followed_and_not_doubled(world: DagsterWorld) -> None:
    busy = world.add("Busy")
    world.held.add(busy.connection_id)
    elsewhere = world.airbyte.start(busy.connection_id, ConfigType.SYNC)

    def end_once_followed() -> None:
        if _followed(world, busy):
            world.let_end(busy)

    ending = threading.Thread(target=end_once_followed)
    ending.start()
    result = world.materialize(busy)
    ending.join()
    assert result.success
    assert [job.id for job in world.jobs(busy)] == [elsewhere.id]
    assert world.materialized_jobs(busy) == [elsewhere.id]
    assert world.status(busy) == "MATERIALIZED"


def test_a_run_whose_sync_ended_before_another_one_that_was_reported_does_not_turn_the_check_back(
    world: DagsterWorld,
) -> None:
    overtaken = world.add("Overtaken")
    world.held.add(overtaken.connection_id)

    def overtake_and_end() -> None:
        if _followed(world, overtaken):
            newer = replace(finished.job(9_000_001, overtaken, status=JobStatus.FAILED).job, ended_at=FAR)
            place = Place(overtaken.partition_key, overtaken.provider, overtaken.tenant_id)
            finished.record(world.store, [Placed(newer, place)])
            world.let_end(overtaken)

    ending = threading.Thread(target=overtake_and_end)
    ending.start()
    assert world.materialize(overtaken).success
    ending.join()
    assert world.materialized_jobs(overtaken) == [world.jobs(overtaken)[0].id]
    said = "Airbyte job 9000001 failed (source, config_error): the token was revoked"
    assert world.checks(overtaken) == [(False, said)]


def test_a_sync_that_could_not_be_started_fails_its_run_and_leaves_the_check_of_the_last_one(
    world: DagsterWorld,
) -> None:
    switched_off = world.add("Switched off later")
    assert world.sync([switched_off.partition_key]).success
    inactive = replace(world.in_airbyte(switched_off), status=ConnectionStatus.INACTIVE)
    world.airbyte.change(switched_off.connection_id, inactive)
    result = world.sync([switched_off.partition_key])
    assert "state-conflict" in _failure(result)[1][switched_off.partition_key]
    (job,) = world.jobs(switched_off)
    assert world.checks(switched_off) == [(True, f"Airbyte job {job.id} succeeded: 42 rows.")] * 2


def test_a_sync_that_could_not_be_started_and_has_none_before_it_shows_why_on_its_check(world: DagsterWorld) -> None:
    never = world.add("Never synced")
    world.airbyte.change(never.connection_id, replace(world.in_airbyte(never), status=ConnectionStatus.INACTIVE))
    assert not world.sync([never.partition_key]).success
    ((passed, said),) = world.checks(never)
    assert not passed
    assert "state-conflict" in said


def test_an_unknown_and_a_paused_partition_are_refused_with_words_while_the_others_run(world: DagsterWorld) -> None:
    good, paused, nobody = world.add("Beside them"), world.add("Paused", active=False), unknown_key()
    result = world.sync([good.partition_key, paused.partition_key, nobody])
    message, reasons = _failure(result)
    assert message.startswith("2 of 3 connections failed")
    assert reasons == {
        paused.partition_key: "the connection is paused: activate it in the backend first",
        nobody: "no connection has this partition; `adinsights connections` lists them",
    }
    assert world.jobs(paused) == []
    assert [world.status(one) for one in (good, paused)] == ["MATERIALIZED", "FAILED"]


def test_a_key_that_is_given_twice_is_synced_once(world: DagsterWorld) -> None:
    once = world.add("Once")
    assert world.sync([once.partition_key, once.partition_key]).success
    assert len(world.jobs(once)) == 1


def test_nothing_asked_for_is_nothing_done(world: DagsterWorld) -> None:
    asked = len(world.log.paths)
    assert world.sync([]).success
    assert len(world.log.paths) == asked


def test_every_sync_that_somebody_asked_for_is_journalled_with_who_asked(world: DagsterWorld) -> None:
    named, from_ui = world.add("Asked by name"), world.add("Asked in the UI", Provider.SEARCH_CONSOLE)
    first = world.sync([named.partition_key], requested_by="ops@example.com")
    second = world.materialize(from_ui)
    assert world.audited(named) == [("airbyte_sync_triggered", "ops@example.com", first.run_id)]
    assert world.audited(from_ui) == [("airbyte_sync_triggered", "dagster-ui", second.run_id)]


def test_a_refused_partition_leaves_no_audit_row(world: DagsterWorld) -> None:
    paused = world.add("Paused and asked for", active=False)
    world.sync([paused.partition_key], requested_by="ops@example.com")
    assert world.audited(paused) == []


@pytest.mark.parametrize("by", ["materialization", "refresh", "clear"])
def test_every_run_that_follows_a_sync_proves_that_it_lives_until_it_is_over(world: DagsterWorld, by: str) -> None:
    followed = world.add(f"Followed by a {by}")
    world.held.add(followed.connection_id)
    lived: list[set[str]] = []

    def look_and_end() -> None:
        if _followed(world, followed):
            lived.append(alive(world.store, [world.ledger(followed)[0].run_id]))
            world.let_end(followed)

    ending = threading.Thread(target=look_and_end)
    ending.start()
    if by == "materialization":
        result = world.materialize(followed)
    else:
        result = world.run(f"{by}_connection", by, partition=followed.partition_key, dry_run=False)
    ending.join()
    assert result.success
    assert lived == [{result.run_id}]
    assert alive(world.store, [result.run_id]) == set()
    run = world.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert WORKER_TAG in run.tags


def test_a_dry_run_of_a_repair_proves_that_it_lives_too(world: DagsterWorld) -> None:
    looked_at = world.add("Looked at")
    for job, op in (("refresh_connection", "refresh"), ("approve_schema_change", "approve_schema")):
        result = world.run(job, op, partition=looked_at.partition_key)
        run = world.instance.get_run_by_id(result.run_id)
        assert run is not None
        assert WORKER_TAG in run.tags, job


PROGRAM = """
import sys
import dagster as dg
from adinsights_orchestration.ingestion.automation import build_ingestion
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import load_settings
settings = load_settings()
job = build_ingestion(settings, OpsStore(settings.ops_store)).resolve_job_def("sync_connections")
config = {"ops": {"sync": {"config": {"partitions": [sys.argv[1]]}}}}
with dg.DagsterInstance.get() as instance:
    job.execute_in_process(run_config=config, instance=instance)
"""


def _killed_while_it_waits(world: DagsterWorld, connection: Connection) -> None:
    """Runs the job in a process of its own and kills it as soon as Airbyte runs its sync."""
    environment = {
        "PATH": os.defpath,
        "DAGSTER_HOME": world.instance.root_directory,
        "ADINSIGHTS_OPS_STORE__DSN": world.settings.ops_store.dsn.get_secret_value(),
        "ADINSIGHTS_AIRBYTE__PUBLIC_API_URL": world.settings.airbyte.public_api_url,
        "ADINSIGHTS_AIRBYTE__CONFIG_API_URL": world.settings.airbyte.config_api_url,
    }
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, connection.partition_key]
    process = subprocess.Popen(
        command, env=environment, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    assert _followed(world, connection)
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_a_run_that_was_killed_is_found_dead_and_its_sync_goes_on_and_is_reported_by_observe(
    world: DagsterWorld,
) -> None:
    orphan = world.add("Orphan")
    world.held.add(orphan.connection_id)
    _killed_while_it_waits(world, orphan)
    (row,) = world.ledger(orphan)
    while alive(world.store, [row.run_id]):
        time.sleep(0.05)
    world.let_end(orphan)
    world.tick("ingestion_observe")
    assert world.materialized_jobs(orphan) == []  # the run may still be alive, and would report it itself
    now = utc_now()
    failed, suspected = look(world.instance, world.store, {}, now, wait=lambda _: None)
    assert failed == set()  # one look proves nothing
    failed, _ = look(world.instance, world.store, suspected, now + GONE_AFTER, wait=lambda _: None)
    assert failed == {row.run_id}
    world.tick("ingestion_observe")
    assert world.materialized_jobs(orphan) == [row.job_id]
    assert world.checks(orphan) == [(True, f"Airbyte job {row.job_id} succeeded: 42 rows.")]
    assert len(world.jobs(orphan)) == 1
