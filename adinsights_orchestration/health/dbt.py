"""dbt's health, as the recorded invocations tell it: one pure function.

Belongs here: merging builds and the five states. Does not belong here: reading rows (`recorded`), and what the backend
makes of the file that is published for it (`probes.backend`), which is shown beside this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil

from adinsights_orchestration.health.model import Health

RUNBOOK_AGE = timedelta(hours=24)  # runbook: the latest run completed within 24 hours
_GOOD = frozenset(("success", "skipped"))
# A build of so large a part of the largest one counts as a build of everything.
_WHOLE = 0.9
_MODEL = "model."  # seeds and snapshots are of a pace of their own


class DbtState(StrEnum):
    """The runbook's words."""

    OK = "ok"
    STALE = "stale"
    FAILING = "failing"
    MISSING = "missing_run_results"
    INVALID = "invalid_run_results"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One dbt command that ran models.

    Attributes:
        run_id: The build that it is a part of: one that goes on without a provider that failed has two commands.
        completed: Whether dbt came to its own end and wrote results.
        succeeded: Whether nothing failed, tests included.
        generated_at: When its results were written.
        elapsed: How long it took.
        models: How many models it ran.
        readable: Whether its results could be read.
    """

    run_id: str
    completed: bool
    succeeded: bool
    generated_at: datetime
    elapsed: timedelta
    models: int
    readable: bool = True


@dataclass(frozen=True, slots=True)
class ModelResult:
    """What one build said of one model."""

    unique_id: str
    status: str
    generated_at: datetime
    built_at: datetime | None = None  # the last build after which it stood as it should; None where nobody noted it

    @property
    def held_up(self) -> bool:
        """Whether the last build that came to it left it as it was, because something before it failed."""
        return self.status == "skipped" and (self.built_at is None or self.built_at < self.generated_at)

    @property
    def failing(self) -> bool:
        """Whether the model is neither built nor left alone."""
        return self.status not in _GOOD


@dataclass(frozen=True, slots=True)
class DbtRules:
    """From what on dbt is not well.

    Attributes:
        warn_age: Age of the latest build that succeeded, and of any model, from which it is stale, beyond the usual
            duration of a whole build.
        page_age: Age from which it is down, beyond the same.
        page_failures: Failed builds in a row from which it is down.
        warn_failures: Failed builds in a row from which they, or a failing model, count at all.
    """

    warn_age: timedelta
    page_age: timedelta
    page_failures: int
    warn_failures: int = 1


@dataclass(frozen=True, slots=True)
class DbtHealth:
    """dbt as it stands.

    Attributes:
        health: What it means.
        state: The runbook's word.
        detail: Why, in one line.
        generated_at: The latest completed build; None before the first.
        age: Since the latest build that succeeded, or the model that was built longest ago: the older of the two.
        stale_after: The age from which it is stale.
        runbook_state: The same by the runbook's bare 24 hours.
        failing: Models that failed, by unique id.
        failures: Failed builds in a row, those in which only tests failed included.
        held_up: Models that a failed test or model keeps from being built, by unique id.
        untouched: Models that were built too long ago, whatever other builds did, by unique id.
        unfinished_since: A newer command that has not completed: it runs, or was killed.
        failed_run: The newest build that failed, while none has succeeded since.
    """

    health: Health
    state: DbtState
    detail: str
    generated_at: datetime | None = None
    age: timedelta | None = None
    stale_after: timedelta | None = None
    runbook_state: DbtState = DbtState.MISSING
    failing: tuple[str, ...] = ()
    failures: int = 0
    held_up: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    unfinished_since: datetime | None = None
    failed_run: str | None = None


def merge(results: Iterable[ModelResult]) -> dict[str, ModelResult]:
    """Returns the newest word about each model, in whatever order builds are given.

    A model that was skipped was not built, so that cannot clear its own earlier failure.
    """
    found: dict[str, ModelResult] = {}
    for result in sorted(results, key=lambda one: (one.generated_at, one.failing)):
        known = found.get(result.unique_id)
        if known is None or not (result.status == "skipped" and known.failing):
            built_at = result.built_at or (known.built_at if known else None)
            found[result.unique_id] = replace(result, built_at=built_at)
    return found


def dbt_health(
    invocations: Sequence[Invocation], models: Iterable[ModelResult], rules: DbtRules, now: datetime
) -> DbtHealth:
    """Returns dbt's health.

    Args:
        invocations: The newest commands that ran models, in any order.
        models: Results of models; several of one are merged.
        rules: From what on it is not well.
        now: The moment.
    """
    newest_first = sorted(invocations, key=lambda one: one.generated_at, reverse=True)
    completed = _builds([one for one in newest_first if one.completed])
    unfinished = newest_first[0].generated_at if newest_first and not newest_first[0].completed else None
    if not completed:
        said = "no dbt build has completed yet"
        return DbtHealth(Health.DEGRADED, DbtState.MISSING, said, unfinished_since=unfinished)
    latest = completed[0]
    if not latest.readable:
        said = "the latest build's results cannot be read"
        return DbtHealth(
            Health.DOWN,
            DbtState.INVALID,
            said,
            latest.generated_at,
            runbook_state=DbtState.INVALID,
            unfinished_since=unfinished,
        )
    return _judged(completed, merge(models), rules, now, unfinished)


def usual_duration(completed: Sequence[Invocation]) -> timedelta:
    """Returns the 95th percentile of how long whole builds took; nothing where none is known."""
    most = max((one.models for one in completed), default=0)
    whole = sorted(one.elapsed for one in completed if one.models >= most * _WHOLE)
    return whole[ceil(0.95 * len(whole)) - 1] if whole else timedelta()


def _judged(
    completed: Sequence[Invocation],
    models: Mapping[str, ModelResult],
    rules: DbtRules,
    now: datetime,
    unfinished: datetime | None,
) -> DbtHealth:
    usual = usual_duration(completed)
    failing = tuple(sorted(name for name, model in models.items() if model.failing))
    failures = _failures_in_a_row(completed)
    held_up = tuple(sorted(name for name, model in models.items() if model.held_up))
    # A model that an older build left failing counts as well, though newer ones did not touch it and succeeded; and so
    # does a failed test, which makes no model fail but keeps what comes after it from being built.
    counts = bool(failing or failures) and max(failures, 1) >= rules.warn_failures
    limit = rules.warn_age + usual
    built = {name: one.built_at for name, one in models.items() if one.built_at is not None and not one.failing}
    untouched = tuple(sorted(name for name, at in built.items() if name.startswith(_MODEL) and now - at > limit))
    age = max(now - min((_succeeded_at(completed), *(built[name] for name in untouched))), timedelta())
    state = DbtState.FAILING if counts else _by_age(age, limit)
    worst = age > rules.page_age + usual or (counts and failures >= rules.page_failures)
    health = Health.OK if state is DbtState.OK else Health.DOWN if worst else Health.DEGRADED
    return DbtHealth(
        health=health,
        state=state,
        detail=_detail(state, age, now - completed[0].generated_at, limit, failing, held_up, untouched, failures),
        generated_at=completed[0].generated_at,
        age=age,
        stale_after=limit,
        runbook_state=DbtState.FAILING if failing else _by_age(age, RUNBOOK_AGE),
        failing=failing,
        failures=failures,
        held_up=held_up,
        untouched=untouched,
        unfinished_since=unfinished,
        failed_run=completed[0].run_id if failures else None,
    )


def _builds(newest_first: Sequence[Invocation]) -> list[Invocation]:
    """Puts the commands of one build together, where they are several: it succeeded if all of them did."""
    found: dict[str, Invocation] = {}
    for one in newest_first:
        newer = found.get(one.run_id)
        found[one.run_id] = one if newer is None else _joined(newer, one)
    return list(found.values())


def _joined(newer: Invocation, older: Invocation) -> Invocation:
    return replace(
        newer,
        succeeded=newer.succeeded and older.succeeded,
        elapsed=newer.elapsed + older.elapsed,
        models=max(newer.models, older.models),
    )


def _succeeded_at(completed: Sequence[Invocation]) -> datetime:
    """When a build succeeded last: one that failed left what comes after the failure as it was.

    Before the first it is the oldest build that is known, so that one has as much time as between two.
    """
    return next((one.generated_at for one in completed if one.succeeded), completed[-1].generated_at)


def _by_age(age: timedelta, limit: timedelta) -> DbtState:
    return DbtState.STALE if age > limit else DbtState.OK


def _failures_in_a_row(completed: Sequence[Invocation]) -> int:
    for count, one in enumerate(completed):
        if one.succeeded:
            return count
    return len(completed)


def _detail(
    state: DbtState,
    age: timedelta,
    latest: timedelta,
    limit: timedelta,
    failing: Sequence[str],
    held_up: Sequence[str],
    untouched: Sequence[str],
    failures: int,
) -> str:
    runs = f"{failures} failed builds in a row" if failures > 1 else ""
    since = f"no build has succeeded for {_hours(age)}" if failures else f"latest build {_hours(age)} ago"
    if state is DbtState.FAILING:
        what = _named(failing) if failing else "no model, but a test or a hook"
        keeps = f", not built for it: {_named(held_up)}" if held_up and not failing else ""
        since_when = "" if failing else f"; {since}"
        return f"failing: {what}{keeps}; {runs or f'latest build {_hours(latest)} ago'}{since_when}"
    beside = f"; {runs}" if runs else ""
    if state is DbtState.STALE:
        said = f"not built for up to {_hours(age)}: {_named(untouched)}" if untouched else since
        return f"{said}, due within {_hours(limit)} (runbook: 24 h){beside}"
    usual = " (past the runbook's bare 24 h, within the usual duration)" if age > RUNBOOK_AGE else ""
    return f"{since}{usual}{beside}"


def _named(names: Sequence[str]) -> str:
    named = ", ".join(name.split(".")[-1] for name in names[:5])
    return f"{named} and {len(names) - 5} more" if len(names) > 5 else named


def _hours(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{time.total_seconds() / 60:.0f} min"
