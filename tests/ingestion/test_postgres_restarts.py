"""Postgres restarts in the middle of a tick: no sync is lost, doubled, or told to Dagster twice.

The server that holds the ledger and Dagster's own storage, as in production, is stopped and started between two
statements of one tick; afterwards undisturbed ticks bring everything to its end.
"""

from __future__ import annotations

import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.events import DagsterEventType
from pydantic import SecretStr

from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ingestion import specs
from adinsights_orchestration.ingestion.reporting import report_tick
from adinsights_orchestration.local.airbyte.model import JobStatus
from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import PostgresServer, dagster_instance_on, free_port
from tests.ingestion.support import Ingestion, an_ingestion

CONNECTIONS = 7  # two of one provider
ROUNDS = 16  # of 40 s each: a lost start needs four minutes, and the slot lasts an hour


@dataclass
class World:
    """A Postgres of this module's own, with Dagster's storage in it."""

    server: PostgresServer
    instance: dg.DagsterInstance
    template: str

    @contextmanager
    def ledger(self) -> Iterator[OpsStore]:
        """A fresh ops store."""
        store = OpsStore(OpsStoreSettings(dsn=SecretStr(self.server.copy_database(self.template))))
        try:
            yield store
        finally:
            store.dispose()

    def restart(self) -> None:
        """What a crash does to every session; transactions that were not committed are gone."""
        process = self.server.server.find()
        assert process is not None
        process.send_signal(signal.SIGQUIT)
        while self.server.server.find() is not None:
            assert self.server.server._process is not None
            self.server.server._process.poll()
            time.sleep(0.01)
        self.server.server.start()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with tempfile.TemporaryDirectory(prefix="adinsights-restarts-") as folder:
        Path(folder).chmod(0o755)
        # A crash of the server alone loses nothing that was written, synchronized or not.
        unsafe = {"fsync": "off", "full_page_writes": "off"}
        postgres = EmbeddedPostgres(Path(folder) / "pg", free_port(), settings=unsafe, die_with_parent=True)
        postgres.start()
        try:
            store = OpsStore(OpsStoreSettings(dsn=SecretStr(postgres.create_database("ops_template"))))
            store.migrate()
            store.dispose()
            server = PostgresServer(postgres)
            with dagster_instance_on(server) as instance:
                yield World(server, instance, "ops_template")
        finally:
            postgres.stop()


@dataclass
class Points:
    """The moments of a tick at which the server may restart: before each statement and before each commit."""

    port: int
    at: int = 0  # counted from one; at none when zero
    restart: Callable[[], None] = lambda: None
    seen: int = field(default=0, init=False)

    def statement(self, connection: sa.Connection, *_: Any) -> None:
        """Before a statement."""
        self._pass(connection)

    def commit(self, connection: sa.Connection) -> None:
        """Before a commit."""
        self._pass(connection)

    def _pass(self, connection: sa.Connection) -> None:
        if connection.engine.url.port != self.port:
            return
        self.seen += 1
        if self.seen == self.at:
            self.restart()


@contextmanager
def watched(points: Points) -> Iterator[Points]:
    """Counts the points that every engine of this process passes, Dagster's included."""
    sa.event.listen(sa.Engine, "before_cursor_execute", points.statement)
    sa.event.listen(sa.Engine, "commit", points.commit)
    try:
        yield points
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", points.statement)
        sa.event.remove(sa.Engine, "commit", points.commit)


def trigger_tick(world: World, one: Ingestion) -> Callable[[], object]:
    """Everything is due."""
    return one.trigger


def observe_tick(world: World, one: Ingestion) -> Callable[[], object]:
    """Everything has ended, and nothing of it is known."""
    one.trigger()
    one.advance(45)
    return one.observe


def telling_tick(world: World, one: Ingestion) -> Callable[[], object]:
    """Everything has ended, and Dagster knows nothing of it."""
    observe_tick(world, one)()
    return lambda: report_tick(world.instance, one.deps, one.now)


TICKS = [trigger_tick, observe_tick, telling_tick]
Prepare = Callable[[World, Ingestion], Callable[[], object]]


