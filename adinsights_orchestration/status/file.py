"""The status as a file: what a load balancer or a dashboard reads that cannot ask the ops store.

Belongs here: writing it. Does not belong here: when (`automation`). A file outlives whoever wrote it: without an ops
store it says `down`, and its readers have to look at `as_of`.
"""

from __future__ import annotations

import json
from datetime import datetime

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.redaction import redact_value
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.model import Status, to_json
from adinsights_orchestration.status.reading import status_or_down
from adinsights_orchestration.whole_file import replace_whole


class StatusFileError(AdinsightsError):
    """The status file could not be replaced; the one before it is whole, and grows old."""


def write_status_file(settings: Settings, store: OpsStore, now: datetime) -> Status | None:
    """Takes the picture and writes it where `health.status_path` says.

    Args:
        settings: With the path; without one nothing is read or written.
        store: The ops store; one that does not answer is written as `down`.
        now: The moment.

    Returns:
        What was written; None without a path.

    Raises:
        StatusFileError: The file could not be written.
    """
    if settings.health.status_path is None:
        return None
    status = status_or_down(settings, store, now)
    keep(settings, status)
    return status


def keep(settings: Settings, status: Status) -> None:
    """Writes a status where `health.status_path` says; without a path nothing is written.

    Raises:
        StatusFileError: The file could not be written.
    """
    path = settings.health.status_path
    if path is None:
        return
    content = json.dumps(redact_value(to_json(status)), indent=2, ensure_ascii=False) + "\n"
    try:
        replace_whole(path, content.encode())
    except OSError as error:
        raise StatusFileError(
            f"the status file could not be written ({error.strerror or error})",
            place=str(path),
            next_step="Make room or give write permission to its folder; the next tick writes it.",
        ) from error
