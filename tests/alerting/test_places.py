"""Links of alerts: every section of the runbook that one names exists, and addresses hold what they need."""

from __future__ import annotations

import re
from dataclasses import replace
from uuid import UUID

import pytest

from adinsights_orchestration.alerting.facts import Facts, OpenFinding
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules import others
from adinsights_orchestration.alerting.rules.catalog import RULES
from adinsights_orchestration.alerting.rules.rule import RULE_FAILED
from adinsights_orchestration.settings import AirbyteSettings, Settings
from adinsights_orchestration.tenants.model import Connection, Provider, Schedule, ScheduleType
from adinsights_orchestration.topology.model import Dashboard, Topology
from tests.alerting.plant import SLA
from tests.alerting.support import NOON
from tests.alerting.trouble import PLACES, everything
from tests.repository.checkout import ROOT

ALERTING = ROOT / "adinsights_orchestration" / "alerting"
CONNECTION = UUID("1f0c2a9b-0000-4000-8000-000000000001")
WORKSPACE, OTHER = UUID("1f0c2a9b-0000-4000-8000-000000000002"), UUID("1f0c2a9b-0000-4000-8000-000000000003")


def _slugs(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_section_of_the_runbook_that_an_alert_links_exists() -> None:
    code = "\n".join(file.read_text() for file in (ALERTING / "rules").glob("*.py"))
    linked = set(re.findall(r'"([a-z]+(?:-[a-z]+){2,})"', code)) | set(re.findall(r'runbook\(\s*"([a-z-]+)"', code))
    assert {"source-latency-is-over-an-hour", "a-connection-is-stale", "a-run-failed"} < linked
    assert linked - _slugs((ROOT / "docs" / "runbook.md").read_text()) == set()


def test_the_section_that_each_finding_links_exists() -> None:
    sections = {link.url.partition("#")[2] for each in everything() for link in each.links if link.label == "Runbook"}
    assert len(sections) > 20
    assert sections - _slugs((ROOT / "docs" / "runbook.md").read_text()) == set()
    assert all([link.label for link in each.links].count("Runbook") == 1 for each in everything())


@pytest.mark.parametrize(
    ("rule", "section"),
    [
        ("provider_stale", "a-connection-is-stale"),
        ("event_log_unreadable", "dagsters-storage-does-not-answer"),
    ],
)
def test_what_wakes_somebody_links_what_to_do_about_it(rule: str, section: str) -> None:
    linked = {each.links[-1].url.partition("#")[2] for each in everything() if each.rule == rule}
    assert linked == {section}


@pytest.mark.parametrize(
    ("kind", "section"),
    [
        ("registry_shrunk", "the-registry-suddenly-lacks-most-tenants-or-connections"),
        ("webhook_missed", "the-backend-missed-webhooks"),
        ("webhook_untold", "the-backend-missed-webhooks"),
        ("webhook_secret_refused", "the-backend-missed-webhooks"),
        ("audit_undeliverable", "the-backend-is-owed-audit-rows"),
        ("start_refused", "a-connection-does-not-sync"),
        ("connection_missing", "a-connection-does-not-sync"),
        ("alert_undeliverable", "findings"),
        ("of_a_later_release", "findings"),
    ],
)
def test_what_a_domain_noted_links_the_section_about_its_kind(kind: str, section: str) -> None:
    assert section in _slugs((ROOT / "docs" / "runbook.md").read_text())
    facts = Facts(NOON, SLA, PLACES, findings=[OpenFinding(kind, "x", {}, NOON)])
    (found,) = others.noted(facts).findings
    assert found.links == (PLACES.runbook(section),)


def test_a_connection_links_its_partition_its_job_its_dashboards_and_the_runbook() -> None:
    dashboards = (
        Dashboard("superset/spend", "Spend", ("meta",), path="/superset/dashboard/spend/"),
        Dashboard("superset/web", "Web", ("ga4",), path="/superset/dashboard/web/"),
    )
    settings = Settings()
    places = Places.of(settings, Topology("pipelines", dashboards=dashboards), [_served(WORKSPACE)])
    places = replace(places, superset="https://bi.example.com/")
    links = {link.label: link.url for link in places.connection(Provider.META, "acme/m 1", CONNECTION, 7, "x")}
    assert links == {
        "Partition": f"{settings.dagster.ui_url}/assets/airbyte/meta?view=partitions&partition=acme%2Fm%201",
        "Airbyte": f"{settings.airbyte.ui_url}/workspaces/{WORKSPACE}/connections/{CONNECTION}/timeline"
        "?openLogs=true&jobId=7",
        "Spend": "https://bi.example.com/superset/dashboard/spend/",
        "Runbook": f"{settings.runbook_url}#x",
    }


@pytest.mark.parametrize(
    ("registered", "configured", "shown"),
    [
        (WORKSPACE, (), WORKSPACE),
        (WORKSPACE, (OTHER,), WORKSPACE),
        (None, (OTHER,), OTHER),
        (None, (OTHER, WORKSPACE), None),
        (None, (), None),
    ],
)
def test_a_page_in_airbyte_is_of_the_workspace_that_is_known_else_its_start_page(
    registered: UUID | None, configured: tuple[UUID, ...], shown: UUID | None
) -> None:
    settings = Settings(airbyte=AirbyteSettings(ui_url="https://airbyte.example.com/", workspace_ids=configured))
    places = Places.of(settings, None, [_served(registered)])
    links = {link.label: link.url for link in places.connection(Provider.META, "acme/m", CONNECTION, None, "x")}
    page = f"/workspaces/{shown}/connections/{CONNECTION}/timeline" if shown else ""
    assert links["Airbyte"] == f"https://airbyte.example.com{page}"


def _served(workspace_id: UUID | None) -> Connection:
    schedule = Schedule(ScheduleType.MANUAL)
    return Connection(CONNECTION, CONNECTION, Provider.META, "Meta", CONNECTION, schedule, workspace_id)


def test_every_rule_has_its_row_in_the_table_and_every_row_its_rule() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    table = page[page.index("## What is watched") : page.index("Levels come from")]
    watched = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    rules = {name for rule in RULES for name in rule.speaks_of} | {RULE_FAILED}
    assert rules - watched == set()
    assert watched - rules == set()
