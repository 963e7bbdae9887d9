"""Commands that run something: in a process of their own, against real syncs, followed to the end."""

from __future__ import annotations

import os
import shlex
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from adinsights_orchestration.cli import runs
from adinsights_orchestration.ingestion import assets, repair_jobs
from adinsights_orchestration.local.airbyte import catalogs
from tests.cli.conftest import Answer, Served
from tests.cli.test_ui import ui_that_answers

Command = Callable[..., Answer]
_JOBS = {"name": "__repository__", "location": {"name": "pipelines"}, "jobs": [{"name": "clear_connection"}]}


@pytest.fixture(scope="module", autouse=True)
def _migrated(served: Served) -> None:
    served.prepare()


def test_the_names_that_commands_use_are_those_of_the_jobs() -> None:
    assert (runs.SYNC_JOB, runs.SYNC_OP) == (assets.SYNC_JOB, assets.SYNC_OP)
    assert set(runs.HISTORY_JOBS.values()) == {repair_jobs.REFRESH_JOB, repair_jobs.CLEAR_JOB}
    assert runs.SCHEMA_JOB == repair_jobs.SCHEMA_JOB
    assert runs.REPAIR_OPS == repair_jobs.REPAIR_OPS


def test_a_sync_without_a_ui_runs_here_and_tells_exactly_what_failed_and_why(served: Served) -> None:
    reason = "The access token access_token=canary-token of jane.doe@agency.example was revoked."
    failure = {"failureType": "config_error", "failureOrigin": "source", "externalMessage": reason}
    served.knobs.set("airbyte", "fail_connection", {str(served.connections["google"].id): failure})
    try:
        answer = served.as_process("sync", "--tenant", "acme-jamaica-ltd", "--json")
    finally:
        served.knobs.reset()
    assert answer.code == 1, answer.err
    rows = {row["partition"].split("/")[1].rsplit("-", 1)[0]: row for row in answer.json["connections"]}
    assert {name: row["state"] for name, row in rows.items()} == {
        "meta-ads": "succeeded",
        "google-ads": "failed",
        "web": "succeeded",
    }
    assert rows["meta-ads"]["rows"] == 20
    assert answer.json["failed"] == [rows["google-ads"]["partition"]]
    assert "was revoked" in rows["google-ads"]["reason"]
    assert not [canary for canary in ("canary-token", "jane") if canary in answer.out + answer.err]
    assert _leaks(served, "canary-token", "jane.doe") == []


def test_a_sync_that_went_well_says_so_on_the_way_and_in_a_table(served: Served, command: Command) -> None:
    answer = command("sync", "--connection", "Meta Ads")
    assert answer.code == 0, answer.err
    assert "succeeded" in answer.out
    assert "20 rows" in answer.err
    listed = {row["provider"]: row for row in command("connections", "--json").json}
    assert (listed["meta"]["status"], listed["meta"]["rows"]) == ("succeeded", 20)


def test_a_refresh_is_a_plan_until_it_is_confirmed(served: Served, command: Command) -> None:
    before = len(_jobs(served))
    plan = command("refresh", "Meta Ads", "--json")
    assert (plan.code, plan.json["executed"], plan.json["obstacles"]) == (0, False, [])
    assert plan.json["steps"][0]["does"]
    assert len(_jobs(served)) == before
    done = command("refresh", "Meta Ads", "--yes", "--json")
    assert done.code == 0, done.err
    assert f"plan {plan.json['plan']}" in done.err
    assert "read all history again" in done.err
    assert [row["state"] for row in done.json["connections"]] == ["succeeded"]
    assert _jobs(served)[-1] != "sync"
    assert f"refresh_connection {_partition(command, 'Meta Ads')}" in _windows(served), "quiet, as a run of the UI is"


def test_a_clear_is_a_plan_until_it_is_confirmed(served: Served, command: Command) -> None:
    plan = command("clear", "Web")
    assert plan.code == 0
    assert "delete all its rows" in plan.out
    assert _command(plan.out)[:2] == ["clear", _partition(command, "Web")]
    assert command(*_command(plan.out)).code == 0


def test_a_plan_other_than_the_one_that_was_read_is_refused_with_the_plan_as_it_is_now(
    served: Served, command: Command
) -> None:
    meta, before = served.connections["meta"], len(_jobs(served))
    read = _command(command("refresh", "Meta Ads").out)
    insights, campaigns = meta.catalog.streams
    narrower = replace(meta.catalog, streams=(insights, replace(campaigns, selected=False)))
    served.airbyte.change(meta.id, replace(meta, catalog=narrower))
    try:
        refused = command(*read)
        assert refused.code == 2
        assert "refresh of 1 streams (ad_insights)" in refused.err
        assert "the plan changed since it was shown" in refused.err
        assert len(_jobs(served)) == before
        checked = command("refresh", "Meta Ads", "--plan", read[-1])
        assert checked.code == 2, "without --yes it is asked whether the plan still is what it was"
    finally:
        served.airbyte.change(meta.id, meta)


