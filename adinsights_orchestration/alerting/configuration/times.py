"""The parts of the alert file that speak of time: durations, office hours, windows, silences, digests' hour.

Belongs here: from YAML nodes to values, refusing what is wrong with its line. Does not belong here: channels and routes
(`alert_file`), what the values mean (`matching`, `windows`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import combinations
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from adinsights_orchestration.alerting.matching import Hours, Matcher, Quiet, Silence
from adinsights_orchestration.alerting.windows import LONG_AGO, Recurring, Window, overlap, overlaps_itself
from adinsights_orchestration.tenants.cron import parse_cron
from adinsights_orchestration.yaml_lines import Node

if TYPE_CHECKING:
    import holidays

_UNITS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_SPAN = re.compile(r"(\d{1,5})([smhd])")
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WORKDAYS = frozenset(range(5))
Matchers = Callable[[Node], tuple[Matcher, ...]]


def span(node: Node, *, at_least: timedelta = timedelta(0)) -> timedelta:
    """Returns a duration: `90s`, `15m`, `4h`, `1d`."""
    found = _SPAN.fullmatch(node.text())
    if found is None:
        raise node.error(f"{node.text()!r} is no duration", "Write 90s, 15m, 4h or 1d.")
    lasts = int(found[1]) * _UNITS[found[2]]
    if lasts < at_least:
        raise node.error(f"{node.text()} is too short", f"At least {int(at_least.total_seconds())}s.")
    return lasts


def timezone(node: Node | None, default: str) -> str:
    """Returns an IANA name that exists; the default where none is given."""
    if node is None:
        return default
    try:
        ZoneInfo(node.text())
    except (KeyError, ValueError, OSError):  # what zoneinfo raises for a name, a path, a folder
        hint = "Use an IANA name such as America/Jamaica."
        raise node.error(f"there is no timezone {node.text()!r}", hint) from None
    return node.text()


def time_of_day(node: Node) -> time:
    """Returns a time of day: `"08:00"`."""
    try:
        found = time.fromisoformat(node.text())
    except ValueError:
        raise node.error(f"{node.text()!r} is not a time of day", 'Write hours and minutes: "08:00".') from None
    if found.tzinfo is not None:
        raise node.error("a time of day is in the section's timezone", 'Write hours and minutes: "08:00".')
    return found


def hours(node: Node, default_timezone: str) -> Hours:
    """Returns the office hours of one severity."""
    entries = node.mapping(("timezone", "days", "from", "to", "holidays", "closed"), ("from", "to"))
    begin, end = time_of_day(entries["from"]), time_of_day(entries["to"])
    if begin >= end:
        raise node.error(f"the hours end at {end:%H:%M}, before they begin at {begin:%H:%M}")
    days = frozenset(_day(each) for each in entries["days"].items()) if "days" in entries else _WORKDAYS
    if not days:
        raise entries["days"].error("hours need a day")
    closed = frozenset(_date(each) for each in entries["closed"].items()) if "closed" in entries else frozenset()
    country = entries.get("holidays")
    return Hours(
        timezone(entries.get("timezone"), default_timezone), days, begin, end, _Closed(closed, _holidays(country))
    )


def windows(node: Node, matchers: Matchers, default_timezone: str) -> list[tuple[Node, Window]]:
    """Returns the maintenance windows, each with where it stands."""
    return [(each, _window(each, matchers, default_timezone)) for each in node.items()]


def silences(node: Node, matchers: Matchers, default_timezone: str) -> list[tuple[Node, Window]]:
    """Returns the silences, each with where it stands."""
    return [(each, _silence(each, matchers, default_timezone)) for each in node.items()]


def refuse_overlaps(found: Sequence[tuple[Node, Window]]) -> None:
    """Refuses two that keep the very same quiet at one time: the end of one would not be the end of it."""
    for (_, one), (node, other) in combinations(found, 2):
        moment = overlap(one, other)
        if moment is not None:
            first = next(place for place, window in found if window is one)
            raise node.error(
                f"this overlaps with {first.place} on the same alerts, at {moment:%Y-%m-%d %H:%M} UTC",
                "Make one of the two of both.",
            )


class _Closed:
    """Days on which nobody is there: public holidays of a country and further ones."""

    def __init__(self, further: Iterable[date], public: holidays.HolidayBase | None) -> None:
        self._further, self._public = frozenset(further), public

    def __contains__(self, day: object) -> bool:
        return day in self._further or (self._public is not None and isinstance(day, date) and day in self._public)


def _holidays(node: Node | None) -> holidays.HolidayBase | None:
    if node is None:
        return None
    import holidays  # every country's; most files name none

    country, _, part = node.text().partition("-")
    try:
        return holidays.country_holidays(country, subdiv=part or None)
    except NotImplementedError:
        hint = "Write a country's two letters, such as JM, or with a part of it, such as CA-ON."
        raise node.error(f"no holidays are known of {node.text()!r}", hint) from None


def _day(node: Node) -> int:
    name = node.text().lower()
    if name not in _DAYS:
        raise node.error(f"{node.text()!r} is no day of the week", f"Known: {', '.join(_DAYS)}.")
    return _DAYS.index(name)


def _date(node: Node) -> date:
    try:
        return date.fromisoformat(node.text())
    except ValueError:
        raise node.error(f"{node.text()!r} is not a date", "Write 2026-12-24.") from None


def _moment(node: Node, zone: str) -> datetime:
    try:
        found = datetime.fromisoformat(node.text())
    except ValueError:
        raise node.error(f"{node.text()!r} is not a moment", 'Write "2026-12-24 22:00".') from None
    return (found if found.tzinfo else found.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)


def _window(node: Node, matchers: Matchers, default_timezone: str) -> Window:
    known = ("name", "match", "from", "to", "cron", "lasts", "timezone", "author", "reason")
    entries = node.mapping(known, ("name", "match"))
    name, zone = entries["name"].text(), timezone(entries.get("timezone"), default_timezone)
    once, again = {"from", "to"} & entries.keys(), {"cron", "lasts"} & entries.keys()
    if bool(once) == bool(again) or len(once or again) < 2:
        raise node.error("a window is `from` and `to`, or `cron` and `lasts`")
    author = entries["author"].text() if "author" in entries else node.file
    reason = entries["reason"].text() if "reason" in entries else name
    match = matchers(entries["match"])
    if once:
        begin, end = _ordered(node, _moment(entries["from"], zone), _moment(entries["to"], zone))
        return Silence(0, match, begin, end, author, reason, Quiet.MAINTENANCE, name)
    lasts = span(entries["lasts"], at_least=timedelta(minutes=1))
    try:
        cron = parse_cron(entries["cron"].text())
    except ValueError as error:
        raise entries["cron"].error(str(error)) from None
    window = Recurring(name, match, cron, zone, lasts, author, reason)
    if overlaps_itself(window):
        raise entries["lasts"].error(f"{name!r} begins again before it is over", "Let it last less long.")
    return window


def _silence(node: Node, matchers: Matchers, default_timezone: str) -> Silence:
    entries = node.mapping(("match", "from", "to", "timezone", "author", "reason"), ("match", "to", "author", "reason"))
    zone = timezone(entries.get("timezone"), default_timezone)
    begin = _moment(entries["from"], zone) if "from" in entries else LONG_AGO
    begin, end = _ordered(node, begin, _moment(entries["to"], zone))
    author, reason = entries["author"].text(), entries["reason"].text()
    return Silence(0, matchers(entries["match"]), begin, end, author, reason, Quiet.SILENCED, reason)


def _ordered(node: Node, begin: datetime, end: datetime) -> tuple[datetime, datetime]:
    if begin >= end:
        raise node.error(f"this ends at {end:%Y-%m-%d %H:%M} UTC, and begins at {begin:%Y-%m-%d %H:%M} UTC")
    return begin, end
