"""What freshness and health find out is told at once, unless a person switched that off."""

from __future__ import annotations

from datetime import datetime, timedelta
from threading import Thread

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import InstigatorState, InstigatorStatus, SensorInstigatorData

from adinsights_orchestration.alerting.channels.sinks import Traits
from adinsights_orchestration.alerting.evaluation.evaluate import LOCK
from adinsights_orchestration.alerting.running.alerter import Alerter
from adinsights_orchestration.build import build_monitoring
from adinsights_orchestration.environments import Automation, Environment
from adinsights_orchestration.ops_store.alert_tables import alert_outbox
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from tests.alerting.channel import Fault
from tests.alerting.plant import MINUTE, PRODUCTION, SLA, Plant
from tests.conftest import PostgresServer, dagster_instance_on
from tests.freshness.world import World
from tests.freshness.world import connection as connection_of

META = connection_of("main")


def alerter_of(plant: Plant, settings: Settings = PRODUCTION) -> Alerter:
    return Alerter(settings, plant.store, SLA, plant.policies, plant.sinks, lambda: plant.now)


@pytest.fixture
def alerter(plant: Plant) -> Alerter:
    """One that has evaluated before, and found nothing."""
    plant.tick()
    return alerter_of(plant)


def news(plant: Plant, key: str = "acme-meta", provider: str = "meta") -> None:
    """A connection turns stale, and a minute has passed."""
    plant.now += MINUTE
    plant.connection(key, "stale", provider)
    plant.judge()


def test_what_is_news_is_told_before_any_tick_of_alerts(plant: Plant, alerter: Alerter) -> None:
    news(plant)
    alerter.on_news(plant.instance)
    assert set(plant.shown()) == {"connections/meta"}
    calls = plant.channel.calls
    plant.tick()
    assert (len(plant.channel.posts), plant.channel.calls) == (1, calls), "it is said once"


def test_where_nothing_is_to_be_said_no_channel_is_asked(plant: Plant, alerter: Alerter) -> None:
    plant.now += MINUTE
    alerter.on_news(plant.instance)
    assert plant.channel.calls == 0


def switch(instance: dg.DagsterInstance, name: Automation, status: InstigatorStatus) -> None:
    """As a person does in the UI."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("monitoring"), "__repository__")
    origin = RemoteInstigatorOrigin(repository, name.value)
    state = InstigatorState(origin, InstigatorType.SENSOR, status, SensorInstigatorData(min_interval=30))
    known = instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
    (instance.update_instigator_state if known else instance.add_instigator_state)(state)


@pytest.mark.parametrize("name", [Automation.ALERT_EVALUATE, Automation.ALERT_DELIVER])
def test_nothing_is_told_while_a_person_has_switched_off_either_sensor(
    plant: Plant, postgres_server: PostgresServer, name: Automation
) -> None:
    with dagster_instance_on(postgres_server) as instance:
        plant.instance = instance
        plant.tick()
        alerter = alerter_of(plant)
        switch(instance, name, InstigatorStatus.STOPPED)
        news(plant)
        alerter.on_news(instance)
        assert plant.channel.calls == 0
        switch(instance, name, InstigatorStatus.RUNNING)
        plant.now += MINUTE
        news(plant, "bolt-ga4", "ga4")
        alerter.on_news(instance)
        assert "connections/ga4" in plant.shown()


def test_a_channel_that_did_not_take_its_last_message_holds_up_nobody(plant: Plant, alerter: Alerter) -> None:
    plant.channel.fault = lambda: Fault.REQUEST_LOST
    news(plant)
    alerter.on_news(plant.instance)
    tried = plant.channel.calls
    assert tried == 1
    news(plant, "bolt-ga4", "ga4")
    alerter.on_news(plant.instance)
    assert plant.channel.calls == tried, "the next message waits for alert_deliver too"
    plant.channel.fault = lambda: Fault.NONE
    plant.tick()
    assert set(plant.shown()) == {"connections/meta", "connections/ga4"}


def test_more_messages_than_a_channel_takes_at_once_are_said_as_it_takes_them(plant: Plant, alerter: Alerter) -> None:
    plant.channel.traits = Traits(deadline_seconds=1.0, every=timedelta(milliseconds=50), burst=2)
    for provider in ("meta", "ga4", "tiktok_ads", "linkedin_ads", "google_ads"):
        plant.connection(f"acme-{provider}", "stale", provider)
    plant.now += MINUTE
    alerter.on_news(plant.instance)
    assert len(plant.channel.posts) == 5


def test_an_evaluation_that_another_process_makes_is_waited_for(plant: Plant, alerter: Alerter) -> None:
    news(plant)
    with plant.store.exclusive(LOCK):
        thread = Thread(target=alerter.on_news, args=(plant.instance,))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert not plant.channel.posts
    thread.join()
    assert set(plant.shown()) == {"connections/meta"}


def test_what_fails_here_fails_nothing_else_and_is_told_later(
    plant: Plant, alerter: Alerter, capsys: pytest.CaptureFixture[str]
) -> None:
    news(plant)
    with plant.store.begin() as connection:
        connection.execute(sa.text("alter schema adinsights_ops rename to away"))
    alerter.on_news(plant.instance)
    assert "alerts not evaluated at once" in capsys.readouterr().out
    with plant.store.begin() as connection:
        connection.execute(sa.text("alter schema away rename to adinsights_ops"))
    plant.tick()
    assert set(plant.shown()) == {"connections/meta"}


def test_in_the_code_location_a_failed_sync_is_told_by_the_tick_that_judges_it(
    ops_store: OpsStore, postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(ops_store, now=datetime.now().astimezone())
    world.serve(META)
    world.sync(META)
    repository = build_monitoring(Settings(environment=Environment.PRODUCTION), ops_store).get_repository_def()
    with dagster_instance_on(postgres_server) as instance:

        def tick(name: str) -> None:
            context = dg.build_sensor_context(instance=instance, repository_def=repository)
            repository.get_sensor_def(name).evaluate_tick(context)

        tick("freshness_evaluate")
        tick("alert_evaluate")
        world.sync(META, "failed", ended=datetime.now().astimezone())
        tick("freshness_evaluate")
    with ops_store.begin() as connection:
        told = connection.execute(sa.select(alert_outbox.c.group_key, alert_outbox.c.state)).all()
    assert ("connections/meta", "sent") in [tuple(row) for row in told]
