"""Quiet times and what follows them: windows that jobs open, ends that come outside of hours, and digests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from pydantic import SecretStr

from adinsights_orchestration.alerting.matching import Hours, Matcher
from adinsights_orchestration.alerting.message import Severity, plain_text
from adinsights_orchestration.alerting.operating import maintenance
from adinsights_orchestration.alerting.operating.hands import silences
from adinsights_orchestration.alerting.telling.digest import KEPT_AS, Digest, Told
from adinsights_orchestration.alerting.telling.grouping import Options, Timing
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import PROJECT_ROOT, OpsStoreSettings
from tests.alerting.plant import MINUTE, Plant
from tests.alerting.support import NOON, World
from tests.alerting.test_notify import MAIN, stale
from tests.conftest import free_port

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


def test_a_run_s_window_ends_with_the_run_at_the_latest(plant: Plant) -> None:
    longest = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text())["run_monitoring"]["max_runtime_seconds"]
    with maintenance.around(plant.store, "rule=x", clock=lambda: plant.now, **WORK):
        (during,) = silences(plant.store, plant.now)
        assert during.ends_at - plant.now == timedelta(seconds=longest)
        plant.now += HOUR
    (after,) = silences(plant.store, plant.now)
    assert timedelta() < after.ends_at - plant.now <= 2 * MINUTE, "evaluations see how it went"


def test_work_goes_on_and_keeps_its_result_where_no_window_can_be_opened_or_closed(plant: Plant) -> None:
    nobody = OpsStore(OpsStoreSettings(dsn=SecretStr(f"postgresql://x:x@127.0.0.1:{free_port()}/none")))
    with maintenance.around(nobody, "rule=x", **WORK):
        worked = True
    assert worked
    with pytest.raises(ConfigurationError), maintenance.around(nobody, **WORK):
        pytest.fail("a window that would hide everything is a mistake of whoever wrote it")

    class LeavesInTheMiddle(OpsStore):
        begun = 0

        @contextmanager
        def begin(self) -> Iterator[sa.Connection]:
            self.begun += 1
            with super().begin() if self.begun == 1 else nobody.begin() as connection:
                yield connection

    leaves = LeavesInTheMiddle(plant.store._settings)
    with maintenance.around(leaves, "rule=x", clock=lambda: plant.now, **WORK):
        pass
    (left,) = silences(plant.store, plant.now)
    assert left.ends_at == plant.now + maintenance.RUN_LASTS
    leaves.dispose()
    nobody.dispose()


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


def test_a_digest_is_not_left_out_because_the_clock_was_ahead_for_days(plant: Plant) -> None:
    _with_digest(plant, "rule=component_down")
    plant.component("warehouse", "down")
    plant.tick()
    plant.tick(timedelta(days=3))
    before = len(_digests(plant))
    plant.tick(-timedelta(days=3))
    plant.tick(timedelta(hours=2))
    assert len(_digests(plant)) == before + 1


def test_a_clock_that_is_set_back_across_a_digest_s_moment_neither_tells_it_twice_nor_stops_evaluations(
    plant: Plant,
) -> None:
    _with_digest(plant, "rule=component_down")
    plant.component("warehouse", "down")
    plant.tick()
    plant.tick(59 * MINUTE + timedelta(seconds=3))
    assert len(_digests(plant)) == 1
    plant.tick(-timedelta(seconds=13))
    plant.component("airbyte", "down")
    plant.tick(timedelta(seconds=30))
    assert len(_digests(plant)) == 1, "it told of this moment"
    assert "Airbyte is down" in "".join(plant.shown().values()), "evaluations go on"
    plant.tick(24 * HOUR)
    assert "1 began" in _digests(plant)[1], "what began while the clock stood before that moment"


def test_what_the_releases_before_kept_of_digests_in_two_maps_is_read_as_what_is_kept_now() -> None:
    looked = {"main": (NOON + HOUR).isoformat(), "new": NOON.isoformat()}
    told = {"main": Told(NOON + HOUR, NOON), "new": Told(NOON)}
    assert Told.all_from({"digests": looked, "digests_told": {"main": NOON.isoformat()}}) == told
    kept = json.loads(json.dumps({sink: each.to_json() for sink, each in told.items()}))
    assert Told.all_from({KEPT_AS: kept, "digests": {}}) == told
    assert Told.all_from({}) == {}


def test_a_digest_whose_moment_came_once_before_while_the_clock_was_days_ahead_is_told_then(plant: Plant) -> None:
    _with_digest(plant, "rule=component_down")
    plant.component("warehouse", "down")
    plant.tick()
    plant.tick(timedelta(days=3, hours=1))
    plant.tick(-timedelta(days=3, hours=1))
    told = len(_digests(plant))
    for day in range(1, 5):
        plant.tick(timedelta(days=1) if day > 1 else timedelta(hours=2))
        assert len(_digests(plant)) == told + day


def test_a_digest_comes_by_the_clock_on_the_wall_when_clocks_change() -> None:
    digest = Digest("main", (), time(8), "America/New_York")
    winter, summer = (datetime(2026, 3, day, 20, tzinfo=UTC) for day in (7, 8))
    assert [digest.last_due(each).hour for each in (winter, summer)] == [13, 12]
    assert digest.since(summer, Told(summer)) is None, "it was told"
    assert digest.since(summer, Told(winter)) == winter
