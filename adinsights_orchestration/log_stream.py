"""What any program prints, turned into the project's log lines: the last step before a line leaves a process.

Belongs here: reading lines (ours, Dagster's, dbt's, a traceback, a stray print), giving each the one shape, redacting
them. Does not belong here: starting programs (`cli/exec.py`). Dagster's webserver and daemon never import this project,
and their own `--log-format json` drops tracebacks, so their plain text is read instead. Only the standard library is
imported: a forwarder runs beside every process, and should weigh little.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

from adinsights_orchestration import redaction
from adinsights_orchestration.log_shape import iso_milliseconds, ordered, to_json

COMPONENT_VARIABLE = "ADINSIGHTS_COMPONENT"
_QUIET_SECONDS = 0.2  # a block of lines that nothing follows for this long is complete
_LONGEST_BLOCK = 2_000  # lines
_LONGEST_LINE = 1 << 20  # bytes
_CHUNK = 1 << 16

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LEVELS = {"WARN": "warning", "FATAL": "critical", "TRACE": "debug", "NOTSET": "debug"}
# As dagster._utils.log formats a record: its time, its logger, its level, its message.
_DAGSTER = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}) - ([\w.:-]+) - ([A-Z]+) - (.*)", re.DOTALL)
_DBT = re.compile(r"\d\d:\d\d:\d\d(?:\.\d+)?  ?(.*)")
_UVICORN = re.compile(r"(TRACE|DEBUG|INFO|WARNING|ERROR|CRITICAL):\s+(.*)")
_RUN = re.compile(
    r"(?P<job>[\w.-]+) - (?P<run>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}) - (?:\d+ - )?(?P<rest>.*)", re.DOTALL
)
_TRACEBACK = "Traceback (most recent call last):"
_BETWEEN_TRACEBACKS = ("During handling of the above exception", "The above exception was", _TRACEBACK)
# Other programs' names for our fields.
_ALIASES = {
    **dict.fromkeys(("event", "msg", "text"), "message"),
    **dict.fromkeys(("ts", "time", "asctime", "@timestamp"), "timestamp"),
    **dict.fromkeys(("levelname", "severity", "log_level"), "level"),
    **dict.fromkeys(("exc_info", "exc_text", "stack_trace"), "exception"),
    "name": "logger",
}


@dataclass
class _Block:
    """Lines that belong together: a record's text and what followed it."""

    fields: dict[str, Any]
    lines: list[str] = field(default_factory=list)
    in_traceback: bool = False

    def finished(self) -> dict[str, Any]:
        """The block as fields: the first part is the message, a traceback in it the exception."""
        text = "\n".join(self.lines).rstrip()
        at = text.find(_TRACEBACK)
        if at < 0:
            return {**self.fields, "message": text}
        trace = text[at:]
        message = text[:at].strip() or trace.rstrip().splitlines()[-1]
        return {**self.fields, "message": message, "exception": trace}


class LineReader:
    """Puts lines together into records, one line at a time.

    Args:
        component: What to call a process that does not say it itself.
        now: Seconds since the epoch, for lines that carry no exact time.
    """

    def __init__(self, component: str, now: Callable[[], float] = time.time) -> None:
        self._component = component
        self._now = now
        self._open: _Block | None = None

    def feed(self, line: str) -> Iterator[dict[str, Any]]:
        """Takes one line without its end; yields the records that it completes."""
        line = _ANSI.sub("", line).rstrip()
        if (fields := _json_object(line)) is not None:
            yield from self.flush()
            yield self._complete(_renamed(fields))
        elif self._continues(line):
            yield from self._continue(line)
        elif line:
            yield from self.flush()
            self._open = _opened(line)

    def flush(self) -> Iterator[dict[str, Any]]:
        """Yields the record that is still open, if there is one."""
        if self._open is not None:
            block, self._open = self._open, None
            yield self._complete(block.finished())

    @property
    def waiting(self) -> bool:
        """Whether a record is still open."""
        return self._open is not None

    def _continues(self, line: str) -> bool:
        if self._open is None or _DAGSTER.match(line):
            return False
        return self._open.in_traceback or "dagster_time" in self._open.fields or line[:1] in (" ", "\t")

    def _continue(self, line: str) -> Iterator[dict[str, Any]]:
        block = self._open
        assert block is not None
        block.lines.append(line)
        if line.startswith(_TRACEBACK):
            block.in_traceback = True
        last = block.in_traceback and line[:1] not in (" ", "\t", "") and not line.startswith(_BETWEEN_TRACEBACKS)
        # A traceback ends with the exception's own line; of a record that Dagster wrote more may follow.
        if (last and "dagster_time" not in block.fields) or len(block.lines) >= _LONGEST_BLOCK:
            block.in_traceback = False
            yield from self.flush()

    def _complete(self, fields: dict[str, Any]) -> dict[str, Any]:
        arrived = _moment(fields.pop("dagster_time", None), self._now())
        fields["timestamp"] = fields.get("timestamp") or arrived
        fields.setdefault("level", "info")
        fields["level"] = _LEVELS.get(str(fields["level"]).upper(), str(fields["level"]).lower())
        fields.setdefault("component", self._component)
        fields.setdefault("message", "")
        return ordered(fields)


