"""The SLA table: every threshold with its unit, source, warn and page level.

Belongs here: the table's shape, reading it, and refusing a wrong one with its line. Does not belong here: applying a
threshold (each rule's own domain). The shipped `sla.yaml` is complete; a file of the deployment's own changes single
values, and both may differ by environment. Dagster's native policies are made from the same entries (`policies`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import time, timedelta
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.yaml_lines import Node, parse_yaml

_SHIPPED = Path(__file__).with_name("sla.yaml")
_SECTIONS = ("timezone", "thresholds", "local_times", "environments")


class Unit(StrEnum):
    """What a threshold counts; times can be had as a `timedelta`."""

    MINUTES = "minutes"
    HOURS = "hours"
    PERCENT = "percent"
    TIMES = "times"
    ERRORS = "errors"
    FAILURES = "failures"
    RUNS = "runs"
    SYNCS = "syncs"


class Sla(StrEnum):
    """The name of every threshold; `sla.yaml` says what each means."""

    SYNC_AGE = "sync_age"
    SYNC_GRACE = "sync_grace"
    RUNNING_LONG = "running_long"
    SYNC_ERRORS = "sync_errors"
    FAILURES_IN_A_ROW = "failures_in_a_row"
    STALE_TENANTS = "stale_tenants"
    WEBHOOK_SILENCE = "webhook_silence"
    SOURCE_FRESHNESS_META = "source_freshness_meta"
    SOURCE_FRESHNESS_GOOGLE_ADS = "source_freshness_google_ads"
    SOURCE_FRESHNESS_GA4 = "source_freshness_ga4"
    SOURCE_FRESHNESS_SEARCH_CONSOLE = "source_freshness_search_console"
    SOURCE_FRESHNESS_TIKTOK_ADS = "source_freshness_tiktok_ads"
    SOURCE_FRESHNESS_LINKEDIN_ADS = "source_freshness_linkedin_ads"
    DBT_RUN_AGE = "dbt_run_age"
    DBT_FAILING = "dbt_failing"
    DASHBOARD_AGE = "dashboard_age"
    DASHBOARD_GRACE = "dashboard_grace"
    API_ERROR_RATE = "api_error_rate"
    API_AVAILABILITY = "api_availability"
    PROBE_DOWN = "probe_down"
    HEARTBEAT_AGE = "heartbeat_age"
    REGISTRY_AGE = "registry_age"
    DISK_FREE = "disk_free"
    EMPTY_SYNCS = "empty_syncs"
    SOURCE_LATENCY = "source_latency"
    BURN_RATE_1H = "burn_rate_1h"
    BURN_RATE_6H = "burn_rate_6h"
    BURN_RATE_1D = "burn_rate_1d"
    BURN_RATE_3D = "burn_rate_3d"
    AUDIT_LOG_AGE = "audit_log_age"


class LocalTime(StrEnum):
    """The name of every time of day, in the table's timezone or, where a tenant has one, in the tenant's."""

    PAGING_FROM = "paging_from"
    PAGING_TO = "paging_to"
    NIGHTLY_DONE_BY = "nightly_done_by"
    FRESH_ROWS_BY = "fresh_rows_by"


# Thresholds of which less is worse: their page level lies at or below the warn level.
_FALLING = frozenset({Sla.API_AVAILABILITY, Sla.DISK_FREE})
# Thresholds with one level: what is beyond it is so altogether, and no second level would be read.
ONE_LEVEL = frozenset(
    {
        Sla.SYNC_GRACE,
        Sla.RUNNING_LONG,
        Sla.DASHBOARD_GRACE,
        Sla.API_AVAILABILITY,
        Sla.PROBE_DOWN,
        Sla.BURN_RATE_1H,
        Sla.BURN_RATE_6H,
        Sla.BURN_RATE_1D,
        Sla.BURN_RATE_3D,
    }
)
_NO_MIDNIGHT = 'The window lies within one day; to page at any hour write "00:00" and "23:59:59".'
_TIMES = {Unit.MINUTES: timedelta(minutes=1), Unit.HOURS: timedelta(hours=1)}


@dataclass(frozen=True, slots=True)
class Threshold:
    """One entry of the table.

    Attributes:
        name: Which one.
        unit: What `warn` and `page` count.
        warn: The level from which people are told.
        page: The level from which somebody is woken; beyond `warn`, or equal to it where there is one level.
        source: Where the numbers come from.
        window: Over how long it is counted, where it is; for `running_long` the least time.
        at_least: On how many requests a rate must rest, where it is one.
    """

    name: Sla
    unit: Unit
    warn: float
    page: float
    source: str
    window: timedelta | None = None
    at_least: int | None = None

    @property
    def is_time(self) -> bool:
        """Whether the levels are times."""
        return self.unit in _TIMES

    @property
    def warn_after(self) -> timedelta:
        """The warn level as a time; `KeyError` for what is no time."""
        return self.warn * _TIMES[self.unit]

    @property
    def page_after(self) -> timedelta:
        """The page level as a time; `KeyError` for what is no time."""
        return self.page * _TIMES[self.unit]

    def describe(self) -> str:
        """The levels and their source, for people: `60 / 120 minutes (runbook, ...)`."""
        levels = f"{self.warn:g}" if self.warn == self.page else f"{self.warn:g} / {self.page:g}"
        return f"{levels} {self.unit.removesuffix('s') if levels == '1' else self.unit} ({self.source})"


@dataclass(frozen=True, slots=True)
class SlaTable:
    """The table of one environment."""

    timezone: str
    thresholds: Mapping[Sla, Threshold]
    local_times: Mapping[LocalTime, time]

    def __getitem__(self, name: Sla) -> Threshold:
        return self.thresholds[name]

    def source_freshness(self, provider: Provider) -> Threshold:
        """How old a provider's newest row may be."""
        return self.thresholds[Sla(f"source_freshness_{provider.value}")]


