"""The API's error rate from counters: pure functions over scrapes.

Belongs here: what counters say about a window of time. Does not belong here: reading them (`prometheus`,
`probes.api`). A counter belongs to a process and begins at zero with it. Every series is followed by itself, so that
one of several processes may restart while the others go on; what a process counted between the last scrape before its
end and that end nobody can know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from adinsights_orchestration.health.model import Health

# Scrapes come every half minute: the oldest interval that counts may begin so much before the window.
_SLACK = timedelta(seconds=45)
_FORGET_PROCESS_AFTER = timedelta(minutes=30)
# A process restarts once or twice within a window. Counters that begin anew more often are those of several processes.
_MOST_RESETS = 2
_MOST_ABSENT = 200  # labelled processes that are remembered while others answer
_OWN_LABELS = ("pid=", "pod=", "instance=")  # by which processes are told apart without their start


@dataclass(frozen=True, slots=True)
class Series:
    """One counter.

    Attributes:
        count: Since its process began.
        is_error: Whether it counts errors.
        group: What it shares with the counters of the same process that differ in nothing but the status: they begin
            anew together. A process' own label (`pid`, `pod`) is in it.
    """

    count: float
    is_error: bool
    group: str = ""


@dataclass(frozen=True, slots=True)
class Scrape:
    """One reading of one target's counters.

    Attributes:
        target: Where it was read.
        at: When.
        series: Every series, named by its labels.
        started: When the process that answered began, in seconds since 1970, where it says so. Behind a load balancer
            it tells the processes apart.
    """

    target: str
    at: datetime
    series: Mapping[str, Series]
    started: float | None = None

    @property
    def process(self) -> str:
        """Names the process among those that answer for the target."""
        return f"{self.target}|{self.started if self.started is not None else ''}"


@dataclass(frozen=True, slots=True)
class Interval:
    """What was counted between two scrapes of a process, or since its start."""

    begin: datetime
    end: datetime
    requests: float
    errors: float


@dataclass(frozen=True, slots=True)
class Process:
    """The last scrape of a process: of each series the count, by group and name."""

    at: datetime
    counts: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Counters:
    """What is remembered from one scrape to the next.

    Attributes:
        processes: The last scrape of each.
        targets: When each was read last.
        intervals: What was counted.
        resets: When the counters of a target began anew that tells no processes apart, oldest first.
    """

    processes: Mapping[str, Process]
    targets: Mapping[str, datetime]
    intervals: tuple[Interval, ...] = ()
    resets: Mapping[str, tuple[datetime, ...]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "processes": {
                name: {"at": one.at.isoformat(), "counts": {group: dict(each) for group, each in one.counts.items()}}
                for name, one in self.processes.items()
            },
            "targets": {name: at.isoformat() for name, at in self.targets.items()},
            "resets": {name: [at.isoformat() for at in moments] for name, moments in self.resets.items()},
            "intervals": [[i.begin.isoformat(), i.end.isoformat(), i.requests, i.errors] for i in self.intervals],
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any] | None) -> Counters:
        """What was kept, read back; what another release kept is forgotten."""
        moment = datetime.fromisoformat
        try:
            kept = kept or {"processes": {}, "targets": {}, "intervals": []}
            return cls(
                {name: Process(moment(one["at"]), one["counts"]) for name, one in kept["processes"].items()},
                {name: moment(at) for name, at in kept["targets"].items()},
                tuple(Interval(moment(i[0]), moment(i[1]), i[2], i[3]) for i in kept["intervals"]),
                {name: tuple(moment(at) for at in moments) for name, moments in kept.get("resets", {}).items()},
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            return cls({}, {})


NOTHING = Counters({}, {})


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests and errors over a window.

    Attributes:
        requests: How many there were.
        errors: How many of them failed.
        covered: How much of the window is known.
    """

    requests: float
    errors: float
    covered: timedelta

    @property
    def percent(self) -> float | None:
        """The error rate; None without a request."""
        return 100 * self.errors / self.requests if self.requests > 0 else None

    def less(self, requests: int, errors: int) -> Traffic:
        """The traffic without so many requests of our own, which say nothing about customers'.

        A probe of a health endpoint that answers 503 because a sync is late would otherwise count as a failing API.
        """
        left = max(self.requests - requests, 0.0)
        return Traffic(left, min(max(self.errors - errors, 0.0), left), self.covered)


