"""dbt's health from recorded builds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.health.dbt import (
    DbtHealth,
    DbtRules,
    DbtState,
    Invocation,
    ModelResult,
    dbt_health,
    merge,
    usual_duration,
)
from adinsights_orchestration.health.model import Health

NOW = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
RULES = DbtRules(24 * HOUR, 36 * HOUR, 2)


def build(
    ago: timedelta,
    *,
    took: timedelta = MINUTE,
    models: int = 10,
    succeeded: bool = True,
    completed: bool = True,
    run: str = "",
) -> Invocation:
    return Invocation(run or str(ago), completed, succeeded, NOW - ago, took, models)


def model(name: str, status: str, ago: timedelta = HOUR) -> ModelResult:
    return ModelResult(name, status, NOW - ago)


def judged(*builds: Invocation, models: tuple[ModelResult, ...] = ()) -> DbtHealth:
    return dbt_health(builds, models, RULES, NOW)


def test_without_a_completed_build_results_are_missing() -> None:
    assert judged().state is DbtState.MISSING
    killed = judged(build(HOUR, completed=False))
    assert (killed.state, killed.unfinished_since) == (DbtState.MISSING, NOW - HOUR)


def test_a_build_that_runs_or_was_killed_does_not_hide_the_one_before() -> None:
    found = judged(build(MINUTE, completed=False), build(2 * HOUR))
    assert (found.state, found.age, found.unfinished_since) == (DbtState.OK, 2 * HOUR, NOW - MINUTE)


def test_results_that_cannot_be_read_are_invalid() -> None:
    found = judged(Invocation("run", True, True, NOW, MINUTE, 10, readable=False))
    assert (found.state, found.health) == (DbtState.INVALID, Health.DOWN)


def test_the_usual_duration_is_allowed_on_top_and_the_runbook_s_bare_24_hours_stand_beside_it() -> None:
    found = judged(build(24 * HOUR + 20 * MINUTE, took=30 * MINUTE))
    assert (found.state, found.health, found.runbook_state) == (DbtState.OK, Health.OK, DbtState.STALE)
    assert found.stale_after == 24 * HOUR + 30 * MINUTE
    late = judged(build(24 * HOUR + 31 * MINUTE, took=30 * MINUTE))
    assert (late.state, late.health) == (DbtState.STALE, Health.DEGRADED)
    assert judged(build(36 * HOUR + 31 * MINUTE, took=30 * MINUTE)).health is Health.DOWN


def test_only_whole_builds_say_what_is_usual() -> None:
    builds = [build(n * HOUR, took=30 * MINUTE) for n in range(1, 4)]
    assert usual_duration([*builds, build(5 * HOUR, took=9 * HOUR, models=3)]) == 30 * MINUTE
    assert usual_duration([]) == timedelta()


def test_a_failing_model_is_named_and_two_failed_builds_in_a_row_are_down() -> None:
    bad = (model("model.adinsights.stg_meta", "error"), model("model.adinsights.dim_ad", "success"))
    once = judged(build(HOUR, succeeded=False), build(2 * HOUR), models=bad)
    assert (once.state, once.health, once.failing) == (
        DbtState.FAILING,
        Health.DEGRADED,
        ("model.adinsights.stg_meta",),
    )
    assert once.detail == "failing: stg_meta; latest build 1.0 h ago"
    twice = judged(build(HOUR, succeeded=False), build(2 * HOUR, succeeded=False), models=bad)
    assert (twice.health, twice.failures) == (Health.DOWN, 2)


def test_the_newest_build_that_failed_is_named_until_one_succeeds() -> None:
    failed = [build(n * HOUR, succeeded=False) for n in (1, 2)]
    assert judged(*failed, build(3 * HOUR)).failed_run == failed[0].run_id
    assert judged(build(HOUR / 2), *failed).failed_run is None


def test_from_how_many_failed_builds_on_a_failing_model_is_told_and_wakes_somebody_says_the_table() -> None:
    bad = (model("model.adinsights.stg_meta", "error"),)
    builds = [build(n * HOUR, succeeded=n > 4) for n in range(1, 9)]
    found = {}
    for failures in range(5):
        patient = DbtRules(24 * HOUR, 36 * HOUR, page_failures=3, warn_failures=2)
        found[failures] = dbt_health(builds[4 - failures :], bad, patient, NOW).health
    assert found == {0: Health.OK, 1: Health.OK, 2: Health.DEGRADED, 3: Health.DOWN, 4: Health.DOWN}


def test_a_build_that_went_on_without_a_provider_is_one_failed_build_and_no_success() -> None:
    def two_passes(ago: timedelta, second: bool = True) -> list[Invocation]:
        first = build(ago, succeeded=False, models=8, took=MINUTE, run=str(ago))
        return [build(ago - MINUTE, succeeded=second, models=4, took=2 * MINUTE, run=str(ago)), first]

    held = ModelResult("model.a.stg_meta", "skipped", NOW - HOUR, NOW - 3 * HOUR)
    for second in (True, False):  # a release before this one recorded the second pass as a success
        once = judged(*two_passes(HOUR, second), build(2 * HOUR), models=(held,))
        assert (once.failures, once.state, once.health) == (1, DbtState.FAILING, Health.DEGRADED)
        assert once.generated_at == NOW - 59 * MINUTE
        assert (once.age, once.held_up) == (2 * HOUR, ("model.a.stg_meta",))
        twice = judged(*two_passes(HOUR, second), *two_passes(2 * HOUR, second), build(3 * HOUR), models=(held,))
        assert (twice.failures, twice.health) == (2, Health.DOWN)
        assert twice.detail == (
            "failing: no model, but a test or a hook, not built for it: stg_meta; 2 failed builds in a row; "
            "no build has succeeded for 3.0 h"
        )
    assert judged(build(MINUTE), *two_passes(HOUR), models=(held,)).health is Health.OK
    assert judged(*two_passes(HOUR), *[build(n * HOUR, models=8) for n in range(2, 9)]).stale_after == (
        24 * HOUR + 3 * MINUTE
    ), "both passes together are how long that build took"


def test_builds_in_which_only_tests_fail_fail_all_the_same_and_are_as_old_as_the_last_success() -> None:
    """A failing test makes no model fail: what comes after it is skipped, build after build."""
    quarters = [build(n * 15 * MINUTE, succeeded=False) for n in range(400)]
    marts = (ModelResult("model.a.mart", "skipped", NOW, NOW - 101 * HOUR),)
    young = judged(*quarters[:4], build(2 * HOUR), models=marts[:0])
    assert (young.state, young.health, young.age, young.runbook_state) == (
        DbtState.FAILING,
        Health.DOWN,
        2 * HOUR,
        DbtState.OK,
    )
    found = judged(*quarters, build(101 * HOUR), models=marts)
    assert (found.state, found.health, found.failures, found.untouched) == (
        DbtState.FAILING,
        Health.DOWN,
        400,
        ("model.a.mart",),
    )
    assert "no build has succeeded for 101.0 h" in found.detail
    never = judged(*quarters)
    assert (never.health, never.runbook_state) == (Health.DOWN, DbtState.STALE)
    assert "no build has succeeded for 99.8 h" in never.detail


def test_a_model_that_partial_builds_leave_out_for_days_is_stale_though_they_succeed() -> None:
    lately = ModelResult("model.a.b", "success", NOW - HOUR, NOW - HOUR)
    left_out = ModelResult("model.a.c", "success", NOW - 240 * HOUR, NOW - 240 * HOUR)
    seed = ModelResult("seed.a.d", "success", NOW - 240 * HOUR, NOW - 240 * HOUR)
    found = judged(build(HOUR), models=(lately, left_out, seed))
    assert (found.state, found.health, found.untouched) == (DbtState.STALE, Health.DOWN, ("model.a.c",))
    assert judged(build(HOUR), models=(lately, seed)).state is DbtState.OK


def test_a_skipped_result_says_nothing_of_when_a_model_was_built() -> None:
    (one,) = merge([ModelResult("a", "success", NOW - HOUR, NOW - HOUR), ModelResult("a", "skipped", NOW)]).values()
    assert (one.status, one.built_at) == ("skipped", NOW - HOUR)


def test_skipped_models_are_not_failing_and_a_passed_test_is_no_model_at_all() -> None:
    assert judged(build(HOUR), models=(model("model.a.b", "skipped"),)).state is DbtState.OK


def test_a_partial_build_does_not_hide_an_older_failure() -> None:
    merged = merge([model("a", "error", 3 * HOUR), model("b", "success", HOUR), model("a", "skipped", HOUR)])
    assert {name: one.status for name, one in merged.items()} == {"a": "error", "b": "success"}


def test_a_build_from_the_future_is_as_new_as_now() -> None:
    assert judged(build(-5 * MINUTE)).age == timedelta()


RESULTS = st.lists(
    st.builds(
        lambda name, status, ago: model(name, status, timedelta(minutes=ago)),
        st.sampled_from("abc"),
        st.sampled_from(["success", "error", "skipped"]),
        st.integers(0, 50),
    ),
    max_size=20,
    unique_by=lambda one: (one.unique_id, one.generated_at),
)


@given(RESULTS, st.randoms())
def test_the_order_in_which_builds_are_recorded_does_not_matter(results: list[ModelResult], random: object) -> None:
    shuffled = list(results)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert merge(shuffled) == merge(results)


@given(RESULTS)
def test_a_model_fails_exactly_if_its_last_result_that_is_not_skipped_failed(results: list[ModelResult]) -> None:
    merged = merge(results)
    for name in {one.unique_id for one in results}:
        spoken = [one for one in results if one.unique_id == name and one.status != "skipped"]
        newest = max(spoken, key=lambda one: one.generated_at, default=None)
        assert merged[name].failing == (newest is not None and newest.failing)


@given(st.lists(st.tuples(st.integers(0, 80), st.booleans(), st.booleans()), max_size=8), st.integers(0, 40))
def test_time_alone_never_makes_dbt_better(builds: list[tuple[int, bool, bool]], hours: int) -> None:
    made = [build(ago * HOUR, succeeded=succeeded, completed=completed) for ago, succeeded, completed in builds]
    now, later = dbt_health(made, (), RULES, NOW), dbt_health(made, (), RULES, NOW + hours * HOUR)
    assert later.health.rank >= now.health.rank