@lru_cache(maxsize=8)
def load_sla(environment: Environment, path: Path | None = None) -> SlaTable:
    """Returns the table of an environment: the shipped one, changed by the deployment's own file where there is one.

    Args:
        environment: Whose changes under `environments` apply.
        path: The deployment's own file, or None. It is read once a process: a change takes a restart.

    Raises:
        ConfigurationError: A file cannot be read, or something in it is wrong; with file and line.
    """
    files = [_SHIPPED] if path is None else [_SHIPPED, path]
    return build_table([(_read(file), file.name) for file in files], environment)


def build_table(texts: list[tuple[str, str]], environment: Environment) -> SlaTable:
    """Returns the table of an environment from the texts of files, each changing what the ones before it said.

    Args:
        texts: Text and name of each file; the first must be complete.
        environment: Whose changes under `environments` apply.

    Raises:
        ConfigurationError: Something in a file is wrong or missing; with file and line.
    """
    building = _Building()
    for text, file in texts:
        root = parse_yaml(text, file)
        if root is not None:
            building.take(root, environment)
    return building.table()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"the SLA table cannot be read: {reason}",
            place=str(path),
            next_step="Check ADINSIGHTS_FRESHNESS__SLA_PATH.",
        ) from None


class _Building:
    """A table in the making: what was said so far, file by file."""

    def __init__(self) -> None:
        self._timezone = ""
        self._thresholds: dict[Sla, Threshold] = {}
        self._times: dict[LocalTime, time] = {}

    def take(self, root: Node, environment: Environment) -> None:
        """Takes a file's sections; those of the environment last, since they say what differs there."""
        sections = root.mapping(_SECTIONS)
        if "timezone" in sections:
            self._timezone = _timezone(sections["timezone"])
        if "thresholds" in sections:
            self._take_thresholds(sections["thresholds"])
        if "local_times" in sections:
            self._take_times(sections["local_times"])
        if "environments" in sections:
            # All are read, so that a mistake in production's part is found on a laptop.
            for name, node in sections["environments"].mapping(tuple(Environment)).items():
                target = self if name == environment else self._copy()
                target._take_thresholds(node)  # noqa: SLF001  (of the same class)

    def table(self) -> SlaTable:
        """The finished table."""
        lacking = [*(set(Sla) - set(self._thresholds)), *(set(LocalTime) - set(self._times))]
        if lacking or not self._timezone:
            raise ConfigurationError(f"the SLA table lacks {', '.join(sorted(lacking)) or 'a timezone'}")
        return SlaTable(self._timezone, self._thresholds, self._times)

    def _take_times(self, section: Node) -> None:
        nodes = {LocalTime(name): node for name, node in section.mapping(tuple(LocalTime)).items()}
        self._times |= {name: _time(node) for name, node in nodes.items()}
        begin, end = LocalTime.PAGING_FROM, LocalTime.PAGING_TO
        if not self._told(begin) < self._told(end, time.max):
            raise self._out_of_order(nodes, begin, end, ("is not before", "is not after"), _NO_MIDNIGHT)
        done_by, rows_by = LocalTime.NIGHTLY_DONE_BY, LocalTime.FRESH_ROWS_BY
        if self._told(done_by) > self._told(rows_by, time.max):
            reason = "The dashboards have rows of a night only once its pipeline is through."
            raise self._out_of_order(nodes, done_by, rows_by, ("is after", "is before"), reason)

    def _told(self, name: LocalTime, otherwise: time = time.min) -> time:
        return self._times.get(name, otherwise)

    def _out_of_order(
        self, nodes: Mapping[LocalTime, Node], first: LocalTime, second: LocalTime, words: tuple[str, str], reason: str
    ) -> ConfigurationError:
        """The error at the line that this file says it in, of two the later."""
        here, there, word = (second, first, words[1]) if second in nodes else (first, second, words[0])
        problem = f"{here} ({self._times[here]:%H:%M}) {word} {there} ({self._times[there]:%H:%M})"
        return nodes[here].error(problem, reason)

    def _take_thresholds(self, section: Node) -> None:
        for name, node in section.mapping(tuple(Sla)).items():
            sla = Sla(name)
            self._thresholds[sla] = _threshold(sla, node, self._thresholds.get(sla))

    def _copy(self) -> _Building:
        copy = _Building()
        copy._thresholds = dict(self._thresholds)
        return copy


