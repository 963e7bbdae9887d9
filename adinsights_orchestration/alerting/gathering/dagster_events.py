"""What Dagster's event log says, folded into facts: jobs that fail, checks that fail.

Belongs here: `fold`, pure, and reading through `dagster_internals`. Does not belong here: what is told of it (`rules`),
what should run by itself and does not (`automations`).
How far the log was read is part of what the evaluation remembers, and is committed with what followed from it: an
evaluation that dies reads the same again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from adinsights_orchestration.alerting.facts import CheckKey, Events, Failure
from adinsights_orchestration.alerting.rules.upkeep import is_daily
from adinsights_orchestration.dagster_internals import outcomes
from adinsights_orchestration.dagster_internals.connections import keep_connections
from adinsights_orchestration.dagster_internals.events import newest_entry
from adinsights_orchestration.dagster_internals.outcomes import RunEnd
from adinsights_orchestration.topology.model import Topology

ASSET_JOB = "__ASSET_JOB"
OWN_CHECKS = frozenset(("sync", "freshness", "health"))  # connections and components have rules of their own
# Dagster decides on a retry right after it has written the failure.
_UNDECIDED_FOR = timedelta(minutes=2)
# What a person started has no next run that would tell that it is mended; whoever started it saw how it ended.
# By name: a topology knows the pipelines' alone, once it is published. A test holds them against what nothing starts.
BY_HAND = frozenset(
    (
        *("refresh_connection", "clear_connection", "approve_schema_change", "audit_log_restore", "sync_connections"),
        *("dbt_build", "evaluate_freshness", "run_alert_evaluation"),
    )
)
_BY_HAND_FOR = timedelta(hours=24)
_LONGEST_NAME = 120
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_SETTLES_WITHIN = timedelta(minutes=2)  # far more than an entry takes from its number to its commit
_WHOLE_EVERY = timedelta(minutes=10)  # the log is read anew at least so often


@dataclass(frozen=True)
class JobsSeen:
    """What is remembered of runs.

    Attributes:
        place: Up to where the log was read; None before the first time.
        begun: Where it was begun to be read: what failed before alerts began is not news.
        daily: Since when each asset that is to be made every day is known.
        newest: Of each job the number of its newest end, and its failure where that is one.
        checks: Since when each check fails that does, as it was seen.
    """

    place: int | None = None
    newest: Mapping[str, tuple[int, Failure | None]] = field(default_factory=dict)
    begun: int = 0
    daily: Mapping[str, datetime] = field(default_factory=dict)
    checks: Mapping[str, datetime] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "place": self.place,
            "begun": self.begun,
            "daily": {key: at.isoformat() for key, at in self.daily.items()},
            "newest": {job: [number, _kept(failure)] for job, (number, failure) in self.newest.items()},
            "checks": {name: at.isoformat() for name, at in self.checks.items()},
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any] | None) -> JobsSeen:
        """What was kept, read back; what another release kept is forgotten."""
        try:
            kept = kept or {"place": None, "newest": {}}
            newest = {job: (number, _failure(one)) for job, (number, one) in kept["newest"].items()}
            daily, checks = (
                {key: datetime.fromisoformat(at) for key, at in kept.get(name, {}).items()}
                for name in ("daily", "checks")
            )
            return cls(kept["place"], newest, kept.get("begun", 0), daily, checks)
        except (KeyError, TypeError, ValueError, IndexError):
            return cls()


def _kept(failure: Failure | None) -> list[str | None] | None:
    if failure is None:
        return None
    return [failure.at.isoformat(), failure.detail, failure.run_id, failure.since.isoformat()]


def _failure(kept: Sequence[Any] | None) -> Failure | None:
    """What was kept of a failure; the release before kept nothing of the first one in a row."""
    if kept is None:
        return None
    at, detail, run_id, *first = kept
    return _after(datetime.fromisoformat(first[0]) if first else None, datetime.fromisoformat(at), detail, run_id)


def _after(first_at: datetime | None, at: datetime, detail: str, run_id: str | None) -> Failure:
    """A failure, and that it is not the first in a row where there was an earlier one."""
    return Failure(at, detail, run_id, first_at if first_at is not None and first_at < at else None)


def fold(
    seen: JobsSeen,
    ends: Iterable[RunEnd],
    complete_to: int,
    now: datetime,
    *,
    started: Collection[str] | None = None,
) -> JobsSeen:
    """Returns what is remembered after further ends of runs; the same ends twice change nothing.

    Args:
        seen: What was remembered.
        ends: Ends of runs in the order of the log, some of them perhaps known.
        complete_to: The place up to which these are all.
        now: The moment.
        started: Names of the jobs that something starts by itself; None where that is not known.
    """
    newest, place = dict(seen.newest), complete_to
    for end in ends:
        if end.retried is None and abs(now - end.at) < _UNDECIDED_FOR:  # a clock that was ahead is no reason to wait
            place = min(place, end.id - 1)  # looked at again
            continue
        name = job_name(end)
        number, before = newest.get(name, (-1, None))
        if end.retried or end.id <= seen.begun or end.id <= number:
            continue
        first_at = before.since if before is not None else None
        newest[name] = (end.id, None if end.succeeded else _after(first_at, end.at, end.error, end.run_id))
    kept = {
        name: (number, failure)
        for name, (number, failure) in newest.items()
        if (failure is not None or number > place - outcomes.REREAD) and not _is_old(name, failure, started, now)
    }
    return replace(seen, place=place, newest=kept)


def job_name(end: RunEnd) -> str:
    """What people call the job: its name, or the assets where Dagster made it for them."""
    if end.job != ASSET_JOB or not end.assets:
        return end.job
    return f"materialize {', '.join(end.assets)}"[:_LONGEST_NAME]


@dataclass
class LogKept:
    """What a process knows of the log since it read it last; all of it may be thrown away.

    Attributes:
        newest: The newest entry of the log.
        since: Since when that has been the newest one.
        read_at: When the log was read.
        topology: Whose checks were looked at.
        after: What was remembered after it.
        events: What the log said.
    """

    newest: int = -1
    since: datetime = _LONG_AGO
    read_at: datetime = _LONG_AGO
    topology: Topology | None = None
    after: JobsSeen = field(default_factory=JobsSeen)
    events: Events = field(default_factory=Events)

    def holds(self, newest: int, topology: Topology | None, seen: JobsSeen, now: datetime) -> bool:
        """Whether the log says what it said.

        Several processes write it: an entry with a lower number may appear for a while after one with a higher, so the
        newest one must have been that for some time.
        """
        same = newest == self.newest and topology is self.topology and seen == self.after and seen.place == newest
        settled = self.read_at - self.since >= _SETTLES_WITHIN
        return same and settled and timedelta() <= now - self.read_at < _WHOLE_EVERY


def read(
    instance: dg.DagsterInstance,
    topology: Topology | None,
    seen: JobsSeen,
    now: datetime,
    kept: LogKept | None = None,
) -> tuple[Events, JobsSeen]:
    """Returns what the log says, and what is to be remembered; where its storage does not answer, that.

    Args:
        instance: Dagster.
        topology: Whose checks are looked at.
        seen: What was remembered.
        now: The moment.
        kept: What this process read before; then a log in which nothing was written is not read again.
    """
    kept = kept or LogKept()
    try:
        keep_connections(instance)
        newest = newest_entry(instance)
        if kept.holds(newest, topology, seen, now):
            return kept.events, seen
        events, after = _read(instance, topology, seen, newest, now)
    except Exception as error:  # noqa: BLE001  (whatever Dagster's storage raises, nothing is known, and that is told)
        return unreadable(error), seen
    since = kept.since if newest == kept.newest and kept.since <= now else now
    kept.newest, kept.since, kept.read_at, kept.topology = newest, since, now, topology
    kept.after, kept.events = after, events
    return events, after


def unreadable(error: Exception) -> Events:
    """What is known where Dagster's storage does not answer: that it does not."""
    return Events(problem=f"Dagster's storage does not answer ({type(error).__name__}).")


