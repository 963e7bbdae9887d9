"""Links of alerts: every section of the runbook that one names exists, and addresses hold what they need."""

from __future__ import annotations

import re
from uuid import UUID

from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules.catalog import RULES
from adinsights_orchestration.alerting.rules.rule import RULE_FAILED
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.topology.model import Dashboard, Topology
from tests.repository.checkout import ROOT

ALERTING = ROOT / "adinsights_orchestration" / "alerting"
CONNECTION = UUID("1f0c2a9b-0000-4000-8000-000000000001")


def _slugs(page: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_every_section_of_the_runbook_that_an_alert_links_exists() -> None:
    code = "\n".join(file.read_text() for file in (ALERTING / "rules").glob("*.py"))
    linked = set(re.findall(r'"([a-z]+(?:-[a-z]+){2,})"', code)) | set(re.findall(r'runbook\(\s*"([a-z-]+)"', code))
    assert {"source-latency-is-over-an-hour", "a-connection-is-stale", "findings"} < linked
    assert linked - _slugs((ROOT / "docs" / "runbook.md").read_text()) == set()


def test_a_connection_links_its_partition_its_job_its_dashboards_and_the_runbook() -> None:
    dashboards = (
        Dashboard("superset/spend", "Spend", ("meta",), path="/superset/dashboard/spend/"),
        Dashboard("superset/web", "Web", ("ga4",), path="/superset/dashboard/web/"),
    )
    settings = Settings()
    places = Places.of(settings, Topology("pipelines", dashboards=dashboards))
    places = Places(places.links, places.airbyte, "https://bi.example.com/", places.topology)
    links = {link.label: link.url for link in places.connection(Provider.META, "acme/m 1", CONNECTION, 7, "x")}
    assert links == {
        "Partition": f"{settings.dagster.ui_url}/assets/airbyte/meta?view=partitions&partition=acme%2Fm%201",
        "Airbyte": f"{settings.airbyte.ui_url}/connections/{CONNECTION}/timeline?openLogs=true&jobId=7",
        "Spend": "https://bi.example.com/superset/dashboard/spend/",
        "Runbook": f"{settings.runbook_url}#x",
    }


def test_every_rule_has_its_row_in_the_table_and_every_row_its_rule() -> None:
    page = (ROOT / "docs" / "alerts.md").read_text()
    table = page[page.index("## What is watched") : page.index("Levels come from")]
    watched = {
        name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    rules = {name for rule in RULES for name in rule.speaks_of} | {RULE_FAILED}
    assert rules - watched == set()
    assert watched - rules == set()
