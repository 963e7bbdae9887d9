"""The shape of a log line: which fields come first, how a moment is written, how a line becomes JSON.

Belongs here: what `logs` (records of this process) and `log_stream` (text of other programs) have in common, made of
the standard library only. Does not belong here: where fields come from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

# The first keys of a line, in this order; the rest follow in the order in which they were given.
LEADING_FIELDS = (
    *("timestamp", "level", "component", "message", "tenant", "connection", "job", "run_id", "duration_ms"),
    "correlation_id",
)


def ordered(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with the leading ones first, without empty ones; a connection's tenant is derived from its key."""
    connection = fields.get("connection")
    tenant = connection.split("/")[0] if isinstance(connection, str) and "/" in connection else None
    known = {key: value for key, value in ({"tenant": tenant} | dict(fields)).items() if value is not None}
    leading = {key: known.pop(key) for key in LEADING_FIELDS if key in known}
    return {**leading, **known}


def to_json(fields: Mapping[str, Any]) -> str:
    """One line of ASCII JSON (no reader takes a character for a line end); what JSON cannot hold becomes its text."""
    return json.dumps(fields, default=str, separators=(",", ":"))


def iso_milliseconds(epoch_seconds: float) -> str:
    """UTC in ISO 8601 with milliseconds: `2026-11-23T08:19:38.123Z`."""
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