def told(world: World, one: Ingestion) -> Counter[int]:
    """How often each of the server's jobs was told to Dagster as a materialization."""
    partitions = {connection.partition_key for connection in one.connections}
    found: Counter[int] = Counter()
    for provider in Provider:
        wanted = dg.EventRecordsFilter(
            DagsterEventType.ASSET_MATERIALIZATION,
            asset_key=specs.asset_key(provider),
            asset_partitions=list(partitions),
        )
        for record in world.instance.event_log_storage.get_event_records(wanted):
            assert record.asset_materialization is not None
            found[int(str(record.asset_materialization.metadata[events.SYNC_ID_KEY].value))] += 1
    return found


def shown(world: World, one: Ingestion) -> set[str]:
    """Partitions whose newest check result is a success."""
    good = set()
    for connection in one.connections:
        key = dg.AssetCheckKey(specs.asset_key(connection.provider), specs.SYNC_CHECK)
        for record in world.instance.event_log_storage.get_asset_check_execution_history(key, limit=1000):
            if record.partition == connection.partition_key:
                good |= {connection.partition_key} if record.status.value == "SUCCEEDED" else set()
                break
    return good


def brought_to_its_end(world: World, one: Ingestion) -> None:
    for _ in range(ROUNDS):
        one.observe()
        report_tick(world.instance, one.deps, one.now)
        one.trigger()
        one.advance(40)


def assert_nothing_lost_doubled_or_told_twice(world: World, one: Ingestion) -> None:
    jobs = one.jobs()
    assert Counter(job.connection_id for job in jobs) == {c.connection_id: 1 for c in one.connections}
    assert {job.status for job in jobs} == {JobStatus.SUCCEEDED}
    assert Counter(row.state for row in one.intents()) == {"succeeded": CONNECTIONS}
    rows = one.ledger()
    assert {(row.job_id, row.status, row.report_state) for row in rows} == {
        (job.id, "succeeded", "reported") for job in jobs
    }
    assert {row.started_by for row in rows} == {"orchestrator"}
    assert told(world, one) == {job.id: 1 for job in jobs}
    assert shown(world, one) == {connection.partition_key for connection in one.connections}
    assert one.findings() == {}


def points_of(world: World, prepare: Prepare) -> int:
    """How many points an undisturbed tick has."""
    with world.ledger() as store, an_ingestion(store, CONNECTIONS, max_concurrent_requests=3) as one:
        tick = prepare(world, one)
        with watched(Points(world.server.port)) as points:
            tick()
        return points.seen


def disturbed(tick: Callable[[], object]) -> None:
    """A tick that fails fails with words."""
    try:
        tick()
    except OpsStoreError as error:
        said = str(error)
    else:
        return
    assert "the ops store does not answer" in said
    assert "Check that Postgres is up" in said


def restarted_at(world: World, prepare: Prepare, at: int) -> None:
    with world.ledger() as store, an_ingestion(store, CONNECTIONS, max_concurrent_requests=3) as one:
        tick = prepare(world, one)
        with watched(Points(world.server.port, at, world.restart)) as points:
            disturbed(tick)
        assert points.seen >= at
        one.advance(10)  # a tick's own time went on, the test's clock did not
        brought_to_its_end(world, one)
        assert_nothing_lost_doubled_or_told_twice(world, one)


@pytest.mark.parametrize("prepare", TICKS, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize("share", [0.4, 0.75, 0.95])
def test_postgres_restarts_once_in_a_tick_and_nothing_is_lost_doubled_or_told_twice(
    world: World, prepare: Prepare, share: float
) -> None:
    count = points_of(world, prepare)
    restarted_at(world, prepare, max(round(count * share), 1))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("prepare", TICKS, ids=lambda prepare: prepare.__name__)
@pytest.mark.parametrize("first", [1, 2, 3])
def test_postgres_restarts_at_every_point_of_a_tick(world: World, prepare: Prepare, first: int) -> None:
    for at in range(first, points_of(world, prepare) + 1, 3):
        restarted_at(world, prepare, at)
