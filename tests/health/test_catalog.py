"""The catalog of components: complete, and watched by what the settings name."""

from __future__ import annotations

from adinsights_orchestration.health.catalog import CATALOG, unwatched, watched
from adinsights_orchestration.health.model import Component
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
