"""What a process remembers between evaluations changes their cost and nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from uuid import UUID

import dagster as dg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.gathering.standing import Standing
from adinsights_orchestration.alerting.model import Incident
from adinsights_orchestration.alerting.operating import hands
from adinsights_orchestration.alerting.running.alerter import evaluate_once
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.alert_tables import alert_incident
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from tests.alerting.plant import MINUTE, PRODUCTION, SLA, Plant
from tests.conftest import PostgresServer

KEYS = [f"t{number}-{provider}" for number in range(4) for provider in ("meta", "ga4")]


@contextmanager
def reads_of(plant: Plant, table: str) -> Iterator[list[str]]:
    """The statements that read a table while the block runs."""
    seen: list[str] = []

    def before(_c: object, _k: object, statement: str, *_: object) -> None:
        if f"FROM adinsights_ops.{table}" in statement:
            seen.append(statement)

    sa.event.listen(plant.store.engine, "before_cursor_execute", before)
    try:
        yield seen
    finally:
        sa.event.remove(plant.store.engine, "before_cursor_execute", before)


def stir(plant: Plant, dice: random.Random) -> None:
    """One random change of the world, the same for the same dice."""
    what = dice.choice(("connection", "connection", "component", "gone", "ack", "silence", "time", "nothing"))
    key = dice.choice(KEYS)
    state = dice.choice(("stale", "failing", "ok", "misconfigured"))
    health = dice.choice(("down", "ok", "degraded", "unknown"))
    if what == "connection":
        plant.connection(key, state, key.split("-")[1], UUID(int=int(key[1])), failures=int(state == "failing"))
    elif what == "component":
        plant.component(dice.choice(("airbyte", "warehouse", "superset")), health)
    elif what == "gone":
        plant.forget(key)
    elif what == "ack":
        for each in hands.open_incidents(plant.store)[:1]:
            hands.acknowledge(plant.store, each.id, "ann", plant.now)
    elif what == "silence":
        hands.silence(plant.store, [f"provider={key.split('-')[1]}"], 5 * MINUTE, "ann", "noise", plant.now)
    elif what == "time":
        plant.now += dice.choice((timedelta(minutes=6), timedelta(minutes=61)))


@pytest.mark.parametrize("seed", [2, *(pytest.param(n, marks=pytest.mark.soak) for n in range(3, 40))])
def test_a_process_that_remembers_says_the_same_as_one_that_starts_anew_every_time(
    postgres_server: PostgresServer, migrated_ops_store: str, instance: dg.DagsterInstance, seed: int
) -> None:
    plants = []
    for remembers in (True, False):
        store = OpsStore(OpsStoreSettings(dsn=SecretStr(postgres_server.copy_database(migrated_ops_store))))
        plant = Plant(store, instance)
        plant.standing = Standing() if remembers else None
        plants.append(plant)
        dice = random.Random(seed)
        told = []
        for _ in range(18):
            stir(plant, dice)
            done = plant.tick()
            told.append((done.firing, dict(done.changes), done.orders))
        plant.told = told  # type: ignore[attr-defined]
    one, other = plants
    assert one.told == other.told  # type: ignore[attr-defined]
    assert one.shown() == other.shown()
    assert incidents(one) == incidents(other)
    for plant in plants:
        plant.store.dispose()


def incidents(plant: Plant) -> dict[str, Incident]:
    with plant.store.begin() as connection:
        return {each.fingerprint: each for each in rows.find_incidents(connection, "")}


def test_an_evaluation_without_news_reads_no_incident(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    plant.tick()
    plant.tick()
    with reads_of(plant, "alert_incident") as seen:
        plant.tick()
    assert seen == []


READ_OF_CHANGES = ("connection_freshness", "component_health", "finding", "sync_job", "alert_group")


def test_an_evaluation_without_news_reads_nothing_but_marks(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    plant.component("superset", "ok")
    plant.tick()
    plant.tick(probed=False)
    with ExitStack() as stack:
        seen = [stack.enter_context(reads_of(plant, table)) for table in READ_OF_CHANGES]
        plant.tick(probed=False)
    marks_and_delivery = (
        "as components",
        "AS undeliverable",
    )  # a tick of the plant delivers too, and asks what is open
    read = [statement for each in seen for statement in each]
    assert [one for one in read if not any(known in one for known in marks_and_delivery)] == []


@pytest.mark.parametrize("marked", [True, False])
def test_what_freshness_writes_is_found_at_once_with_a_mark_and_without_one(plant: Plant, marked: bool) -> None:
    """A release that knows no marks may write for a while: then nothing that was read before is believed."""
    plant.marks, acme = marked, UUID(int=1)
    plant.connection("acme-meta", "ok", tenant=acme)
    plant.tick()
    plant.tick()
    plant.connection("acme-meta", "stale", tenant=acme)
    assert plant.tick().changes == {"fired": 1}
    plant.connection("acme-meta", "stale", tenant=acme, failures=2, last_job_ended_at=plant.now)
    assert plant.tick().changes == {"fired": 1}


def test_a_sync_that_failed_is_counted_although_its_row_came_late(plant: Plant) -> None:
    for number, late in ((1, 0), (2, 0), (3, 90)):
        plant.tick(MINUTE / 2)
        plant.failed_sync(number, observed_at=plant.now - timedelta(seconds=late))
    assert plant.tick(MINUTE / 2).changes == {"fired": 1}
    assert plant.tick(31 * MINUTE).changes == {"resolved": 1}


def test_an_incident_that_somebody_else_changed_is_read_again(plant: Plant) -> None:
    plant.connection("acme-meta", "stale", tenant=UUID(int=1))
    plant.tick()
    (incident,) = hands.open_incidents(plant.store)
    hands.acknowledge(plant.store, incident.id, "ann", plant.now)
    plant.tick()
    assert "Acknowledged by ann." in plant.shown()["connections/meta"]
    other = Standing()
    plant.connection("acme-meta", "ok", tenant=UUID(int=1))
    plant.now += MINUTE
    assert evaluate_once(PRODUCTION, plant.store, SLA, plant.policies, plant.now, plant.instance, other).changes == {
        "resolved": 1
    }
    plant.connection("acme-meta", "stale", tenant=UUID(int=1))
    assert plant.tick().changes == {"fired": 1}
    (again,) = hands.open_incidents(plant.store)
    assert again.episode == 2


def test_what_an_evaluation_that_failed_believed_is_forgotten(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.connection("acme-meta", "stale")
    plant.tick()
    plant.connection("b-meta", "stale")

    def fails(*_: object) -> None:
        raise AdinsightsError("no room")

    with monkeypatch.context() as patched:
        patched.setattr(rows, "save_memory", fails)
        with pytest.raises(AdinsightsError):
            plant.tick()
    assert plant.tick().changes == {"fired": 1}
    assert len(hands.open_incidents(plant.store)) == 2


def test_rows_that_freshness_forgot_are_noticed_by_their_number(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    plant.tick()
    plant.forget("acme-meta")
    assert plant.tick().changes == {"resolved": 1}
    with plant.store.begin() as connection:
        assert connection.execute(sa.select(alert_incident.c.state)).scalars().all() == ["ok"]
