"""The topology's rows: one per content, the newest that is understood in force, another release's never lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import topology as rows
from adinsights_orchestration.topology.model import VERSION, Asset, Topology, to_payload
from adinsights_orchestration.topology.store import KEPT, LoadedTopology, Published, load_topology, publish

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def _topology(name: str) -> Topology:
    return Topology("pipelines", (Asset(name),))


def _publish(store: OpsStore, name: str, minutes: int = 0) -> Published:
    with store.begin() as connection:
        return publish(connection, _topology(name), NOON + timedelta(minutes=minutes))


def _load(store: OpsStore) -> LoadedTopology:
    with store.begin() as connection:
        return load_topology(connection)


def _foreign(store: OpsStore, version: int, payload: Any) -> None:
    """A row as another release, or nobody sane, would write it."""
    row = {"version": version, "digest": f"{version}-{payload}", "payload": payload}
    with store.begin() as connection:
        connection.execute(sa.insert(rows).values(**row, published_at=NOON, confirmed_at=NOON))


def _count(store: OpsStore) -> int:
    with store.begin() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one()


def test_before_the_first_publication_there_is_none_and_it_says_so(ops_store: OpsStore) -> None:
    loaded = _load(ops_store)
    assert loaded.topology is None
    assert loaded.note == "the pipelines location has never published one"


def test_what_was_published_last_is_in_force(ops_store: OpsStore) -> None:
    assert _publish(ops_store, "a") is Published.NEW
    assert _publish(ops_store, "b", minutes=5) is Published.NEW
    assert _load(ops_store) == LoadedTopology(
        _topology("b"), NOON + timedelta(minutes=5), NOON + timedelta(minutes=5), ""
    )


def test_the_same_content_is_confirmed_in_its_row(ops_store: OpsStore) -> None:
    _publish(ops_store, "a")
    assert _publish(ops_store, "a", minutes=60) is Published.CONFIRMED
    loaded = _load(ops_store)
    assert (loaded.published_at, loaded.confirmed_at) == (NOON, NOON + timedelta(minutes=60))
    assert _count(ops_store) == 1


def test_a_deployment_that_is_rolled_back_puts_its_content_in_force_again_in_one_row(ops_store: OpsStore) -> None:
    for minutes, name in enumerate(("a", "b", "a")):
        assert _publish(ops_store, name, minutes) is Published.NEW
    loaded = _load(ops_store)
    assert loaded.topology == _topology("a")
    assert loaded.published_at == NOON + timedelta(minutes=2)
    assert _count(ops_store) == 2


def test_old_contents_are_forgotten_but_for_a_few(ops_store: OpsStore) -> None:
    for minutes in range(KEPT + 4):
        _publish(ops_store, f"asset_{minutes}", minutes)
    assert _count(ops_store) == KEPT


def test_of_a_newer_version_it_says_so_and_keeps_the_last_that_it_understands(ops_store: OpsStore) -> None:
    _publish(ops_store, "a")
    _foreign(ops_store, VERSION + 1, {"shape": "of tomorrow"})
    loaded = _load(ops_store)
    assert loaded.topology == _topology("a")
    assert loaded.note == (
        f"the newest topology has version {VERSION + 1}, this release reads version {VERSION}; "
        "the last one before, of 2026-03-10 12:00 UTC, is in force"
    )


def test_a_row_that_is_broken_is_passed_over_and_named(ops_store: OpsStore) -> None:
    _publish(ops_store, "a")
    _foreign(ops_store, VERSION, {"assets": []})
    loaded = _load(ops_store)
    assert loaded.topology == _topology("a")
    assert loaded.note.startswith("the newest topology cannot be read (location: ")


def test_where_only_another_release_has_published_there_is_none_and_it_says_why(ops_store: OpsStore) -> None:
    _foreign(ops_store, VERSION + 1, {})
    loaded = _load(ops_store)
    assert loaded.topology is None
    assert loaded.note.endswith("there is none that this release understands")


def test_however_often_one_release_publishes_the_newest_of_another_is_kept(ops_store: OpsStore) -> None:
    _foreign(ops_store, VERSION - 1, to_payload(_topology("old")))
    for minutes in range(KEPT + 2):
        _publish(ops_store, f"asset_{minutes}", minutes)
    with ops_store.begin() as connection:
        versions = set(connection.execute(sa.select(rows.c.version)).scalars())
    assert versions == {VERSION, VERSION - 1}
