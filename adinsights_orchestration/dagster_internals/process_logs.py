"""What a Dagster process writes and stores, brought under our control: its loggers, its runs' console, its errors.

Belongs here: the places where Dagster decides how a record looks or what text of an error is kept. Not here: the look
itself and what must be hidden; both are handed in. Dagster has settings for none of them: the console logger of a run
cannot be replaced without run config, a tick's not at all, and an error's text goes to the UI as it is.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from functools import cache
from types import TracebackType
from typing import Any, TextIO

import dagster as dg
import dagster._loggers as dagster_loggers
from dagster._core.definitions import instigation_logger
from dagster_shared.error import SerializableErrorInfo

Redact = Callable[[str], str]
_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None] | None

# `dagster._utils.log.configure_loggers` gives each of these a handler of its own.
_DAGSTER_LOGGERS = ("dagster", "dagit", "dagster-webserver")
_original_from_traceback = SerializableErrorInfo.from_traceback.__func__  # type: ignore[attr-defined]


class RedactedError(Exception):
    """Stands in a log record for an exception whose text had to be redacted; its own text is that text."""


def use_root_handler() -> None:
    """Takes the handlers off Dagster's loggers, so that their records reach the root logger's handler, once."""
    for name in _DAGSTER_LOGGERS:
        logger = logging.getLogger(name)
        logger.propagate = True
        for handler in [handler for handler in logger.handlers if _writes_to_the_console(handler)]:
            logger.removeHandler(handler)


@cache
def uncaptured_stderr() -> TextIO:
    """Standard error as it was when the process began, also while Dagster captures a step's output.

    A captured line reaches the process' own output through a `tail` that Dagster ends with the step, up to a second too
    early: the lines that say how a step ended would be the ones that are lost.
    """
    return os.fdopen(os.dup(2), "w", encoding="utf-8", errors="backslashreplace", buffering=1)


def show_in_compute_logs(name: str, formatter: logging.Formatter) -> None:
    """Lets a logger write to what Dagster captures: its lines are what a person looks for in a step's compute log."""
    logger = logging.getLogger(name)
    for old in list(logger.handlers):
        logger.removeHandler(old)
    logger.addHandler(_handler(sys.stderr, formatter))
    logger.propagate = False


def use_console_formatter(formatter: logging.Formatter) -> None:
    """Makes every run and every tick of this process print its records with `formatter`, to standard error."""

    def create_console_logger(name: str, level: str | int) -> logging.Logger:
        logger = logging.getLoggerClass()(name, level)
        logger.addHandler(_handler(uncaptured_stderr(), formatter))
        return logger

    dagster_loggers.create_console_logger = create_console_logger  # type: ignore[attr-defined]
    instigation_logger.create_console_logger = create_console_logger  # type: ignore[attr-defined]


def expect_unfinished_interfaces() -> None:
    """Keeps Dagster from warning of every beta and preview interface: the exact pin and contract tests answer that."""
    for kind in (dg.BetaWarning, dg.PreviewWarning):
        warnings.filterwarnings("ignore", category=kind)


def redact_records(redact: Redact) -> None:
    """Redacts every log record as it is made, so that what Dagster captures of it for its UI is clean."""
    make = getattr(logging.getLogRecordFactory(), "without_redaction", logging.getLogRecordFactory())

    def redacted(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = make(*args, **kwargs)
        try:
            record.msg, record.args = redact(record.getMessage()), ()
        except (TypeError, ValueError):  # arguments that do not fit the text
            record.msg, record.args = redact(f"{record.msg} {record.args}"), ()
        record.exc_info = _clean_exception(record.exc_info, redact)
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


def _clean_exception(exc_info: _ExcInfo, redact: Redact) -> _ExcInfo:
    """The exception itself when there is nothing to hide in it, else one that only holds the redacted text."""
    if exc_info is None or exc_info[0] is None:
        return exc_info
    text = "".join(traceback.format_exception(*exc_info))
    cleaned = redact(text)
    if cleaned == text:
        return exc_info
    stand_in = RedactedError(cleaned.rstrip())
    return type(stand_in), stand_in, None


def _handler(stream: TextIO, formatter: logging.Formatter) -> logging.Handler:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    return handler


def _writes_to_the_console(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
