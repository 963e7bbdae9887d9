"""The status as a file or an object: what a load balancer or a dashboard reads that cannot ask the ops store.

Belongs here: writing it. Does not belong here: when (`automation`). A file outlives whoever wrote it, so its
readers have to look at `as_of` first: without Dagster's database, in which the ops store is a schema, no tick runs, and
the file keeps the last picture. Only where a tick still runs does it say `down`.
"""

from __future__ import annotations

import json
from pathlib import Path

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.objects import Access, ObjectError, replace_object
from adinsights_orchestration.redaction import redact_value
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.kept import places
from adinsights_orchestration.status.model import Status, to_json
from adinsights_orchestration.whole_file import replace_whole

_OBJECT_SECONDS = 15.0  # a tick has a minute, and the overview is to be written in it too


class StatusFileError(AdinsightsError):
    """The status file could not be replaced; the one before it is whole, and grows old."""


def keep(settings: Settings, status: Status) -> None:
    """Writes a status wherever the settings say; a place that cannot be written keeps no other from it.

    Raises:
        StatusFileError: One of the places could not be written; the first of them.
    """
    content = (json.dumps(redact_value(to_json(status)), indent=2, ensure_ascii=False) + "\n").encode()
    access = Access.of(settings.audit_log)
    failures = [failure for place in places(settings) if (failure := _write(place, content, access)) is not None]
    if failures:
        raise failures[0]


def _write(place: Path | str, content: bytes, access: Access) -> StatusFileError | None:
    try:
        _write_file(place, content) if isinstance(place, Path) else _write_object(place, content, access)
    except StatusFileError as failure:
        return failure
    return None


def _write_object(url: str, content: bytes, access: Access) -> None:
    place = "ADINSIGHTS_HEALTH__STATUS_URL"
    try:
        replace_object(url, content, access, timeout_seconds=_OBJECT_SECONDS, place=place)
    except ObjectError as error:
        raise StatusFileError(
            f"the status object could not be written: {error.problem}", place=place, next_step=error.next_step
        ) from error


def _write_file(path: Path, content: bytes) -> None:
    try:
        replace_whole(path, content)
    except OSError as error:
        raise StatusFileError(
            f"the status file could not be written ({error.strerror or error})",
            place=str(path),
            next_step="Make room or give write permission to its folder; the next tick writes it.",
        ) from error
