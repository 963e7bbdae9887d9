"""Schedules and sensors that should do their work here and do not: switched off, silent, never begun, or failing.

Belongs here: from when on silence or failing is too long, and reading no more of Dagster's storage for it than is
needed. Does not belong here: what is told of it (`rules`), that storage (`dagster_internals.automations`). A tick that
failed has done no work, so it buys no time: what fails is told as soon as what is silent would be. The daemon that
makes automations tick makes evaluations too, so this counts only while somebody listened: after a pause, whether a
night of a laptop or a restart, everything has its time to tick before it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from adinsights_orchestration.alerting.facts import Events, Halt
from adinsights_orchestration.alerting.gathering.dagster_events import unreadable
from adinsights_orchestration.alerting.message import LONGEST_DETAIL, clean, moment
from adinsights_orchestration.dagster_internals.automations import (
    Automation,
    Tick,
    automations,
    due_after,
    failing_since,
    newest_ticks,
)
from adinsights_orchestration.redaction import redact

_LEAST_SILENCE = timedelta(minutes=5)
_INTERVALS = 4  # of a sensor
_LATE_BY = timedelta(minutes=15)  # of a schedule, which ticks within a minute; a code server may take some to start
_UNSEEN_FOR = timedelta(minutes=15)  # the daemon writes a state as soon as it has loaded the code
_PAUSE = timedelta(minutes=3)  # between two evaluations; a tick of a sensor has a minute
_READ_EVERY = timedelta(minutes=2)  # less than half the shortest silence that is told
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Expected:
    """How something runs by itself here: a sensor every so often, or a schedule by its cron.

    Attributes:
        every: A sensor's interval.
        cron: A schedule's expression; empty for a sensor.
        timezone: In which that is read.
    """

    every: timedelta = timedelta()
    cron: str = ""
    timezone: str = "UTC"


@dataclass(frozen=True)
class Watch:
    """What an evaluation leaves for the next one.

    Attributes:
        looked_at: When that was; None before the first.
        listening_since: Since when evaluations have followed each other without a pause.
        unseen: Since when each automation is looked for that Dagster knows nothing of.
        stopped: Since when each one does not run, or fails, that was found so.
    """

    looked_at: datetime | None = None
    listening_since: datetime = _LONG_AGO
    unseen: Mapping[str, datetime] = field(default_factory=dict)
    stopped: Mapping[str, datetime] = field(default_factory=dict)

    def at(self, now: datetime) -> Watch:
        """This, a moment later; a clock that was set back is a pause too."""
        goes_on = self.looked_at is not None and timedelta() <= now - self.looked_at <= _PAUSE
        return replace(self, looked_at=now, listening_since=self.listening_since if goes_on else now)

    def to_json(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "looked_at": self.looked_at and self.looked_at.isoformat(),
            "listening_since": self.listening_since.isoformat(),
            "unseen": {name: at.isoformat() for name, at in self.unseen.items()},
            "stopped": {name: at.isoformat() for name, at in self.stopped.items()},
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any] | None) -> Watch:
        """What was kept, read back; what another release kept is forgotten."""
        try:
            kept = kept or {}
            looked_at, since = kept.get("looked_at"), kept.get("listening_since")
            return cls(
                datetime.fromisoformat(looked_at) if looked_at else None,
                datetime.fromisoformat(since) if since else _LONG_AGO,
                {name: datetime.fromisoformat(at) for name, at in kept.get("unseen", {}).items()},
                {name: datetime.fromisoformat(at) for name, at in kept.get("stopped", {}).items()},
            )
        except (AttributeError, TypeError, ValueError):
            return cls()


@dataclass(frozen=True, slots=True)
class _Silence:
    """A good tick that did not come so far.

    Attributes:
        since: Since when it is missing.
        grace: For how long that is nothing.
        said: How people are told.
    """

    since: datetime
    grace: timedelta
    said: str

    def told_from(self, watch: Watch, name: str) -> datetime:
        """From when on it is told; what was told goes on being so, whatever pause there was."""
        listened = self.since if name in watch.stopped else max(self.since, watch.listening_since)
        return listened + self.grace


@dataclass(frozen=True, slots=True)
class Failing:
    """That every tick fails.

    Attributes:
        since: When the first one did.
        error: What the newest one raised; empty where that is not known.
    """

    since: datetime
    error: str = ""


def judge(
    found: Mapping[str, Automation],
    declared: Mapping[str, Expected],
    watch: Watch,
    now: datetime,
    failing: Mapping[str, Failing] | None = None,
) -> tuple[dict[str, Halt], Watch, datetime]:
    """Returns what is to do its work and does not, what the next one is to know, and when time alone changes that.

    Where Dagster knows of nothing at all, no daemon has ever run: somebody evaluates by hand.

    Args:
        found: What Dagster keeps of each, with its last tick.
        declared: Those that run by themselves here, by their names in Dagster.
        watch: What is known of earlier.
        now: The moment.
        failing: Those whose ticks fail.
    """
    halts: dict[str, Halt] = {}
    unseen: dict[str, datetime] = {}
    until = now + _READ_EVERY
    if not found:
        return {}, replace(watch, unseen={}, stopped={}), until
    for name, expected in declared.items():
        one = found.get(name)
        place = (one.location if one is not None else "", bool(expected.cron))
        if one is not None and one.stopped:
            halts[name] = Halt(one.last_tick_at or now, "Somebody switched it off.", *place)
            continue
        silence = _silence(one, expected) if one is not None else None
        if silence is None:
            unseen[name] = min(watch.unseen.get(name, now), now)
            silence = _Silence(unseen[name], _UNSEEN_FOR, "Dagster keeps nothing of it: it has never run.")
        failure = _failure((failing or {}).get(name), expected)
        for missing in filter(None, (silence, failure)):
            told_from = missing.told_from(watch, name)
            if told_from <= now and name not in halts:
                halts[name] = Halt(missing.since, missing.said, *place, fails=missing is failure)
            until = min(until, told_from)
    stood = {name: replace(one, at=watch.stopped.get(name, one.at)) for name, one in halts.items()}
    return stood, replace(watch, unseen=unseen, stopped={name: one.at for name, one in stood.items()}), until


@dataclass
class AutomationsKept:
    """What a process knows of automations since it read them last; all of it may be thrown away.

    Attributes:
        read_at: When.
        until: Until when the same says the same.
    """

    read_at: datetime = _LONG_AGO
    until: datetime = _LONG_AGO


def add(
    events: Events,
    instance: dg.DagsterInstance,
    declared: Mapping[str, Expected],
    watch: Watch,
    now: datetime,
    kept: AutomationsKept,
) -> tuple[Events, Watch]:
    """Returns the events with what does not run; where Dagster's storage does not answer, that.

    Args:
        events: What the log says.
        instance: Dagster.
        declared: Those that run by themselves here, by their names in Dagster.
        watch: What the last evaluation left.
        now: The moment.
        kept: What this process read before; then nothing is read again before it would say something else.
    """
    watch = watch.at(now)
    if events.problem:
        return events, watch
    if not watch.stopped and timedelta() <= now - kept.read_at < _READ_EVERY and now < kept.until:
        return events, watch
    try:
        found = automations(instance)
        ticks = newest_ticks(instance, [found[name] for name in declared if name in found and not found[name].stopped])
        failing = {
            name: _failing(instance, found[name], tick, watch)
            for name, tick in ticks.items()
            if tick.failed and tick.at >= (found[name].started_at or tick.at)
        }
    except Exception as error:  # noqa: BLE001  (whatever Dagster's storage raises, nothing is known, and that is told)
        return unreadable(error), watch
    found |= {name: replace(found[name], last_tick_at=ticks[name].at) for name in ticks if declared[name].cron}
    stopped, watch, kept.until = judge(found, declared, watch, now, failing)
    kept.read_at = now
    return replace(events, stopped=stopped), watch


def _failing(instance: dg.DagsterInstance, one: Automation, tick: Tick, watch: Watch) -> Failing:
    """Since when it fails, which is asked for only until it is told; what was before it was switched on counts not."""
    since = watch.stopped.get(one.name) or failing_since(instance, one) or tick.at
    return Failing(max(since, one.started_at or since), clean(redact(tick.error), LONGEST_DETAIL // 2))


def _failure(failing: Failing | None, expected: Expected) -> _Silence | None:
    """Which good tick is missing; None where ticks do not fail."""
    if failing is None:
        return None
    error = f", the last one with: {failing.error}" if failing.error else "."
    return _Silence(failing.since, _grace(expected), f"Every tick since {moment(failing.since)} has failed{error}")


def _grace(expected: Expected) -> timedelta:
    """For how long nothing need be heard of a good tick."""
    return _LATE_BY if expected.cron else max(_LEAST_SILENCE, _INTERVALS * expected.every)


def _silence(one: Automation, expected: Expected) -> _Silence | None:
    """Which tick is missing next; None where nothing of it is known."""
    sign = one.last_sign
    if sign is None:
        return None
    if expected.cron:
        due = due_after(expected.cron, expected.timezone, sign)
        return _Silence(due, _grace(expected), f"It did not tick for {due:%Y-%m-%d %H:%M} UTC, when it was due.")
    said = "It has never ticked."
    if one.last_tick_at is not None:
        said = f"It ticked last at {one.last_tick_at:%Y-%m-%d %H:%M} UTC."
    return _Silence(sign, _grace(expected), said)
