"""The sensor `backend_deliver` as Dagster evaluates it: one budget for audit rows and webhooks together."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import psycopg
import pytest

from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.ingestion.automation import build_ingestion
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings, WebhookSender
from tests.backend.backend_tables import Backend
from tests.conftest import HANG_SECONDS
from tests.ingestion.webhook_world import MortalStore, WebhookServer, World

BUDGET_SECONDS = 6  # of which a busy machine needs most for a thousand rows
STATEMENT_SECONDS = 60  # beyond HANG_SECONDS: where something hangs, only its budget ends a tick before that
ROWS = 1000


@pytest.fixture
def world(backend: Backend, ops_store: OpsStore) -> Iterator[World]:
    """A thousand audit rows and forty finished jobs that the backend is owed."""
    server = WebhookServer(backend)
    one = World(backend, server, MortalStore(ops_store._settings), sender=WebhookSender.ORCHESTRATOR, now=utc_now())
    with ops_store.begin() as connection:
        for number in range(ROWS):
            resource = f"row {number}"
            record(connection, AuditEntry(one.tenant, "airbyte_sync_triggered", "connection", resource, "ada", one.now))
    for name in ("One", "Two"):
        connection_id = one.connect(name)
        for _ in range(20):
            one.finish(connection_id)
    yield one
    server.close()
    one.store.dispose()


def _settings(world: World, timeout_seconds: float, budget_seconds: float) -> Settings:
    settings = world.settings()
    ingestion = settings.ingestion.model_copy(update={"tick_budget_seconds": budget_seconds})
    backend = settings.backend.model_copy(update={"request_timeout_seconds": timeout_seconds})
    update = {"ingestion": ingestion, "backend": backend, "environment": Environment.PRODUCTION}
    return settings.model_copy(update=update)


def _tick(world: World, timeout_seconds: float = STATEMENT_SECONDS, budget_seconds: float = BUDGET_SECONDS) -> str:
    definitions = build_ingestion(_settings(world, timeout_seconds, budget_seconds), world.store)
    sensor = definitions.resolve_sensor_def("backend_deliver")
    with dg.DagsterInstance.ephemeral() as instance, dg.build_sensor_context(instance=instance) as context:
        began = time.monotonic()
        said = str(sensor.evaluate_tick(context).skip_message)
        assert time.monotonic() - began < HANG_SECONDS
    return said


def _ticks_until_nothing_is_owed(world: World) -> None:
    for _ in range(30):
        if _tick(world) == "nothing is owed":
            break
    assert world.backend.execute(
        "select count(*), count(distinct id) from accounts_auditlog where action = 'airbyte_sync_triggered'"
    ) == [(ROWS, ROWS)]
    assert sorted(world.server.counts()) == list(range(1001, 1041))
    assert set(world.server.counts().values()) == {1}


@contextmanager
def _locked(world: World, table: str) -> Iterator[None]:
    with psycopg.connect(world.backend.dsn) as blocker:
        blocker.execute(f"lock table {table} in access exclusive mode".encode())
        yield
        blocker.rollback()


@pytest.mark.parametrize("timeout_seconds", [0.5, 10, STATEMENT_SECONDS])
def test_a_tick_that_meets_a_locked_backend_ends_in_time_and_says_what_is_owed(
    world: World, timeout_seconds: float
) -> None:
    with _locked(world, "accounts_auditlog, integrations_airbyteconnection"):
        said = _tick(world, timeout_seconds)
    assert f"{ROWS} audit rows owed" in said
    assert "took too long" in said
    assert "40 posts put off" in said
    assert world.server.posts == []
    _ticks_until_nothing_is_owed(world)


def test_ticks_of_a_backend_that_is_slow_in_everything_end_in_time_and_get_everything_done(world: World) -> None:
    world.backend.execute(
        "create function slow() returns trigger language plpgsql as 'begin perform pg_sleep(0.01); return new; end'"
    )
    world.backend.execute("create trigger slow before insert on accounts_auditlog for each row execute function slow()")
    first = _tick(world)
    assert "audit rows owed" in first
    assert "jobs posted" in first  # a long queue of audit rows leaves time for webhooks
    _ticks_until_nothing_is_owed(world)


def test_a_webhook_that_never_answers_costs_a_tick_no_more_than_its_budget(world: World) -> None:
    world.server.faults.extend(["hold"] * 5)
    said = _tick(world, budget_seconds=2 * BUDGET_SECONDS)
    assert f"{ROWS} audit rows delivered" in said
    assert "40 posts put off" in said
    world.server.release.set()
    world.server.wait_until_idle()
    assert 1 <= len(world.server.posts) <= 2
