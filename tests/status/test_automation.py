"""The overview's sensor and the status file: against a real Dagster instance, a real file, and an ops store away."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import HealthSettings, OpsStoreSettings, Settings
from adinsights_orchestration.status.automation import OVERVIEW, build_overview
from adinsights_orchestration.status.file import StatusFileError, keep
from adinsights_orchestration.status.publishing import LOCK
from adinsights_orchestration.status.reading import take_status
from tests.status.world import World

AWAY = OpsStoreSettings(dsn=SecretStr("postgresql://nobody:hunter2@127.0.0.1:1/ops"))


class Desk:
    """The sensor as the daemon ticks it, and what it leaves behind."""

    def __init__(self, store: OpsStore, instance: dg.DagsterInstance, world: World, path: Path | None) -> None:
        self.store, self.instance, self.world = store, instance, world
        self.settings = Settings(environment=Environment.PRODUCTION, health=HealthSettings(status_path=path))
        self.cursor: str | None = None

    def tick(self, after: timedelta = timedelta()) -> str:
        """Ticks so long after the last tick and returns what the tick says."""
        self.world.now += after
        repository = build_overview(self.settings, self.store, clock=lambda: self.world.now).get_repository_def()
        context = dg.build_sensor_context(instance=self.instance, cursor=self.cursor, repository_def=repository)
        done = repository.get_sensor_def("overview_publish").evaluate_tick(context)
        self.cursor = done.cursor
        return str(done.skip_message)

    def pages(self) -> list[dict[str, Any]]:
        """What was observed, newest first."""
        records = self.instance.fetch_observations(OVERVIEW, limit=50).records
        found = [record.asset_observation for record in records]
        return [{name: value.value for name, value in one.metadata.items()} for one in found if one]


@pytest.fixture
def desk(ops_store: OpsStore, postgres_instance: dg.DagsterInstance, tmp_path: Path) -> Desk:
    return Desk(ops_store, postgres_instance, World(ops_store).well(), tmp_path / "status" / "status.json")


def _file(desk: Desk) -> dict[str, Any]:
    path = desk.settings.health.status_path
    assert path is not None
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_the_first_tick_writes_the_page_and_the_file_and_the_next_only_the_file(desk: Desk) -> None:
    assert desk.tick() == "ok, overview written"
    assert desk.tick(timedelta(seconds=30)) == "ok"
    assert len(desk.pages()) == 1
    assert desk.pages()[0]["overview"].startswith("## 🟢 OK")
    assert desk.pages()[0]["overall"] == "ok"
    assert (_file(desk)["overall"], _file(desk)["as_of"]) == ("ok", "2026-03-10T12:00:30Z")


def test_a_component_that_goes_down_and_comes_back_is_written_each_time_at_once(desk: Desk) -> None:
    desk.tick()
    for health, said in ((Health.DOWN, "down"), (Health.OK, "ok")):
        desk.world.read({Component.BACKEND: health})
        assert desk.tick(timedelta(seconds=30)) == f"{said}, overview written"
        assert _file(desk)["overall"] == said
    assert [page["overall"] for page in desk.pages()] == ["ok", "down", "ok"]
    assert [page["what is wrong"] for page in desk.pages()] == [
        "nothing",
        "backend is down: backend said down",
        "nothing",
    ]


def test_when_whoever_reads_components_stands_still_the_page_says_so_by_itself(desk: Desk) -> None:
    desk.tick()
    assert desk.tick(timedelta(minutes=10)) == "degraded, overview written"
    assert "unknown" in desk.pages()[0]["overview"]


def test_an_ops_store_that_is_away_is_down_on_the_page_and_in_the_file_and_leaks_nothing(desk: Desk) -> None:
    desk.tick()
    desk.store = OpsStore(AWAY)
    assert desk.tick(timedelta(seconds=30)) == "down, overview written"
    assert _file(desk)["overall"] == "down"
    assert "the ops store does not answer" in _file(desk)["reasons"][0]
    desk.tick(timedelta(seconds=30))
    assert _file(desk)["known_at"] == "2026-03-10T12:00:00Z", "however often it is written since"
    assert _file(desk)["reasons"][1] == "the last picture is of 2026-03-10 12:00 UTC"
    assert "hunter2" not in json.dumps([_file(desk), desk.pages()])


def test_a_second_tick_at_once_writes_nothing(desk: Desk) -> None:
    with desk.store.exclusive(LOCK) as mine:
        assert mine
        assert desk.tick() == "another tick is at work"
    assert desk.pages() == []


def test_a_file_that_cannot_be_written_is_told_and_does_not_keep_the_page(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "status").write_text("a file where a folder should be")
    said = desk.tick()
    assert said.startswith("ok, STATUS FILE NOT WRITTEN: ")
    assert "Make room or give write permission" in said
    assert len(desk.pages()) == 1
    with pytest.raises(StatusFileError):
        keep(desk.settings, take_status(desk.settings, desk.store, desk.world.now))


def test_the_file_is_what_the_command_prints(desk: Desk) -> None:
    status = take_status(desk.settings, desk.store, desk.world.now)
    keep(desk.settings, status)
    assert _file(desk) == status.model_dump(mode="json")


def test_a_page_is_small_enough_to_keep_a_month_of_them(desk: Desk) -> None:
    desk.tick()
    assert len(desk.pages()[0]["overview"]) < 8_000
