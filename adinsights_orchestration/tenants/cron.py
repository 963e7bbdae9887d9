"""Cron expressions, unix and Quartz, and their moments in a timezone.

Belongs here: parsing and stepping. Does not belong here: what is due (`slots`). Airbyte writes Quartz (seconds first,
weekdays from 1, `?`), the backend five unix fields; both become five fields here, because those keep a daily moment
through a change of the clocks: one that does not exist happens at the next that does, one that comes twice, once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ANY = "*"
_FIELDS = ("minute", "hour", "day of month", "month", "day of week")
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (1, 7))
_DAYS = {name: number for number, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"), start=1)}
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"), start=1
    )
}
_HELP = "Write five fields (minute hour day month weekday) or Quartz's six or seven (seconds first)."


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression: five unix fields, the second of the minute, and the years (None: all) of Quartz."""

    expression: str
    second: int = 0
    years: tuple[int, ...] | None = None


@lru_cache(maxsize=4096)
def parse_cron(expression: str) -> Cron:
    """Parses a unix or Quartz cron expression.

    Args:
        expression: `0 6-22 * * *`, or Quartz as Airbyte writes it: `0 0 6-22 * * ?`, with an optional year.

    Raises:
        ValueError: Saying which field is wrong and what it takes.
    """
    parts = expression.upper().split()
    if len(parts) == 5:
        return _checked(Cron(" ".join(parts)), expression)
    if len(parts) in (6, 7):
        return _checked(_from_quartz(parts), expression)
    raise ValueError(f"cron expression {expression!r} has {len(parts)} fields. {_HELP}")


def last_until(cron: Cron, timezone: str, now: datetime) -> datetime | None:
    """Returns the expression's newest moment at or before `now`, in UTC; None when there is none in 50 years.

    Reading backward through the hour that the clocks repeat can pass over a moment, so from what was found the moments
    are read forward again up to `now`.
    """
    zone, shift = ZoneInfo(timezone), timedelta(seconds=cron.second)
    # A backward step leaves the moment itself out, hence the second more.
    start = (now.replace(microsecond=0) - shift + timedelta(seconds=1)).astimezone(zone)
    found = _step(cron, start, reverse=True)
    while found is not None and found + shift > now:
        found = _step(cron, found.astimezone(zone), reverse=True)
    while found is not None:
        after = first_after(cron, timezone, found + shift)
        if after is None or after > now:
            return found + shift
        found = after - shift
    return None


def first_after(cron: Cron, timezone: str, now: datetime) -> datetime | None:
    """Returns the expression's first moment after `now`, in UTC; None when there is none in 50 years."""
    zone, shift = ZoneInfo(timezone), timedelta(seconds=cron.second)
    moment = (now - shift).astimezone(zone)
    for _ in range(3):  # within a repeated hour the first steps may lead to moments already past
        found = _step(cron, moment, reverse=False)
        if found is None or found + shift > now:
            return None if found is None else found + shift
        moment = (found + timedelta(hours=1)).astimezone(zone)
    return None


def _step(cron: Cron, moment: datetime, *, reverse: bool) -> datetime | None:
    """One step of the expression from `moment`, in UTC, skipping years that it does not name."""
    while True:
        found = next(CronSim(cron.expression, moment, reverse=reverse), None)
        if found is None or cron.years is None or found.year in cron.years:
            return None if found is None else found.astimezone(UTC)
        moment_in_year = _edge(cron.years, found, reverse=reverse)
        if moment_in_year is None:
            return None
        moment = moment_in_year


def _edge(years: tuple[int, ...], found: datetime, *, reverse: bool) -> datetime | None:
    """Where to go on from a year that is not named: the near edge of the nearest named one."""
    ahead = [year for year in years if (year < found.year if reverse else year > found.year)]
    if not ahead:
        return None
    if reverse:
        return found.replace(year=max(ahead) + 1, month=1, day=1, hour=0, minute=0, second=0)
    return found.replace(year=min(ahead), month=1, day=1, hour=0, minute=0, second=0) - timedelta(seconds=1)


