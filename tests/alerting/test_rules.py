"""Rules beyond lateness: disabled connections, the night, the error budget, the audit log, disks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.test_utils import freeze_time

from adinsights_orchestration.alerting.facts import (
    Availability,
    CheckKey,
    ConnectionFact,
    Disk,
    Events,
    Facts,
    Failure,
    NightDone,
    ProviderFact,
)
from adinsights_orchestration.alerting.gathering import history
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Severity, plain_text
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.night import night_at
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules import budget, connections, data, others, upkeep
from adinsights_orchestration.alerting.rules.catalog import INHIBITIONS
from adinsights_orchestration.alerting.telling.grouping import Options
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.sla import Sla
from adinsights_orchestration.health import samples
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.ops_store.findings import open_finding
from adinsights_orchestration.ops_store.tables import dbt_invocation, health_sample
from adinsights_orchestration.tenants.model import (
    Provider,
)
from adinsights_orchestration.topology.model import Asset, Topology
from adinsights_orchestration.topology.store import publish
from tests.alerting.ledger import ACME, HOUR, served, syncs
from tests.alerting.plant import MINUTE, PRODUCTION, SLA, Plant
from tests.alerting.support import NOON, World, finding

PLACES = Places.of(PRODUCTION, None)


def build(plant: Plant, at: datetime, models: int = 40, *, completed: bool = True) -> None:
    row: dict[str, Any] = {"invocation_id": str(at), "run_id": str(at), "command": "build", "full_refresh": False}
    row |= {"completed": completed, "succeeded": completed, "generated_at": at, "started_at": at}
    row |= {"elapsed_seconds": 60.0, "models": models}
    with plant.store.begin() as connection:
        connection.execute(sa.insert(dbt_invocation).values(row))


def test_a_connection_that_airbyte_switched_off_is_told_explains_its_lateness_and_pages_with_it(plant: Plant) -> None:
    served(plant, "acme-meta")
    with plant.store.begin() as connection:
        open_finding(connection, data.NOT_ACTIVE, "acme-meta", {"said": "connection is inactive"}, NOON)
    plant.connection("acme-meta", "stale", tenant=ACME.id)
    plant.tick()
    (text,) = plant.shown().values()
    assert "Meta of Acme is switched off in Airbyte" in text
    assert "adinsights schema show acme-meta" in text
    plant.tick(2 * HOUR)
    text = plant.shown()["connections/meta"]
    assert "[FIRING PAGE]" in text
    assert "Explains 1 further: 1 connection stale." in text
    assert "kept quiet" not in text, "what the message explains itself is counted once"


def test_a_dbt_build_that_fails_is_one_message_and_another_job_is_one_of_its_own(plant: Plant) -> None:
    plant.component("dbt", "degraded", "failing")
    plant.component("backend_dbt", "degraded", "failing")
    plant.tick()
    assert list(plant.shown()) == ["dbt_failing"]
    failed = Failure(NOON, "Steps failed")
    facts = Facts(NOON + MINUTE, SLA, PLACES, events=Events(jobs={"dbt_refresh": failed, "nightly": failed}))
    assert [each.resource for each in said(others.failed_runs, facts)] == ["nightly"], "the probe names models soon"
    runs = said(others.failed_runs, replace(facts, now=NOON + 2 * MINUTE))
    world = World(Options(Routes(("main",)), inhibitions=INHIBITIONS))
    posts = world.tick(*runs, finding("dbt", rule="dbt_failing"))
    assert {item.title for post in posts for item in post.message.items} == {"The job nightly failed", "dbt is late"}
    posts = World(Options(Routes(("main",)), inhibitions=INHIBITIONS)).tick(*runs)
    assert [len(post.message.items) for post in posts] == [2], "a build that dies without results is told as a run"
    again = Events(jobs={"dbt_refresh": replace(failed, at=NOON + HOUR, first_at=NOON)})
    (run,) = said(others.failed_runs, replace(facts, now=NOON + HOUR + MINUTE, events=again))
    assert run.since == NOON, "the next one that dies is the same matter"


def test_the_attempts_at_one_sync_that_fail_are_no_alert_beside_the_connections_own_and_over_with_it(
    plant: Plant,
) -> None:
    served(plant, "acme-meta")
    plant.now = NOON - 5 * HOUR  # two o'clock where the tenant is
    plant.connection("acme-meta", "failing", tenant=ACME.id, failures=1)
    plant.tick()
    syncs(plant, "acme-meta", [None] * 5, ended=plant.now, every=MINUTE, status="failed")
    plant.connection("acme-meta", "failing", tenant=ACME.id, failures=5)
    for _ in range(4):
        plant.tick(5 * MINUTE)
    (text,) = plant.shown().values()
    assert "[FIRING WARN]" in text, "nobody is paged at night"
    assert "Explains 1 further: 1 sync errors." in text
    assert plant.channel.posts[0].replies == []
    syncs(plant, "acme-meta", [100], first_id=20, ended=plant.now)
    plant.connection("acme-meta", "ok", tenant=ACME.id)
    for _ in range(3):
        plant.tick(4 * MINUTE)
    (line,) = (plain_text(message) for _, message in plant.channel.posts[0].replies)
    assert "Resolved after" in line


def test_many_errors_of_several_connections_explain_that_each_of_them_fails(plant: Plant) -> None:
    served(plant, "a-meta", "b-meta")
    for first, key in enumerate(("a-meta", "b-meta")):
        plant.connection(key, "failing", tenant=ACME.id, failures=1)
        syncs(plant, key, [None, None], first_id=100 * first, ended=plant.now, every=MINUTE, status="failed")
    plant.tick()
    (text,) = plant.shown().values()
    assert "Meta of Acme: many syncs fail" in text
    assert "Explains 2 further: 2 connections failing." in text


def test_a_failed_job_belongs_to_whoever_can_mend_it() -> None:
    failed = Failure(NOON, "Steps failed")
    events = Events(jobs=dict.fromkeys(("history_prune", "run_alert_evaluation", "sync_nightly"), failed))
    owners = [each.owner for each in said(others.failed_runs, Facts(NOON + MINUTE, SLA, PLACES, events=events))]
    assert owners == ["platform-eng@example.com", "platform-eng@example.com", "data-eng@example.com"]


def test_what_the_backend_says_of_syncs_is_no_second_message_about_a_connection(plant: Plant) -> None:
    plant.component("backend_airbyte", "degraded", "sync_failed")
    plant.tick()
    assert plant.shown() == {}, "the connection's own alert says whose sync it was"
    plant.component("backend_airbyte", "degraded", "stale")
    plant.connection("acme-meta", "stale", tenant=ACME.id)
    plant.tick()
    assert list(plant.shown()) == ["connections/meta"]
    plant.forget("acme-meta")
    plant.tick()
    plant.tick(after=timedelta(minutes=6))
    assert "Airbyte in the backend's eyes is not well: stale" in plant.shown()["component_down"]


def test_what_is_overdue_for_an_hour_is_escalated_to_data_engineering_once_a_provider(plant: Plant) -> None:
    served(plant, "a-meta", "b-meta")
    for key in ("a-meta", "b-meta"):
        plant.connection(key, "stale", tenant=ACME.id)
    plant.tick(59 * MINUTE)
    assert "escalations" not in plant.shown()
    plant.tick(MINUTE)
    text = plant.shown()["escalations"]
    assert "[FIRING WARN] Meta: Data Engineering has to look" in text
    assert "1 more connections for over 60 min" in text
    assert "Owner: Data Engineering (data-eng)" in text
    assert "60 / 120 minutes (runbook, escalate to Data Engineering beyond 60 minutes)" in text
    plant.tick(HOUR)
    assert "[FIRING PAGE]" in plant.shown()["escalations"]


def jamaica(day: int, hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 3, day, hour + 5, minute, tzinfo=UTC)  # hours below 19


@pytest.mark.parametrize(
    ("at", "begins"), [((10, 5, 59), 9), ((10, 6, 0), 10), ((10, 18, 0), 10), ((11, 0, 30), 10), ((11, 6, 1), 11)]
)
def test_a_night_counts_until_the_next_one_is_due(at: tuple[int, int, int], begins: int) -> None:
    night = night_at(jamaica(*at), SLA)
    assert night.begins == jamaica(begins, 0)
    assert night.done_by - night.begins == 6 * HOUR


def test_a_night_that_is_not_through_by_six_is_told_and_without_fresh_rows_pages_at_half_past(plant: Plant) -> None:
    build(plant, jamaica(9, 3))
    build(plant, jamaica(10, 2), models=5)  # a refresh of a few models is not the night
    build(plant, jamaica(10, 3), completed=False)
    plant.now = jamaica(10, 5, 58)
    plant.tick()
    assert plant.shown() == {}
    plant.tick()
    assert "The nightly pipeline is not through" in plant.shown()["nightly"]
    assert "[FIRING WARN]" in plant.shown()["nightly"]
    plant.tick(30 * MINUTE)
    assert "[FIRING PAGE] The dashboards have no rows of this night" in plant.shown()["nightly"]
    syncs(plant, "acme-meta", [3], ended=jamaica(10, 2))
    build(plant, jamaica(10, 6, 35))
    assert plant.tick().changes == {"resolved": 2}


def test_a_night_without_a_build_before_it_is_not_late_and_midnight_ends_none(plant: Plant) -> None:
    plant.now = jamaica(10, 8)
    plant.tick()
    assert plant.shown() == {}
    build(plant, jamaica(9, 3))
    plant.tick()
    assert plant.tick(17 * HOUR).changes == {}, "past midnight it is still so"
    assert "nightly" in plant.shown()


def said(rule: Any, facts: Facts) -> list[Finding]:
    return list(rule(facts).findings)


def measured(**shares: float) -> Mapping[timedelta, Availability]:
    spans = dict(
        zip(("m5", "m30", "h1", "h2", "h6", "d1", "d3"), map(_hours, (1 / 12, 0.5, 1, 2, 6, 24, 72)), strict=True)
    )
    return {spans[name]: Availability(shares.get(name, 0.0), 1.0) for name in spans}


def _hours(number: float) -> timedelta:
    return timedelta(hours=number)


@pytest.mark.parametrize(
    ("shares", "severity"),
    [
        ({}, None),
        ({"h1": 0.08, "m5": 0.08}, Severity.PAGE),  # 16 times
        ({"h1": 0.08, "m5": 0.0}, None),  # it has stopped
        ({"h1": 0.0, "m5": 0.9}, None),  # it does not matter yet
        ({"h1": 0.07, "m5": 0.08}, None),  # 14 times
        ({"h6": 0.031, "m30": 0.031}, Severity.PAGE),
        ({"d1": 0.016, "h2": 0.016}, Severity.WARN),
        ({"d3": 0.006, "h6": 0.006}, Severity.WARN),
        ({"d3": 0.004, "h6": 0.006}, None),
    ],
)
def test_the_budget_of_99_5_percent_burns_as_the_workbook_has_it(
    shares: Mapping[str, float], severity: Severity | None
) -> None:
    found = said(budget.burning, Facts(NOON, SLA, PLACES, availability=measured(**shares)))
    assert [each.severity for each in found] == ([severity] if severity else [])


def test_no_reading_of_the_api_neither_burns_nor_ends_a_burning_budget() -> None:
    verdict = budget.burning(Facts(NOON, SLA, PLACES))
    assert (list(verdict.findings), set(verdict.unknown)) == ([], {"api"})


def test_an_api_that_is_down_burns_its_budget_in_the_stored_readings_and_says_how_fast(plant: Plant) -> None:
    with plant.store.begin() as connection:
        for half_minutes in range(2 * 90):
            at = NOON - half_minutes * timedelta(seconds=30)
            down = at > NOON - 20 * MINUTE
            reading = Reading(Component.BACKEND, Health.DOWN if down else Health.OK, "x", "x", at)
            few = Reading(Component.API, Health.UNKNOWN, "too_few_requests", "x", at, value=100.0)
            samples.add(connection, [reading, few])
        seen = history.availability(connection, budget.windows(SLA), NOON)
    assert seen[HOUR].bad == pytest.approx(1 / 3, abs=0.02), "what rests on too few requests does not count"
    assert seen[timedelta(minutes=5)].bad == 1.0
    assert seen[6 * HOUR].covered == pytest.approx(0.25, abs=0.01)
    plant.tick()
    text = plant.shown()["availability_burning"]
    assert "[FIRING PAGE] The API's error budget burns" in text
    assert "SRE workbook" in text


def test_one_reading_of_too_little_traffic_does_not_take_its_whole_hour_out_of_the_slow_windows(plant: Plant) -> None:
    with plant.store.begin() as connection:
        for hours in range(72):
            at = NOON - hours * HOUR
            bad = [Reading(Component.API, Health.DOWN, "x", "x", at - n * MINUTE, value=2.0) for n in range(1, 3)]
            few = Reading(Component.API, Health.UNKNOWN, "too_few_requests", "x", at - 3 * MINUTE, value=100.0)
            for reading in (*bad, few):
                samples.add(connection, [reading])
        seen = history.availability(connection, [24 * HOUR, 72 * HOUR], NOON)
        assert {span: each.bad for span, each in seen.items()} == pytest.approx({24 * HOUR: 0.02, 72 * HOUR: 0.02})
        connection.execute(
            sa.update(health_sample).values(value_count=3, value_sum=104.0)
        )  # as another release counted
        assert history.availability(connection, [24 * HOUR], NOON) == {}


def test_a_fresh_deployment_whose_first_reading_is_bad_does_not_burn_a_month() -> None:
    seen = {**measured(), HOUR: Availability(1.0, 1 / 120), timedelta(minutes=5): Availability(1.0, 0.1)}
    assert said(budget.burning, Facts(NOON, SLA, PLACES, availability=seen)) == []


def test_a_check_of_raw_rows_links_what_to_do_about_connections_and_any_other_what_to_do_about_models() -> None:
    failed = Failure(NOON, "The newest row is 5:00:00 old.", "run-1")
    checks = {CheckKey("raw/meta", "freshness_ads"): failed, CheckKey("marts/x", "unique"): failed}
    found = said(others.failed_checks, Facts(NOON, SLA, PLACES, events=Events(checks=checks)))
    sections = {one.asset: one.links[-1].url.partition("#")[2] for one in found}
    assert sections == {"raw/meta": "a-connection-does-not-sync", "marts/x": "a-dbt-model-fails"}


def test_failed_runs_and_checks_of_the_audit_log_have_a_rule_of_their_own() -> None:
    failed = Failure(NOON, "the object store refuses", "run-1")
    events = Events(
        jobs={"materialize audit_log/archive": failed, "audit_log_retention": failed, "nightly": failed},
        checks={CheckKey("audit_log/archive", "verified", "2026-03-09"): failed, CheckKey("marts/x", "unique"): failed},
    )
    facts = Facts(NOON + MINUTE, SLA, PLACES, events=events)
    assert [each.resource for each in said(upkeep.audit_failed, facts)] == [
        "materialize audit_log/archive",
        "audit_log_retention",
        "audit_log/archive:verified:2026-03-09",
    ]
    assert [each.resource for each in said(others.failed_runs, facts)] == ["nightly"]
    assert [each.resource for each in said(others.failed_checks, facts)] == ["marts/x:unique"]
    later = replace(facts, now=NOON + timedelta(hours=51))
    nightly = replace(failed, at=later.now - HOUR, first_at=NOON)
    later = replace(later, events=Events(jobs={"audit_log_archive": nightly}))
    assert {each.severity for each in said(upkeep.audit_failed, later)} == {Severity.PAGE}
    assert upkeep.audit_failed(Facts(NOON, SLA, PLACES, events=Events(problem="gone"))).blind == "gone"


def test_a_check_of_the_audit_log_that_fails_every_night_is_one_matter_and_pages_after_two(plant: Plant) -> None:
    with plant.store.begin() as connection:
        publish(connection, Topology("pipelines", (Asset("audit_log/expiry", checks=("nothing_stayed",)),)), NOON)
    key, shown = dg.AssetKey(["audit_log", "expiry"]), []
    for night in range(4):
        with freeze_time(plant.now):
            plant.instance.report_runless_asset_event(dg.AssetMaterialization(key))
            plant.instance.report_runless_asset_event(dg.AssetCheckEvaluation(key, "nothing_stayed", False, {}))
        assert plant.tick().changes == ({"fired": 1} if night == 0 else {"worsened": 1} if night == 3 else {})
        shown.append(plant.shown()["audit_log"])
        plant.now += 24 * HOUR
    assert ["[FIRING PAGE]" in text for text in shown] == [False, False, False, True]
    assert f"since {NOON:%Y-%m-%d %H:%M} UTC" in shown[-1]


def test_an_archive_that_was_not_made_for_a_day_is_late_and_one_that_never_was_counts_from_when_it_was_known(
    plant: Plant,
) -> None:
    with plant.store.begin() as connection:
        publish(connection, Topology("pipelines", (Asset("audit_log/archive"), Asset("audit_log/retention"))), NOON)
    with freeze_time(NOON):
        plant.instance.report_runless_asset_event(dg.AssetMaterialization(["audit_log", "archive"]))
    plant.tick()
    assert plant.tick(25 * HOUR).firing == 0
    plant.tick(HOUR)
    text = plant.shown()["audit_log"]
    assert "2 audit log late" in text
    assert "It was never made; known since 2026-03-10 12:01 UTC." in text
    with freeze_time(plant.now):
        for name in ("archive", "retention"):
            plant.instance.report_runless_asset_event(dg.AssetMaterialization(["audit_log", name]))
    assert plant.tick().changes == {"resolved": 2}


def test_the_archive_of_another_table_is_made_daily_too() -> None:
    daily = ("audit_log/archive", "audit_log/notes/archive", "audit_log/retention", "audit_log/expiry")
    assert all(map(upkeep.is_daily, daily))
    assert not any(map(upkeep.is_daily, ("audit_log/compaction", "marts/archive")))


@pytest.mark.parametrize(("free", "severity"), [(10.5, None), (9.5, Severity.WARN), (4.9, Severity.PAGE)])
def test_a_disk_with_little_room_is_told(free: float, severity: Severity | None) -> None:
    found = said(upkeep.disks, Facts(NOON, SLA, PLACES, disks=[Disk("/state", free)]))
    assert [each.severity for each in found] == ([severity] if severity else [])


def test_a_night_explains_nothing_and_is_explained_by_a_warehouse_that_is_down(plant: Plant) -> None:
    build(plant, jamaica(9, 3))
    plant.now = jamaica(10, 7)
    plant.component("warehouse", "down", "refused")
    plant.tick()
    (text,) = plant.shown().values()
    assert "Warehouse is down: refused" in text
    assert "1 no fresh rows" in text


@pytest.mark.parametrize(
    ("levels", "severity"),
    [
        ({}, Severity.PAGE),
        ({"page": 50}, Severity.WARN),
        ({"warn": 40, "page": 50}, None),
        ({"page": 25}, Severity.PAGE),
    ],
)
def test_from_what_share_of_late_tenants_on_it_is_told_and_wakes_somebody_says_the_table(
    levels: dict[str, float], severity: Severity | None
) -> None:
    level = replace(SLA[Sla.STALE_TENANTS], **levels)  # type: ignore[arg-type]
    table = replace(SLA, thresholds={**SLA.thresholds, Sla.STALE_TENANTS: level})
    facts = Facts(NOON, table, PLACES, providers={Provider.META: ProviderFact(10, 3)})
    assert [each.severity for each in said(connections.provider_stale, facts)] == ([severity] if severity else [])


def test_latency_of_a_connection_that_was_never_late_is_none() -> None:
    ok = ConnectionFact("acme-meta", Provider.META, ACME.id, Freshness.FAILING, "x", NOON - 9 * HOUR)
    assert said(data.latency, Facts(NOON, SLA, PLACES, connections=[ok])) == []
    assert said(data.night, Facts(NOON, SLA, PLACES, night=NightDone(expected=False))) == []
