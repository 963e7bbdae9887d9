"""Builds with real dbt on a real warehouse: one at a time, recorded and published however they end."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.ops_store.connecting import lock_key
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation
from adinsights_orchestration.settings import OpsStoreSettings, Settings, WarehouseSettings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.builds import Build, Request, is_building
from adinsights_orchestration.transformation.command import Command, application_name
from adinsights_orchestration.transformation.invocations import coverage
from adinsights_orchestration.transformation.process import DbtError
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.publishing import PublishError
from adinsights_orchestration.transformation.turn import BUILD_LOCK, PACE, Pace, Turn, TurnLostError
from adinsights_orchestration.transformation.warehouse import WarehouseError, end_leftovers
from tests.conftest import HANG_SECONDS, free_port
from tests.transformation.support import Warehouse, end_sessions, eventually, in_another_process, variables

pytestmark = pytest.mark.usefixtures("warm_dbt")
META, GOOGLE = Provider.META, Provider.GOOGLE_ADS
NEWEST = {META: 7, GOOGLE: 8}


QUICK = Pace(poll=0.05, look=0.05, keep=1.0, fence=25.0)
STEADY = replace(QUICK, keep=HANG_SECONDS, fence=2 * HANG_SECONDS)  # no busy machine makes it lose its lock


def _own_store(server: EmbeddedPostgres) -> OpsStore:
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(server.create_database("ops"))))
    store.migrate()
    return store


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, to be stopped."""
    with tempfile.TemporaryDirectory(prefix="adinsights-pg-") as folder:
        Path(folder).chmod(0o755)
        settings = {"fsync": "off", "full_page_writes": "off"}
        server = EmbeddedPostgres(Path(folder) / "pg", free_port(), settings=settings, die_with_parent=True)
        server.start()
        yield server
        server.stop()


def _request(*select: str, **fields: Any) -> Request:
    command = Command(("build",), select=select, full_refresh=fields.pop("full_refresh", False))
    return Request("test", "run-0123456789", command, **{"newest": lambda: NEWEST} | fields)


def _invocations(store: OpsStore) -> list[Any]:
    with store.begin() as connection:
        return list(connection.execute(sa.select(dbt_invocation).order_by(dbt_invocation.c.started_at)))


def _published(settings: Settings) -> dict[str, str]:
    content = json.loads(settings.dbt.run_results_path.read_text())
    return {r["unique_id"].split(".")[2]: r["status"] for r in content["results"]}


def _generated_at(settings: Settings) -> str:
    return str(json.loads(settings.dbt.run_results_path.read_text())["metadata"]["generated_at"])


