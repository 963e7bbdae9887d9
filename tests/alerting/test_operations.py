"""What on-call and whoever watches alerting use: tests, replays, reports, evaluating by hand, the ping, the pulse."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.routing import Mount

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.channels.sinks import LogSink, Sinks
from adinsights_orchestration.alerting.contacts import IS_MAIN
from adinsights_orchestration.alerting.evaluation.evaluate import LOCK
from adinsights_orchestration.alerting.operating import hands, replay
from adinsights_orchestration.alerting.operating.trial import trial_message, try_sinks
from adinsights_orchestration.alerting.running.automation import JOB
from adinsights_orchestration.alerting.running.backend_rules import run_backend_rules
from adinsights_orchestration.alerting.running.ping import DeadMansPing
from adinsights_orchestration.alerting.running.pulse import pulses
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.local.backend.app import BackendConfig, create_backend_app
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.ping import create_ping_app
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.ops_store.alert_tables import alert_incident, alert_outbox
from adinsights_orchestration.ops_store.connecting import lock_key
from adinsights_orchestration.ops_store.findings import open_finding
from adinsights_orchestration.settings import AlertingSettings, BackendSettings, Settings
from tests.alerting.channel import Channel, Fault
from tests.alerting.plant import MINUTE, PRODUCTION, SLA, Plant, alerting_of
from tests.alerting.support import NOON
from tests.conftest import HANG_SECONDS

ALERTS_KEY = "the-alerts-key"
QUICK_SECONDS = 1.0  # a deadline in tests of what hangs; all others are answered


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[str, Knobs]]:
    knobs = Knobs()
    config = BackendConfig("host=none", "host=none", Path("none"), "webhook", "service", ALERTS_KEY)
    parts = {"/backend": create_backend_app(config, knobs), "/ping": create_ping_app(knobs)}
    with running(Starlette(routes=[Mount(path, app=app) for path, app in parts.items()])) as url:
        yield url, knobs


@pytest.fixture
def service(served: tuple[str, Knobs]) -> Iterator[tuple[str, Knobs]]:
    yield served
    served[1].reset()


def settings(
    url: str, key: str | None = ALERTS_KEY, ping: str | None = None, seconds: float = HANG_SECONDS
) -> Settings:
    alerting = AlertingSettings(
        ping_timeout_seconds=seconds,
        backend_alerts_key=SecretStr(key) if key else None,
        ping_url=SecretStr(ping) if ping else None,
    )
    return Settings(
        environment=Environment.PRODUCTION,
        backend=BackendSettings(url=f"{url}/backend", request_timeout_seconds=seconds),
        alerting=alerting,
    )


def test_a_test_message_goes_through_every_channel_once_and_says_what_came_of_each() -> None:
    good, rejected, silent = Channel("good"), Channel("rejected"), Channel("silent")
    rejected.fault, silent.fault = lambda: Fault.REJECTED, lambda: Fault.REQUEST_LOST
    sinks = Sinks({each.name: each for each in (good, rejected, silent)} | {"log": LogSink()}, ("good",))
    message = trial_message(Environment.STAGING, "ann", NOON)
    tried = {each.sink: (each.arrived, each.said) for each in try_sinks(sinks, message)}
    assert tried == {
        "good": (True, "it arrived"),
        "rejected": (False, "refused: channel_archived; it will be until somebody mends that"),
        "silent": (False, "no answer: timeout; look in the channel"),
        "log": (True, "it arrived"),
    }
    (shown,) = good.posts
    assert shown.message.title == "TEST from staging: nothing is wrong"
    assert "ann tests this channel" in shown.message.lines[0]
    (unknown,) = try_sinks(sinks, message, ["nowhere"])
    assert (unknown.arrived, unknown.said) == (False, "no such channel is configured")


def test_a_mended_channel_is_told_what_still_fires_and_not_what_is_over(plant: Plant) -> None:
    plant.channel.fault = lambda: Fault.REJECTED
    plant.connection("acme-meta", "stale")
    plant.component("superset", "down")
    plant.component("backend", "ok")
    plant.tick()
    plant.component("superset", "ok")
    plant.tick(5 * MINUTE)
    plant.channel.fault = lambda: Fault.NONE
    assert plant.channel.posts == []
    found = replay.dead_letters(plant.store, "ann", plant.now)
    assert {each.group for each in found} == {"connections/meta", "noted/alert_undeliverable"}
    plant.tick()
    assert "Meta" not in plant.shown().get("component_down", "")
    assert set(plant.shown()) == {"connections/meta", "noted/alert_undeliverable"}
    assert replay.dead_letters(plant.store, "ann", plant.now) == []
    assert {each.group for each in replay.dead_letters(plant.store, "ann", plant.now, everything=True)} == {
        "component_down"
    }


def test_a_message_that_somebody_deleted_is_sent_anew_and_edited_from_then_on(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    plant.tick()
    incident = hands.open_incidents(plant.store)[0]
    del plant.channel.posts[:]
    (found,) = replay.message_of(plant.store, incident.id, "ann", plant.now)
    assert (found.sink, found.group) == ("main", "connections/meta")
    plant.deliver()
    assert "Sent again by ann" in plant.shown()["connections/meta"]
    plant.connection("acme-meta", "ok")
    plant.tick(5 * MINUTE)
    assert "[RESOLVED WARN]" in plant.shown()["connections/meta"]
    assert len(plant.channel.posts) == 1


def test_what_was_never_said_cannot_be_said_again(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    plant.component("airbyte", "down")
    plant.tick()
    explained = next(each for each in hands.open_incidents(plant.store) if each.suppressed_by)
    with pytest.raises(ConfigurationError, match="nothing is kept that was said"):
        replay.message_of(plant.store, explained.id, "ann", plant.now)


def run_job(plant: Plant, wanted: Settings) -> dg.ExecuteInProcessResult:
    built = alerting_of(wanted, plant.store, plant.sinks, lambda: plant.now)
    job = built.get_repository_def().get_job(JOB)
    return job.execute_in_process(instance=plant.instance, raise_on_error=False)


def backend_said(result: dg.ExecuteInProcessResult) -> str:
    (event,) = [each for each in result.all_events if each.is_successful_output]
    return str(event.step_output_data.metadata["backend"].value)


def test_the_job_evaluates_delivers_and_has_the_backend_evaluate(plant: Plant, service: tuple[str, Knobs]) -> None:
    plant.connection("acme-meta", "stale")
    result = run_job(plant, settings(service[0]))
    assert result.success
    assert backend_said(result).startswith('the backend evaluated its rules: {"status":"evaluated"')
    assert set(plant.shown()) == {"connections/meta"}


@pytest.mark.parametrize(
    ("knob", "key", "said"),
    [
        ("down", ALERTS_KEY, "the backend answers HTTP 503"),
        ("hang", ALERTS_KEY, "the backend does not answer (ReadTimeout)"),
        (None, "wrong", "the backend refuses the key (HTTP 403)"),
        (None, None, "not asked: ADINSIGHTS_ALERTING__BACKEND_ALERTS_KEY is not set"),
    ],
)
def test_a_backend_that_does_not_evaluate_is_reported_and_fails_nothing(
    plant: Plant, service: tuple[str, Knobs], knob: str | None, key: str | None, said: str
) -> None:
    if knob:
        service[1].set("backend", knob, True)
    plant.connection("acme-meta", "stale")
    seconds = QUICK_SECONDS if knob == "hang" else HANG_SECONDS
    result = run_job(plant, settings(service[0], key, seconds=seconds))
    assert result.success
    assert backend_said(result) == said
    assert set(plant.shown()) == {"connections/meta"}


def test_a_backend_that_answers_byte_by_byte_without_an_end_is_left_in_time(service: tuple[str, Knobs]) -> None:
    service[1].set("backend", "trickle", True)
    began = time.monotonic()
    assert run_backend_rules(settings(service[0], seconds=QUICK_SECONDS)).asked
    assert time.monotonic() - began < HANG_SECONDS


def heard(url: str) -> Any:
    return httpx.get(f"{url}/ping/").json()


def test_every_evaluation_pings_and_one_that_fails_or_that_nobody_delivers_does_not(
    plant: Plant, service: tuple[str, Knobs]
) -> None:
    url = f"{service[0]}/ping/evaluated"
    built = alerting_of(settings(service[0], ping=url), plant.store, plant.sinks, lambda: plant.now)
    repository = built.get_repository_def()
    sensor = repository.get_sensor_def("alert_evaluate")

    def tick() -> None:
        sensor.evaluate_tick(dg.build_sensor_context(instance=plant.instance, repository_def=repository))

    plant.deliver()
    tick()
    assert settled(lambda: heard(service[0]).get("evaluated", {}).get("count") == 1)
    plant.now += 6 * MINUTE
    tick()
    for thread in threading.enumerate():
        if thread.name == "dead-mans-ping":
            thread.join()
    assert heard(service[0])["evaluated"]["count"] == 1, "nothing that it says is delivered"
    with plant.store.begin() as connection:
        connection.execute(sa.text("alter schema adinsights_ops rename to away"))
    with pytest.raises(Exception, match="not migrated"):
        tick()
    assert heard(service[0])["evaluated"]["count"] == 1


def test_an_evaluation_that_is_skipped_because_another_never_ends_does_not_ping(
    plant: Plant, service: tuple[str, Knobs]
) -> None:
    url = f"{service[0]}/ping/skipped"
    built = alerting_of(settings(service[0], ping=url), plant.store, plant.sinks, lambda: plant.now)
    repository = built.get_repository_def()
    sensor = repository.get_sensor_def("alert_evaluate")
    with plant.store.begin() as connection:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key(LOCK))))
        tick = sensor.evaluate_tick(dg.build_sensor_context(instance=plant.instance, repository_def=repository))
    for thread in threading.enumerate():
        if thread.name == "dead-mans-ping":
            thread.join()
    assert tick.skip_message == "another evaluation is at work"
    assert "skipped" not in heard(service[0])


def test_a_second_channel_in_slack_that_was_never_made_warns_and_the_main_one_pages(plant: Plant) -> None:
    with plant.store.begin() as connection:
        for name in ("slack:#adinsights-data", "slack:#adinsights-alerts"):
            open_finding(connection, UNDELIVERABLE, name, {"reason": "channel_not_found"}, plant.now)
        open_finding(connection, UNDELIVERABLE, "slack:#leads", {"reason": "token_revoked"}, plant.now)
        moved = {"reason": "channel_not_found", IS_MAIN: True}
        open_finding(connection, UNDELIVERABLE, "slack:#ops", moved, plant.now)
    plant.tick()
    with plant.store.begin() as connection:
        found = connection.execute(
            sa.select(alert_incident.c.resource, alert_incident.c.severity).where(alert_incident.c.rule == "noted")
        )
        levels = {row.resource: row.severity for row in found}
    assert levels == {
        "slack:#adinsights-data": "warn",
        "slack:#adinsights-alerts": "page",
        "slack:#leads": "page",
        "slack:#ops": "page",
    }


def settled(so: Any) -> bool:
    """Waits for a thread of the product to come to its end; the suite's own timeout bounds it."""
    while not so():
        time.sleep(0.01)
    return True