def test_the_run_is_given_the_plan_that_the_command_showed_and_so_refuses_any_other(served: Served) -> None:
    asked: list[Any] = []
    answers = {
        "repositoriesOrError": {"nodes": [_JOBS]},
        "launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": str(uuid.uuid4())}},
        "runOrError": {"status": "SUCCESS"},
        "logsForRun": {"events": []},
    }
    shown = served.as_process("clear", "Web", "--json").json["plan"]
    with ui_that_answers(answers, asked) as ui:
        served.as_process("clear", "Web", "--yes", ADINSIGHTS_DAGSTER__UI_URL=ui.url)
    (launch,) = [each["variables"]["execution"] for each in asked if "execution" in each["variables"]]
    config = launch["runConfigData"]["ops"]["clear"]["config"]
    assert (config["dry_run"], config["plan_digest"]) == (False, shown)


def test_a_command_asks_the_webserver_and_shows_the_link_that_people_can_open(served: Served) -> None:
    run_id = str(uuid.uuid4())
    answers = {
        "repositoriesOrError": {"nodes": [_JOBS]},
        "launchRun": {"__typename": "LaunchRunSuccess", "run": {"runId": run_id}},
        "runOrError": {"status": "SUCCESS"},
        "logsForRun": {"events": []},
    }
    behind_a_login = "https://dagster.example.com"
    with ui_that_answers(answers) as ui:
        addresses = {"ADINSIGHTS_DAGSTER__UI_URL": behind_a_login, "ADINSIGHTS_DAGSTER__API_URL": ui.url}
        answer = served.as_process("clear", "Web", "--yes", **addresses)
    assert f"{behind_a_login}/runs/{run_id}" in answer.err


def test_a_schema_that_changed_is_approved_as_it_was_shown_and_not_as_it_is_by_then(
    served: Served, command: Command
) -> None:
    google = served.connections["google"]
    served.knobs.set("airbyte", "schema_break", [str(google.id)])
    try:
        command("sync", "--connection", "Google Ads")
    finally:
        served.knobs.reset()
    shown = command("schema", "approve", "Google Ads")
    assert shown.code == 0
    assert "read by it: breaking" in shown.out
    off = served.airbyte.resources.connection(google.id)
    assert off.status.value == "inactive"
    source = served.airbyte.resources.source(off.source_id)
    assert source.discovered is not None
    served.airbyte.resources.put(replace(source, discovered=catalogs.broken(source.discovered)))
    refused = command(*_command(shown.out))
    assert refused.code == 2
    assert "the plan changed since it was shown" in refused.err
    assert served.airbyte.resources.connection(google.id) == off
    served.airbyte.resources.put(source)
    approved = command(*_command(shown.out))
    assert approved.code == 0, approved.err
    assert "no difference" in approved.out
    assert served.airbyte.resources.connection(google.id).status.value == "active"


def test_a_schema_without_changes_needs_no_approval(served: Served, command: Command) -> None:
    shown = command("schema", "show", "Meta Ads", "--json")
    assert (shown.code, shown.json["needed"], shown.json["changes"]) == (0, False, [])
    approved = command("schema", "approve", "Meta Ads", "--yes")
    assert approved.code == 0
    assert "no difference" in approved.out


def test_without_a_dagster_home_nothing_runs_and_the_next_step_is_named(served: Served) -> None:
    answer = served.as_process("sync", "--all", DAGSTER_HOME="")
    assert answer.code == 2
    assert answer.err.strip().splitlines()[-2].startswith("DAGSTER_HOME is not set")


def test_an_airbyte_that_is_down_ends_a_plan_with_two_lines(served: Served) -> None:
    answer = served.as_process(
        "schema", "show", "Meta Ads", ADINSIGHTS_AIRBYTE__CONFIG_API_URL="http://127.0.0.1:9/api/v1"
    )
    assert answer.code == 2
    assert "Airbyte cannot be reached" in answer.err
    assert len(answer.err.strip().splitlines()) == 2


def _command(shown: str) -> list[str]:
    """The arguments of the command that a dry run printed as its last line."""
    program, *arguments = shlex.split(shown.strip().splitlines()[-1])
    assert program == "adinsights"
    return arguments


def _partition(command: Command, name: str) -> str:
    listed = command("connections", "--json").json
    slug = name.lower().replace(" ", "-")
    return next(str(row["partition"]) for row in listed if row["partition"].split("/")[1].rsplit("-", 1)[0] == slug)


def _jobs(served: Served) -> list[str]:
    with served.store() as store, store.begin() as connection:
        rows = connection.exec_driver_sql("select job_type from adinsights_ops.sync_job order by job_id")
        return [str(row[0]) for row in rows]


def _windows(served: Served) -> list[str]:
    """What was being done in each maintenance window."""
    with served.store() as store, store.begin() as connection:
        rows = connection.exec_driver_sql("select reason from adinsights_ops.alert_silence where kind = 'maintenance'")
        return [str(row[0]) for row in rows]


def _leaks(served: Served, *canaries: str) -> list[str]:
    """Files below DAGSTER_HOME (event log, compute logs) and ops store tables that hold a canary."""
    found = []
    for folder, _, files in os.walk(served.folder):
        for name in files:
            content = open(os.path.join(folder, name), "rb").read()  # noqa: PTH123, SIM115, PTH118
            found += [f"{name}: {canary}" for canary in canaries if canary.encode() in content]
    with served.store() as store, store.begin() as connection:
        for table in ("sync_job", "sync_intent", "finding", "audit_entry"):
            for canary in canaries:
                query = f"select count(*) from adinsights_ops.{table} x where x::text like '%%{canary}%%'"
                if connection.exec_driver_sql(query).scalar_one():
                    found.append(f"{table}: {canary}")
    return found
