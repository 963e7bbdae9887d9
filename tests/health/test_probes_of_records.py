"""What each probe makes of rows: dbt's builds, the registry, the webhook, Dagster's heartbeats and locations."""

from __future__ import annotations

from datetime import timedelta

from dagster._daemon.types import DaemonHeartbeat
from pydantic import SecretStr

from adinsights_orchestration.health.model import Component, Health
from tests.conftest import free_port
from tests.health.world import TENANTS, Platform, seen


def test_dbt_is_known_from_the_recorded_builds(world: Platform) -> None:
    assert seen(world.probe(Component.DBT)) == (Health.DEGRADED, "missing_run_results")
    world.build(failing=("stg_meta",))
    reading = world.probe(Component.DBT)
    assert seen(reading) == (Health.DEGRADED, "failing")
    assert reading.facts["failing_models"] == ["model.adinsights.stg_meta"]
    world.clock.advance(60)
    world.build()
    assert seen(world.probe(Component.DBT)) == (Health.OK, "ok")


def test_the_registry_is_as_well_as_its_last_read(world: Platform) -> None:
    assert seen(world.probe(Component.REGISTRY)) == (Health.DOWN, "never_read")
    world.serve(*TENANTS)
    assert seen(world.probe(Component.REGISTRY)) == (Health.OK, "ok")
    world.clock.advance(16 * 60)
    assert seen(world.probe(Component.REGISTRY)) == (Health.DEGRADED, "stale")
    world.clock.advance(3600)
    assert seen(world.probe(Component.REGISTRY)) == (Health.DOWN, "stale")


def test_a_webhook_is_silent_only_from_the_first_job_that_it_should_have_told(world: Platform) -> None:
    world.serve(*TENANTS)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "idle")
    world.finish(1)
    world.post_job(1)
    world.clock.advance(12 * 3600)  # a night without a job
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "ok")
    world.finish(2, connection=1)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "ok")
    world.clock.advance(31 * 60)
    reading = world.probe(Component.WEBHOOK)
    assert (seen(reading), reading.value) == ((Health.DEGRADED, "silent"), 31.0)
    world.clock.advance(30 * 60)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.DOWN, "silent")
    world.post_job(2, connection=1)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "ok")


def test_one_lost_post_is_not_a_silent_webhook(world: Platform) -> None:
    world.serve(*TENANTS)
    world.finish(1, connection=0)
    world.clock.advance(45 * 60)
    world.finish(2, connection=1)
    world.post_job(2, connection=1)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "ok")


def test_a_webhook_is_unknown_while_the_backend_s_database_does_not_answer(world: Platform) -> None:
    world.serve(*TENANTS)
    world.finish(1)
    world.move("backend", dsn=SecretStr(f"postgresql://somebody:hunter2-canary@127.0.0.1:{free_port()}/backend"))
    reading = world.probe(Component.WEBHOOK)
    assert seen(reading) == (Health.UNKNOWN, "no_database")
    assert "hunter2" not in repr(reading)


def test_a_daemon_is_as_well_as_its_last_heartbeat(world: Platform) -> None:
    required = world.instance.get_required_daemon_types()
    assert seen(world.probe(Component.DAGSTER_DAEMONS)) == (Health.DOWN, "silent")
    for daemon in required:
        _beat(world, daemon, timedelta(seconds=20))
    assert seen(world.probe(Component.DAGSTER_DAEMONS)) == (Health.OK, "ok")
    _beat(world, required[0], timedelta(minutes=3))
    reading = world.probe(Component.DAGSTER_DAEMONS)
    assert seen(reading) == (Health.DEGRADED, "silent")
    assert required[0] in reading.detail
    _beat(world, required[0], timedelta(minutes=6))
    assert seen(world.probe(Component.DAGSTER_DAEMONS)) == (Health.DOWN, "silent")


def test_while_the_webserver_is_down_code_locations_are_unknown(world: Platform) -> None:
    world.move("dagster", ui_url=f"http://127.0.0.1:{free_port()}")
    assert seen(world.probe(Component.CODE_LOCATIONS)) == (Health.UNKNOWN, "webserver_refused")
    world.knob("frontend", "html_error")
    world.move("dagster", ui_url=f"{world.url}/frontend")
    assert seen(world.probe(Component.CODE_LOCATIONS)) == (Health.UNKNOWN, "webserver_html")
    world.move("dagster", ui_url=f"{world.url}/backend/api/health")
    assert world.probe(Component.CODE_LOCATIONS).health is Health.UNKNOWN


def _beat(world: Platform, daemon: str, ago: timedelta) -> None:
    at = (world.clock() - ago).timestamp()
    world.instance.add_daemon_heartbeat(DaemonHeartbeat(timestamp=at, daemon_type=daemon, daemon_id="one", errors=[]))
