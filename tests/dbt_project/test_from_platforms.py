"""From the ad platforms through real connectors to the marts: what a dashboard shows is what the platforms know.

The connectors' own tests show that the raw tables are right, the other tests here that the models are; these show that
the two mean the same by a raw table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from uuid import uuid4

import pytest

from adinsights_orchestration.local.ad_platforms.accounts import WorldSize
from adinsights_orchestration.tenants.model import Provider
from tests.dbt_project.conftest import Baseline
from tests.dbt_project.project import DbtProject
from tests.dbt_project.raw_tables import RAW_TABLES, RawWarehouse
from tests.local.connectors_support import Connection, Stack, running_stack
from tests.local.raw_contract import META_COLUMNS
from tests.local.raw_contract import RAW_TABLES as AGREED_TABLES

# Sixteen syncs and two builds of everything take their time on a busy machine.
pytestmark = pytest.mark.timeout(600)

AD_PLATFORMS = (Provider.META, Provider.GOOGLE_ADS, Provider.LINKEDIN_ADS, Provider.TIKTOK_ADS)
Spend = dict[tuple[str, str, date], Decimal]


@pytest.fixture
def stack(baseline: Baseline) -> Iterator[Stack]:
    """Platforms with a week of data, over an empty warehouse under the name that the parsed project knows."""
    warehouse = baseline.databases.create_empty()
    size = WorldSize(accounts=1, campaigns=2, groups=1, ads=2, days=7)
    with running_stack(warehouse.dsn, size) as stack:
        yield stack


def _all_connections(stack: Stack) -> list[Connection]:
    tenants = {tenant.slug: uuid4() for tenant in stack.world.tenants}
    pairs = [(tenant.slug, provider) for tenant in stack.world.tenants for provider in tenant.providers]
    return [stack.connect(provider, slug, tenants[slug]) for slug, provider in pairs]


def _known_spend(stack: Stack, connections: list[Connection]) -> Spend:
    """What the ad platforms know now, by tenant, platform and day."""
    found: Spend = defaultdict(Decimal)
    for connection in connections:
        if connection.provider not in AD_PLATFORMS:
            continue
        start = date.fromisoformat(connection.config["start_date"][:10])
        for account in stack.accounts(connection):
            for day in stack.world.days(account, start, stack.world.today(account)):
                for ad in stack.world.ads(account):
                    micros = stack.world.ad_day(ad, day, stack.clock()).spend_micros
                    found[str(connection.tenant_id), connection.provider.value, day] += Decimal(micros) / 1_000_000
    return {key: spend for key, spend in found.items() if spend}


def _shown_spend(warehouse: RawWarehouse, mart: str) -> Spend:
    rows = warehouse.query(
        f"select tenant_id::text, source_platform, date_day, sum(spend) from analytics.{mart} group by 1, 2, 3"
    )
    return {(str(row[0]), str(row[1]), _day(row[2])): _amount(row[3]) for row in rows if row[3]}


def _day(value: object) -> date:
    assert isinstance(value, date)
    return value


def _amount(value: object) -> Decimal:
    assert isinstance(value, Decimal)
    return value


def test_dashboards_show_what_the_platforms_know_now_and_again_two_days_later(
    stack: Stack, baseline: Baseline, project: DbtProject
) -> None:
    warehouse, connections = baseline.databases.warehouse, _all_connections(stack)
    assert len(connections) == 8

    for days in (0, 2):
        stack.clock.pass_days(days)
        results = stack.sync_all(*connections)
        assert [result.failure for result in results if not result.succeeded] == []
        outcome = project.run("build", "--exclude-resource-type", "unit_test")
        assert outcome.success, str(outcome)

        known = _known_spend(stack, connections)
        assert _shown_spend(warehouse, "agg_campaign_daily") == known
        regions = {key: spend for key, spend in known.items() if key[1] in ("meta", "google_ads")}
        assert _shown_spend(warehouse, "agg_parish_daily") == regions

    currencies = warehouse.query("select count(*) from analytics.dim_campaign where currency = 'XXX' or is_inferred")
    assert currencies == [(0,)]
    placed = warehouse.query("select count(distinct parish) from analytics.agg_parish_daily where parish <> 'unmapped'")
    assert placed > [(8,)]


def test_the_connectors_and_the_models_agree_on_every_raw_table() -> None:
    own = {name: set(table.all_columns) - set(META_COLUMNS) for name, table in RAW_TABLES.items()}

    assert own == {name: set(table.columns) for name, table in AGREED_TABLES.items()}
    assert {n: ("tenant_id", *t.key) for n, t in RAW_TABLES.items()} == {n: t.key for n, t in AGREED_TABLES.items()}