def _threshold(name: Sla, node: Node, before: Threshold | None) -> Threshold:
    new = before is None
    required = ("unit", "warn", "page", "source") if new else ()
    entries = node.mapping(("unit", "warn", "page", "source", "window_minutes", "at_least"), required)
    threshold = before or Threshold(name, Unit.MINUTES, 0, 0, "")
    if "unit" in entries:
        threshold = replace(threshold, unit=_unit(entries["unit"], before))
    if "warn" in entries:
        threshold = replace(threshold, warn=_positive(entries["warn"], "warn"))
    if "page" in entries:
        threshold = replace(threshold, page=_positive(entries["page"], "page"))
    if name in ONE_LEVEL and len(entries.keys() & {"warn", "page"}) == 1:
        level = threshold.warn if "warn" in entries else threshold.page
        threshold = replace(threshold, warn=level, page=level)
    if "source" in entries:
        threshold = replace(threshold, source=entries["source"].text())
    elif not new and ("warn" in entries or "page" in entries):
        threshold = replace(threshold, source=f"{node.place}, instead of: {threshold.source}")
    if "window_minutes" in entries:
        minutes = _positive(entries["window_minutes"], "window_minutes")
        threshold = replace(threshold, window=timedelta(minutes=minutes))
    if "at_least" in entries:
        _positive(entries["at_least"], "at_least")
        threshold = replace(threshold, at_least=entries["at_least"].integer())
    return _ordered(threshold, node)


def _ordered(threshold: Threshold, node: Node) -> Threshold:
    if threshold.name in ONE_LEVEL and threshold.warn != threshold.page:
        raise node.error(
            f"{threshold.name} has one level: warn ({threshold.warn:g}) and page ({threshold.page:g}) differ",
            "Write one of them, or both the same.",
        )
    falling = threshold.name in _FALLING
    wrong = threshold.page > threshold.warn if falling else threshold.page < threshold.warn
    if wrong:
        words = "above" if falling else "below"
        raise node.error(
            f"{threshold.name}: page ({threshold.page:g}) is {words} warn ({threshold.warn:g})",
            "People are told before somebody is woken.",
        )
    if threshold.unit is Unit.PERCENT and max(threshold.warn, threshold.page) > 100:
        raise node.error(f"{threshold.name}: a share is at most 100 percent")
    return threshold


def _unit(node: Node, before: Threshold | None) -> Unit:
    text = node.text()
    if text not in set(Unit):
        raise node.error(f"unknown unit {text!r}", f"Known: {', '.join(Unit)}.")
    if before is not None and text != before.unit:
        raise node.error(f"{before.name} is in {before.unit}", "A file of your own changes numbers, not units.")
    return Unit(text)


def _positive(node: Node, name: str) -> float:
    number = node.number()
    if number <= 0:
        raise node.error(f"{name} must be above zero, and is {number:g}")
    return number


def _time(node: Node) -> time:
    hint = 'Write hours and minutes: "06:30".'
    try:
        moment = time.fromisoformat(node.text())
    except ValueError:
        raise node.error(f"{node.text()!r} is not a time of day", hint) from None
    if moment.tzinfo is not None:
        raise node.error(f"{node.text()!r} carries an offset, and is a local time", f"{hint} `timezone` says where.")
    return moment


def _timezone(node: Node) -> str:
    name = node.text()
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # what zoneinfo raises for a name, a path, a folder
        raise node.error(f"there is no timezone {name!r}", "Use an IANA name such as America/Jamaica.") from None
    return name
