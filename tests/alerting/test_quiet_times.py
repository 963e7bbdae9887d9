"""Quiet times and what follows them: windows that jobs open, ends that come outside of hours, and digests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest

from adinsights_orchestration.alerting import maintenance
from adinsights_orchestration.alerting.digest import Digest
from adinsights_orchestration.alerting.grouping import Options, Timing
from adinsights_orchestration.alerting.hands import silences
from adinsights_orchestration.alerting.matching import Hours, Matcher
from adinsights_orchestration.alerting.message import Severity, plain_text
from adinsights_orchestration.errors import ConfigurationError
from tests.alerting.plant import MINUTE, Plant
from tests.alerting.support import World
from tests.alerting.test_notify import MAIN, stale

HOUR = timedelta(hours=1)
WORK: dict[str, Any] = {"author": "restore", "reason": "rows come back"}


def test_what_a_job_s_work_sets_off_is_quiet_while_it_works_and_told_when_it_still_is_so_afterwards(
    plant: Plant,
) -> None:
    matchers = ["rule=component_down", "component=warehouse"]
    with maintenance.open(plant.store, matchers, at_most=HOUR, clock=lambda: plant.now, **WORK):
        plant.component("warehouse", "down")
        plant.component("airbyte", "down")
        plant.tick()
        assert "Airbyte is down" in "".join(plant.shown().values())
        assert "Warehouse is down" not in "".join(plant.shown().values())
    plant.tick(5 * MINUTE)
    assert "Warehouse is down" in "".join(plant.shown().values())


def test_a_job_that_fails_closes_its_window_and_one_that_dies_leaves_it_open_to_its_latest_end(plant: Plant) -> None:
    with (
        pytest.raises(RuntimeError, match="the work failed"),
        maintenance.open(plant.store, ["rule=component_down"], at_most=HOUR, clock=lambda: plant.now, **WORK),
    ):
        raise RuntimeError("the work failed")
    plant.component("airbyte", "down")
    plant.tick()
    assert len(plant.shown()) == 1, "the window of the work that failed is closed"
    dead = maintenance.open(plant.store, ["rule=component_down"], at_most=HOUR, clock=lambda: plant.now, **WORK)
    dead.__enter__()
    plant.component("superset", "down")
    plant.tick(30 * MINUTE)
    assert "Superset is down" not in "".join(plant.shown().values())
    plant.tick(31 * MINUTE)
    assert "Superset is down" in "".join(plant.shown().values()), "nobody closed it, and it ended"


def test_a_window_lingers_for_what_is_seen_later_and_never_beyond_its_latest_end(plant: Plant) -> None:
    for at_most, ends_after in ((HOUR, 10 * MINUTE), (5 * MINUTE, 5 * MINUTE)):
        began = plant.now
        with maintenance.open(
            plant.store, ["rule=x"], at_most=at_most, linger=10 * MINUTE, clock=lambda: plant.now, **WORK
        ) as window:
            pass
        (kept,) = [each for each in silences(plant.store, plant.now) if each.id == window.number]
        assert kept.ends_at - began == ends_after


@pytest.mark.parametrize(
    ("matchers", "at_most", "why"),
    [
        ([], HOUR, "needs a matcher"),
        (["nonsense=x"], HOUR, "nonsense"),
        (["rule=x"], timedelta(days=4), "up to 3 days"),
        (["rule=x"], timedelta(0), "up to 3 days"),
    ],
)
def test_a_window_that_would_hide_everything_or_for_ever_is_refused(
    plant: Plant, matchers: list[str], at_most: timedelta, why: str
) -> None:
    with (
        pytest.raises(ConfigurationError, match=why),
        maintenance.open(plant.store, matchers, at_most=at_most, clock=lambda: plant.now, **WORK),
    ):
        pytest.fail("it was opened")


# ------------------------------------------------------------------------------------------------------ held ends


def _office() -> World:
    """Warnings are told from 9 to 17; it is noon."""
    hours = {Severity.WARN: Hours("UTC", begin=time(9), end=time(17))}
    return World(Options(MAIN, Timing(group_interval=MINUTE, repeat_interval=timedelta(days=9)), hours=hours))


def test_an_end_outside_of_hours_is_told_when_they_open() -> None:
    world = _office()
    world.tick(stale("a"))
    world.tick(stale("a"), after=timedelta(hours=6))
    world.tick(after=timedelta(hours=1))
    assert world.said() == [("post", "first")], "it is evening"
    (line,) = world.tick(after=timedelta(hours=14))[-1:]
    assert world.said()[-1] == ("reply", "resolved")
    assert line.message.lines[0].endswith("Resolved after 7 h 1 min.")


def test_what_ended_outside_of_hours_and_came_back_before_they_open_was_never_over() -> None:
    world = _office()
    world.tick(stale("a"))
    world.tick(after=timedelta(hours=7))
    world.tick(stale("a"), after=timedelta(hours=2))
    world.tick(stale("a"), after=timedelta(hours=14))
    assert world.said() == [("post", "first")]


# -------------------------------------------------------------------------------------------------------- digests


def _with_digest(plant: Plant, *matchers: str) -> None:
    digest = Digest("main", tuple(map(Matcher.parse, matchers)), time(13), "UTC")
    plant.policies = replace(plant.policies, digests=(digest,))


def _digests(plant: Plant) -> list[str]:
    return [plain_text(each.message) for each in plant.channel.posts if each.message.group == "digest/main"]


def test_a_digest_says_once_a_day_what_began_what_ended_and_what_is_still_so(plant: Plant) -> None:
    _with_digest(plant, "rule=component_down")
    plant.tick()
    plant.component("airbyte", "down")
    plant.component("superset", "degraded")
    plant.tick()
    plant.component("superset", "ok")
    plant.tick(10 * MINUTE)
    assert _digests(plant) == [], "it is not one o'clock"
    plant.tick(HOUR)
    (said,) = _digests(plant)
    assert "2 began, 1 ended, 1 open" in said
    assert said.index("Airbyte is down") < said.index("Superset is not well")
    plant.tick(HOUR)
    assert len(_digests(plant)) == 1
    plant.tick(24 * HOUR)
    assert "0 began, 0 ended, 1 open" in _digests(plant)[1]


def test_a_digest_that_was_missed_is_made_up_for_once_and_one_without_anything_to_say_is_not_sent(
    plant: Plant,
) -> None:
    _with_digest(plant, "rule=component_down")
    plant.tick()
    plant.tick(24 * HOUR)
    assert _digests(plant) == []
    plant.component("airbyte", "down")
    plant.tick()
    plant.tick(72 * HOUR)
    (said,) = _digests(plant)
    assert "1 began, 0 ended, 1 open" in said
    plant.tick()
    assert len(_digests(plant)) == 1


def test_a_digest_comes_by_the_clock_on_the_wall_when_clocks_change() -> None:
    digest = Digest("main", (), time(8), "America/New_York")
    winter, summer = (datetime(2026, 3, day, 20, tzinfo=UTC) for day in (7, 8))
    assert [digest.last_due(each).hour for each in (winter, summer)] == [13, 12]
    assert digest.since(summer, summer) is None, "it was told"
    assert digest.since(summer, winter) == winter
