"""Which incidents a silence, a route or an office hour speaks of.

Belongs here: matchers, silences, hours, pure. Does not belong here: where they are kept (`bookkeeping`), what follows
(`notify`). A matcher is Alertmanager's: `name=value`, `name!=value`, `name=~regex`, `name!~regex`; a regular expression
must match the whole value, and a label that is not there counts as empty.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import StrEnum
from functools import cached_property
from zoneinfo import ZoneInfo

from adinsights_orchestration.errors import ConfigurationError

LABELS_TO_MATCH = (
    "rule",
    "tenant",
    "resource",
    "severity",
    "owner",
    "audience",
    "provider",
    "component",
    "job",
    "asset",
    "check",
    "kind",
)
_MATCHER = re.compile(r"^\s*([a-z_]+)\s*(=~|!~|!=|=)\s*(.*?)\s*$", re.DOTALL)
_LONGEST_PATTERN = 200


@dataclass(frozen=True)
class Matcher:
    """One condition on one label."""

    name: str
    operator: str
    value: str

    @classmethod
    def parse(cls, text: str) -> Matcher:
        """Returns the matcher that a person wrote.

        Raises:
            ConfigurationError: It is none, asks for a label that nothing has, or its regular expression is wrong.
        """
        found = _MATCHER.match(text)
        if found is None:
            raise ConfigurationError(f"{text!r} is no matcher", next_step="Write tenant=acme or rule=~connection_.*")
        name, operator, value = found.groups()
        value = value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
        if name not in LABELS_TO_MATCH:
            known = ", ".join(LABELS_TO_MATCH)
            raise ConfigurationError(f"no alert has a label {name!r}", next_step=f"Known: {known}.")
        matcher = cls(name, operator, value)
        if operator.endswith("~"):
            _checked(value)
        return matcher

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet the condition."""
        value = labels.get(self.name, "")
        met = self._pattern.fullmatch(value) is not None if self.operator.endswith("~") else value == self.value
        return met is not self.operator.startswith("!")

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.value)

    def __str__(self) -> str:
        return f"{self.name}{self.operator}{self.value}"


def _checked(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigurationError(f"{pattern!r} is no regular expression: {error}") from None
    if len(pattern) > _LONGEST_PATTERN:
        raise ConfigurationError(f"a pattern has at most {_LONGEST_PATTERN} characters")


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Whether the labels meet every condition; no conditions are met by everything."""
    return all(matcher.matches(labels) for matcher in matchers)


class Quiet(StrEnum):
    """Why nobody wants to hear of it: somebody said so, or work goes on that makes such alerts."""

    SILENCED = "silenced"
    MAINTENANCE = "maintenance"


@dataclass(frozen=True)
class Silence:
    """What somebody does not want to hear of for a while.

    Attributes:
        id: Its number; 0 where the configuration has it.
        matchers: What it covers; all must be met.
        starts_at: From when.
        ends_at: Until when, that moment not included.
        author: Who wants it.
        reason: Why.
        kind: What sort of quiet it is.
        name: What the configuration calls it; empty where somebody asked for it.
    """

    id: int
    matchers: tuple[Matcher, ...]
    starts_at: datetime
    ends_at: datetime
    author: str
    reason: str
    kind: Quiet = Quiet.SILENCED
    name: str = ""

    @property
    def label(self) -> str:
        """What incidents that it keeps quiet say of it: `silenced:7`, `maintenance:warehouse upgrade`."""
        return f"{self.kind}:{self.name or self.id}"

    def covers(self, labels: Mapping[str, str], now: datetime) -> bool:
        """Whether it keeps an incident with these labels quiet now."""
        return self.starts_at <= now < self.ends_at and all_match(self.matchers, labels)


@dataclass(frozen=True)
class Hours:
    """The hours of the week in which a severity is told; outside of them it waits for the next.

    Attributes:
        timezone: In which they are meant.
        days: Days of the week, Monday is 0.
        begin: From when.
        end: Until when, not included.
        holidays: Days on which nobody is there.
    """

    timezone: str
    days: frozenset[int] = frozenset(range(5))
    begin: time = time(8)
    end: time = time(17)
    holidays: Container[date] = frozenset()

    def are_now(self, now: datetime) -> bool:
        """Whether somebody is there."""
        local = now.astimezone(ZoneInfo(self.timezone))
        at_work = local.weekday() in self.days and local.date() not in self.holidays
        return at_work and self.begin <= local.time() < self.end


@dataclass(frozen=True)
class Route:
    """Where incidents with such labels are told; the first route that matches decides, or all up to one that stops.

    Attributes:
        matchers: Which incidents.
        sinks: Names of sinks.
        goes_on: Whether later routes add theirs.
    """

    matchers: tuple[Matcher, ...]
    sinks: tuple[str, ...]
    goes_on: bool = False


@dataclass(frozen=True)
class Routes:
    """All routes, and where goes what none of them names a sink for."""

    default: tuple[str, ...]
    routes: tuple[Route, ...] = ()

    def sinks_for(self, labels: Mapping[str, str]) -> tuple[str, ...]:
        """Returns the names of the sinks, in the order of the routes, at least one."""
        found: list[str] = []
        for route in self.routes:
            if all_match(route.matchers, labels):
                found += [sink for sink in route.sinks if sink not in found]
                if not route.goes_on:
                    break
        return tuple(found) or self.default
