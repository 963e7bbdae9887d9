"""The catalog of components: complete, and watched by what the settings name."""

from __future__ import annotations

from adinsights_orchestration.health.catalog import CATALOG, unwatched, watched
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.owners import DATA_ENG, PLATFORM_ENG
from adinsights_orchestration.settings import Settings


def test_every_component_has_an_entry_and_what_is_not_configured_is_not_watched() -> None:
    assert set(CATALOG) == set(Component)
    bare = Settings()
    assert set(watched(bare)) | set(unwatched(bare)) == set(Component)
    assert set(unwatched(bare)) == {
        Component.FRONTEND,
        Component.SUPERSET,
        Component.DASHBOARDS,
        Component.OBJECT_STORE,
        Component.SCHEDULER,
    }


def test_every_component_belongs_to_the_team_that_the_runbook_names_for_it() -> None:
    data = {
        Component.BACKEND_AIRBYTE,
        Component.BACKEND_DBT,
        Component.DASHBOARDS,
        Component.AIRBYTE,
        Component.WEBHOOK,
        Component.DBT,
        # Read from the backend's database; what is wrong with it is its rows, its grants or its file.
        Component.REGISTRY,
    }
    platform = {
        Component.FRONTEND,
        Component.BACKEND,
        Component.API,
        Component.SUPERSET,
        Component.WAREHOUSE,
        Component.OBJECT_STORE,
        Component.DAGSTER_DAEMONS,
        Component.CODE_LOCATIONS,
        Component.SCHEDULER,
    }
    teams = {**dict.fromkeys(data, DATA_ENG), **dict.fromkeys(platform, PLATFORM_ENG)}
    assert {component: entry.owner for component, entry in CATALOG.items()} == teams