def render(fields: dict[str, Any]) -> str:
    """A record's line, redacted."""
    return to_json(redaction.redact_value(fields))


def forward(source: int, target: BinaryIO, reader: LineReader) -> None:
    """Copies lines from a file descriptor to `target` until its end, in the project's shape.

    Args:
        source: File descriptor to read; its end is the end of every process that writes to it.
        target: Where lines go.
        reader: Puts the lines together.
    """
    rest = b""
    while True:
        timeout = _QUIET_SECONDS if reader.waiting else None
        if not select.select([source], [], [], timeout)[0]:
            _write(target, reader.flush())
            continue
        chunk = os.read(source, _CHUNK)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > _LONGEST_LINE:
            lines, rest = [*lines, rest], b""
        for line in lines:
            _write(target, reader.feed(line.decode(errors="replace")))
        target.flush()
    _write(target, reader.feed(rest.decode(errors="replace")))
    _write(target, reader.flush())


def main() -> None:
    """Forwards standard input to standard output; ends when the last process that writes to it has ended."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # what the stopped program prints last matters most
    redaction.use(redaction.Redactor(redaction.environment_secrets(os.environ)))
    component = os.environ.get(COMPONENT_VARIABLE, "process")
    try:
        forward(sys.stdin.fileno(), sys.stdout.buffer, LineReader(component))
    except BrokenPipeError:  # nobody reads any more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(target: BinaryIO, records: Iterator[dict[str, Any]]) -> None:
    for record in records:
        target.write(render(record).encode() + b"\n")
        target.flush()


def _json_object(line: str) -> dict[str, Any] | None:
    if not (line.startswith("{") and line.endswith("}")):
        return None
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and fields else None


def _renamed(fields: dict[str, Any]) -> dict[str, Any]:
    """Another program's JSON with our field names; ours passes unchanged."""
    if "component" in fields and "message" in fields:
        return fields
    if isinstance(fields.get("info"), dict) and "data" in fields:
        return _from_dbt(fields["info"], fields["data"])
    renamed = {_ALIASES.get(key, key): value for key, value in fields.items()}
    return renamed | {"timestamp": _timestamp(renamed.get("timestamp"))}


def _from_dbt(info: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
    """One of dbt's structured events; of its data only the node, its state and its time are kept."""
    node = data.get("node_info") or {}
    seconds = data.get("execution_time")
    return {
        "timestamp": _timestamp(info.get("ts")),
        "level": info.get("level", "info"),
        "message": _ANSI.sub("", str(info.get("msg", ""))),
        "logger": "dbt",
        "dbt_event": info.get("name"),
        "invocation_id": info.get("invocation_id"),
        "node": node.get("unique_id"),
        "node_status": node.get("node_status"),
        "duration_ms": round(seconds * 1000) if isinstance(seconds, int | float) else None,
    }


def _opened(line: str) -> _Block:
    if found := _DAGSTER.match(line):
        moment, logger, level, text = found.groups()
        fields = {"dagster_time": moment, "logger": logger, "level": level}
        if run := _RUN.match(text):
            fields |= {"dagster_job": run["job"], "run_id": run["run"]}
            text = run["rest"]
        return _Block(fields, [text])
    if found := _UVICORN.match(line):
        return _Block({"level": found[1]}, [found[2]])
    if found := _DBT.match(line):
        return _Block({"logger": "dbt"}, [found[1]])
    if line.startswith(_TRACEBACK):
        return _Block({"level": "error"}, [line], in_traceback=True)
    return _Block({}, [line])


def _timestamp(value: object) -> str | None:
    """Another program's timestamp in our form; None when it cannot be read."""
    try:
        if isinstance(value, int | float):
            return iso_milliseconds(value)
        moment = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        return None
    return iso_milliseconds((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _moment(dagster_time: str | None, arrived: float) -> str:
    """Dagster's text has whole seconds: the arrival is more exact, unless the line lay somewhere in between."""
    if dagster_time is None:
        return iso_milliseconds(arrived)
    written = datetime.strptime(dagster_time, "%Y-%m-%d %H:%M:%S %z").astimezone(UTC).timestamp()
    return iso_milliseconds(arrived if 0 <= arrived - written < 2 else written)


if __name__ == "__main__":
    main()