def observe(counters: Counters, scrapes: Sequence[Scrape], window: timedelta) -> Counters:
    """Returns what is remembered after further scrapes.

    Args:
        counters: What was remembered.
        scrapes: New readings, of several targets or none (a scrape that was missed).
        window: How far back intervals are needed.
    """
    processes, targets, intervals = dict(counters.processes), dict(counters.targets), list(counters.intervals)
    resets = dict(counters.resets)
    for scrape in sorted(scrapes, key=lambda one: one.at):
        last = processes.get(scrape.process)
        if last is not None and _is_reset(scrape, last):
            resets[scrape.target] = (*resets.get(scrape.target, ()), scrape.at)
        interval = _interval(scrape, last, targets.get(scrape.target))
        if interval is not None:
            intervals.append(interval)
        counts: dict[str, dict[str, float]] = {}
        for name, series in scrape.series.items():
            counts.setdefault(series.group, {})[name] = series.count
        processes[scrape.process] = Process(scrape.at, _with_absent(counts, last))
        targets[scrape.target] = scrape.at
    newest = max(targets.values(), default=None)
    if newest is None:
        return counters
    return Counters(
        {name: one for name, one in processes.items() if newest - one.at <= _FORGET_PROCESS_AFTER},
        {name: at for name, at in targets.items() if newest - at <= _FORGET_PROCESS_AFTER},
        tuple(one for one in intervals if newest - one.end <= window + _SLACK),
        {
            name: young
            for name, moments in resets.items()
            if (young := tuple(at for at in moments if newest - at <= _FORGET_PROCESS_AFTER))
        },
    )


def several_processes(counters: Counters, window: timedelta) -> str | None:
    """Returns a target whose counters began anew so often within a window that several processes answer for it.

    What was counted there is of one process less what another had counted before: no rate at all. That holds for as
    long as processes are remembered, since which of them answers is chance.
    """
    for target, moments in sorted(counters.resets.items()):
        if any(later - at <= window for at, later in zip(moments, moments[_MOST_RESETS:], strict=False)):
            return target
    return None


def traffic(counters: Counters, window: timedelta, now: datetime) -> Traffic:
    """Returns what is known of the window that ends now: intervals that lie in it as a whole."""
    since = now - window - _SLACK
    inside = [one for one in counters.intervals if one.begin >= since and one.end <= now]
    return Traffic(sum(one.requests for one in inside), sum(one.errors for one in inside), _covered(inside))


def judge(known: Traffic, warn: float, page: float, at_least: int) -> tuple[Health, str, str]:
    """Returns health, state and a line about an error rate.

    Args:
        known: What it rests on.
        warn: Percent beyond which people are told.
        page: Percent beyond which somebody is woken.
        at_least: Requests without which the rate means nothing.
    """
    minutes = known.covered.total_seconds() / 60
    rests = f"{known.errors:.0f} of {known.requests:.0f} requests failed in {minutes:.0f} min"
    percent = known.percent
    if percent is None or known.requests < at_least:
        return Health.UNKNOWN, "too_few_requests", f"{rests}; a rate rests on at least {at_least}"
    said = f"{percent:.2f} % errors: {rests}"
    if percent > page:
        return Health.DOWN, "failing", said
    return (Health.DEGRADED, "errors", said) if percent > warn else (Health.OK, "ok", said)


def _interval(scrape: Scrape, last: Process | None, target_seen: datetime | None) -> Interval | None:
    if last is None:
        born = _born_since(scrape, target_seen)
        if born is None:
            return None  # it has counted for an unknown time
        last = Process(born, {})
    if scrape.at <= last.at:
        return None  # a clock that went back
    requests = errors = 0.0
    anew = _anew(scrape, last)
    for name, series in scrape.series.items():
        before = 0.0 if series.group in anew else last.counts.get(series.group, {}).get(name, 0.0)
        counted = series.count - before if series.count >= before else series.count
        requests += counted
        errors += counted if series.is_error else 0.0
    return Interval(last.at, scrape.at, requests, errors)


def _anew(scrape: Scrape, last: Process) -> set[str]:
    """The groups that began anew: one counter that went down, or is gone, tells it of all that belong together."""
    if scrape.started is not None:
        return set()  # the process says itself that it is the same
    return {
        group
        for group, counts in last.counts.items()
        for name, count in counts.items()
        if name not in scrape.series or scrape.series[name].count < count
    }


def _with_absent(counts: Mapping[str, Mapping[str, float]], last: Process | None) -> Mapping[str, Mapping[str, float]]:
    """The counts, and those of labelled processes that did not answer this time: behind one address they take turns."""
    absent = {} if last is None else {name: each for name, each in last.counts.items() if name not in counts}
    mine = [(name, each) for name, each in absent.items() if _is_labelled(name)]
    return {**counts, **dict(mine[:_MOST_ABSENT])}


def _is_labelled(group: str) -> bool:
    return any(label.startswith(_OWN_LABELS) for label in group.split(","))


def _is_reset(scrape: Scrape, last: Process) -> bool:
    """Whether counters began anew that no label gives to a process of its own."""
    if scrape.at <= last.at:
        return False
    return any(not _is_labelled(group) for group in _anew(scrape, last))


def _born_since(scrape: Scrape, target_seen: datetime | None) -> datetime | None:
    """When a process began that was never seen before, where that was after the target was seen last."""
    if scrape.started is None or target_seen is None or scrape.started < target_seen.timestamp():
        return None
    return target_seen


def _covered(intervals: Sequence[Interval]) -> timedelta:
    if not intervals:
        return timedelta()
    return max(one.end for one in intervals) - min(one.begin for one in intervals)
