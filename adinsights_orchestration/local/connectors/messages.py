"""The Airbyte protocol as a connector speaks it: one JSON message per line of standard output.

Belongs here: reading a line into the value that the runner acts on. Does not belong here: acting on it. What the runner
has no use for is None; a line that is not a message is something a library printed, and becomes a log line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson


@dataclass(frozen=True, slots=True)
class Record:
    """A row: `emitted_at` in milliseconds since 1970, `size` in bytes of the message."""

    stream: str
    data: dict[str, Any]
    emitted_at: int
    size: int


@dataclass(frozen=True, slots=True)
class State:
    """A stream's position, which covers every record of that stream before it."""

    stream: str
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How far a stream is: STARTED, RUNNING, COMPLETE, INCOMPLETE."""

    stream: str
    status: str


@dataclass(frozen=True, slots=True)
class TraceError:
    """Why a stream, or the whole source if `stream` is None, failed."""

    type: str
    message: str
    internal_message: str
    stream: str | None


@dataclass(frozen=True, slots=True)
class Log:
    """A line for a developer."""

    level: str
    text: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """What `discover` found."""

    catalog: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """What `check` found: SUCCEEDED or FAILED, and why."""

    status: str
    message: str


Message = Record | State | StreamStatus | TraceError | Log | Catalog | ConnectionStatus


def parse(line: bytes) -> Message | None:
    """Reads one line; None for messages that nobody acts on."""
    try:
        message = orjson.loads(line)
        kind = message["type"]
    except (ValueError, TypeError, KeyError):
        return Log("DEBUG", line.decode(errors="replace"))
    if kind == "RECORD":  # first, because there are thousands of them to each of the others
        record = message["record"]
        return Record(record["stream"], record["data"], record["emitted_at"], len(line))
    return _parse_other(kind, message)


def _parse_other(kind: str, message: dict[str, Any]) -> Message | None:
    match kind:
        case "STATE":
            stream = message["state"]["stream"]
            return State(stream["stream_descriptor"]["name"], stream["stream_state"])
        case "TRACE":
            return _parse_trace(message["trace"])
        case "LOG":
            return Log(message["log"]["level"], message["log"]["message"])
        case "CATALOG":
            return Catalog(message["catalog"])
        case "CONNECTION_STATUS":
            status = message["connectionStatus"]
            return ConnectionStatus(status["status"], status.get("message") or "")
        case _:
            return None


def _parse_trace(trace: dict[str, Any]) -> Message | None:
    if trace["type"] == "STREAM_STATUS":
        status = trace["stream_status"]
        return StreamStatus(status["stream_descriptor"]["name"], status["status"])
    if trace["type"] != "ERROR":
        return None
    error = trace["error"]
    stream = (error.get("stream_descriptor") or {}).get("name")
    message = error.get("message") or ""
    return TraceError(
        error.get("failure_type") or "system_error", message, error.get("internal_message") or message, stream
    )
