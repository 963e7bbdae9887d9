"""The publishing sensor: once a load, again when the content changed or the ops store lost it, and else nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import topology as rows
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from adinsights_orchestration.topology.automation import LOCK, build_topology
from adinsights_orchestration.topology.store import LoadedTopology, load_topology

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
PRODUCTION = Settings(environment=Environment.PRODUCTION)


class Load:
    """One load of a code location: its definitions, its ticks, and the cursor that the daemon keeps between loads."""

    def __init__(self, store: OpsStore, *assets: str, cursor: str | None = None, now: datetime = NOON) -> None:
        self.now, self.cursor = now, cursor
        specs = [dg.AssetSpec(name, group_name="g") for name in assets]
        built = build_topology(PRODUCTION, store, clock=lambda: self.now)
        self.repository = dg.Definitions.merge(dg.Definitions(assets=specs), built).get_repository_def()

    def tick(self) -> str:
        """Ticks as the daemon does, and returns what the tick says."""
        sensor = self.repository.get_sensor_def("topology_publish")
        with dg.DagsterInstance.ephemeral() as instance:
            context = dg.build_sensor_context(instance=instance, cursor=self.cursor, repository_def=self.repository)
            done = sensor.evaluate_tick(context)
        self.cursor = done.cursor
        assert not done.run_requests
        return str(done.skip_message)


def _in_force(store: OpsStore) -> LoadedTopology:
    with store.begin() as connection:
        return load_topology(connection)


def test_the_first_tick_after_a_load_publishes_and_later_ones_write_nothing(ops_store: OpsStore) -> None:
    load = Load(ops_store, "a", "b")
    assert load.tick() == "new: 2 assets, 0 dashboards, 0 jobs"
    load.now += timedelta(minutes=5)
    assert load.tick() == "unchanged"
    loaded = _in_force(ops_store)
    assert (loaded.published_at, loaded.confirmed_at) == (NOON, NOON)
    assert loaded.topology is not None
    assert [sensor.name for sensor in loaded.topology.sensors] == ["topology_publish"]


def test_another_load_of_the_same_code_confirms_what_is_in_force(ops_store: OpsStore) -> None:
    first = Load(ops_store, "a")
    first.tick()
    second = Load(ops_store, "a", cursor=first.cursor, now=NOON + timedelta(hours=1))
    assert second.tick().startswith("confirmed: ")
    assert second.tick() == "unchanged"
    loaded = _in_force(ops_store)
    assert (loaded.published_at, loaded.confirmed_at) == (NOON, NOON + timedelta(hours=1))


def test_a_load_of_other_code_publishes_what_it_consists_of(ops_store: OpsStore) -> None:
    first = Load(ops_store, "a")
    first.tick()
    assert Load(ops_store, "a", "b", cursor=first.cursor).tick().startswith("new: 2 assets")


def test_an_ops_store_that_lost_the_row_gets_it_back_without_a_load(ops_store: OpsStore) -> None:
    load = Load(ops_store, "a")
    load.tick()
    with ops_store.begin() as connection:
        connection.execute(sa.delete(rows))
    assert load.tick().startswith("new: ")
    assert _in_force(ops_store).topology is not None


def test_two_servers_of_different_releases_do_not_take_turns(ops_store: OpsStore) -> None:
    old, new = Load(ops_store, "a"), Load(ops_store, "a", "b")
    old.tick()
    new.cursor = old.cursor
    assert new.tick().startswith("new: 2 assets")
    said = set()
    for _ in range(3):
        for load, other in ((old, new), (new, old)):
            load.cursor = other.cursor  # the daemon keeps one for both
            said.add(load.tick())
    assert said == {"unchanged", "another load has published since; reload this location to put its topology in force"}
    topology = _in_force(ops_store).topology
    assert topology is not None
    assert len(topology.assets) == 2


def test_a_restored_ops_store_that_holds_an_older_topology_gets_this_load_s_back(ops_store: OpsStore) -> None:
    Load(ops_store, "a").tick()
    load = Load(ops_store, "a", "b")
    load.tick()
    with ops_store.begin() as connection:  # as a backup of before had it
        connection.execute(sa.delete(rows).where(rows.c.id == sa.select(sa.func.max(rows.c.id)).scalar_subquery()))
    assert load.tick().startswith("new: 2 assets")


def test_a_second_tick_at_once_does_nothing_and_the_load_still_has_to_say_it(ops_store: OpsStore) -> None:
    load = Load(ops_store, "a")
    with ops_store.exclusive(LOCK) as mine:
        assert mine
        assert load.tick() == "another tick is publishing"
    assert load.tick().startswith("new: ")


def test_an_ops_store_that_is_away_fails_the_tick_and_the_next_one_makes_it_good(ops_store: OpsStore) -> None:
    away = OpsStore(OpsStoreSettings(dsn=SecretStr("postgresql://nobody:secret@127.0.0.1:1/ops")))
    with pytest.raises(OpsStoreError, match="does not answer"):
        Load(away, "a").tick()
    assert Load(ops_store, "a").tick().startswith("new: ")
