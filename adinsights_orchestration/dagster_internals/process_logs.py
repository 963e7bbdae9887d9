"""What a Dagster process writes and stores, brought under our control: its loggers, its runs' console, its errors.

Belongs here: the four places where Dagster decides how a record looks or what text of an error is kept. Does not belong
here: the look itself and what must be hidden; both are handed in. Dagster offers settings for none of them: the console
logger of a run cannot be replaced without run config, and an error's text goes to the event log and the UI as it is.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from typing import Any

import dagster as dg
import dagster._loggers as dagster_loggers
from dagster_shared.error import SerializableErrorInfo

Redact = Callable[[str], str]

# `dagster._utils.log.configure_loggers` gives each of these a handler of its own.
_DAGSTER_LOGGERS = ("dagster", "dagit", "dagster-webserver")
_original_from_traceback = SerializableErrorInfo.from_traceback.__func__  # type: ignore[attr-defined]


def use_root_handler() -> None:
    """Takes the handlers off Dagster's loggers, so that their records reach the root logger's handler, once."""
    for name in _DAGSTER_LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = True
        for handler in [handler for handler in logger.handlers if _writes_to_the_console(handler)]:
            logger.removeHandler(handler)


def use_run_formatter(formatter: logging.Formatter) -> None:
    """Makes every run of this process print its records with `formatter`, to standard error."""

    def console(context: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.getLoggerClass()(context.logger_config["name"], context.logger_config["log_level"])
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        return logger

    schema = dagster_loggers.colored_console_logger.config_schema  # run config may name the console logger
    dagster_loggers.colored_console_logger = dg.LoggerDefinition(console, schema, "The project's log lines.")


def redact_records(redact: Redact) -> None:
    """Redacts every log record's message as it is made, so that what Dagster captures into its event log is clean."""
    make = getattr(logging.getLogRecordFactory(), "without_redaction", logging.getLogRecordFactory())

    def redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = make(*args, **kwargs)
        try:
            record.msg, record.args = redact(record.getMessage()), ()
        except (TypeError, ValueError):  # arguments that do not fit the text
            record.msg, record.args = redact(f"{record.msg} {record.args}"), ()
        return record

    redacted.without_redaction = make  # type: ignore[attr-defined]
    logging.setLogRecordFactory(redacted)


def redact_errors(redact: Redact) -> None:
    """Redacts the text of every error that Dagster serializes, for its event log, its ticks and its UI."""

    def from_traceback(cls: type[SerializableErrorInfo], tb: traceback.TracebackException) -> SerializableErrorInfo:
        kept: SerializableErrorInfo = _original_from_traceback(cls, tb)  # its causes come through here as well
        return SerializableErrorInfo(
            redact(kept.message), [redact(line) for line in kept.stack], kept.cls_name, kept.cause, kept.context
        )

    SerializableErrorInfo.from_traceback = classmethod(from_traceback)  # type: ignore[method-assign, assignment]


def _writes_to_the_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
