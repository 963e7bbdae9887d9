"""Syncs from end to end: the real CDK reads the platforms, a real Postgres holds the raw tables."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest

from adinsights_orchestration.local.connectors.sync import StreamStats
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import PostgresServer
from tests.local.connectors_support import Connection, Stack, running_stack, stats_of
from tests.local.raw_contract import META_COLUMNS, RAW_TABLES

COLUMNS = """
    select column_name, data_type, numeric_precision, numeric_scale from information_schema.columns
    where table_schema = %s and table_name = %s order by ordinal_position
"""
KEY = """
    select a.attname as name from pg_index i
    join lateral unnest(i.indkey) with ordinality as k(attnum, place) on true
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = %s::regclass and i.indisprimary order by k.place
"""


@pytest.fixture(scope="module")
def stack(postgres_server: PostgresServer) -> Iterator[Stack]:
    with running_stack(postgres_server.create_database("warehouse")) as stack:
        yield stack


@pytest.fixture(scope="module")
def first_syncs(stack: Stack) -> dict[Provider, Connection]:
    """Every provider, synced once, two at a time as the local stack does it."""
    connections = {provider: stack.connect(provider) for provider in Provider}
    slots = asyncio.Semaphore(2)

    async def sync(connection: Connection) -> None:
        async with slots:
            result = await stack.runtime.sync(stack.request(connection))
        assert result.succeeded, result.failure
        assert all(stats.rows > 0 and stats.bytes > 0 for stats in result.streams)

    async def sync_all() -> None:
        await asyncio.gather(*map(sync, connections.values()))

    stack.run(sync_all())
    return connections


def the_only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize("table", RAW_TABLES)
def test_a_raw_table_has_exactly_the_agreed_columns_types_and_key(
    stack: Stack, first_syncs: dict[Provider, Connection], table: str
) -> None:
    agreed, found = RAW_TABLES[table], stack.query(COLUMNS, *table.split("."))
    assert tuple(row["column_name"] for row in found[:4]) == META_COLUMNS
    assert {row["column_name"]: row["data_type"] for row in found[4:]} == agreed.columns
    numeric = [row for row in found if row["data_type"] == "numeric"]
    assert all((row["numeric_precision"], row["numeric_scale"]) == (38, 9) for row in numeric)
    assert tuple(row["name"] for row in stack.query(KEY, table)) == agreed.key


def test_there_are_no_other_raw_tables(stack: Stack, first_syncs: dict[Provider, Connection]) -> None:
    tables = "select table_schema || '.' || table_name as name from information_schema.tables"
    found = stack.query(f"{tables} where table_schema like 'raw%%'")
    assert {row["name"] for row in found} == set(RAW_TABLES)


@pytest.mark.parametrize("table", RAW_TABLES)
def test_every_row_carries_its_tenant_and_airbytes_four_columns(
    stack: Stack, first_syncs: dict[Provider, Connection], table: str
) -> None:
    schema, _, stream = table.partition(".")
    connection = first_syncs[Provider(schema.removeprefix("raw_"))]
    rows = stack.rows(connection, stream)
    assert rows
    assert len({row["_airbyte_raw_id"] for row in rows}) == len(rows)
    assert all(row["_airbyte_generation_id"] == 0 for row in rows)
    assert all(row["_airbyte_meta"]["changes"] == [] for row in rows), "a value did not fit its column"
    assert len({row["_airbyte_meta"]["sync_id"] for row in rows}) == 1
    columns = [name for name in rows[0] if name not in META_COLUMNS]
    empty = {name for name in columns if all(row[name] is None for row in rows)}
    # A platform leaves these out where there is nothing to say.
    assert empty <= {"stop_time", "stop_date", "action_values"}


def test_the_warehouse_holds_what_the_platform_says(stack: Stack, first_syncs: dict[Provider, Connection]) -> None:
    assert stack.has_all_of_meta(first_syncs[Provider.META])


def test_amounts_arrive_to_the_cent_and_ids_as_text(stack: Stack, first_syncs: dict[Provider, Connection]) -> None:
    connection = first_syncs[Provider.GOOGLE_ADS]
    account = stack.accounts(connection)[0]
    spent = sum(
        stack.world.ad_day(ad, day, stack.clock()).spend_micros
        for ad in stack.world.ads(account)
        for day in stack.world.days(account, date(2024, 1, 1), stack.world.today(account))
        if day.isoformat() >= connection.config["start_date"]
    )
    rows = [row for row in stack.rows(connection, "campaign_daily") if row["customer_id"] == account.id]
    assert sum(row["cost_micros"] for row in rows) == spent
    by_region = [row for row in stack.rows(connection, "geographic_view") if row["customer_id"] == account.id]
    assert sum(row["cost_micros"] for row in by_region) == spent


def test_reports_carry_the_accounts_currency_where_the_platform_gives_it_elsewhere(
    stack: Stack, first_syncs: dict[Provider, Connection]
) -> None:
    linkedin, ga4 = first_syncs[Provider.LINKEDIN_ADS], first_syncs[Provider.GA4]
    assert {row["account_currency"] for row in stack.rows(linkedin, "ad_analytics")} == {"GBP"}
    assert {row["currency_code"] for row in stack.rows(ga4, "daily_traffic")} == {"JMD"}


def test_a_flight_keeps_the_days_that_the_account_counts(stack: Stack, first_syncs: dict[Provider, Connection]) -> None:
    connection = first_syncs[Provider.META]
    stored = {row["id"]: (row["start_date"], row["stop_date"]) for row in stack.rows(connection, "campaigns")}
    campaigns = [c for account in stack.accounts(connection) for c in stack.world.campaigns(account)]
    assert stored == {c.id: (c.starts.astimezone(c.account.zone).date(), c.ends) for c in campaigns}


def test_names_survive_whatever_alphabet_they_are_in(stack: Stack, first_syncs: dict[Provider, Connection]) -> None:
    connection = first_syncs[Provider.META]
    stored = {row["id"]: row["name"] for row in stack.rows(connection, "campaigns")}
    campaigns = [c for account in stack.accounts(connection) for c in stack.world.campaigns(account)]
    assert stored == {campaign.id: campaign.name for campaign in campaigns}
    assert not all(name.isascii() for name in stored.values())


def test_the_next_sync_reads_the_lookback_only_and_brings_late_conversions(stack: Stack) -> None:
    connection = stack.connect(Provider.META, "globex-london")
    stack.sync(connection)
    before = stack.meta_rows(connection)
    stack.clock.pass_days(1)
    second = stack.sync(connection)
    after = stack.meta_rows(connection)
    read = {date.fromisoformat(key[2]) for key, row in after.items() if row["_airbyte_meta"]["sync_id"] > 1}
    today = stack.world.today(stack.accounts(connection)[0])
    renewed = {key for key in before if before[key]["_airbyte_raw_id"] != after[key]["_airbyte_raw_id"]}
    assert {key[2] for key in renewed} == {(today - timedelta(days=age)).isoformat() for age in (4, 3, 2, 1)}
    assert max(read) == today
    assert any(after[key]["actions"] != before[key]["actions"] for key in renewed)
    assert stats_of(second, "ad_insights").rows == len(renewed) + len(set(after) - set(before))
    assert stack.has_all_of_meta(connection)


def test_syncing_again_at_once_changes_no_row_but_its_extraction(stack: Stack) -> None:
    connection = stack.connect(Provider.TIKTOK_ADS)
    stack.sync(connection)
    first = stack.rows(connection, "ads_report_daily")
    stack.sync(connection)
    second = stack.rows(connection, "ads_report_daily")

    def facts(rows: list[dict[str, Any]]) -> set[tuple[str, ...]]:
        return {tuple(str(row[name]) for name in row if name not in META_COLUMNS) for row in rows}

    assert len(second) == len(first)
    assert facts(second) == facts(first)


def test_a_platform_without_news_leaves_data_and_position_alone(stack: Stack) -> None:
    connection = stack.connect(Provider.META)
    stack.sync(connection)
    position, rows = stack.state(connection, "ad_insights"), len(stack.rows(connection, "ad_insights"))
    stack.knobs.set("ads.meta", "empty", True)
    result = stack.sync(connection)
    stack.knobs.reset()
    assert result.succeeded
    assert stats_of(result, "ad_insights") == StreamStats("ad_insights", "raw_meta", 0, 0)
    assert cursors(stack.state(connection, "ad_insights")) == cursors(position)
    assert len(stack.rows(connection, "ad_insights")) == rows


def test_only_the_streams_asked_for_are_read(stack: Stack) -> None:
    connection = stack.connect(Provider.META)
    result = stack.sync(connection, streams=("campaigns",))
    assert [stats.name for stats in result.streams] == ["campaigns"]
    assert stack.rows(connection, "campaigns")
    assert stack.rows(connection, "ad_insights") == []


def test_small_pages_give_the_same_rows(stack: Stack) -> None:
    connection = stack.connect(Provider.META, page_size=7)
    assert stack.sync(connection).succeeded
    assert stack.has_all_of_meta(connection)


def test_progress_tells_of_each_commit_and_never_goes_back(stack: Stack) -> None:
    connection = stack.connect(Provider.META)
    told: list[StreamStats] = []
    result = stack.run(stack.runtime.sync(stack.request(connection), on_progress=told.append))
    for stream in connection.streams:
        counts = [stats.rows for stats in told if stats.name == stream]
        assert counts == sorted(counts)
        assert counts[-1] == stats_of(result, stream).rows


def test_two_first_syncs_into_an_empty_warehouse_do_not_collide(postgres_server: PostgresServer) -> None:
    with running_stack(postgres_server.create_database("empty")) as stack:
        connections = [stack.connect(Provider.META, slug) for slug in ("acme-jamaica", "globex-london") * 2]

        async def sync_all() -> list[Any]:
            return await asyncio.gather(*(stack.runtime.sync(stack.request(c)) for c in connections))

        assert [result.failure for result in stack.run(sync_all())] == [None] * 4
        assert all(stack.has_all_of_meta(connection) for connection in connections)


def test_clear_deletes_one_connections_rows_and_no_other_of_the_same_tenant(stack: Stack) -> None:
    mine = stack.connect(Provider.META, "acme-jamaica")
    other = stack.connect(Provider.META, "globex-london", tenant_id=mine.tenant_id)
    for connection in (mine, other):
        stack.sync(connection)
    foreign = {account.id for account in stack.accounts(other)}
    result = stack.run(stack.runtime.clear(mine.id, mine.provider, mine.tenant_id, mine.streams))
    assert result.succeeded
    assert {row["account_id"] for row in stack.rows(mine, "ad_insights")} == foreign
    assert stack.state(mine, "ad_insights") is None
    assert stack.state(other, "ad_insights") is not None


def test_after_a_clear_the_whole_history_is_read_again(stack: Stack) -> None:
    connection = stack.connect(Provider.META)
    stack.sync(connection)
    stack.run(stack.runtime.clear(connection.id, connection.provider, connection.tenant_id, connection.streams))
    assert stack.sync(connection, generation_id=1).succeeded
    assert stack.has_all_of_meta(connection)
    assert {row["_airbyte_generation_id"] for row in stack.rows(connection, "ad_insights")} == {1}


def test_clearing_one_stream_or_a_connection_that_never_synced_is_no_error(stack: Stack) -> None:
    connection = stack.connect(Provider.META)
    stack.sync(connection)
    stack.run(stack.runtime.clear(connection.id, connection.provider, connection.tenant_id, ("ads",)))
    assert stack.rows(connection, "ads") == []
    assert stack.rows(connection, "adsets")
    assert stack.run(stack.runtime.clear(uuid4(), Provider.META, uuid4(), ("ads", "never_heard_of"))).succeeded


def test_a_refresh_reads_everything_and_removes_what_the_platform_no_longer_has(stack: Stack) -> None:
    connection = stack.connect(Provider.META)
    stack.sync(connection)
    everything = len(stack.rows(connection, "ad_insights"))
    shorter = {**connection.config, "account_ids": connection.config["account_ids"][:1]}
    assert stack.sync(connection, config=shorter).succeeded
    assert len(stack.rows(connection, "ad_insights")) == everything  # an ordinary sync never removes anything
    result = stack.sync(connection, config=shorter, generation_id=1)
    assert stats_of(result, "ad_insights").rows == everything // 2
    assert {row["account_id"] for row in stack.rows(connection, "ad_insights")} == {shorter["account_ids"][0]}
    assert {row["account_id"] for row in stack.rows(connection, "ads")} == {shorter["account_ids"][0]}


def test_a_refresh_that_fails_removes_nothing_and_the_next_one_does(stack: Stack) -> None:
    connection = stack.connect(Provider.META, max_retries=0)
    stack.sync(connection)
    everything = len(stack.rows(connection, "ad_insights"))
    shorter = {**connection.config, "account_ids": connection.config["account_ids"][:1]}
    stack.knobs.set("ads.meta", "server_error_next", 50)
    assert not stack.sync(connection, config=shorter, generation_id=1).succeeded
    stack.knobs.reset()
    assert len(stack.rows(connection, "ad_insights")) == everything
    assert stack.sync(connection, config=shorter, generation_id=1).succeeded
    assert len(stack.rows(connection, "ad_insights")) == everything // 2


def test_discover_finds_what_the_manifest_declares(stack: Stack) -> None:
    for provider in Provider:
        connection = stack.connect(provider)
        found = {s["name"]: s for s in stack.run(stack.runtime.discover(provider, connection.config))["streams"]}
        declared = {s["name"]: s for s in stack.runtime.declared(provider)["streams"]}
        assert set(found) == set(declared)
        for name, stream in found.items():
            assert stream["json_schema"]["properties"] == declared[name]["json_schema"]["properties"]
            assert stream["source_defined_primary_key"] == declared[name]["source_defined_primary_key"]
            assert stream.get("default_cursor_field", []) == declared[name]["default_cursor_field"]


def test_a_new_field_is_discovered_and_becomes_a_column_once_it_is_approved(stack: Stack) -> None:
    connection = stack.connect(Provider.LINKEDIN_ADS)
    stack.sync(connection)
    stack.knobs.set("ads.linkedin_ads", "schema_extra_field", True)
    found = stack.run(stack.runtime.discover(connection.provider, connection.config))
    assert stack.sync(connection).succeeded  # not approved yet: the field is read and left out
    assert "conversion_quality" not in stack.rows(connection, "ad_analytics")[0]
    stack.clock.pass_days(1)
    approved = stack.sync(connection, catalog=found)
    stack.knobs.reset()
    rows = stack.rows(connection, "ad_analytics")
    assert approved.succeeded
    assert {row["conversion_quality"] for row in rows} == {3, None}  # rows from before the lookback have no value


def test_check_passes_with_a_good_configuration(stack: Stack) -> None:
    for provider in Provider:
        assert stack.run(_nothing(stack, provider)) is None


async def _nothing(stack: Stack, provider: Provider) -> None:
    await stack.runtime.check(provider, stack.connect(provider).config)


def cursors(state: dict[str, Any] | None) -> list[Any]:
    """Where each partition stands; the rest of a state says how long the sync took."""
    assert state is not None
    return [partition["cursor"] for partition in state["states"]]
