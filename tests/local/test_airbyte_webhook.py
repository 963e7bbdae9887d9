"""Airbyte's posts of finished jobs, received by the real backend."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from adinsights_orchestration.local import seed
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.airbyte.app import create_airbyte_app
from adinsights_orchestration.local.airbyte.model import CatalogStream, ConfigType
from adinsights_orchestration.local.airbyte.simulated import SimulatedExecutor, steady
from adinsights_orchestration.local.airbyte.webhook import WebhookSender
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.backend import prepare_backend
from adinsights_orchestration.local.backend.app import BackendConfig, create_backend_app
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.local.settings import LocalSettings
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import HANG_SECONDS, PostgresServer
from tests.local.airbyte_support import START, STREAMS, SYNC_TIME, ManualClock

CONNECTIONS = seed.connections()
PATIENCE_SECONDS = HANG_SECONDS


@dataclass
class Pair:
    """An Airbyte that posts and the backend that receives."""

    world: AirbyteWorld
    clock: ManualClock
    knobs: Knobs
    dsn: str

    def sync(self, number: int) -> int:
        job = self.world.start(CONNECTIONS[number].connection_id, ConfigType.SYNC)
        self.clock.advance(31)
        self.world.settle()
        return job.id

    def received(self) -> list[str]:
        with psycopg.connect(self.dsn) as database:
            rows = database.execute("select metadata ->> 'job_id' from accounts_auditlog order by created_at, 1")
            return [str(row[0]) for row in rows.fetchall()]


@pytest.fixture
def pair(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Pair]:
    dsn = postgres_server.create_database("backend")
    prepare_backend(LocalSettings(), dsn, START)
    clock, knobs = ManualClock(), Knobs()
    config = BackendConfig(dsn, dsn, tmp_path / "x.json", seed.WEBHOOK_SECRET, "b", "c")
    with ExitStack() as stack:
        backend = stack.enter_context(running(create_backend_app(config, knobs, clock=clock)))
        world = AirbyteWorld(knobs, clock=clock)
        seed.seed_airbyte(world, World(clock=clock), LocalSettings(), _streams)
        SimulatedExecutor(world, steady(SYNC_TIME))
        sender = WebhookSender(world, f"{backend}/api/airbyte/webhook/", seed.WEBHOOK_SECRET)
        stack.enter_context(running(create_airbyte_app(world, knobs, background=(sender.run,))))
        yield Pair(world, clock, knobs, dsn)


def _streams(_: Provider) -> tuple[CatalogStream, ...]:
    return STREAMS


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_every_finished_job_reaches_the_backend_once(pair: Pair) -> None:
    ids = [pair.sync(number) for number in range(3)]
    eventually(lambda: len(pair.received()) >= 3)
    assert pair.received() == [str(job_id) for job_id in ids]


def test_a_dropped_post_never_comes(pair: Pair) -> None:
    pair.knobs.set("airbyte", "webhook_drop_next", 1)
    pair.sync(0)
    second = pair.sync(1)
    eventually(lambda: pair.received() == [str(second)])


def test_a_delayed_post_comes_when_its_time_has_come(pair: Pair) -> None:
    pair.knobs.set("airbyte", "webhook_delay_ms", 60_000)
    delayed = pair.sync(0)
    pair.knobs.set("airbyte", "webhook_delay_ms", 0)
    prompt = pair.sync(1)
    eventually(lambda: pair.received() == [str(prompt)])
    pair.clock.advance(61)
    eventually(lambda: pair.received() == [str(prompt), str(delayed)])


def test_a_post_that_the_backend_loses_is_not_sent_again_and_the_next_one_comes(pair: Pair) -> None:
    pair.knobs.set("backend", "webhook_error_next", 1)
    pair.sync(0)
    second = pair.sync(1)
    eventually(lambda: pair.received() == [str(second)])
