"""Refresh, clear and schema approval: the plan changes nothing, the execution does what the plan said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa

from adinsights_orchestration.ingestion import repair
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi
from adinsights_orchestration.ingestion.airbyte_errors import ServerError
from adinsights_orchestration.ingestion.outcomes import OutcomeStatus, SyncOutcome
from adinsights_orchestration.ingestion.repair import Repair, RepairError
from adinsights_orchestration.local.airbyte import catalogs
from adinsights_orchestration.local.airbyte.model import AirbyteConnection
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry
from adinsights_orchestration.plan_digest import PlanChangedError
from tests.ingestion.support import BY_HAND, Ingestion, an_ingestion, start_elsewhere


def carried_out(ingestion: Ingestion, plan: repair.HistoryPlan) -> list[SyncOutcome]:
    def clock() -> datetime:
        ingestion.advance(2)
        return ingestion.now

    outcomes = repair.carry_out_history(
        ingestion.deps, plan, run_id="run-1", requested_by="someone@example.com", clock=clock, poll_seconds=0.02
    )
    return list(outcomes)


def actions(store: OpsStore) -> list[str]:
    with store.begin() as connection:
        return list(connection.execute(sa.select(audit_entry.c.action).order_by(audit_entry.c.created_at)).scalars())


@pytest.fixture
def one(ops_store: OpsStore) -> Iterator[Ingestion]:
    with an_ingestion(ops_store, 2, schedule=BY_HAND) as ingestion:
        yield ingestion


def without_refresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server of a version before refreshes."""

    async def no(_: AirbyteApi) -> bool:
        return False

    monkeypatch.setattr(AirbyteApi, "has_refresh", no)


# -------------------------------------------------------------------------------------------------------------- history


def test_planning_changes_nothing_and_says_what_would_happen(one: Ingestion) -> None:
    plan = repair.plan_history(one.deps, one.connections, Repair.REFRESH)
    assert plan.native_refresh
    assert plan.possible == tuple(one.connections)
    first = plan.describe().splitlines()[:2]
    assert first[0] == f"{one.connections[0].partition_key}: refresh of 2 streams (ad_insights, campaigns)"
    assert "old rows stay until the new ones are there" in first[1]
    assert (one.jobs(), one.intents(), actions(one.store)) == ([], [], [])


def test_a_refresh_is_airbytes_own_where_it_has_one(one: Ingestion) -> None:
    outcomes = carried_out(one, repair.plan_history(one.deps, one.connections, Repair.REFRESH))
    assert {(o.status, o.owned) for o in outcomes} == {(OutcomeStatus.SUCCEEDED, True)}
    assert {job.config_type.value for job in one.jobs()} == {"refresh"}
    assert actions(one.store) == ["airbyte_refresh_triggered"] * 2


