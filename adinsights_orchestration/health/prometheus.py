"""Prometheus: its text format, and its server's query API.

Belongs here: from text and JSON to numbers, and the two queries. Does not belong here: what counters mean over time
(`error_rate`), sending anything (`web`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.health.error_rate import Scrape, Series
from adinsights_orchestration.settings import HealthSettings

MOST_SERIES = 5000
_PROCESS_START = "process_start_time_seconds"


class MetricsError(AdinsightsError):
    """What came is no metrics, or lacks the one that is asked for."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which counter says how many requests there were, and which of them were errors."""

    metric: str
    label: str
    errors: str
    labels: Mapping[str, str]

    @classmethod
    def of(cls, settings: HealthSettings) -> Selection:
        """The settings' selection."""
        labels = dict(pair.partition("=")[::2] for pair in settings.metrics_filter)
        return cls(settings.requests_metric, settings.status_label, settings.error_statuses, labels)

    def queries(self, window: timedelta) -> tuple[str, str]:
        """The queries of requests and of errors over a window, in PromQL."""
        wanted = [f"{name}={_quoted(value)}" for name, value in self.labels.items()]
        failed = [*wanted, f"{self.label}=~{_quoted(self.errors)}"]
        over = f"[{int(window.total_seconds())}s]"
        return (
            f"sum(increase({self.metric}{{{','.join(wanted)}}}{over}))",
            f"sum(increase({self.metric}{{{','.join(failed)}}}{over}))",
        )


def parse(text: str, target: str, selection: Selection, at: datetime) -> Scrape:
    """Takes the selected counter out of a scrape.

    Args:
        text: Prometheus text format.
        target: Where it was read.
        selection: Which counter.
        at: When it was read.

    Raises:
        MetricsError: The text ends in the middle, cannot be read, or holds no such counter, or too many.
    """
    if not text.endswith("\n"):
        raise MetricsError("the metrics end in the middle of a line")
    found: dict[str, Series] = {}
    started: float | None = None
    declared = False  # a process that has served nothing yet names its counter without a series
    errors = re.compile(selection.errors)
    try:
        for family in text_string_to_metric_families(_only(text, (selection.metric, _PROCESS_START))):
            declared |= family.name == selection.metric.removesuffix("_total") and not family.samples
            for sample in family.samples:
                if sample.name == _PROCESS_START:
                    started = sample.value
                if sample.name != selection.metric or selection.labels.items() - sample.labels.items():
                    continue
                if math.isfinite(sample.value):
                    failed = errors.fullmatch(sample.labels.get(selection.label, "")) is not None
                    group = _joined({k: v for k, v in sample.labels.items() if k != selection.label})
                    found[_joined(sample.labels)] = Series(sample.value, failed, group)
    except (ValueError, KeyError, IndexError) as error:
        raise MetricsError(f"the metrics cannot be read ({type(error).__name__})") from None
    if not found and not declared:
        raise MetricsError(f"there is no counter {selection.metric} among the metrics")
    if len(found) > MOST_SERIES:
        raise MetricsError(f"{selection.metric} has {len(found)} series; name fewer with metrics_filter")
    return Scrape(target, at, found, started)


def _only(text: str, names: Collection[str]) -> str:
    """The lines about these metrics: the parser takes a second for 3 MB, and every other probe waits for it.

    A line begins with its metric's name or, where it describes it, with `# TYPE` and the name; there a counter may
    stand without its suffix.
    """
    known = {*names, *(name.removesuffix("_total") for name in names)}
    wanted = "|".join(sorted(map(re.escape, known), key=len, reverse=True))
    line = re.compile(rf"^[ \t]*(?:#[ \t]*(?:TYPE|HELP)[ \t]+)?(?:{wanted})(?![a-zA-Z0-9_:]).*\n", re.MULTILINE)
    return "".join(line.findall(text))


def query_value(answer: Mapping[str, Any]) -> float | None:
    """The number in a query's answer; None where no series matches.

    Raises:
        MetricsError: The server refused the query, or answers something else.
    """
    if answer.get("status") != "success":
        raise MetricsError(f"Prometheus refuses the query ({answer.get('errorType', 'no reason given')})")
    try:
        data = answer["data"]
        if data["resultType"] == "scalar":
            value = float(data["result"][1])
        elif not data["result"]:
            return None
        else:
            value = float(data["result"][0]["value"][1])
    except (KeyError, IndexError, TypeError, ValueError):
        raise MetricsError("Prometheus' answer is none of its query API") from None
    return value if math.isfinite(value) else None


def _joined(labels: Mapping[str, str]) -> str:
    return ",".join(f"{name}={value}" for name, value in sorted(labels.items()))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
