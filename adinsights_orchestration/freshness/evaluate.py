"""Whether a connection is fresh: from facts, an expectation and a moment to a state.

Belongs here: the rule, as a pure function. Does not belong here: thresholds (`sla`), reading facts (`facts`). A sync is
due at its expected completion: a slot of its schedule plus a grace. A connection is late when a slot's expected
completion passed and no sync succeeded since that slot, *and* its last success is older than both the least age and the
schedule's own gap plus the grace: an hourly connection does not flap every hour, and one that sleeps from 22:00 to
06:00 is not late at 05:30. Each verdict says until when it holds without news, so that idle connections cost nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from adinsights_orchestration.freshness.model import Expectation, Facts, Freshness, Verdict
from adinsights_orchestration.freshness.sla import LocalTime, Sla, SlaTable
from adinsights_orchestration.tenants.model import Standing
from adinsights_orchestration.tenants.nights import Nightly
from adinsights_orchestration.tenants.slots import Slots, latest_slot, slots

CLOCK_SKEW = timedelta(minutes=1)  # a sync that ended so long before a slot may have ended after it by our clock
_SOME_DAY = datetime(2026, 1, 15, tzinfo=UTC)  # one night is as long as another
_NOBODY = UUID(int=0)  # a cron's slots are everybody's
_STANDINGS = {
    Standing.PAUSED: (Freshness.PAUSED, "Paused in the backend: nothing is due."),
    Standing.MANUAL: (Freshness.MANUAL, "Synced by hand only: nothing is due."),
    Standing.RETIRED: (Freshness.PAUSED, "Retired: nothing is due."),
}


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds that an evaluation applies.

    Attributes:
        grace: The least time that a sync may take.
        running_times: How many times its usual duration a sync may run.
        running_least: For how long it may run in any case.
    """

    grace: timedelta
    running_times: float
    running_least: timedelta

    @classmethod
    def of(cls, sla: SlaTable, nights: Nightly | None = None) -> Rules:
        """The rules of an SLA table; where all sync in one night, each has until the night is to be through."""
        running = sla[Sla.RUNNING_LONG]
        assert running.window is not None
        grace = max(sla[Sla.SYNC_GRACE].warn_after, _length(sla, nights) if nights else timedelta())
        return cls(grace, running.warn, running.window)


def evaluate(
    facts: Facts,
    expectation: Expectation,
    rules: Rules,
    expected_since: datetime,
    now: datetime,
    *,
    excused: bool = False,
) -> Verdict:
    """Returns the connection's freshness at `now`.

    For the same facts it never gets better as time goes by; a later success never makes it worse.

    Args:
        facts: What the ledger knows.
        expectation: What may be expected of the connection.
        rules: The thresholds.
        expected_since: Since when that is expected: what a connection did not do before it was expected is not late.
        now: The moment, by our own clock.
        excused: Do not call it late though it is due, because the facts are known to lie behind: such a verdict does
            not hold beyond this moment.
    """
    if expectation.standing is Standing.MISCONFIGURED:
        return Verdict(Freshness.MISCONFIGURED, expectation.problem or "The registry's entry is wrong.")
    if expectation.standing in _STANDINGS:
        return Verdict(*_STANDINGS[expectation.standing])
    deadline = late_from(facts, expectation, rules, expected_since)
    overrun = overrun_from(facts.running_since, facts.usual_seconds, rules.running_times, rules.running_least)
    is_due = deadline is not None and now >= deadline
    if deadline is not None and is_due and not excused:
        state = Freshness.NO_RECENT_SYNC if facts.last_success_at is None else Freshness.STALE
        return Verdict(state, _late(facts, expectation, deadline), None, deadline)
    moments = [moment for moment in (deadline, overrun) if moment is not None and moment > now]
    state, detail = _on_time(facts, overrun, now)
    if is_due:
        return Verdict(state, f"{detail} Due, and not called late before the ledger is up to date.", deadline, deadline)
    return Verdict(state, detail, min(moments, default=None), deadline)


