"""A round: everything asked at once, kept once, shown when it changes, and over in time whatever hangs."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.health import background, samples, tick
from adinsights_orchestration.health.asking import Asking
from adinsights_orchestration.health.automation import build_health
from adinsights_orchestration.health.catalog import CATALOG, watched
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.rendering import CHECK, asset_key
from adinsights_orchestration.health.samples import Resolution
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor, health_sample
from adinsights_orchestration.settings import HealthSettings
from tests.conftest import HANG_SECONDS, free_port
from tests.health.world import QUICK_SECONDS, TENANTS, Platform

TICK = timedelta(seconds=30)


def samples_of(world: Platform, component: Component, resolution: Resolution) -> list[sa.Row[Any]]:
    query = sa.select(health_sample).where(
        health_sample.c.component == component.value, health_sample.c.resolution == resolution.value
    )
    with world.store.begin() as connection:
        return list(connection.execute(query.order_by(health_sample.c.at)))


def events(world: Platform, component: Component) -> tuple[int, int]:
    """How many observations and check evaluations of a component there are."""
    observed = world.instance.fetch_observations(asset_key(component), limit=100).records
    checked = world.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(asset_key(component), CHECK), limit=100
    )
    return len(observed), len(checked)


def test_a_round_keeps_a_state_and_a_sample_of_every_watched_component(world: Platform) -> None:
    done = world.round()
    assert set(done.states or {}) == set(watched(world.settings)) == set(world.states())
    assert Component.SCHEDULER not in world.states()
    for component in world.states():
        (row,) = samples_of(world, component, Resolution.MINUTE)
        assert (row.readings, row.ok + row.degraded + row.down + row.unknown) == (1, 1)


def test_readings_are_added_to_their_minute_hour_and_day(world: Platform) -> None:
    world.knob("superset", "down")
    world.round()
    world.knobs.reset("superset")
    for _ in range(3):
        world.round(after=TICK)
    minutes = samples_of(world, Component.SUPERSET, Resolution.MINUTE)
    assert [(row.readings, row.ok, row.down) for row in minutes] == [(2, 1, 1), (2, 2, 0)]
    for resolution in (Resolution.HOUR, Resolution.DAY):
        (row,) = samples_of(world, Component.SUPERSET, resolution)
        assert (row.readings, row.ok, row.down, row.latency_count) == (4, 3, 1, 4)
        assert row.latency_max_ms <= row.latency_sum_ms


def test_samples_beyond_what_is_kept_are_pruned_a_bounded_number_at_a_time(
    world: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "PRUNED_AT_ONCE", 4)
    for _ in range(3):
        world.round(after=timedelta(minutes=1))
    count = len(world.states())
    done = world.round(after=timedelta(days=15))
    assert done.pruned == 4
    while world.round().pruned:
        pass
    assert len(samples_of(world, Component.BACKEND, Resolution.MINUTE)) == 1
    assert len(samples_of(world, Component.BACKEND, Resolution.HOUR)) == 2
    assert count == len(world.states())


def test_a_component_that_is_not_watched_any_more_is_forgotten(world: Platform) -> None:
    world.round()
    world.change(superset_url=None)
    world.round(after=TICK)
    assert Component.SUPERSET not in world.states()


def test_two_daemons_at_once_count_a_half_minute_once(world: Platform) -> None:
    with world.store.exclusive(tick.LOCK) as mine:
        assert mine
        assert world.round().skipped == "another round is under way"
    assert world.states() == {}
    results: list[str] = []
    other = replace(world)
    threads = [threading.Thread(target=lambda one=one: results.append(one.round().skipped)) for one in (world, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = results.count("")
    assert done >= 1
    assert samples_of(world, Component.BACKEND, Resolution.HOUR)[0].readings == done


def test_a_round_is_over_in_time_though_everything_hangs(world: Platform) -> None:
    """Servers that take connections and say nothing, on every address that there is."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        world.serve(*TENANTS)
        world.change(
            probe_timeout_seconds=QUICK_SECONDS,
            frontend_url=address,
            superset_url=address,
            prometheus_url=address,
            object_store_url=address,
            scheduler_heartbeat=address,
        )
        world.move("backend", url=address, dsn=SecretStr(f"postgresql://a:b@{address.removeprefix('http://')}/c"))
        world.move("airbyte", public_api_url=address, config_api_url=address)
        world.move("warehouse", host="127.0.0.1", port=silent.getsockname()[1])
        world.move("dagster", ui_url=address)
        began = time.monotonic()
        done = world.round()
        took = time.monotonic() - began
    assert took < HANG_SECONDS, "what hangs here hangs for ever"
    assert done.states is not None
    well = {component.value for component, state in done.states.items() if state.reading.health is Health.OK}
    assert well <= {"registry"}
    assert len(done.states) == len(Component)


