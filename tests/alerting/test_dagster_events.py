"""Ends of runs, folded: any order, any repetition, any retry."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.alerting.facts import Failure
from adinsights_orchestration.alerting.gathering.dagster_events import ASSET_JOB, JobsSeen, fold, job_name
from adinsights_orchestration.dagster_internals.outcomes import RunEnd
from tests.alerting.support import NOON

HOUR = timedelta(hours=1)


def end(
    number: int, job: str = "nightly", *, ok: bool = False, retried: bool | None = False, age: timedelta = HOUR
) -> RunEnd:
    return RunEnd(number, NOON - age, f"run-{number}", job, (), ok, retried, "boom")


def _failing(seen: JobsSeen) -> set[str]:
    return {job for job, (_, failure) in seen.newest.items() if failure is not None}


def test_an_attempt_that_is_tried_again_is_no_failure_and_the_last_one_is() -> None:
    seen = fold(JobsSeen(0), [end(1, retried=True)], 5, NOON)
    assert _failing(seen) == set()
    assert _failing(fold(seen, [end(6, retried=False)], 9, NOON)) == {"nightly"}


def test_a_failure_whose_retry_is_not_decided_is_looked_at_again_and_not_for_ever() -> None:
    undecided = end(3, retried=None, age=timedelta(seconds=5))
    seen = fold(JobsSeen(0), [undecided], 9, NOON)
    assert (_failing(seen), seen.place) == (set(), 2)
    assert _failing(fold(seen, [undecided], 9, NOON + timedelta(minutes=3))) == {"nightly"}


def test_what_appears_late_in_the_log_counts_by_its_number() -> None:
    seen = fold(JobsSeen(0), [end(8, ok=True)], 9, NOON)
    assert _failing(fold(seen, [end(7)], 9, NOON)) == set()


def test_what_was_materialized_by_hand_is_forgotten_after_a_day() -> None:
    one = RunEnd(1, NOON, "r", ASSET_JOB, ("a", "b"), False, False, "boom")
    assert job_name(one) == "materialize a, b"
    seen = fold(JobsSeen(0), [one], 5, NOON)
    assert _failing(seen) == {"materialize a, b"}
    assert _failing(fold(seen, [], 9, NOON + 25 * HOUR)) == set()


@pytest.mark.parametrize(
    "job", ["refresh_connection", "clear_connection", "approve_schema_change", "audit_log_restore"]
)
def test_a_job_that_only_people_start_is_forgotten_a_day_after_it_failed_and_a_nightly_one_is_not(job: str) -> None:
    seen = fold(JobsSeen(0), [end(1, job), end(2, "nightly")], 5, NOON)
    assert _failing(fold(seen, [], 9, NOON + 22 * HOUR)) == {job, "nightly"}
    assert _failing(fold(seen, [], 9, NOON + 24 * HOUR)) == {"nightly"}


def test_a_failure_of_a_clock_that_was_ahead_is_told_without_waiting_for_its_day() -> None:
    ahead = end(3, retried=None, age=-24 * HOUR)
    assert _failing(fold(JobsSeen(0), [ahead], 9, NOON)) == {"nightly"}
    skewed = end(3, retried=None, age=timedelta(seconds=-5))
    assert _failing(fold(JobsSeen(0), [skewed], 9, NOON)) == set(), "another host's clock is never quite the same"


def test_what_is_remembered_survives_being_kept() -> None:
    seen = fold(JobsSeen(0, begun=0), [end(1), end(2, "other", ok=True)], 5, NOON)
    assert JobsSeen.from_json(seen.to_json()) == seen
    assert JobsSeen.from_json({"something": "else"}) == JobsSeen()


def test_a_job_that_fails_again_and_again_has_failed_since_the_first_time_and_anew_after_a_success() -> None:
    seen = JobsSeen(0)
    for night in range(4):
        seen = fold(seen, [end(2 * night + 1, age=(72 - 24 * night) * HOUR)], 2 * night + 1, NOON)
        seen = JobsSeen.from_json(seen.to_json())
    failure = seen.newest["nightly"][1]
    assert failure is not None
    assert (failure.at, failure.since) == (NOON, NOON - 72 * HOUR)
    mended = fold(seen, [end(8, ok=True)], 8, NOON)
    again = fold(mended, [end(9)], 9, NOON).newest["nightly"][1]
    assert again is not None
    assert again.since == again.at


def test_what_a_release_kept_that_knew_only_the_newest_failure_is_read() -> None:
    kept = {"place": 5, "begun": 0, "newest": {"nightly": [1, [NOON.isoformat(), "boom", "run-1"]]}}
    assert JobsSeen.from_json(kept).newest == {"nightly": (1, Failure(NOON, "boom", "run-1"))}


def test_a_failed_job_that_was_renamed_removed_or_left_without_its_schedule_is_forgotten_after_a_day() -> None:
    seen = fold(JobsSeen(0), [end(1, "old_name"), end(2, "kept")], 5, NOON)
    assert _failing(fold(seen, [], 9, NOON + 22 * HOUR, started={"kept"})) == {"old_name", "kept"}
    assert _failing(fold(seen, [], 9, NOON + 24 * HOUR, started={"kept"})) == {"kept"}
    assert _failing(fold(seen, [], 9, NOON + 24 * HOUR)) == {"old_name", "kept"}, "nobody has said which jobs there are"


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.booleans(), st.booleans()), max_size=12), st.data())
def test_however_the_log_is_cut_the_newest_end_of_each_job_decides(
    runs: list[tuple[str, bool, bool]], data: st.DataObject
) -> None:
    ends = [end(n, job, ok=ok, retried=retried and not ok) for n, (job, ok, retried) in enumerate(runs, start=1)]
    decisive = [one for one in ends if not one.retried]
    last = {one.job: one for one in decisive}
    seen, position = JobsSeen(0), 0
    while position < len(ends):
        position = data.draw(st.integers(position + 1, len(ends)))
        again = data.draw(st.integers(0, position))
        seen = fold(
            seen, ends[again if again < position else 0 : position] if again == 0 else ends[:position], position, NOON
        )
    assert _failing(seen) == {job for job, one in last.items() if not one.succeeded}
