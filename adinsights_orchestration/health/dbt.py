"""dbt's health, as the recorded invocations tell it: one pure function.

Belongs here: merging builds and the five states. Does not belong here: reading rows (`recorded`), and what the backend
makes of the file that is published for it (`probes.backend`), which is shown beside this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil

from adinsights_orchestration.health.model import Health

RUNBOOK_AGE = timedelta(hours=24)  # runbook: the latest run completed within 24 hours
_GOOD = frozenset(("success", "skipped"))
# A build of so large a part of the largest one counts as a build of everything.
_WHOLE = 0.9


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
        completed: Whether dbt came to its own end and wrote results.
        succeeded: Whether nothing failed, tests included.
        generated_at: When its results were written.
        elapsed: How long it took.
        models: How many models it ran.
        readable: Whether its results could be read.
    """

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

    @property
    def failing(self) -> bool:
        """Whether the model is neither built nor left alone."""
        return self.status not in _GOOD


@dataclass(frozen=True, slots=True)
class DbtRules:
    """From what on dbt is not well.

    Attributes:
        warn_age: Age of the latest completed build from which it is stale, beyond the usual duration of a whole one.
        page_age: Age from which it is down, beyond the same.
        page_failures: Failed builds in a row from which it is down.
        warn_failures: Failed builds in a row from which a failing model counts at all.
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
        age: Since then.
        stale_after: The age from which it is stale.
        runbook_state: The same by the runbook's bare 24 hours.
        failing: Models that failed, by unique id.
        failures: Failed builds in a row.
        unfinished_since: A newer command that has not completed: it runs, or was killed.
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
    unfinished_since: datetime | None = None


def merge(results: Iterable[ModelResult]) -> dict[str, ModelResult]:
    """Returns the newest word about each model, in whatever order builds are given.

    A model that was skipped was not built, so that cannot clear its own earlier failure.
    """
    found: dict[str, ModelResult] = {}
    for result in sorted(results, key=lambda one: (one.generated_at, one.failing)):
        known = found.get(result.unique_id)
        if known is None or not (result.status == "skipped" and known.failing):
            found[result.unique_id] = result
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
    completed = [one for one in newest_first if one.completed]
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
    latest = completed[0]
    age = max(now - latest.generated_at, timedelta())  # a clock that is ahead makes nothing younger than new
    usual = usual_duration(completed)
    failing = tuple(sorted(name for name, model in models.items() if model.failing))
    failures = _failures_in_a_row(completed)
    # A model that an older build left failing counts as well, though newer ones did not touch it and succeeded.
    counts = bool(failing) and max(failures, 1) >= rules.warn_failures
    state = DbtState.FAILING if counts else _by_age(age, rules.warn_age + usual)
    worst = age > rules.page_age + usual or (counts and failures >= rules.page_failures)
    health = Health.OK if state is DbtState.OK else Health.DOWN if worst else Health.DEGRADED
    return DbtHealth(
        health=health,
        state=state,
        detail=_detail(state, age, rules.warn_age + usual, failing, failures),
        generated_at=latest.generated_at,
        age=age,
        stale_after=rules.warn_age + usual,
        runbook_state=DbtState.FAILING if failing else _by_age(age, RUNBOOK_AGE),
        failing=failing,
        failures=failures,
        unfinished_since=unfinished,
    )


def _by_age(age: timedelta, limit: timedelta) -> DbtState:
    return DbtState.STALE if age > limit else DbtState.OK


def _failures_in_a_row(completed: Sequence[Invocation]) -> int:
    for count, one in enumerate(completed):
        if one.succeeded:
            return count
    return len(completed)


def _detail(state: DbtState, age: timedelta, limit: timedelta, failing: Sequence[str], failures: int) -> str:
    when = f"latest build {_hours(age)} ago"
    if state is DbtState.FAILING:
        named = ", ".join(name.split(".")[-1] for name in failing[:5])
        more = f" and {len(failing) - 5} more" if len(failing) > 5 else ""
        runs = f"{failures} failed builds in a row" if failures > 1 else when
        return f"failing: {named}{more}; {runs}"
    if state is DbtState.STALE:
        return f"{when}, due within {_hours(limit)} (runbook: 24 h)"
    beside = " (past the runbook's bare 24 h, within the usual duration)" if age > RUNBOOK_AGE else ""
    return when + beside


def _hours(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{time.total_seconds() / 60:.0f} min"