def _checked(cron: Cron, original: str) -> Cron:
    try:
        fires = first_after(cron, "UTC", _EPOCH if cron.years is None else _EPOCH.replace(year=min(cron.years) - 1))
    except CronSimError as error:
        raise ValueError(f"cron expression {original!r}: {str(error).lower()}. {_HELP}") from None
    if fires is None:
        raise ValueError(f"cron expression {original!r} never fires. {_HELP}")
    return cron


def _from_quartz(parts: list[str]) -> Cron:
    original = " ".join(parts)
    if not parts[0].isdigit() or int(parts[0]) > 59:
        raise ValueError(f"cron expression {original!r}: seconds must be one number from 0 to 59, not {parts[0]!r}.")
    fields = [_quartz_field(index, text, original) for index, text in enumerate(parts[1:6])]
    years = _quartz_years(parts[6], original) if len(parts) == 7 else None
    return Cron(" ".join(fields), int(parts[0]), years)


def _quartz_field(index: int, text: str, original: str) -> str:
    """One Quartz field in unix notation. Weekdays count from 1 (Sunday) there, ranges may wrap, `?` means any."""
    if text in (_ANY, "?"):
        return _ANY
    if index == 2 and text in ("L", "LW"):
        return text
    return ",".join(_quartz_term(index, term, original) for term in text.split(","))


def _quartz_term(index: int, term: str, original: str) -> str:
    try:
        special = _quartz_weekday(term) if index == 4 else None
        return special or _expanded(index, term)
    except ValueError:
        raise ValueError(f"cron expression {original!r}: {_FIELDS[index]} {term!r} is not supported. {_HELP}") from None


def _quartz_weekday(term: str) -> str | None:
    """`6L` (last Friday), `6#3` (third Friday) and `L` (Saturday) in unix notation; None for plain terms."""
    if term == "L":
        return "6"
    for mark in ("#", "L"):
        name, found, rest = term.partition(mark)
        if found and name and (mark == "#") == bool(rest):
            return f"{_number(4, name) - 1}{mark}{rest}"
    return None


def _expanded(index: int, term: str) -> str:
    """A plain term as a list of numbers; a step over everything keeps its star, which matters at clock changes."""
    low, high = _RANGES[index]
    base, _, step_text = term.partition("/")
    step = int(step_text) if step_text else 1
    if step < 1:
        raise ValueError(term)
    if base == _ANY and index in (0, 1):
        return term
    numbers = _wrapped(index, base, low, high, open_ended=bool(step_text))[::step]
    return ",".join(str(number - 1 if index == 4 else number) for number in numbers)


def _wrapped(index: int, base: str, low: int, high: int, *, open_ended: bool) -> list[int]:
    if base in (_ANY, "?"):
        return list(range(low, high + 1))
    first_text, ranged, last_text = base.partition("-")
    first = _number(index, first_text)
    last = _number(index, last_text) if ranged else high if open_ended else first
    if first <= last:
        return list(range(first, last + 1))
    return [*range(first, high + 1), *range(low, last + 1)]


def _number(index: int, text: str) -> int:
    names = {3: _MONTHS, 4: _DAYS}.get(index, {})
    number = names.get(text) or int(text)
    low, high = _RANGES[index]
    if not low <= number <= high:
        raise ValueError(text)
    return number


def _quartz_years(text: str, original: str) -> tuple[int, ...] | None:
    if text in (_ANY, "?"):
        return None
    try:
        years = [_year_range(term) for term in text.split(",")]
    except ValueError:
        raise ValueError(f"cron expression {original!r}: year {text!r} is not supported. {_HELP}") from None
    return tuple(sorted(set(itertools.chain.from_iterable(years))))


def _year_range(term: str) -> Iterable[int]:
    first, ranged, last = term.partition("-")
    found = range(int(first), int(last if ranged else first) + 1)
    if not found or not 1970 <= found.start <= found.stop <= 2200:
        raise ValueError(term)
    return found