def test_a_build_builds_tests_records_publishes_and_covers(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    outcome = Build(settings, ops_store, project, _request()).run()
    assert (outcome.completed, outcome.succeeded, outcome.error()) == (True, True, None)
    assert warehouse.rows("select sum(spend)::int from analytics.fct_spend") == [(22,)]
    assert set(_published(settings)) == {uid.split(".")[2] for uid in project.nodes if uid.startswith("model.")}
    assert set(_published(settings).values()) == {"success"}
    [row] = _invocations(ops_store)
    assert (row.completed, row.succeeded, row.run_id, row.full_refresh) == (True, True, "run-0123456789", False)
    assert "--full-refresh" not in row.command
    assert coverage(ops_store) == NEWEST

    # A later partial build that fails: its failure shows, the rest stays, and no provider is covered by half of it.
    warehouse.execute("alter table raw_meta.ads drop column name cascade")
    build = Build(settings, ops_store, project, _request("stg_meta__ads+", newest=lambda: {META: 9, GOOGLE: 9}))
    outcome = build.run()
    assert (outcome.completed, outcome.succeeded) == (True, False)
    assert _published(settings)["stg_google_ads__campaign_daily"] == "success"
    assert (_published(settings)["stg_meta__ads"], _published(settings)["dim_ads"]) == ("error", "skipped")
    assert coverage(ops_store) == NEWEST


def test_a_provider_without_raw_tables_is_left_out_and_the_others_are_built(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    warehouse.execute("drop schema raw_google_ads cascade")
    outcome = Build(settings, ops_store, project, _request()).run()
    assert outcome.succeeded
    assert outcome.missing == {GOOGLE: ("raw_google_ads.campaign_daily",)}
    assert warehouse.rows("select distinct platform from analytics.fct_spend") == [("meta",)]
    assert coverage(ops_store) == {META: 7}


def test_a_failing_model_is_published_until_it_is_built_and_others_are_not_held_up(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    warehouse.execute("alter table raw_meta.ads drop column name")
    outcome = Build(settings, ops_store, project, _request()).run()
    assert outcome.failed_nodes == ("model.fixture.stg_meta__ads",)
    published = _published(settings)
    assert (published["stg_meta__ads"], published["fct_spend"]) == ("error", "success")
    assert coverage(ops_store) == {GOOGLE: 8}
    assert "stg_meta__ads" in str(outcome.error())

    warehouse.reset()
    assert Build(settings, ops_store, project, _request()).run().succeeded
    assert _published(settings)["stg_meta__ads"] == "success"
    assert coverage(ops_store) == NEWEST


def test_a_provider_that_fails_is_left_out_and_the_shared_models_take_everybody_else_s_data(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    warehouse.add_meta_row(None)
    outcome = Build(settings, ops_store, project, _request()).run()
    assert (outcome.completed, outcome.succeeded, outcome.failing) == (True, False, (META,))
    assert warehouse.rows("select platform, sum(spend)::int from analytics.fct_spend group by 1") == [("google_ads", 7)]
    assert {name for name, status in _published(settings).items() if status != "success"} == {"stg_meta__ad_insights"}
    assert coverage(ops_store) == {GOOGLE: 8}
    assert "source_not_null_raw_meta_ad_insights_ad_id" in str(outcome.error())
    assert "The rest was built without Meta." in str(outcome.error())
    first, second = _invocations(ops_store)
    assert (first.completed, first.succeeded) == (True, False)
    assert (second.completed, second.succeeded) == (True, False), "a build of which a provider failed is no success"
    assert first.run_id == second.run_id
    assert "stg_google_ads__campaign_daily" not in second.command


def test_results_that_could_not_be_published_are_kept_and_published_by_the_next_build(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    settings.dbt.run_results_path.parent.write_text("a file where the folder should be")
    with pytest.raises(PublishError):
        Build(settings, ops_store, project, _request("stg_meta__ads")).run()
    assert [row.succeeded for row in _invocations(ops_store)] == [True]
    settings.dbt.run_results_path.parent.unlink()
    Build(settings, ops_store, project, _request("stg_google_ads__campaign_daily")).run()
    assert _published(settings) == {"stg_meta__ads": "success", "stg_google_ads__campaign_daily": "success"}


def test_a_build_that_is_stopped_is_recorded_and_does_not_look_like_a_completed_one(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    assert Build(settings, ops_store, project, _request("stg_google_ads__campaign_daily")).run().succeeded
    before = _generated_at(settings)
    warehouse.make_meta_slow(300)
    build = Build(settings, ops_store, project, _request())
    events = build.events()
    for event in events:
        if event["info"]["name"] == "LogStartLine" and "unique_stg_meta__ads_ad_id" in event["info"]["msg"]:
            break
    assert is_building(ops_store)
    events.close()
    assert not is_building(ops_store)
    assert [row.completed for row in _invocations(ops_store)] == [True, False]
    assert _generated_at(settings) == before
    assert _published(settings)["stg_meta__ads"] == "success"
    assert coverage(ops_store) == {}


def test_a_build_that_is_killed_is_not_completed_and_the_next_one_finds_nothing_in_its_way(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    warehouse.make_meta_slow(300)
    process = in_another_process(
        """
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation import manifest
from adinsights_orchestration.transformation.builds import Build, Request
settings = Settings()
Build(settings, OpsStore(settings.ops_store), manifest.load(settings), Request("killed", "killed-run")).run()
""",
        **variables(settings),
    )
    assert eventually(lambda: warehouse.running_dbt_queries() > 0, 120)
    assert is_building(ops_store)
    left = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert eventually(lambda: not is_building(ops_store))
    assert psutil.wait_procs(left, timeout=60)[1] == []
    # dbt ends its statements; one that it began in that very moment is the next build's to end.
    end_leftovers(settings, Command(("build",)))
    assert eventually(lambda: warehouse.running_dbt_queries() == 0)
    [row] = _invocations(ops_store)
    assert (row.completed, row.run_id) == (False, "killed-run")
    assert not settings.dbt.run_results_path.exists()

    warehouse.reset()
    waits: list[float] = []
    assert Build(settings, ops_store, project, _request(), wait=waits.append).run().succeeded
    assert set(_published(settings).values()) == {"success"}
    assert 0 < sum(waits) <= PACE.fence


def test_a_statement_that_outlives_its_dbt_is_ended_by_the_next_build_and_nobody_else_s_is(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    leftover = application_name(settings, _request().command)
    with (
        warehouse.at_work("lock table raw_meta.ads; select pg_sleep(300)", leftover) as held_up,
        warehouse.at_work("select pg_sleep(300)", "dbt") as by_hand,
        warehouse.at_work("select 1", leftover, commit=True) as idle,
    ):
        assert Build(settings, ops_store, project, _request()).run().succeeded
        assert held_up() == "terminated"
        assert (by_hand(), idle()) == ("at work", "idle")


def test_two_builds_at_once_go_one_after_the_other(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    waits: list[float] = []
    turned_away = threading.Event()

    def wait(seconds: float) -> None:
        waits.append(seconds)
        turned_away.set()
        threading.Event().wait(0.1)

    second = Build(settings, ops_store, project, _request("stg_meta__ads"), wait=wait)
    with ops_store.exclusive(BUILD_LOCK) as first:
        assert first
        thread = threading.Thread(target=second.run)
        thread.start()
        assert turned_away.wait(60)
        assert _invocations(ops_store) == []
    thread.join()
    assert second.outcome is not None
    assert second.outcome.succeeded


def test_a_lock_that_is_lost_during_a_build_is_taken_again_and_the_build_goes_on(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    build = Build(settings, ops_store, project, _request("stg_meta__ads"), pace=STEADY)
    cut = False
    for _event in build.events():
        if not cut:
            end_sessions(ops_store)
            assert eventually(lambda: is_building(ops_store))
            cut = True
    assert build.outcome is not None
    assert build.outcome.succeeded
    assert [row.succeeded for row in _invocations(ops_store)] == [True]


def test_a_restart_of_the_ops_store_s_server_during_a_build_is_survived(
    settings: Settings, own_server: EmbeddedPostgres, project: Project, warehouse: Warehouse
) -> None:
    store = _own_store(own_server)
    build = Build(settings, store, project, _request("stg_meta__ads"), pace=STEADY)
    restarted = False
    for _event in build.events():
        if not restarted:
            own_server.stop()
            own_server.start()
            assert eventually(lambda: is_building(store))
            restarted = True
    assert build.outcome is not None
    assert build.outcome.succeeded
    assert [row.succeeded for row in _invocations(store)] == [True]
    store.dispose()


def test_a_build_whose_lock_stays_away_stops_dbt_and_says_that_the_next_one_does_it(
    settings: Settings, own_server: EmbeddedPostgres, project: Project, warehouse: Warehouse
) -> None:
    store = _own_store(own_server)
    warehouse.make_meta_slow(300)
    build = Build(settings, store, project, _request(), pace=QUICK)
    with pytest.raises(TurnLostError, match="starts the next build by itself"):
        _read(build, warehouse, own_server.stop)
    assert eventually(lambda: warehouse.running_dbt_queries() == 0)
    own_server.start()
    assert [row.completed for row in _invocations(store)] == [False]
    assert coverage(store) == {}

    warehouse.reset()
    assert Build(settings, store, project, _request(), wait=lambda _: None).run().succeeded
    assert coverage(store) == NEWEST
    store.dispose()


def test_a_build_stops_before_the_one_that_got_its_lock_starts_dbt(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    warehouse.make_meta_slow(300)
    rival = Turn(ops_store, "rival", lambda _: None, QUICK)
    first = Build(settings, ops_store, project, _request(), pace=STEADY)
    with rival:
        with pytest.raises(TurnLostError):
            _read(first, warehouse, lambda: _hand_over(ops_store, rival))
        assert warehouse.running_dbt_queries() == 0
        assert is_building(ops_store)
    assert not is_building(ops_store)


def _read(build: Build, warehouse: Warehouse, in_the_middle: Callable[[], None]) -> None:
    """Reads a build to its end; calls `in_the_middle` once, while dbt waits for a slow query."""
    for event in build.events():
        if event["info"]["name"] == "LogStartLine" and "unique_stg_meta__ads_ad_id" in event["info"]["msg"]:
            assert eventually(lambda: warehouse.running_dbt_queries() > 0)
            in_the_middle()


def _hand_over(store: OpsStore, rival: Turn) -> None:
    """Ends the lock's session at a moment at which the rival stands next in the queue."""
    with ThreadPoolExecutor() as pool, store.begin() as connection:
        queued = pool.submit(rival._session.run, sa.select(sa.func.pg_advisory_lock(lock_key(BUILD_LOCK))))
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        assert eventually(lambda: connection.exec_driver_sql(waiting).scalar_one() == 1)
        connection.exec_driver_sql(
            "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and granted"
        )
        queued.result(60)
    rival.begin()


def test_a_full_refresh_happens_when_it_is_asked_for(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    Build(settings, ops_store, project, _request("regions", full_refresh=True)).run()
    [row] = _invocations(ops_store)
    assert row.full_refresh
    assert "--full-refresh" in row.command


def test_what_dbt_cannot_even_start_is_an_error_in_dbt_s_words_and_not_completed(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    outcome = Build(settings, ops_store, project, _request("state:nonsense")).run()
    assert (outcome.completed, outcome.succeeded) == (False, False)
    error = outcome.error()
    assert isinstance(error, DbtError)
    assert "was not carried out" in str(error)
    assert str(outcome.target) in str(error)


def test_a_warehouse_that_is_down_is_said_before_dbt_starts(
    settings: Settings, ops_store: OpsStore, project: Project
) -> None:
    down = WarehouseSettings(port=free_port(), password=SecretStr("canary-secret"))
    changed = settings.model_copy(update={"warehouse": down})
    with pytest.raises(WarehouseError, match="ADINSIGHTS_WAREHOUSE") as caught:
        Build(changed, ops_store, project, _request()).run()
    assert "canary-secret" not in str(caught.value)
    assert _invocations(ops_store) == []


def test_an_ops_store_that_is_down_is_said_before_dbt_starts(settings: Settings, project: Project) -> None:
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(f"postgresql://u:p@127.0.0.1:{free_port()}/x")))
    with pytest.raises(OpsStoreError):
        Build(settings, store, project, _request()).run()
    assert not (settings.dbt.project_dir / "target" / "runs").exists()


def test_old_target_folders_are_pruned_by_the_next_build(
    settings: Settings, ops_store: OpsStore, project: Project, warehouse: Warehouse
) -> None:
    old = Path(settings.dbt.project_dir / "target" / "runs" / "old")
    old.mkdir(parents=True)
    os.utime(old, (0, 0))
    outcome = Build(settings, ops_store, project, _request("regions")).run()
    assert not old.exists()
    assert (outcome.target / "run_results.json").exists()
