"""An evaluation over a real ops store: from rows that other domains wrote to messages in a channel."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent
from dagster._core.test_utils import create_run_for_test

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.evaluation import evaluate
from adinsights_orchestration.alerting.evaluation.evaluate import Policies
from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.matching import Matcher, Silence
from adinsights_orchestration.alerting.model import State
from adinsights_orchestration.alerting.rules.rule import RULE_FAILED, Rule, Verdict
from adinsights_orchestration.ops_store.alert_tables import alert_event, alert_incident, alert_outbox
from adinsights_orchestration.ops_store.findings import clear_finding, open_finding
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import component_health
from adinsights_orchestration.topology.model import Asset, Topology
from adinsights_orchestration.topology.store import publish
from tests.alerting.plant import MINUTE, PRODUCTION, Plant, alerting_of
from tests.alerting.support import NOON


def test_a_connection_that_turns_stale_is_told_paged_an_hour_later_and_resolved(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    assert plant.tick().changes == {"fired": 1}
    text = plant.shown()["connections/meta"]
    assert "[FIRING WARN]" in text
    assert "60 / 120 minutes (runbook, Airbyte freshness under 60 minutes)" in text
    assert plant.tick().changes == {}
    assert plant.tick(timedelta(hours=1)).changes == {"worsened": 1, "fired": 1}
    assert set(plant.shown()) == {"connections/meta", "escalations"}
    plant.connection("acme-meta", "ok")
    assert plant.tick().changes == {"resolved": 2}
    plant.tick(5 * MINUTE)
    assert "[RESOLVED PAGE]" in plant.shown()["connections/meta"]
    assert "Next: " not in plant.shown()["connections/meta"], "nothing is left to be done"
    assert len(plant.channel.posts) == 2
    assert [m.lines[0].split(": ")[1] for _, m in plant.channel.posts[0].replies] == [
        "Worse, now a page for Data Engineering",
        "Resolved after 1 h 3 min.",
    ]


def test_a_failing_connection_that_turns_late_has_failed_since_before_that(plant: Plant) -> None:
    plant.connection("acme-meta", "failing", failures=1)
    began = f"since {plant.now:%Y-%m-%d %H:%M} UTC"
    plant.tick()
    assert began in plant.shown()["connections/meta"]
    plant.now += 10 * MINUTE
    plant.connection("acme-meta", "stale", failures=2)
    plant.tick()
    assert "fails to sync" in plant.shown()["connections/meta"]
    assert began in plant.shown()["connections/meta"]


def test_a_sync_that_hangs_goes_on_being_told_when_its_connection_turns_late_and_explains_that(plant: Plant) -> None:
    acme: dict[str, Any] = {"tenant": UUID(int=1), "usual_seconds": 60.0}
    running = {**acme, "running_since": plant.now - 3 * 60 * MINUTE}
    plant.connection("acme-meta", "running_stale", **running)
    assert plant.tick().changes == {"fired": 1}
    plant.connection("acme-meta", "stale", **running)
    assert plant.tick().changes == {"fired": 1}
    text = plant.shown()["connections/meta"]
    assert "runs far too long" in text
    assert "Explains 1 further: 1 connection stale." in text
    assert plant.channel.posts[0].replies == [], "nothing is over, and nobody has to do anything else"
    plant.connection("acme-meta", "stale", **acme)
    assert plant.tick().changes == {"resolved": 1}, "it was cancelled: that the connection is late remains"


def test_a_late_connection_whose_sync_begins_to_hang_is_told_of_that_too(plant: Plant) -> None:
    plant.connection("acme-meta", "stale", running_since=plant.now, usual_seconds=60.0)
    plant.tick()
    assert "runs far too long" not in plant.shown()["connections/meta"]
    plant.tick(3 * 60 * MINUTE)
    assert "runs far too long" in plant.shown()["connections/meta"]


def test_a_component_that_goes_down_has_been_unwell_since_it_was_no_more_than_degraded(plant: Plant) -> None:
    plant.component("airbyte", "degraded")
    began = f"since {plant.now:%Y-%m-%d %H:%M} UTC"
    plant.tick()
    plant.now += 10 * MINUTE
    plant.component("airbyte", "down")
    plant.tick()
    (text,) = plant.shown().values()
    assert "firing page: Airbyte is down: x (" + began in text


def test_more_than_a_fifth_of_a_providers_tenants_are_one_page_and_say_what_they_explain(plant: Plant) -> None:
    for number in range(10):
        plant.connection(f"t{number}-meta", "stale" if number < 3 else "ok")
    plant.tick()
    (text,) = plant.shown().values()
    assert "Meta is late for many tenants" in text
    assert "3 of 10 tenants are late." in text
    assert "Explains 3 further: 3 connections stale." in text


def test_a_fifth_is_not_more_than_a_fifth_and_two_tenants_are_no_platform(plant: Plant) -> None:
    for number in range(10):
        plant.connection(f"t{number}-meta", "stale" if number < 2 else "ok")
    for number in range(2):
        plant.connection(f"t{number}-ga4", "stale", "ga4")
    plant.tick()
    assert set(plant.shown()) == {"connections/meta", "connections/ga4"}


def test_an_airbyte_that_is_down_is_one_message_and_its_late_connections_are_not(plant: Plant) -> None:
    plant.component("airbyte", "down", "refused")
    for number in range(4):
        plant.connection(f"t{number}-meta", "stale")
    plant.tick()
    (text,) = plant.shown().values()
    assert "Airbyte is down: refused" in text
    assert "Explains 5 further" in text


def test_no_data_about_a_component_resolves_nothing_and_probes_that_stop_are_told(plant: Plant) -> None:
    plant.component("superset", "down")
    plant.component("backend", "ok")
    plant.tick()
    plant.component("superset", "unknown")
    assert plant.tick().changes == {"no_data": 1}
    assert plant.tick(6 * MINUTE, probed=False).changes == {"fired": 1}
    assert set(plant.shown()) == {"component_down", "health_not_probed"}
    assert "FIRING" in plant.shown()["component_down"]


def test_a_component_that_is_not_watched_any_more_is_over(plant: Plant) -> None:
    plant.component("superset", "down")
    plant.component("backend", "ok")
    plant.tick()
    with plant.store.begin() as connection:
        connection.execute(sa.delete(component_health).where(component_health.c.component == "superset"))
    assert plant.tick().changes == {"resolved": 1}


def test_freshness_that_is_not_evaluated_any_more_resolves_nothing_and_is_told(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    plant.tick()
    plant.connection("acme-meta", "ok")
    assert plant.tick(20 * MINUTE, evaluated=False).changes == {"fired": 1, "no_data": 1}
    assert "The sensor freshness_evaluate does not look any more" in plant.shown()["freshness_not_evaluated"]


@pytest.mark.parametrize(
    ("failures", "hour", "severity"),
    [(1, 17, "warn"), (2, 17, "page"), (2, 3, "warn"), (2, 11, "page"), (5, 2, "page"), (2, 10, "warn")],
)
def test_two_failures_in_a_row_page_between_six_and_ten_in_the_evening_local(
    plant: Plant, failures: int, hour: int, severity: str
) -> None:
    plant.now = NOON.replace(hour=hour)  # Jamaica is five hours behind UTC: 11 and 2 are six and nine o'clock there
    plant.connection("acme-meta", "failing", failures=failures, last_job_reason="no token", last_job_id=7)
    plant.tick()
    (incident,) = _incidents(plant).values()
    assert (incident["rule"], incident["severity"]) == ("connection_failing", severity)


def _incidents(plant: Plant) -> Mapping[str, Mapping[str, Any]]:
    with plant.store.begin() as connection:
        return {row["resource"]: dict(row) for row in connection.execute(sa.select(alert_incident)).mappings()}


def test_what_a_domain_noted_is_told_until_it_is_cleared(plant: Plant) -> None:
    with plant.store.begin() as connection:
        open_finding(connection, "registry_shrunk", "backend", {"missing": 40, "next": "Confirm it."}, NOON)
    plant.tick()
    assert "missing: 40" in plant.shown()["noted/registry_shrunk"]
    with plant.store.begin() as connection:
        clear_finding(connection, "registry_shrunk", "backend", NOON)
    plant.tick(5 * MINUTE)
    assert "RESOLVED" in plant.shown()["noted/registry_shrunk"]


def test_a_rule_that_raises_is_an_incident_keeps_its_own_and_stops_no_other(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    plant.component("superset", "down")
    plant.tick()

    def broken(_: Facts) -> Verdict:
        raise ZeroDivisionError("division by zero")

    rules = [Rule(r.name, r.speaks_of, broken) if r.name == "late connections" else r for r in plant.policies.rules]
    plant.policies = Policies(rules, plant.policies.options)
    plant.connection("acme-meta", "ok")
    plant.component("superset", "ok")
    assert plant.tick().changes == {"fired": 1, "no_data": 1, "resolved": 1}
    assert "late connections" in plant.shown()[RULE_FAILED]
    assert plant.tick().changes == {}


def test_a_silence_keeps_quiet_and_what_it_hid_is_told_when_it_ends(plant: Plant) -> None:
    silence = Silence(0, (Matcher.parse("provider=meta"),), NOON, NOON + 10 * MINUTE, "ann", "known")
    with plant.store.begin() as connection:
        rows.add_silence(connection, silence, NOON)
    plant.connection("acme-meta", "stale")
    plant.tick()
    assert plant.shown() == {}
    plant.tick(10 * MINUTE)
    assert set(plant.shown()) == {"connections/meta"}


def test_a_second_evaluation_at_the_same_time_does_nothing(plant: Plant) -> None:
    with plant.store.exclusive(evaluate.LOCK):
        assert plant.tick().skipped == "another evaluation is at work"


def test_an_evaluation_that_dies_leaves_nothing_and_the_next_says_it_once(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.connection("acme-meta", "stale")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rows, "save_memory", dies)
        with pytest.raises(KeyboardInterrupt):
            plant.tick()
    assert _incidents(plant) == {}
    with plant.store.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(alert_outbox)).scalar_one() == 0
    plant.tick()
    assert len(plant.channel.posts) == 1


def test_an_idle_evaluation_writes_nothing_but_its_place(plant: Plant) -> None:
    plant.connection("acme-meta", "ok")
    plant.tick()
    with plant.store.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(alert_event)).scalar_one() == 0
        assert rows.last_evaluation(connection) == plant.now


def test_every_change_of_an_incident_stays_in_the_history(plant: Plant) -> None:
    plant.connection("acme-meta", "stale")
    plant.tick()
    plant.connection("acme-meta", "ok")
    plant.tick(5 * MINUTE)
    with plant.store.begin() as connection:
        (incident,) = rows.find_incidents(connection, "")
        assert incident.state is State.OK
        said = rows.history(connection, fingerprint=incident.fingerprint, group_key="connections/meta")
    kinds = [event.kind for event in said]
    assert kinds == ["fired", "group_first", "notice_sent", "resolved", "group_resolved", "notice_sent", "notice_sent"]


def test_both_sensors_run_by_themselves_in_production_and_say_what_they_did(
    ops_store: OpsStore, instance: dg.DagsterInstance
) -> None:
    plant = Plant(ops_store, instance)
    plant.connection("acme-meta", "stale")

    def clock() -> datetime:
        return NOON + MINUTE

    built = alerting_of(PRODUCTION, ops_store, plant.sinks, clock)
    repository = built.get_repository_def()
    said = []
    for name in ("alert_evaluate", "alert_deliver"):
        sensor = repository.get_sensor_def(name)
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING
        done = sensor.evaluate_tick(dg.build_sensor_context(instance=instance, repository_def=repository))
        said.append(str(done.skip_message))
    assert said == ["1 firing: 1 fired; 1 sent", "nothing to say"]


def _job(name: str, *, fails: bool) -> dg.JobDefinition:
    @dg.op(name=f"{name}_op")
    def work() -> None:
        if fails:
            raise dg.Failure("the disk is full")

    @dg.job(name=name)
    def made() -> None:
        work()

    return made


def test_a_failed_run_is_told_once_and_over_when_the_job_succeeds(plant: Plant) -> None:
    _job("nightly", fails=True).execute_in_process(instance=plant.instance, raise_on_error=False)
    assert plant.tick().changes == {}, "what failed before alerts began is not news"
    _job("nightly", fails=True).execute_in_process(instance=plant.instance, raise_on_error=False)
    assert plant.tick().changes == {"fired": 1}
    assert "The job nightly failed" in plant.shown()["run_failed"]
    assert plant.tick().changes == {}
    _job("another", fails=False).execute_in_process(instance=plant.instance)
    assert plant.tick().changes == {}
    _job("nightly", fails=False).execute_in_process(instance=plant.instance)
    assert plant.tick().changes == {"resolved": 1}


def test_an_evaluation_that_dies_after_it_read_a_failed_run_reads_it_again(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant.tick()
    _job("nightly", fails=True).execute_in_process(instance=plant.instance, raise_on_error=False)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(rows, "save_memory", dies)
        with pytest.raises(KeyboardInterrupt):
            plant.tick()
    assert plant.tick().changes == {"fired": 1}


def test_a_failed_check_with_severity_error_is_told_and_one_that_warns_is_not(plant: Plant) -> None:
    topology = Topology("pipelines", (Asset("marts/campaign", checks=("unique", "recent")),))
    with plant.store.begin() as connection:
        publish(connection, topology, NOON)

    @dg.asset(key=["marts", "campaign"])
    def campaign() -> None: ...

    def check(name: str, passed: bool, severity: dg.AssetCheckSeverity) -> None:
        @dg.asset_check(asset=campaign, name=name)
        def found() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=passed, severity=severity, description=f"{name}: 3 rows")

        defs = dg.Definitions(assets=[campaign], asset_checks=[found], jobs=[dg.define_asset_job("look")])
        defs.resolve_job_def("look").execute_in_process(instance=plant.instance)

    check("unique", False, dg.AssetCheckSeverity.ERROR)
    check("recent", False, dg.AssetCheckSeverity.WARN)
    assert plant.tick().changes == {"fired": 1}
    assert "unique: 3 rows" in plant.shown()["checks/marts/campaign"]
    check("unique", True, dg.AssetCheckSeverity.ERROR)
    assert plant.tick().changes == {"resolved": 1}


def test_a_check_that_fails_goes_on_failing_while_a_build_is_under_way_and_when_that_dies(plant: Plant) -> None:
    with plant.store.begin() as connection:
        publish(connection, Topology("pipelines", (Asset("marts/leads", checks=("unique",)),)), NOON)
    key = dg.AssetKey(["marts", "leads"])

    def judged(passed: bool) -> None:
        plant.instance.report_runless_asset_event(dg.AssetCheckEvaluation(key, "unique", passed, {}))

    def planned() -> dg.DagsterRun:
        run = create_run_for_test(plant.instance, job_name="dbt_refresh")
        kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value
        event = DagsterEvent(
            kind, run.job_name, event_specific_data=AssetCheckEvaluationPlanned(asset_key=key, check_name="unique")
        )
        plant.instance.report_dagster_event(event, run.run_id)
        return run

    judged(False)
    assert plant.tick().changes == {"fired": 1}
    build = planned()
    assert plant.tick().changes == {}, "it has evaluated nothing yet"
    plant.instance.report_run_canceled(build)
    assert plant.tick().changes == {}, "nor will it"
    judged(False)
    assert plant.tick().changes == {}, "the same incident"
    judged(True)
    assert plant.tick().changes == {"resolved": 1}
