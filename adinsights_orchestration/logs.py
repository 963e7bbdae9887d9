"""Logs: one JSON object a line, the same fields from every process, nothing secret in any of them.

Belongs here: the shape of a line, configuring a process, binding fields to what happens inside a block. Not here:
what must not be read (`redaction`), Dagster's own loggers and event log (`dagster_internals`), and text that other
programs print (`log_stream`). A line says what, when, where (`component`), for whom (`tenant`, `connection`), in which
Airbyte `job` and Dagster `run_id`, how long (`duration_ms`), and what else belongs to it (`correlation_id`).
"""

from __future__ import annotations

import logging
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TextIO, TypeVar

import structlog

from adinsights_orchestration import redaction
from adinsights_orchestration.log_shape import iso_milliseconds, ordered, to_json
from adinsights_orchestration.settings import Settings

_P = ParamSpec("_P")
_T = TypeVar("_T")
CORRELATION_TAG = "adinsights/correlation_id"
_FIELDS_ATTRIBUTE = "adinsights_fields"
_RECORD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_DAGSTER_ATTRIBUTES = frozenset(("dagster_meta", "dagster_event", "dagster_event_batch_metadata"))
# These write a line per request or statement at INFO: volume without news.
_CHATTY = ("httpx", "httpcore", "urllib3", "alembic", "asyncio", "uvicorn.access")


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Returns a logger whose keyword arguments become fields of the line."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def bound(**fields: object) -> AbstractContextManager[None]:
    """Adds fields to every line written inside the block, whoever writes it (this thread or task only)."""
    return structlog.contextvars.bound_contextvars(**fields)


def new_correlation_id() -> str:
    """Returns an id that ties the lines of one tick, command or request together across processes."""
    return uuid.uuid4().hex[:16]


def correlated(tick: Callable[_P, _T]) -> Callable[_P, _T]:
    """Gives all lines of one call the same new correlation id; for the function of a sensor or schedule."""

    @wraps(tick)
    def one(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with bound(correlation_id=new_correlation_id()):
            return tick(*args, **kwargs)

    return one


def correlation_tags() -> dict[str, str]:
    """The tag by which a run that is started here belongs to what starts it."""
    known = structlog.contextvars.get_contextvars().get("correlation_id")
    return {CORRELATION_TAG: known} if known else {}


@contextmanager
def timed(logger: structlog.stdlib.BoundLogger, message: str, **fields: object) -> Iterator[dict[str, object]]:
    """Writes one line with `duration_ms` and `outcome` when the block ends; the block may add fields to it."""
    started = time.monotonic()
    added: dict[str, object] = {}
    try:
        yield added
    except BaseException:
        # The exception itself is for whoever handles it; written here too it would stand in the log twice.
        logger.error(message, **fields, **added, outcome="failed", duration_ms=_since(started))  # noqa: TRY400
        raise
    logger.info(message, **fields, **added, outcome="done", duration_ms=_since(started))


def configure_logging(settings: Settings, component: str, *, stream: TextIO | None = None) -> None:
    """Makes this process log in the project's shape, and hides everything that its settings and environment hold.

    Args:
        settings: `log.level`, `log.json_lines`, and every secret.
        component: What this process is: `cli`, `pipelines`, `monitoring`.
        stream: Where lines go; standard error when None, because standard output belongs to a command's result.
    """
    secrets = [*redaction.settings_secrets(settings), *redaction.environment_secrets(os.environ)]
    redaction.use(redaction.Redactor(secrets))
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(settings, component))
    handler.set_name("adinsights")
    handler.addFilter(_not_printed_by_dagster)
    _install(handler, settings.log.level)
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, _as_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def configure_dagster_logging(settings: Settings, component: str) -> None:
    """`configure_logging` for a process that runs Dagster's user code: a code server, a run, a step.

    On top of it, runs print in the same shape, and neither a record's message nor an error's text reaches Dagster's
    event log, its ticks or its UI before it was redacted. Called by the code locations when they load.
    """
    from adinsights_orchestration.dagster_internals import process_logs

    formatter = _formatter(settings, component)
    configure_logging(settings, component, stream=process_logs.uncaptured_stderr())
    process_logs.use_root_handler()
    process_logs.use_console_formatter(formatter)
    process_logs.show_in_compute_logs("dbt", formatter)
    process_logs.expect_unfinished_interfaces()
    process_logs.redact_records(redaction.redact)
    process_logs.redact_errors(redaction.redact)


