"""Syncs that succeed and bring no row: told where that is unusual, for as long as it is so, and cheaply found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from adinsights_orchestration.alerting.gathering import history
from adinsights_orchestration.freshness.sla import Sla
from tests.alerting.ledger import HOUR, served, syncs
from tests.alerting.plant import MINUTE, SLA, Plant
from tests.alerting.support import NOON


@pytest.mark.parametrize(
    ("rows", "severity"),
    [
        ([0, *[10] * 20], None),
        ([0, 0, *[10] * 20], "warn"),
        ([0, None, 0, *[10] * 20], "warn"),
        ([*[0] * 6, *[10] * 20], "page"),
        ([0, 0, *[10] * 9], None),  # too short a history to say what is usual
        ([0, 0, *[10, 0] * 10], None),  # it often brings nothing
        ([0] * 30, None),
        ([10, 0, 0, *[10] * 20], None),
    ],
)
def test_a_sync_without_rows_is_told_where_nearly_all_before_had_some(
    plant: Plant, rows: Sequence[int | None], severity: str | None
) -> None:
    served(plant, "acme-meta")
    syncs(plant, "acme-meta", rows)
    plant.tick()
    said = plant.shown().get("connections/meta", "")
    assert (f"[FIRING {severity.upper()}] Meta of Acme syncs without a row" in said) if severity else (said == "")


def test_a_paused_connection_that_brought_nothing_last_is_not_told(plant: Plant) -> None:
    syncs(plant, "acme-meta", [0, 0, *[10] * 20])
    served(plant, "other-meta")
    plant.tick()
    assert plant.shown() == {}


@pytest.mark.parametrize(
    ("empty", "every", "said"),
    [
        (43, 15 * MINUTE, "43 syncs in a row brought no row; nearly all of the 20 before did."),
        (400, 15 * MINUTE, "More than 100 syncs in a row brought no row; nearly all of the 20 before did."),
        (2880, 15 * MINUTE, "More than 100 syncs in a row"),  # thirty days
        (2890, 15 * MINUTE, None),
        (30, 24 * HOUR, "It counts as usual from 2026-03-11 on."),
        (32, 24 * HOUR, None),
        (19, 7 * 24 * HOUR, "19 syncs in a row"),  # fewer than would say what is usual
        (20, 7 * 24 * HOUR, None),
    ],
)
def test_syncs_without_rows_stay_told_for_a_month_however_many_they_are(
    plant: Plant, empty: int, every: timedelta, said: str | None
) -> None:
    served(plant, "acme-meta")
    syncs(plant, "acme-meta", [*[0] * empty, *[10] * 20], every=every)
    plant.tick()
    assert ("[FIRING PAGE]" in plant.shown().get("connections/meta", "")) is (said is not None)
    assert (said or "") in plant.shown().get("connections/meta", "")


def test_a_night_of_empty_syncs_is_one_page_until_rows_come(plant: Plant) -> None:
    served(plant, "acme-meta")
    syncs(plant, "acme-meta", [*[0] * 6, *[10] * 20], every=15 * MINUTE)
    plant.tick()
    for n in range(1, 16):  # hours
        plant.now += 59 * MINUTE
        syncs(plant, "acme-meta", [0] * 4, first_id=10 * n, ended=plant.now, every=15 * MINUTE)
        assert plant.tick().changes == {}, f"after {n} hours more"
    assert len(plant.channel.posts) == 1
    syncs(plant, "acme-meta", [7], first_id=200, ended=plant.now)
    assert plant.tick().changes == {"resolved": 1}


def test_what_counts_as_usual_says_so_where_it_ends(plant: Plant) -> None:
    served(plant, "acme-meta")
    syncs(plant, "acme-meta", [*[0] * 30, *[10] * 20], every=24 * HOUR)
    plant.tick()
    plant.tick(24 * HOUR)
    plant.tick(5 * MINUTE)
    text = plant.shown()["connections/meta"]
    assert "[RESOLVED PAGE]" in text
    assert "It counts as usual from 2026-03-11 on." in text


def test_looking_for_empty_syncs_reads_a_bounded_number_of_rows_however_long_they_and_failures_go_on(
    plant: Plant,
) -> None:
    syncs(plant, "acme-meta", [*[0] * 1500, *[10] * 500], every=15 * MINUTE)
    syncs(plant, "acme-meta", [None] * 1500, first_id=10000, every=15 * MINUTE, status="failed")
    for n in range(20):
        syncs(plant, f"other-{n}", [10] * 200, first_id=20000 + 1000 * n, every=15 * MINUTE)
    with plant.store.begin() as connection:
        connection.execute(sa.text("analyze adinsights_ops.sync_job"))
        query = sa.text("explain (analyze, format json) " + str(history._EMPTY))
        (plan,) = connection.execute(query, history.empty_parameters(SLA[Sla.EMPTY_SYNCS], NOON)).scalar_one()
    candidates, *of_a_candidate = _scans(plan["Plan"])
    assert "ix_sync_job_empty" in json.dumps(candidates)
    assert {scan["Index Name"] for scan in of_a_candidate} == {"ix_sync_job_partition_brought"}
    read = [
        scan["Actual Loops"] * (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0)) for scan in of_a_candidate
    ]
    assert sum(read) <= 1 + 1 + 101 + 20 + 20


def test_as_many_are_counted_as_page(plant: Plant) -> None:
    syncs(plant, "acme-meta", [*[0] * 150, *[10] * 20], every=15 * MINUTE)
    level = replace(SLA[Sla.EMPTY_SYNCS], page=150)
    with plant.store.begin() as connection:
        (found,) = history.empty_syncs(connection, level, NOON)
    assert found.in_a_row == 150


def _scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "Scan" in plan["Node Type"] and plan.get("Relation Name") == "sync_job":
        yield plan
    for each in plan.get("Plans", ()):
        yield from _scans(each)
