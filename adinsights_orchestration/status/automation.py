"""The overview in Dagster: the asset `monitoring/overview`, and the sensor that writes it and the status file.

Belongs here: ticks, events, and a line about each. Does not belong here: what the page says (`overview`). The sensor
reads the ops store and nothing else, apart from those that fill it: when one of them stands still, this one says so.
"""

from __future__ import annotations

from datetime import datetime

import dagster as dg

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status import file
from adinsights_orchestration.status.links import OVERVIEW_SECTION, Links
from adinsights_orchestration.status.model import Status
from adinsights_orchestration.status.overview import Written, headline, render, to_write
from adinsights_orchestration.status.reading import down, take_status
from adinsights_orchestration.unattended import declared, sensor_status

OVERVIEW = dg.AssetKey(["monitoring", "overview"])
LOCK = "overview_publish"
_log = get_logger(__name__)


def build_overview(settings: Settings, store: OpsStore, *, clock: Clock = utc_now) -> dg.Definitions:
    """Builds the overview's asset and, where this environment declares it, the sensor that writes it."""
    sensor = _sensor(settings, store, clock)
    return dg.Definitions(assets=[_spec(settings)], sensors=[sensor] if sensor else [])


def observation(status: Status, links: Links) -> dg.AssetObservation:
    """The page as an event."""
    return dg.AssetObservation(
        asset_key=OVERVIEW,
        description=headline(status),
        metadata={
            "overall": dg.MetadataValue.text(status.overall.value),
            # Dagster shows the page only on a click; what is wrong is read without one.
            "what is wrong": dg.MetadataValue.text("; ".join(status.reasons) or "nothing"),
            "overview": dg.MetadataValue.md(render(status, links)),
            "as of": dg.MetadataValue.timestamp(status.as_of),
        },
    )


def _spec(settings: Settings) -> dg.AssetSpec:
    return dg.AssetSpec(
        OVERVIEW,
        group_name="monitoring",
        owners=["platform-eng@example.com"],
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
    def overview_publish(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        status = _taken(settings, store, clock())
        if status is None:
            return dg.SensorResult(skip_reason="another tick is at work")
        said = [status.overall.value, *_kept(settings, status)]
        new = to_write(status, Written.from_json(context.cursor))
        if new is not None:
            context.instance.report_runless_asset_event(observation(status, Links.of(settings)))
            said.append("overview written")
        return dg.SensorResult(skip_reason=", ".join(said), cursor=new.to_json() if new else None)

    return overview_publish


def _taken(settings: Settings, store: OpsStore, now: datetime) -> Status | None:
    """The picture; None while another tick takes one."""
    try:
        with store.exclusive(LOCK) as mine:
            return take_status(settings, store, now) if mine else None
    except OpsStoreError as error:
        _log.error("no picture without the ops store", reason=str(error))
        return down(settings, error, now)


def _kept(settings: Settings, status: Status) -> list[str]:
    """Keeps the file; a full disk is no reason to leave the overview as it is."""
    try:
        file.keep(settings, status)
    except file.StatusFileError as error:
        _log.error("status file not written", reason=str(error))
        return [f"STATUS FILE NOT WRITTEN: {error}"]
    return []
