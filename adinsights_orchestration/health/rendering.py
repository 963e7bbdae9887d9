"""How health looks in Dagster: an asset and a check per component, and the texts and metadata of their events.

Belongs here: from a value to what the UI shows. Does not belong here: when something is written (`showing`).
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from adinsights_orchestration.dagster_internals.events import CheckResult
from adinsights_orchestration.health.catalog import CATALOG, Entry
from adinsights_orchestration.health.model import Component, ComponentState, Health
from adinsights_orchestration.health.runbook import SECTIONS
from adinsights_orchestration.settings import Settings

CHECK = "healthy"
GROUP = "health"
_UPSTREAM: dict[Component, tuple[Component, ...]] = {
    Component.FRONTEND: (Component.BACKEND,),
    Component.API: (Component.BACKEND,),
    Component.BACKEND_AIRBYTE: (Component.BACKEND, Component.AIRBYTE, Component.WEBHOOK),
    Component.BACKEND_DBT: (Component.BACKEND, Component.DBT),
    Component.DASHBOARDS: (Component.BACKEND, Component.DBT),
    Component.SUPERSET: (Component.WAREHOUSE,),
    Component.WEBHOOK: (Component.AIRBYTE, Component.BACKEND),
    Component.DBT: (Component.WAREHOUSE,),
}


def asset_key(component: Component) -> dg.AssetKey:
    """The component's asset, `health/<component>`."""
    return dg.AssetKey(["health", component.value])


def asset_spec(component: Component, entry: Entry, settings: Settings) -> dg.AssetSpec:
    """The component as an external asset; it hangs on what it cannot work without."""
    return dg.AssetSpec(
        asset_key(component),
        deps=[asset_key(one) for one in _UPSTREAM.get(component, ()) if CATALOG[one].is_watched(settings.health)],
        group_name=GROUP,
        owners=[entry.owner],
        kinds={entry.kind},
        description=f"{entry.watches}\n\n**While it is down:** {entry.breaks}",
        metadata={"runbook": dg.MetadataValue.url(f"{settings.runbook_url}#{SECTIONS[component]}")},
    )


def check_spec(component: Component) -> dg.AssetCheckSpec:
    """The check that shows whether the component is well."""
    return dg.AssetCheckSpec(
        CHECK,
        asset=asset_key(component),
        description="Is it well? Written when that changes; yellow while it is degraded or unknown, red while it is "
        "down. *Execute* asks every component now.",
    )


def check_result(state: ComponentState) -> CheckResult:
    """A component's standing for its check: a warning while it is degraded or nothing is known, an error while down."""
    reading = state.reading
    severity = dg.AssetCheckSeverity.ERROR if reading.health is Health.DOWN else dg.AssetCheckSeverity.WARN
    return CheckResult(None, reading.health is Health.OK, _line(state), metadata(state), severity)


def observation(state: ComponentState) -> dg.AssetObservation:
    """A component's standing as an event of its asset."""
    key = asset_key(state.reading.component)
    return dg.AssetObservation(asset_key=key, description=_line(state), metadata=metadata(state))


def metadata(state: ComponentState) -> dict[str, dg.MetadataValue[Any]]:
    """What the event says beside its line."""
    reading = state.reading
    found: dict[str, dg.MetadataValue[Any]] = {
        "health": dg.MetadataValue.text(reading.health.value),
        "state": dg.MetadataValue.text(reading.state),
        "detail": dg.MetadataValue.text(reading.detail),
        "since": dg.MetadataValue.timestamp(state.since),
        "facts": dg.MetadataValue.json(dict(reading.facts)),
    }
    if reading.latency_ms is not None:
        found["latency (ms)"] = dg.MetadataValue.float(float(reading.latency_ms))
    if reading.value is not None:
        found["value"] = dg.MetadataValue.float(float(reading.value))
    if state.last_ok_at is not None:
        found["last ok"] = dg.MetadataValue.timestamp(state.last_ok_at)
    return found


def _line(state: ComponentState) -> str:
    return f"{state.reading.health.value} ({state.reading.state}): {state.reading.detail}"