def _length(sla: SlaTable, nights: Nightly) -> timedelta:
    """From the moment at which a night's syncs are due to when its pipeline is to be through."""
    slot = latest_slot(nights.schedule, nights.timezone, _SOME_DAY, _NOBODY)
    assert slot is not None  # the table's expressions have a moment every day
    local = slot.astimezone(ZoneInfo(sla.timezone))
    through = datetime.combine(local.date(), sla.local_times[LocalTime.NIGHTLY_DONE_BY], local.tzinfo)
    return (through - local) % timedelta(days=1)


def grace_of(facts: Facts, rules: Rules) -> timedelta:
    """How long after its slot a sync may be over: the table's grace, or what its own syncs usually take if longer."""
    return max(rules.grace, timedelta(seconds=facts.usual_seconds or 0))


def late_from(facts: Facts, expectation: Expectation, rules: Rules, expected_since: datetime) -> datetime | None:
    """Returns the first moment at which the connection is late unless a sync succeeds; None where nothing is due.

    A closed form of the rule: of the slots after the last success only the first two can decide. At the second one's
    expected completion the last success is older than the gap between them, whatever that is.
    """
    grace = grace_of(facts, rules)
    counted_from = max(facts.last_success_at or expected_since, expected_since)
    first = _slots(expectation, counted_from + CLOCK_SKEW)
    if first.following is None:
        return None
    if facts.last_success_at is None:
        return first.following + grace
    gap = first.gap or timedelta()
    ages_from = facts.last_success_at
    by_first = max(first.following + grace, ages_from + max(expectation.max_age, gap + grace))
    second = _slots(expectation, first.following)
    if second.following is None:
        return by_first
    by_second = max(second.following + grace, ages_from + expectation.max_age)
    return min(by_first, by_second)


def overrun_from(
    running_since: datetime | None, usual_seconds: float | None, times: float, least: timedelta
) -> datetime | None:
    """Returns from when the sync that runs counts as hanging; None where none runs.

    Args:
        running_since: Its start.
        usual_seconds: How long the connection's syncs take; None while there is no history.
        times: How many times that it may run.
        least: For how long it may run in any case.
    """
    return None if running_since is None else running_since + max(least, timedelta(seconds=usual_seconds or 0) * times)


def _slots(expectation: Expectation, moment: datetime) -> Slots:
    return slots(expectation.schedule, expectation.timezone, moment, expectation.connection_id)


def _on_time(facts: Facts, overrun: datetime | None, now: datetime) -> tuple[Freshness, str]:
    if overrun is not None and now >= overrun:
        return Freshness.RUNNING_STALE, f"A sync runs since {_moment(facts.running_since)}, far beyond its history."
    if facts.failures:
        return Freshness.FAILING, f"{_failures(facts)} since the last success: {_reason(facts)}"
    if facts.last_success_at is None:
        return Freshness.PENDING, "Not due for the first time yet."
    return Freshness.OK, f"Last success {_moment(facts.last_success_at)}."


def _late(facts: Facts, expectation: Expectation, deadline: datetime) -> str:
    last = "Never synced" if facts.last_success_at is None else f"Last success {_moment(facts.last_success_at)}"
    due = f"{last}; due {expectation.schedule.describe()}, late since {_moment(deadline)}."
    runs = f" A sync runs since {_moment(facts.running_since)}." if facts.running_since is not None else ""
    if facts.failures:
        return f"{due}{runs} {_failures(facts)}: {_reason(facts)}"
    if runs:
        return f"{due}{runs}"
    return f"{due} Nothing failed: no sync was started, or its result was not observed."


def _failures(facts: Facts) -> str:
    return "1 failure" if facts.failures == 1 else f"{facts.failures} failures"


def _reason(facts: Facts) -> str:
    return facts.last_job_reason or f"Airbyte says only that job {facts.last_job_id} failed."


def _moment(moment: datetime | None) -> str:
    return "at an unknown time" if moment is None else f"{moment:%Y-%m-%d %H:%M} UTC"
