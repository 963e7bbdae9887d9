"""An incident's report: its beginning, its end, what it cost, and nothing of another episode."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest
import sqlalchemy as sa

from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.operating import hands
from adinsights_orchestration.alerting.operating.report import markdown, read_report
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.health import samples
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.ops_store.alert_tables import alert_event
from tests.alerting.plant import MINUTE, SLA, Plant
from tests.alerting.support import NOON

ALERTS_KEY = "the-alerts-key"


def test_a_report_tells_an_incident_from_its_beginning_to_its_end_and_what_it_cost(plant: Plant) -> None:
    plant.component("backend", "down", "refused")
    with plant.store.begin() as connection:
        for half_minutes in range(60):
            at = NOON + half_minutes * timedelta(seconds=30)
            health = Health.DOWN if half_minutes < 24 else Health.OK
            samples.add(connection, [Reading(Component.BACKEND, health, "x", "x", at)])
    plant.tick()
    (incident,) = [each for each in hands.open_incidents(plant.store) if each.finding.rule == "component_down"]
    plant.now += MINUTE
    hands.acknowledge(plant.store, incident.id, "ann", plant.now)
    plant.tick()
    plant.component("backend", "ok")
    plant.tick(9 * MINUTE)
    plant.component("backend", "down", "html")
    plant.tick(30 * MINUTE)
    text = markdown(read_report(plant.store, SLA, incident.id, plant.now, episode=1))
    assert "# Backend is down: " in text
    assert "episode 1 of 2" in text
    assert "- **Owner:** Platform Engineering (platform-eng)" in text
    assert "- **Resolved:** 2026-03-10 12:12 UTC, after 11 min" in text
    assert "- **Acknowledged:** by ann, 2026-03-10 12:02 UTC, 1 min after it opened" in text
    assert "| 2026-03-10 12:01 | opened page |" in text
    assert "| 2026-03-10 12:01 | notice sent main: post |" in text
    assert "unavailable for 12 min of 13 min measured, 5.6 % of the month's error budget at 99.5 %" in text
    assert "12:42" not in text.split("## What happened")[1], "the second time is another report"
    newest = markdown(read_report(plant.store, SLA, incident.id, plant.now))
    assert "open for" in newest
    assert "It is not over yet" in newest
    with pytest.raises(ConfigurationError, match="nothing is kept of episode 9"):
        read_report(plant.store, SLA, incident.id, plant.now, episode=9)


def test_a_report_of_an_earlier_episode_says_nothing_of_a_later_one(plant: Plant) -> None:
    tenant = uuid4()
    plant.connection("acme-meta", "stale", tenant=tenant, detail="the first reason")
    plant.tick()
    (incident,) = hands.open_incidents(plant.store)
    first_title, first_since = incident.finding.title, incident.finding.since
    plant.connection("acme-meta", "ok", tenant=tenant)
    plant.tick(9 * MINUTE)
    plant.now += timedelta(hours=30)
    plant.connection("acme-meta", "stale", tenant=tenant, detail="the second reason")
    plant.tick()
    (now_so,) = hands.open_incidents(plant.store)
    assert (now_so.id, now_so.episode) == (incident.id, 2)
    first, second = (
        markdown(read_report(plant.store, SLA, incident.id, plant.now, episode=number)) for number in (1, 2)
    )
    assert f"# {first_title}\n" in first
    assert "the second reason" in second
    assert not [each for each in ("the second reason", "Last success", "<http", "- **SLA:**") if each in first]
    assert "kept of the newest episode only" in first
    assert f"| {first_since:%Y-%m-%d %H:%M} | it began, as far as is known |" in first


def test_a_report_of_an_earlier_episode_has_its_own_title_beginning_and_worst_severity(plant: Plant) -> None:
    plant.component("airbyte", "degraded", "http_503")
    plant.tick()
    (incident,) = hands.open_incidents(plant.store)
    plant.component("airbyte", "down", "http_503")
    plant.tick()
    plant.component("airbyte", "ok")
    plant.tick(9 * MINUTE)
    plant.now += timedelta(days=1)
    plant.component("airbyte", "degraded", "slow")
    plant.tick()
    first, second = (read_report(plant.store, SLA, incident.id, plant.now, episode=number) for number in (1, 2))
    assert (first.severity, second.severity) == (Severity.PAGE, Severity.WARN)
    assert first.title == incident.finding.title
    assert first.title != second.title
    assert first.since == incident.finding.since.replace(second=0, microsecond=0)
    assert second.since == second.incident.finding.since
    assert first.ended is not None
    assert second.since is not None
    assert first.since < first.began <= first.ended < second.since


def test_a_report_of_an_episode_that_an_earlier_release_kept_leaves_out_what_it_did_not_keep(plant: Plant) -> None:
    tenant = uuid4()
    plant.connection("acme-meta", "stale", tenant=tenant)
    plant.tick()
    (incident,) = hands.open_incidents(plant.store)
    plant.connection("acme-meta", "ok", tenant=tenant)
    plant.tick(9 * MINUTE)
    plant.now += timedelta(hours=30)
    plant.connection("acme-meta", "stale", tenant=tenant)
    plant.tick()
    with plant.store.begin() as connection:
        connection.execute(
            sa.update(alert_event)
            .where(alert_event.c.kind == "fired", alert_event.c.episode == 1)
            .values(detail="warn")
        )
    text = markdown(read_report(plant.store, SLA, incident.id, plant.now, episode=1))
    assert "# connection\\_stale on " in text
    assert "- **Severity:** warn" in text
    assert "it began" not in text


def test_a_report_shows_texts_of_others_as_text(plant: Plant) -> None:
    plant.connection("acme-meta", "stale", detail="| <!channel> [x](http://evil) `rm`\n# no heading")
    plant.tick()
    text = markdown(read_report(plant.store, SLA, hands.open_incidents(plant.store)[0].id, plant.now))
    assert "\\| \\<!channel\\> \\[x\\](http://evil) \\`rm\\` # no heading" in text
