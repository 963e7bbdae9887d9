"""A year and a month of audit log through archive, retention, restore and proof, on the whole local stack: `make soak`.

What is done in the UI goes through the UI's own API, with the requests that its buttons send; the rest is the commands
as a person types them. What must be true is known beforehand: every row of the table is written down, with its text,
before anything is archived.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from adinsights_orchestration.local import audit_history
from adinsights_orchestration.local.ad_platforms.accounts import LOCAL_TENANTS
from adinsights_orchestration.local.seed import tenant_id
from tests.local.stack_support import Site, new_site, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

DAYS = 395
SELECTOR = {"repositoryLocationName": "pipelines", "repositoryName": "__repository__"}
ARCHIVE = {"path": ["audit_log", "archive"]}
BACKFILL = """mutation ($asked: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $asked) { __typename
    ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL_RUNS = """query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
    status runs { id status } } } }"""
LAUNCH = """mutation ($asked: ExecutionParams!) { launchRun(executionParams: $asked) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
RUN = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
PARTITIONS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    partitionStats { numMaterialized numPartitions numFailed } } } }"""
CHECKS = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    assetChecksOrError { ... on AssetChecks {
        checks { name executionForLatestMaterialization { status evaluation { success } } } } } } } }"""
ROWS = """select id::text, tenant_id::text as tenant, (created_at at time zone 'UTC')::date as day,
       md5(t::text) as content
  from {} t where (created_at at time zone 'UTC')::date < %s"""

READ = "select 1 from adinsights_ops.registry_status where succeeded_at is not null"

Rows = dict[str, tuple[str, date, str]]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with new_site() as site:
        site.run("local", "up", "--no-follow")
        # Without the registry nothing is deleted: a legal hold might be missed.
        wait_until(lambda: bool(site.query("dagster", READ)), 120, "the registry is never read")
        yield site
        site.run("local", "down")
        site.assert_nothing_runs()


def rows_of(site: Site, table: str, before: date) -> Rows:
    """Every row before a day, with its whole text hashed by Postgres itself."""
    return {
        row["id"]: (row["tenant"], row["day"], row["content"])
        for row in site.query("backend", ROWS.format(table), before)
    }


def launch(site: Site, job: str, config: dict[str, Any]) -> str:
    """Starts a job as the launchpad does; returns its final status."""
    asked = {"selector": {**SELECTOR, "pipelineName": job}, "runConfigData": json.dumps(config), "mode": "default"}
    launched = site.graphql(LAUNCH, asked=asked)["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    return final_status(site, launched["run"]["runId"])


def final_status(site: Site, run_id: str) -> str:
    def status() -> str:
        return str(site.graphql(RUN, id=run_id)["runOrError"]["status"])

    wait_until(lambda: status() in ("SUCCESS", "FAILURE", "CANCELED"), 900, lambda: f"{run_id}: {status()}")
    return status()


def backfill(site: Site, days: list[date]) -> list[str]:
    """Materializes partitions as the dialog does; returns the final status of each run that came of it."""
    names = [day.isoformat() for day in days]
    asked = {"assetSelection": [ARCHIVE], "partitionNames": names, "fromFailure": False, "title": "a year and a month"}
    launched = site.graphql(BACKFILL, asked=asked)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def state() -> Any:
        return site.graphql(BACKFILL_RUNS, id=launched["backfillId"])["partitionBackfillOrError"]

    wait_until(lambda: state()["status"].startswith("COMPLETED"), 1200, lambda: str(state()))
    return [run["status"] for run in state()["runs"]]


def checks_of(site: Site, asset: str) -> dict[str, bool]:
    node = site.graphql(CHECKS, key={"path": ["audit_log", asset]})["assetNodeOrError"]
    found = node["assetChecksOrError"]["checks"]
    return {each["name"]: each["executionForLatestMaterialization"]["evaluation"]["success"] for each in found}


def acts_of(site: Site) -> dict[str, int]:
    """The audit rows about the audit log itself, which the sensor delivers: one for each tenant and run."""
    statement = "select action, count(*) as n from accounts_auditlog where action like 'audit_log_%%' group by 1"
    return {row["action"]: row["n"] for row in site.query("backend", statement)}


def test_a_year_and_a_month_goes_through_archive_retention_and_restore(site: Site) -> None:
    today = datetime.now(UTC).date()
    first = audit_history.first_day(site.local, datetime.now(UTC))
    before = rows_of(site, "accounts_auditlog", today)
    assert {day for _, day, _ in before.values()} == {first + timedelta(days=each) for each in range(DAYS)}

    assert backfill(site, [first + timedelta(days=each) for each in range(DAYS)]) == ["SUCCESS"]
    stats = site.graphql(PARTITIONS, key=ARCHIVE)["assetNodeOrError"]["partitionStats"]
    assert (stats["numMaterialized"], stats["numFailed"]) == (DAYS, 0)
    assert checks_of(site, "archive") == {"every_closed_day_archived": True, "chain_intact": True}
    proven = json.loads(site.run("audit", "verify", "--json"))
    assert (proven["rows"], proven["days"], proven["problems"], proven["missing"]) == (len(before), DAYS, [], [])

    # Two tenants are kept for a year, the third has a contract for two.
    longer = {str(tenant_id(tenant)) for tenant in LOCAL_TENANTS if tenant.slug == "initech-ny"}
    cutoff = today - timedelta(days=365)
    past = {key for key, (tenant, day, _) in before.items() if day < cutoff and tenant not in longer}
    assert launch(site, "audit_log_retention", {}) == "SUCCESS"
    assert rows_of(site, "accounts_auditlog", today) == before
    assert checks_of(site, "retention") == {"no_row_past_its_window": False, "no_row_vanished": True}
    told = json.loads(site.run("audit", "retention", "--json"))
    assert (told["dry_run"], told["rows"]) == (True, len(past))
    wet = {"ops": {"audit_log__retention": {"config": {"dry_run": False}}}}
    assert launch(site, "audit_log_retention", wet) == "SUCCESS"
    left = {key: row for key, row in before.items() if key not in past}
    assert rows_of(site, "accounts_auditlog", today) == left
    assert checks_of(site, "retention") == {"no_row_past_its_window": True, "no_row_vanished": True}

    # One day into a table of its own, from the UI; a week back into the live table, from the command line.
    day, week = first + timedelta(days=3), first + timedelta(days=10)
    wanted = {"first": day.isoformat(), "last": day.isoformat(), "dry_run": False}
    assert launch(site, "audit_log_restore", {"ops": {"restore_audit_rows": {"config": wanted}}}) == "SUCCESS"
    of_the_day = {key: row for key, row in before.items() if row[1] == day}
    assert rows_of(site, "accounts_auditlog_restored", today) == of_the_day
    span = ("--from", first.isoformat(), "--to", week.isoformat())
    hold = ("--live", "--hold-until", (today + timedelta(days=30)).isoformat())
    site.run("audit", "restore", *span, *hold, "--apply")
    held = {key: row for key, row in before.items() if key not in past or row[1] <= week}
    assert rows_of(site, "accounts_auditlog", today) == held
    assert json.loads(site.run("audit", "retention", "--apply", "--json"))["rows"] == 0
    assert launch(site, "audit_log_retention", wet) == "SUCCESS"
    assert rows_of(site, "accounts_auditlog", today) == held
    assert checks_of(site, "retention") == {"no_row_past_its_window": True, "no_row_vanished": True}

    # The archive still has all of it, and says who did what.
    proven = json.loads(site.run("audit", "verify", "--json"))
    assert (proven["rows"], proven["days"], proven["problems"]) == (len(before), DAYS, [])
    counted = site.run("audit", "query", "--sql", "select count(distinct id) as ids from audit_log", "--json")
    assert json.loads(counted) == [{"ids": len(before)}]
    # The third tenant gets no row back into the live table, and its rows are held all the same.
    expected = {"audit_log_archived": 3, "audit_log_retention_deleted": 2, "audit_log_restored": 3 + 3}
    wait_until(lambda: acts_of(site) == expected, 120, lambda: f"{acts_of(site)} instead of {expected}")