def _read(
    instance: dg.DagsterInstance, topology: Topology | None, seen: JobsSeen, newest: int, now: datetime
) -> tuple[Events, JobsSeen]:
    if seen.place is None:
        seen = JobsSeen(newest, begun=newest)
    place = seen.place or 0
    ends, complete_to = outcomes.run_ends(instance, max(place - outcomes.REREAD, seen.begun, 0))
    if complete_to < place:  # so much has ended lately that what is read again is all there was room for
        ends, complete_to = outcomes.run_ends(instance, place)
    after = fold(seen, ends, complete_to, now, started=started_by_itself(topology))
    checks = [
        (asset.key, check)
        for asset in (topology.assets if topology else ())
        for check in asset.checks
        if check not in OWN_CHECKS
    ]
    failed = {
        CheckKey(one.asset, one.check, one.partition): _after(
            seen.checks.get(f"{one.asset}:{one.check}"), one.at, one.detail, one.run_id
        )
        for one in outcomes.failed_checks(instance, checks)
    }
    known = [asset.key for asset in (topology.assets if topology else ()) if is_daily(asset.key)]
    made = outcomes.last_materialized(instance, known)
    daily = {key: min(after.daily.get(key, now), now) for key in known}
    after = replace(after, daily=daily, checks={f"{key.asset}:{key.check}": one.since for key, one in failed.items()})
    events = Events(
        jobs={name: failure for name, (_, failure) in after.newest.items() if failure is not None},
        checks=failed,
        materialized={key: (made.get(key, since), key in made) for key, since in after.daily.items()},
    )
    return events, after


def started_by_itself(topology: Topology | None) -> frozenset[str] | None:
    """The jobs that schedules and sensors start; None where nobody has said which jobs there are."""
    if topology is None or not topology.jobs:
        return None
    by_sensor = {job for sensor in topology.sensors for job in sensor.jobs}
    return frozenset(by_sensor | {schedule.job for schedule in topology.schedules})


def _is_old(name: str, failure: Failure | None, started: Collection[str] | None, now: datetime) -> bool:
    """Whether no next run will tell that it is mended, and it was told for long enough.

    A job that was renamed, removed or left without its schedule ends so too. Not sooner: which jobs there are is
    published after a deployment, and one of them may have failed before.
    """
    by_hand = name.startswith("materialize ") or name in BY_HAND or (started is not None and name not in started)
    return failure is not None and by_hand and now - failure.at > _BY_HAND_FOR