def test_without_refreshes_history_is_cleared_and_read_again(one: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    without_refresh(monkeypatch)
    plan = repair.plan_history(one.deps, one.connections[:1], Repair.REFRESH)
    assert "this server cannot refresh" in plan.describe()
    (outcome,) = carried_out(one, plan)
    assert outcome.succeeded
    assert [job.config_type.value for job in one.jobs()] == ["reset_connection", "sync"]
    assert actions(one.store) == ["airbyte_clear_triggered", "airbyte_sync_triggered"]


def test_a_connection_whose_clear_failed_is_not_read(one: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    without_refresh(monkeypatch)
    broken = one.connections[0]
    plan = repair.plan_history(one.deps, one.connections, Repair.REFRESH)
    one.server.set("fail_connection", {str(broken.connection_id): {"externalMessage": "disk full"}})
    outcomes = {o.partition_key: o for o in carried_out(one, plan)}
    assert outcomes[broken.partition_key].reason == "disk full"
    assert outcomes[one.connections[1].partition_key].succeeded
    assert {job.config_type.value for job in one.jobs(broken)} == {"reset_connection"}


def test_a_clear_deletes_and_reads_nothing_again(one: Ingestion) -> None:
    plan = repair.plan_history(one.deps, one.connections[:1], Repair.CLEAR)
    assert "dashboards show nothing of it" in plan.describe()
    (outcome,) = carried_out(one, plan)
    assert (outcome.succeeded, outcome.owned) == (True, False)
    assert [job.config_type.value for job in one.jobs()] == ["reset_connection"]


def test_a_running_sync_is_named_in_the_plan_and_let_end_first(one: Ingestion) -> None:
    running = start_elsewhere(one)
    plan = repair.plan_history(one.deps, one.connections[:1], Repair.CLEAR)
    assert f"job {running} (sync) runs now and is let end first" in plan.describe()
    carried_out(one, plan)
    assert [job.status.value for job in one.jobs()] == ["succeeded", "succeeded"]


def test_what_stands_in_the_way_is_said_and_the_rest_is_done(one: Ingestion) -> None:
    off = one.connections[0]
    one.server.public("PATCH", f"/connections/{off.connection_id}", json={"status": "inactive"})
    plan = repair.plan_history(one.deps, one.connections, Repair.REFRESH)
    assert f"{off.partition_key}: cannot be done, it is inactive" in plan.describe()
    outcomes = carried_out(one, plan)
    assert [o.partition_key for o in outcomes] == [one.connections[1].partition_key]


def test_a_connection_that_airbyte_does_not_know_is_an_obstacle_and_not_a_crash(one: Ingestion) -> None:
    stranger = one.add(7)
    one.server.world.resources._connections.pop(stranger.connection_id)
    plan = repair.plan_history(one.deps, [stranger], Repair.CLEAR)
    assert plan.possible == ()
    assert "its catalog cannot be read" in plan.describe()


def test_the_digest_names_what_would_be_done_and_not_what_happens_to_run(one: Ingestion) -> None:
    planned = repair.plan_history(one.deps, one.connections[:1], Repair.CLEAR).digest
    start_elsewhere(one)
    while_running = repair.plan_history(one.deps, one.connections[:1], Repair.CLEAR)
    assert "runs now" in while_running.describe()
    assert while_running.digest == planned
    others = {
        repair.plan_history(one.deps, one.connections[:1], Repair.REFRESH).digest,
        repair.plan_history(one.deps, one.connections[1:], Repair.CLEAR).digest,
        repair.plan_history(one.deps, one.connections, Repair.CLEAR).digest,
    }
    assert len(others | {planned}) == 4


def test_the_digest_of_a_refresh_is_another_when_the_server_cannot_refresh(
    one: Ingestion, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = repair.plan_history(one.deps, one.connections, Repair.REFRESH).digest
    without_refresh(monkeypatch)
    assert repair.plan_history(one.deps, one.connections, Repair.REFRESH).digest != planned


def test_the_digest_of_a_clear_is_another_when_the_connection_reads_something_else(one: Ingestion) -> None:
    planned = repair.plan_history(one.deps, one.connections[:1], Repair.CLEAR).digest
    made = in_airbyte(one)
    insights, campaigns = made.catalog.streams
    narrower = replace(made.catalog, streams=(insights, replace(campaigns, selected=False)))
    one.server.world.change(made.id, replace(made, catalog=narrower))
    without_campaigns = repair.plan_history(one.deps, one.connections[:1], Repair.CLEAR).digest
    assert without_campaigns != planned
    unread = replace(campaigns, selected=False, json_schema={"type": "object", "properties": {}})
    one.server.world.change(made.id, replace(made, catalog=replace(narrower, streams=(insights, unread))))
    assert repair.plan_history(one.deps, one.connections[:1], Repair.CLEAR).digest == without_campaigns


# --------------------------------------------------------------------------------------------------------------- schema


def break_schema(ingestion: Ingestion) -> None:
    """The next sync discovers that its cursor was renamed, and Airbyte switches the connection off."""
    ingestion.server.set("schema_break", [str(ingestion.connections[0].connection_id)])
    start_elsewhere(ingestion)
    ingestion.advance(5)


def in_airbyte(ingestion: Ingestion) -> AirbyteConnection:
    return ingestion.server.world.resources.connection(ingestion.connections[0].connection_id)


def approve(ingestion: Ingestion, plan: repair.SchemaPlan) -> repair.SchemaPlan:
    return repair.approve_schema_change(ingestion.deps, plan, run_id="run-1", requested_by="someone@example.com")


def test_planning_an_approval_shows_the_difference_and_changes_nothing(one: Ingestion) -> None:
    break_schema(one)
    plan = repair.plan_schema_change(one.deps, one.connections[0])
    assert plan.needed
    assert plan.diff.breaking
    assert plan.describe().splitlines() == [
        f"{one.connections[0].partition_key}: inactive (SCHEMA_CHANGES_ARE_BREAKING) in Airbyte",
        "ad_insights.date_start_v2: added (string(date))",
        "ad_insights.date_start: removed (string(date)), read by it: breaking",
        "would apply this and switch the connection on; no rows are cleared, the next sync reads on",
    ]
    assert in_airbyte(one).status.value == "inactive"
    assert actions(one.store) == []


def test_approving_applies_the_schema_and_switches_the_connection_on_without_clearing(one: Ingestion) -> None:
    break_schema(one)
    after = approve(one, repair.plan_schema_change(one.deps, one.connections[0]))
    assert not after.needed
    made = in_airbyte(one)
    assert (made.status.value, made.breaking_change) == ("active", False)
    assert made.catalog.streams[0].cursor_field == ("date_start_v2",)
    assert len(one.jobs()) == 1
    assert actions(one.store) == ["airbyte_schema_change_approved"]
    start_elsewhere(one)
    one.advance(45)
    assert one.jobs()[-1].status.value == "succeeded"


def test_an_approval_of_what_changed_again_since_is_refused(one: Ingestion) -> None:
    break_schema(one)
    plan = repair.plan_schema_change(one.deps, one.connections[0])
    made = in_airbyte(one)
    source = one.server.world.resources.source(made.source_id)
    assert source.discovered is not None
    one.server.world.resources.put(replace(source, discovered=catalogs.broken(source.discovered)))
    with pytest.raises(PlanChangedError, match=f"{plan.digest} was asked for, it is .* now; nothing was changed"):
        approve(one, plan)
    assert in_airbyte(one).status.value == "inactive"
    assert actions(one.store) == []


def test_an_approval_does_not_overwrite_what_somebody_chose_in_airbyte_since(one: Ingestion) -> None:
    break_schema(one)
    plan = repair.plan_schema_change(one.deps, one.connections[0])
    made = in_airbyte(one)
    insights, campaigns = made.catalog.streams
    catalog = replace(made.catalog, streams=(insights, replace(campaigns, selected=False)))
    one.server.world.change(made.id, replace(made, catalog=catalog))
    with pytest.raises(PlanChangedError):
        approve(one, plan)
    assert in_airbyte(one).catalog == catalog
    assert actions(one.store) == []


def test_a_connection_that_somebody_switched_off_since_is_not_switched_on_by_an_older_approval(one: Ingestion) -> None:
    break_schema(one)
    plan = repair.plan_schema_change(one.deps, one.connections[0])
    made = in_airbyte(one)
    one.server.world.change(made.id, replace(made, status_reason="DISABLED_BY_USER"))
    with pytest.raises(PlanChangedError):
        approve(one, plan)
    assert in_airbyte(one).status.value == "inactive"


def test_the_digest_of_an_approval_is_the_same_as_long_as_nothing_changes(one: Ingestion) -> None:
    break_schema(one)
    first, second = (repair.plan_schema_change(one.deps, one.connections[0]) for _ in range(2))
    assert first.digest == second.digest


def test_nothing_to_approve_is_said(one: Ingestion) -> None:
    plan = repair.plan_schema_change(one.deps, one.connections[0])
    assert not plan.needed
    assert "no difference" in plan.describe()


def test_what_only_a_person_can_choose_is_an_obstacle(one: Ingestion, monkeypatch: pytest.MonkeyPatch) -> None:
    break_schema(one)
    plan = repair.plan_schema_change(one.deps, one.connections[0])
    blocked = _with_problem(plan)
    assert "cannot be approved from here" in blocked.describe()
    with pytest.raises(RepairError, match="choose another"):
        approve(one, blocked)
    assert actions(one.store) == []


def test_an_airbyte_that_does_not_answer_leaves_the_approval_to_be_tried_again(one: Ingestion) -> None:
    break_schema(one)
    plan = repair.plan_schema_change(one.deps, one.connections[0])
    one.server.set("config_api_down", True)
    one.configure(airbyte={"request_timeout_seconds": 1.0})
    with pytest.raises(ServerError, match="Service Unavailable"):
        repair_quickly(one, plan)
    one.server.set("config_api_down", False)
    assert not approve(one, plan).needed


def repair_quickly(ingestion: Ingestion, plan: repair.SchemaPlan) -> None:
    """As `approve`, with a client that gives up early."""
    deps = ingestion.deps

    def hurried() -> AirbyteApi:
        api = deps.api()
        api.hurry()
        return api

    repair.approve_schema_change(replace(deps, api=hurried), plan, run_id="run-1", requested_by="someone")


def _with_problem(plan: repair.SchemaPlan) -> repair.SchemaPlan:
    adapted: Any = replace(plan.adapted, problems=("ad_insights: its cursor is gone; choose another in Airbyte",))
    return replace(plan, adapted=adapted)
