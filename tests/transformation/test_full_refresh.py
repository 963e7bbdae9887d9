"""A full refresh drops no provider's rows that nobody said may go."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation import manifest
from adinsights_orchestration.transformation.builds import Build, Request
from adinsights_orchestration.transformation.command import Command
from adinsights_orchestration.transformation.full_refresh import FullRefreshError, Held, refuse_losses
from adinsights_orchestration.transformation.project import Project
from tests.transformation.support import Warehouse

pytestmark = pytest.mark.usefixtures("warm_dbt")
META, GOOGLE, TIKTOK = Provider.META, Provider.GOOGLE_ADS, Provider.TIKTOK_ADS
BOTH = (META, GOOGLE)
LACKING = {GOOGLE: ("raw_google_ads.campaign_daily",)}
EVERYTHING = Command(("build",), full_refresh=True)
FCT = "model.fixture.fct_spend"
# As the real facts: rows of a provider that takes part replace its old ones, others' stay.
INCREMENTAL = (
    "{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key=['platform']) }}\n"
)
SPEND = "select platform, sum(spend)::int from analytics.fct_spend group by 1 order by 1"


@pytest.fixture
def shared(project: Project) -> Project:
    """The fixture project, its fact incremental."""
    nodes = dict(project.manifest["nodes"])
    nodes[FCT] = {**nodes[FCT], "config": {**nodes[FCT]["config"], "materialized": "incremental"}}
    return Project({**project.manifest, "nodes": nodes})


def _refused(
    project: Project,
    command: Command = EVERYTHING,
    *,
    held: Held | None = None,
    enabled: Collection[Provider] = BOTH,
    missing: Any = LACKING,
    let_go: Collection[Provider] = (),
) -> str:
    try:
        refuse_losses(project, command, held or Held(BOTH), enabled, missing, let_go)
    except FullRefreshError as error:
        return str(error)
    return ""


def test_a_full_refresh_without_a_provider_of_which_the_marts_hold_rows_is_refused(shared: Project) -> None:
    said = _refused(shared)
    assert "Google Ads (raw_google_ads.campaign_daily missing)" in said
    assert "fct_spend" in said
    assert "--drop-rows-of google_ads" in said
    assert _refused(shared, held=Held((), {"model.fixture.stg_google_ads__campaign_daily"})), "built, never whole"


def test_one_that_is_switched_off_is_not_forgotten_though_the_graph_does_not_know_it(shared: Project) -> None:
    said = _refused(shared, held=Held((*BOTH, TIKTOK)), missing={})
    assert "TikTok Ads (it is not enabled)" in said
    assert "Google" not in said


@pytest.mark.parametrize("select", ["fct_spend", "fixture.marts.fct_spend", "stg_meta__ads+", "tag:nightly", "marts"])
def test_whatever_selection_may_make_the_fact_anew_is_refused(shared: Project, select: str) -> None:
    assert _refused(shared, replace(EVERYTHING, select=(select,)))
    assert _refused(shared, replace(EVERYTHING, select=("regions", select)))


def test_what_makes_no_shared_model_anew_goes_ahead(shared: Project, project: Project) -> None:
    assert not _refused(shared, replace(EVERYTHING, full_refresh=False))
    assert not _refused(shared, replace(EVERYTHING, select=("regions", "fixture.marts.dim_ads")))
    assert not _refused(shared, replace(EVERYTHING, exclude=("fct_spend",)))
    assert not _refused(shared, replace(EVERYTHING, select=("not_null_fct_spend_entity_id",))), "a test makes nothing"
    assert not _refused(project), "a table is made from all providers' staging models or not at all"


def test_where_nothing_can_be_lost_or_somebody_said_it_may_be_a_full_refresh_goes_ahead(shared: Project) -> None:
    assert not _refused(shared, missing={})
    assert not _refused(shared, held=Held((META,), {"model.fixture.stg_meta__ads", FCT})), "nobody ever connected it"
    assert not _refused(shared, let_go=(GOOGLE,))


def test_a_full_refresh_keeps_the_rows_of_who_fails_and_of_who_is_missing(
    settings: Settings, ops_store: OpsStore, warehouse: Warehouse, warm_dbt: None
) -> None:
    fact = Path(settings.dbt.project_dir) / "models" / "marts" / "fct_spend.sql"
    fact.write_text(INCREMENTAL + fact.read_text())
    manifest.prepare(settings)
    project = Project(manifest.read(settings.dbt.project_dir))

    def build(full_refresh: bool = True, let_go: Collection[Provider] = ()) -> Build:
        command = Command(("build",), full_refresh=full_refresh)
        request = Request("test", "run-0123456789", command, lambda: {META: 7, GOOGLE: 8}, frozenset(let_go))
        return Build(settings, ops_store, project, request)

    assert build().run().succeeded
    assert warehouse.rows(SPEND) == [("google_ads", 7), ("meta", 15)]

    warehouse.add_meta_row(None, 100)  # a test of Meta's raw table fails
    warehouse.execute("update raw_google_ads.campaign_daily set cost_micros = 9000000")
    failing = build().run()
    assert failing.failing == (META,)
    assert warehouse.rows(SPEND) == [("google_ads", 9), ("meta", 15)], "Meta's older rows, Google's new ones"
    assert "without Meta as it stood, not from nothing: ask for the full refresh again" in str(failing.error())
    assert _full_refreshes(ops_store) == [True, True, False]

    warehouse.execute("delete from raw_meta.ad_insights where ad_id is null; drop schema raw_google_ads cascade")
    with pytest.raises(FullRefreshError, match="Google Ads"):
        build().run()
    assert build(full_refresh=False).run().succeeded
    assert warehouse.rows(SPEND) == [("google_ads", 9), ("meta", 15)]

    assert build(let_go=(GOOGLE,)).run().succeeded
    assert warehouse.rows(SPEND) == [("meta", 15)]


def _full_refreshes(store: OpsStore) -> list[bool]:
    with store.begin() as connection:
        query = sa.select(dbt_invocation.c.full_refresh).order_by(dbt_invocation.c.started_at)
        return list(connection.execute(query).scalars())
