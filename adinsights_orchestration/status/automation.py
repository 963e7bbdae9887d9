"""The overview in Dagster: the asset `monitoring/overview`, and the sensor that writes it and the status file.

Belongs here: what Dagster is told of both. Does not belong here: a tick's work (`publishing`), which is imported by the
first tick: reading the status's model for its descriptions takes a tenth of a second, and a location loads without it.
The sensor reads the ops store and nothing else, apart from those that fill it: when one of them stands still, this one
says so.
"""

from __future__ import annotations

import dagster as dg

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.logs import correlated
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.owners import PLATFORM_ENG
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.links import OVERVIEW_SECTION, Links
from adinsights_orchestration.unattended import declared, sensor_status

OVERVIEW = dg.AssetKey(["monitoring", "overview"])


def build_overview(settings: Settings, store: OpsStore, *, clock: Clock = utc_now) -> dg.Definitions:
    """Builds the overview's asset and, where this environment declares it, the sensor that writes it."""
    sensor = _sensor(settings, store, clock)
    return dg.Definitions(assets=[_spec(settings)], sensors=[sensor] if sensor else [])


def _spec(settings: Settings) -> dg.AssetSpec:
    return dg.AssetSpec(
        OVERVIEW,
        group_name="monitoring",
        owners=[PLATFORM_ENG],
        kinds={"dagster"},
        description=(
            "What on-call opens first: every component, the stalest connections, what else to know, red on top. It is "
            "the entry `overview` of the newest observation. `adinsights status` prints the same.\n\n**When it is "
            "late:** monitoring stands still, and nothing here or in an alert can be believed; look at the sensor "
            f"`{Automation.OVERVIEW}` and at the daemons."
        ),
        metadata={"runbook": dg.MetadataValue.url(Links.of(settings).runbook(OVERVIEW_SECTION))},
    )


def _sensor(settings: Settings, store: OpsStore, clock: Clock) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.OVERVIEW)
    if unattended is None:
        return None

    @dg.sensor(
        name=Automation.OVERVIEW.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Writes the overview of everything, and the status file where one is configured. When it does not "
        "tick, both stand still: each says as of when it is.",
        tags={"adinsights/kind": "overview"},
    )
    @correlated
    def overview_publish(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from adinsights_orchestration.status.publishing import publish

        said, cursor = publish(context.instance, OVERVIEW, settings, store, clock(), context.cursor)
        return dg.SensorResult(skip_reason=said, cursor=cursor)

    return overview_publish