def test_a_ping_that_hangs_delays_nothing_leaves_the_next_out_and_names_no_address(
    service: tuple[str, Knobs], capsys: pytest.CaptureFixture[str]
) -> None:
    url, knobs = service
    knobs.set("ping", "hang", True)
    ping = DeadMansPing(f"{url}/ping/secret-check-id", 3.0)
    thread = ping.send()
    assert thread is not None
    assert thread.is_alive(), "the sender went on while the receiver hangs"
    assert ping.send() is None
    thread.join()
    knobs.reset()
    again = ping.send()
    assert again is not None
    again.join()
    assert heard(url)["secret-check-id"]["count"] == 1
    assert "secret-check-id" not in "".join(capsys.readouterr())


def test_alerting_is_alive_while_both_sensors_tick(plant: Plant) -> None:
    def alive(**more: Any) -> dict[str, bool]:
        return {each.sensor: each.alive for each in pulses(plant.store, PRODUCTION, SLA, plant.now, **more)}

    assert alive() == {"alert_evaluate": False, "alert_deliver": False}
    plant.tick()
    assert alive() == {"alert_evaluate": True, "alert_deliver": True}
    plant.now += 6 * MINUTE
    assert alive() == {"alert_evaluate": False, "alert_deliver": False}
    assert alive(oldest=10 * MINUTE) == {"alert_evaluate": True, "alert_deliver": True}
    plant.deliver()
    assert alive() == {"alert_evaluate": False, "alert_deliver": True}
    plant.now -= timedelta(hours=3)
    assert alive()["alert_evaluate"], "a clock that was set back makes nothing old"
    bare = Settings(environment=Environment.LOCAL, local_stack=False)
    assert list(pulses(plant.store, bare, SLA, plant.now)) == []


def test_a_delivery_without_anything_to_say_is_a_sign_of_life_too(plant: Plant) -> None:
    plant.deliver()
    with plant.store.begin() as connection:
        assert rows.last_delivery(connection) == plant.now
        assert connection.execute(sa.select(sa.func.count()).select_from(alert_outbox)).scalar_one() == 0