def test_the_longest_round_that_settings_allow_fits_a_sensor_s_minute() -> None:
    longest = HealthSettings.model_fields["probe_timeout_seconds"].metadata
    most = next(one.le for one in longest if hasattr(one, "le"))
    assert most + tick.MARGIN_SECONDS + 2 * 8 < 50


def test_a_probe_that_fails_by_itself_hides_no_other(world: Platform, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(_: Asking) -> Reading:
        raise KeyError("password=hunter2-canary")

    async def endless(_: Asking) -> Reading:
        await asyncio.Event().wait()
        raise AssertionError

    entries = {
        Component.FRONTEND: replace(CATALOG[Component.FRONTEND], probe=broken),
        Component.SUPERSET: replace(CATALOG[Component.SUPERSET], probe=endless),
        Component.BACKEND: CATALOG[Component.BACKEND],
    }
    world.change(probe_timeout_seconds=0.5)
    from adinsights_orchestration.health import recorded
    from adinsights_orchestration.health.web import Web

    known = recorded.read(world.store, world.clock(), timedelta(minutes=5))
    ask = Asking(world.settings, world.sla, Web(HANG_SECONDS), world.store, known, world.clock, world.instance)
    found = {one.component: one for one in asyncio.run(tick.ask_all(ask, entries))}
    assert (found[Component.FRONTEND].health, found[Component.FRONTEND].state) == (Health.UNKNOWN, "probe_error")
    assert "canary" not in repr(found)
    assert (found[Component.SUPERSET].health, found[Component.SUPERSET].state) == (Health.UNKNOWN, "timeout")
    assert found[Component.BACKEND].health is Health.OK


def test_a_question_that_hangs_is_not_asked_again_until_it_comes_back() -> None:
    release = threading.Event()

    async def twice() -> None:
        with pytest.raises(TimeoutError):
            await background.ask("hanging", release.wait, 0.1)
        with pytest.raises(background.StillHangingError):
            await background.ask("hanging", release.wait, 0.1)
        assert await background.ask("another", lambda: 7, HANG_SECONDS) == 7

    asyncio.run(twice())
    release.set()

    async def again() -> int:
        while True:
            try:
                return await background.ask("hanging", lambda: 8, HANG_SECONDS)
            except background.StillHangingError:
                await asyncio.sleep(0.01)

    assert asyncio.run(again()) == 8


def test_while_the_ops_store_is_away_a_round_says_so_and_keeps_nothing(world: Platform) -> None:
    world.round()
    away = OpsStore(
        world.settings.ops_store.model_copy(
            update={"dsn": SecretStr(f"postgresql://a:b@127.0.0.1:{free_port()}/c"), "connect_timeout_seconds": 1}
        )
    )
    with pytest.raises(OpsStoreError):
        tick.run(world.settings, away, world.sla, world.instance, world.clock)
    assert set(world.states()) == set(watched(world.settings))


def test_no_secret_and_nobody_s_data_is_in_what_is_kept(world: Platform) -> None:
    world.serve(*TENANTS)
    world.round()
    with world.store.begin() as connection:
        kept = connection.execute(
            sa.text("select component_health::text from adinsights_ops.component_health")
        ).scalars()
        memory = connection.execute(sa.select(cursor.c.value)).scalars()
        text = " ".join([*kept, *(str(one) for one in memory)])
    passwords = (world.settings.backend.dsn.get_secret_value().split(":")[2].split("@")[0], "the-service-key")
    assert [word for word in (*passwords, "@example", "owner@") if word in text] == []


# -------------------------------------------------------------------------------------------------------- in Dagster


def test_dagster_is_told_of_a_change_and_of_nothing_else(world: Platform) -> None:
    world.round()
    assert events(world, Component.SUPERSET) == (1, 1)
    for _ in range(4):
        world.round(after=TICK)
    assert events(world, Component.SUPERSET) == (1, 1)
    world.knob("superset", "down")
    world.round(after=TICK)
    assert events(world, Component.SUPERSET) == (2, 2)  # degraded: one failed probe
    for _ in range(4):
        world.round(after=TICK)
    assert events(world, Component.SUPERSET) == (3, 3)  # down: a minute of them
    world.knobs.reset("superset")
    world.round(after=TICK)
    assert events(world, Component.SUPERSET) == (3, 3)  # one good probe is no end of an outage
    for _ in range(2):
        world.round(after=TICK)
    assert events(world, Component.SUPERSET) == (4, 4)


def test_an_outage_that_changes_its_face_is_told_every_five_minutes_at_most(world: Platform) -> None:
    world.knob("superset", "down")
    for _ in range(4):
        world.round(after=TICK)
    told = events(world, Component.SUPERSET)
    for number in range(5):
        world.knobs.reset("superset")
        world.knob("superset", "html_error" if number % 2 else "down")
        world.round(after=TICK)
    assert events(world, Component.SUPERSET) == told
    world.knobs.reset("superset")
    world.knob("superset", "truncated_json")
    world.round(after=timedelta(minutes=5))
    assert events(world, Component.SUPERSET) == (told[0] + 1, told[1] + 1)


def test_a_check_that_was_not_noted_before_a_kill_is_written_again(world: Platform) -> None:
    world.round()
    with world.store.begin() as connection:
        connection.execute(sa.delete(cursor).where(cursor.c.name == "health_shown"))
    world.round(after=TICK)
    assert events(world, Component.BACKEND) == (2, 2)


@contextmanager
def _definitions(world: Platform) -> Iterator[dg.Definitions]:
    definitions = build_health(world.settings, world.store, clock=world.clock)
    dg.Definitions.validate_loadable(definitions)
    yield definitions


def test_the_sensor_asks_and_says_what_became_of_it(world: Platform) -> None:
    with _definitions(world) as definitions:
        (sensor,) = definitions.sensors or ()
        assert isinstance(sensor, dg.SensorDefinition)
        context = dg.build_sensor_context(instance=world.instance)
        skipped = sensor(context)
    assert isinstance(skipped, dg.SkipReason)
    assert "backend became ok" in str(skipped.skip_message)
    assert set(world.states()) == set(watched(world.settings))


def test_the_sensor_calls_at_once_whoever_wants_to_know_that_a_component_changed(world: Platform) -> None:
    called: list[dg.DagsterInstance] = []
    built = build_health(world.settings, world.store, clock=world.clock, on_news=called.append)
    (sensor,) = built.sensors or ()
    assert isinstance(sensor, dg.SensorDefinition)

    def calls() -> int:
        world.clock.now += TICK
        called.clear()
        sensor(dg.build_sensor_context(instance=world.instance))
        return len(called)

    assert (calls(), calls()) == (1, 0)
    world.knob("superset", "down")
    assert (calls(), calls()) == (1, 0)


def test_a_person_may_run_a_check_and_has_the_answer_of_now(world: Platform) -> None:
    world.round()
    world.knob("superset", "down")
    with _definitions(world) as definitions:
        key = dg.AssetCheckKey(asset_key(Component.SUPERSET), CHECK)
        done = dg.materialize(
            list(definitions.asset_checks or ()), instance=world.instance, selection=dg.AssetSelection.checks(key)
        )
    (evaluation,) = done.get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "degraded" in str(evaluation.description)


def test_every_component_has_an_asset_that_says_what_breaks_and_where_to_read_on(world: Platform) -> None:
    with _definitions(world) as definitions:
        specs = {spec.key: spec for spec in definitions.resolve_all_asset_specs()}
    assert set(specs) == {asset_key(component) for component in watched(world.settings)}
    for spec in specs.values():
        assert "While it is down:" in str(spec.description)
        assert spec.owners
        assert spec.metadata["runbook"]
