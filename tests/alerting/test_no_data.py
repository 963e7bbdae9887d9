"""What is not seen any more is not over: disks that do not answer, syncs that nobody observes, builds that stopped."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from adinsights_orchestration.alerting.evaluation.incidents import new
from adinsights_orchestration.alerting.facts import Disk, Events, Facts, Halt
from adinsights_orchestration.alerting.gathering import disks
from adinsights_orchestration.alerting.model import Absent, Unknown
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules import connections, upkeep
from adinsights_orchestration.alerting.rules.rule import judge
from adinsights_orchestration.health.model import Component
from tests.alerting.ledger import ACME, HOUR, served, syncs
from tests.alerting.plant import MINUTE, PRODUCTION, SLA, Plant
from tests.alerting.support import NOON
from tests.alerting.test_rules import build, jamaica
from tests.alerting.trouble import component

PLACES = Places.of(PRODUCTION, None)
DAY = timedelta(days=1)


def disks_of(*found: Disk) -> Facts:
    return Facts(NOON, SLA, PLACES, disks=found)


@pytest.mark.parametrize(
    ("later", "is_over"),
    [
        ([Disk("/state", 50.0)], True),
        ([Disk("/state", None, "Input/output error")], False),
        ([Disk("/state", 50.0, "the folder is not there")], False),
        ([], True),  # it is not configured any more
    ],
)
def test_a_full_disk_that_does_not_answer_or_is_not_there_any_more_is_not_over(
    later: list[Disk], *, is_over: bool
) -> None:
    (full,) = judge(upkeep.RULES, disks_of(Disk("/state", 1.0))).findings
    after = judge(upkeep.RULES, disks_of(*later))
    assert after.findings == []
    assert isinstance(after.unfound(new(full, NOON)), Absent if is_over else Unknown)


def test_a_folder_that_is_not_there_yet_is_asked_of_the_nearest_under_its_own_name(tmp_path: Path) -> None:
    place = tmp_path / "state" / "deep"
    (before,) = disks.read([place])
    assert (before.folder, before.problem) == (str(place), "the folder is not there")
    assert before.free_percent is not None
    place.mkdir(parents=True)
    (after,) = disks.read([place])
    assert (after.folder, after.problem) == (str(place), "")


def test_a_folder_that_is_gone_is_not_taken_for_another_one_on_the_disk_below_it(tmp_path: Path) -> None:
    seen = disks.read([tmp_path, tmp_path / "unmounted"])
    assert [(each.folder, each.problem) for each in seen] == [
        (str(tmp_path), ""),
        (str(tmp_path / "unmounted"), "the folder is not there"),
    ]
    assert seen[1].free_percent is None, "one disk is told once"


def test_a_folder_that_cannot_be_asked_is_unknown_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hung(_: Path) -> Any:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(shutil, "disk_usage", hung)
    assert disks.read([tmp_path]) == [Disk(str(tmp_path), None, "Stale file handle")]


def test_folders_on_one_disk_are_one(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (found,) = disks.read([tmp_path, tmp_path / "deep"])
    assert found.folder == str(tmp_path)
    assert found.free_percent is not None
    assert 0 <= found.free_percent <= 100


def failing(plant: Plant) -> None:
    """Errors of two connections, told."""
    served(plant, "a-meta", "b-meta")
    for first, key in enumerate(("a-meta", "b-meta")):
        syncs(plant, key, [None, None], first_id=100 * first, ended=plant.now, every=MINUTE, status="failed")
    plant.component("airbyte", "ok")
    plant.tick()
    assert "many syncs fail" in "".join(plant.shown().values())


def test_errors_that_nobody_counts_any_more_are_not_over(plant: Plant) -> None:
    failing(plant)
    plant.component("airbyte", "down", "http_503")
    for _ in range(12):
        plant.tick(5 * MINUTE)
    assert "Meta of Acme: many syncs fail" in plant.shown()["connections/meta"]
    assert "RESOLVED" not in plant.shown()["connections/meta"]
    plant.component("airbyte", "ok")
    assert sum(plant.tick(5 * MINUTE).changes.get("resolved", 0) for _ in range(3)) == 2


def test_errors_are_over_when_syncs_are_observed_and_none_failed_lately(plant: Plant) -> None:
    failing(plant)
    for _ in range(12):
        plant.tick(5 * MINUTE)
    assert "RESOLVED" in plant.shown()["connections/meta"]


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ({"freshness_at": None}, "freshness was never evaluated"),
        ({"freshness_at": NOON - HOUR}, "freshness was last evaluated at 11:00 UTC"),
        ({"components": {Component.AIRBYTE: component(Component.AIRBYTE)}}, "Airbyte does not answer"),
        ({"events": Events(stopped={"ingestion_observe": Halt(NOON, "off")})}, "ingestion_observe does not look"),
        ({}, ""),
    ],
)
def test_no_syncs_that_fail_are_counted_while_none_are_observed(facts: dict[str, Any], why: str) -> None:
    assert (
        connections.sync_errors(
            Facts(**{"now": NOON, "sla": SLA, "places": PLACES, "freshness_at": NOON, **facts})
        ).blind
        == why
    )


def test_a_night_that_was_not_done_for_weeks_is_still_late_and_over_with_the_next_build(plant: Plant) -> None:
    build(plant, jamaica(9, 3))
    plant.now = jamaica(10, 7)
    plant.tick()
    assert "nightly" in plant.shown()
    for _ in range(20):
        assert "resolved" not in plant.tick(DAY).changes
    syncs(plant, ACME.slug, [3], ended=plant.now - HOUR)
    build(plant, plant.now)
    assert plant.tick().changes["resolved"] == 2


def test_a_disk_that_does_not_answer_holds_no_evaluation_up_and_is_asked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, asked, answers = tmp_path / "slow", list[str](), threading.Event()
    slow.mkdir()
    truth = shutil.disk_usage

    def usage(folder: Path) -> object:
        if folder == slow:
            asked.append("slow")
            assert answers.wait(60)
        return truth(folder)

    monkeypatch.setattr("shutil.disk_usage", usage)
    for _ in range(3):
        there, silent = disks.read([tmp_path, slow], seconds=0.2)
        assert (there.problem, silent) == ("", Disk(str(slow), None, "its disk does not answer"))
    assert asked == ["slow"]
    answers.set()
    disks._asking[slow].join()
    (back,) = disks.read([slow])
    assert (back.folder, back.problem, len(asked)) == (str(slow), "", 2)