class JsonFormatter(logging.Formatter):
    """Formats any log record, ours, a library's or Dagster's, as one JSON object.

    Usable from `dagster.yaml` as a formatter with `(): adinsights_orchestration.logs.JsonFormatter`.
    """

    def __init__(self, component: str = "dagster") -> None:
        super().__init__()
        self.component = component

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record's line, without the line end."""
        return to_json(redaction.redact_value(envelope(record, self.component)))


class PlainFormatter(JsonFormatter):
    """The same fields for a person at a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns `time level message field=value ...`."""
        fields = redaction.redact_value(envelope(record, self.component))
        head = f"{fields.pop('timestamp')[11:23]} {fields.pop('level'):<7} {fields.pop('message')}"
        exception = fields.pop("exception", None)
        # dbt's own sentence says it all to a person.
        hidden = tuple(fields) if fields["logger"] == "dbt" else ("component", "logger")
        rest = " ".join(f"{key}={value}" for key, value in fields.items() if key not in hidden)
        return "\n".join(part for part in (f"{head}  {rest}".rstrip(), exception) if part)


def _formatter(settings: Settings, component: str) -> JsonFormatter:
    return JsonFormatter(component) if settings.log.json_lines else PlainFormatter(component)


def envelope(record: logging.LogRecord, component: str) -> dict[str, Any]:
    """The fields of a record in the project's order; nothing is redacted yet.

    Sources, the later ones winning: the context (`bound`), the run that Dagster attached, the record's own fields.
    """
    attached = record.__dict__
    fields: dict[str, Any] = dict(structlog.contextvars.get_contextvars())
    meta = attached.get("dagster_meta")
    if meta is not None:
        fields.update({key: value for key, value in _run_fields(meta).items() if value is not None})
    fields.update({key: value for key, value in attached.items() if _is_extra(key)})
    fields.update(attached.get(_FIELDS_ATTRIBUTE, {}))
    fields.setdefault("component", component)
    fields["message"] = _message(record) if meta is None else meta["orig_message"]
    fields["timestamp"] = iso_milliseconds(record.created)
    fields["level"] = record.levelname.lower()
    fields["logger"] = record.name
    if record.exc_info and record.exc_info[0] is not None:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return ordered(fields)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit the text: a line all the same
        return f"{record.msg} {record.args}"


def _run_fields(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What Dagster knows of the run or tick a record was written in; `meta` is its log record metadata."""
    tags: Mapping[str, str] = meta.get("job_tags") or {}
    fields = {
        "run_id": meta.get("run_id"),
        "dagster_job": meta.get("job_name"),
        "step": meta.get("step_key"),
        "connection": tags.get("dagster/partition"),
        "correlation_id": tags.get(CORRELATION_TAG) or meta.get("run_id"),  # a run that nobody else started
        "automation": meta.get("name"),
    }
    event = meta.get("dagster_event")
    if event is not None:
        data = event.event_specific_data
        error = getattr(data, "error", None)
        fields |= {
            "dagster_event": event.event_type_value,
            "duration_ms": getattr(data, "duration_ms", None),
            "exception": error.to_string() if error is not None else None,
        }
    return fields


def _is_extra(key: str) -> bool:
    return key not in _RECORD_ATTRIBUTES and key not in _DAGSTER_ATTRIBUTES and key != _FIELDS_ATTRIBUTE


def _as_record(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The last structlog processor: hands the event to stdlib logging, its fields under one attribute.

    One attribute, because stdlib refuses fields named like its own (`name`, `args`), and because Dagster shows a
    captured record's message: a whole dictionary there would be noise.
    """
    passed = {key: event.pop(key) for key in ("exc_info", "stack_info", "stacklevel") if key in event}
    return {"msg": event.pop("event"), "extra": {_FIELDS_ATTRIBUTE: dict(event)}, **passed}


def _not_printed_by_dagster(record: logging.LogRecord) -> bool:
    """Inside a run Dagster hands every captured record to the run's own logger, which prints it."""
    return not hasattr(record, "dagster_meta")


def _install(handler: logging.Handler, level: str) -> None:
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.get_name() == handler.get_name()]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
