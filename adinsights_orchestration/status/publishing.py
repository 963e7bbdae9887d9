"""Writing the overview and the status file: the work of a tick.

Belongs here: taking the picture once, keeping the file, the event. Does not belong here: what the page says
(`overview`), when it is written (`automation`).
"""

from __future__ import annotations

from datetime import datetime

import dagster as dg

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status import file
from adinsights_orchestration.status.links import Links
from adinsights_orchestration.status.model import Status
from adinsights_orchestration.status.overview import Written, headline, render, to_write
from adinsights_orchestration.status.reading import down, take_status

LOCK = "overview_publish"
_log = get_logger(__name__)


def publish(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    settings: Settings,
    store: OpsStore,
    now: datetime,
    last: str | None,
) -> tuple[str, str | None]:
    """Takes the picture, keeps the file, and writes the page where it says something new or is old.

    Args:
        instance: Where the page is written.
        asset: The overview.
        settings: With the file's place.
        store: The ops store; one that does not answer is told as `down`.
        now: The moment.
        last: What an earlier one returned as its second value.

    Returns:
        A line for the tick, and what to give to the next one; None: as before.
    """
    status = _taken(settings, store, now)
    if status is None:
        return "another tick is at work", None
    said = [status.overall.value, *_kept(settings, status)]
    new = to_write(status, Written.from_json(last))
    if new is not None:
        instance.report_runless_asset_event(_observation(asset, status, Links.of(settings)))
        said.append("overview written")
    return ", ".join(said), new.to_json() if new else None


def _observation(asset: dg.AssetKey, status: Status, links: Links) -> dg.AssetObservation:
    """The page as an event."""
    return dg.AssetObservation(
        asset_key=asset,
        description=headline(status),
        metadata={
            "overall": dg.MetadataValue.text(status.overall.value),
            # Dagster shows the page only on a click; what is wrong is read without one.
            "what is wrong": dg.MetadataValue.text("; ".join(status.reasons) or "nothing"),
            "overview": dg.MetadataValue.md(render(status, links)),
            "as of": dg.MetadataValue.timestamp(status.as_of),
        },
    )


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
