"""The raw tables as Airbyte's Postgres destination leaves them.

Here: the tables' shapes (`RAW_TABLES`) and a writer that appends or upserts a sync's rows (`RawWarehouse`). Not here:
what the rows say (`raw_data`), anything about dbt, and the ad platforms' own formats, which are the local stack's.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

Row = Mapping[str, object]

_TEXT, _INT, _NUM, _DATE, _TIME, _JSON = "varchar", "bigint", "numeric(38,9)", "date", "timestamptz", "jsonb"

AIRBYTE_COLUMNS: Mapping[str, str] = {
    "_airbyte_raw_id": _TEXT,
    "_airbyte_extracted_at": _TIME,
    "_airbyte_meta": _JSON,
    "_airbyte_generation_id": _INT,
}


@dataclass(frozen=True)
class RawTable:
    """One raw table: `key` without the tenant, which begins every key; `columns` without Airbyte's own."""

    schema: str
    name: str
    key: tuple[str, ...]
    columns: Mapping[str, str]

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)

    @property
    def all_columns(self) -> dict[str, str]:
        return {"tenant_id": _TEXT, **self.columns, **AIRBYTE_COLUMNS}


def _table(name: str, key: str, columns: str) -> RawTable:
    """`columns` is a list such as `id account_id spend:n`, where the letter after the colon names the type."""
    types = {"": _TEXT, "i": _INT, "n": _NUM, "d": _DATE, "t": _TIME, "j": _JSON}
    parsed = {column.partition(":")[0]: types[column.partition(":")[2]] for column in columns.split()}
    schema, _, table = name.partition(".")
    return RawTable(schema, table, tuple(key.split()), parsed)


_TABLES = (
    _table(
        "raw_meta.ad_insights",
        "account_id ad_id date_start region",
        "account_id account_currency campaign_id campaign_name adset_id adset_name ad_id ad_name date_start:d"
        " date_stop:d region impressions:i reach:i clicks:i inline_link_clicks:i spend:n actions:j action_values:j",
    ),
    _table(
        "raw_meta.campaigns",
        "id",
        "id account_id name status objective daily_budget:n lifetime_budget:n start_time:t start_date:d stop_time:t"
        " stop_date:d updated_time:t",
    ),
    _table("raw_meta.adsets", "id", "id account_id campaign_id name status daily_budget:n updated_time:t"),
    _table("raw_meta.ads", "id", "id account_id campaign_id adset_id name status creative:j updated_time:t"),
    _table(
        "raw_google_ads.campaign_daily",
        "customer_id campaign_id date",
        "customer_id customer_currency_code campaign_id campaign_name campaign_status campaign_budget_micros:i date:d"
        " impressions:i clicks:i cost_micros:i conversions:n conversions_value:n",
    ),
    _table(
        "raw_google_ads.geographic_view",
        "customer_id campaign_id date geo_target_region",
        "customer_id campaign_id date:d country_code geo_target_region impressions:i clicks:i cost_micros:i"
        " conversions:n conversions_value:n",
    ),
    _table(
        "raw_linkedin_ads.ad_analytics",
        "account_id creative_id date",
        "account_id account_currency campaign_group_id campaign_id creative_id date:d impressions:i clicks:i"
        " cost_in_local_currency:n external_website_conversions:i conversion_value_in_local_currency:n",
    ),
    _table(
        "raw_linkedin_ads.campaigns",
        "id",
        "id account_id campaign_group_id name status daily_budget_amount:n currency last_modified:t",
    ),
    _table("raw_linkedin_ads.creatives", "id", "id account_id campaign_id name status last_modified:t"),
    _table(
        "raw_tiktok_ads.ads_report_daily",
        "advertiser_id ad_id stat_time_day",
        "advertiser_id currency campaign_id adgroup_id ad_id stat_time_day:d impressions:i clicks:i spend:n"
        " conversion:i complete_payment_value:n",
    ),
    _table(
        "raw_tiktok_ads.campaigns",
        "campaign_id",
        "campaign_id advertiser_id campaign_name operation_status budget:n budget_mode modify_time:t",
    ),
    _table(
        "raw_tiktok_ads.ad_groups",
        "adgroup_id",
        "adgroup_id advertiser_id campaign_id adgroup_name operation_status budget:n modify_time:t",
    ),
    _table(
        "raw_tiktok_ads.ads",
        "ad_id",
        "ad_id advertiser_id campaign_id adgroup_id ad_name operation_status modify_time:t",
    ),
    _table(
        "raw_ga4.daily_traffic",
        "property_id date session_source session_medium session_campaign_name",
        "property_id currency_code date:d session_source session_medium session_campaign_name sessions:i total_users:i"
        " new_users:i engaged_sessions:i key_events:n purchase_revenue:n",
    ),
    _table(
        "raw_search_console.search_analytics",
        "site_url date query country device",
        "site_url date:d query country device clicks:i impressions:i ctr:n position:n",
    ),
)

RAW_TABLES: Mapping[str, RawTable] = {f"{table.schema}.{table.name}": table for table in _TABLES}


def provider_of(table_name: str) -> str:
    """`google_ads` of `raw_google_ads.campaign_daily`, or of its schema alone."""
    return table_name.partition(".")[0].removeprefix("raw_")


@dataclass(frozen=True)
class Sync:
    """A finished job: its id, and the moment at which its rows were read from the platform."""

    job_id: int
    extracted_at: datetime


class RawWarehouse:
    """Writes raw tables the way syncs do. Holds no connection open: dbt and Postgres templates need the database."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @property
    def address(self) -> dict[str, str]:
        """The parts of the connection string: host, port, user, password, dbname."""
        return {name: str(value) for name, value in conninfo_to_dict(self.dsn).items() if value is not None}

    def create_tables(self, providers: Collection[str]) -> None:
        """Create the raw tables of these providers, without primary keys, as Airbyte's destination does."""
        with psycopg.connect(self.dsn) as connection:
            for table in RAW_TABLES.values():
                if provider_of(table.schema) not in providers:
                    continue
                connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(table.schema)))
                columns = sql.SQL(", ").join(
                    sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind))
                    for name, kind in table.all_columns.items()
                )
                connection.execute(sql.SQL("create table {} ({})").format(table.identifier, columns))

    def append(self, table_name: str, rows: Iterable[Row], sync: Sync) -> None:
        """Insert rows beside what is there: what a destination leaves that has not deduplicated yet."""
        table = RAW_TABLES[table_name]
        with psycopg.connect(self.dsn) as connection:
            _insert(connection, table, rows, sync)

    def upsert(self, table_name: str, rows: Sequence[Row], sync: Sync) -> None:
        """Replace the rows of the same key, as a deduplicating sync does. Rows that are not given stay."""
        table = RAW_TABLES[table_name]
        key = ("tenant_id", *table.key)
        condition = sql.SQL(" and ").join(
            sql.SQL("{} is not distinct from %s").format(sql.Identifier(column)) for column in key
        )
        with psycopg.connect(self.dsn) as connection, connection.cursor() as cursor:
            statement = sql.SQL("delete from {} where {}").format(table.identifier, condition)
            cursor.executemany(statement, [[row.get(column) for column in key] for row in rows])
            _insert(connection, table, rows, sync)

    def query(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Rows of a SELECT that a test wants to look at."""
        with psycopg.connect(self.dsn) as connection:
            return list(connection.execute(statement.encode(), parameters))

    def execute(self, statement: str, *parameters: object) -> None:
        """A statement that a test needs to change the warehouse with."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(statement.encode(), parameters)

    def fingerprint(self) -> dict[str, str]:
        """A digest of each raw table's whole content, to show that nothing touched it."""
        statement = "select coalesce(md5(string_agg(md5(t::text), '' order by md5(t::text))), '') from {} as t"
        with psycopg.connect(self.dsn) as connection:
            return {
                name: str(connection.execute(sql.SQL(statement).format(table.identifier)).fetchone())
                for name, table in RAW_TABLES.items()
            }


def _insert(connection: psycopg.Connection, table: RawTable, rows: Iterable[Row], sync: Sync) -> None:
    columns = list(table.all_columns)
    statement = sql.SQL("insert into {} ({}) values ({})").format(
        table.identifier,
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, [_values(table, row, sync, number) for number, row in enumerate(rows)])


def _values(table: RawTable, row: Row, sync: Sync, number: int) -> list[object]:
    unknown = set(row) - set(table.all_columns)
    if unknown:
        raise ValueError(f"{table.schema}.{table.name} has no column {', '.join(sorted(unknown))}")
    raw_id = uuid.uuid5(uuid.NAMESPACE_OID, f"{table.schema}.{table.name}/{sync.job_id}/{number}/{row}")
    airbyte: dict[str, object] = {
        "_airbyte_raw_id": str(raw_id),
        "_airbyte_extracted_at": sync.extracted_at,
        "_airbyte_meta": {"sync_id": sync.job_id, "changes": []},
        "_airbyte_generation_id": 1,
    }
    complete = {**airbyte, **row}
    return [
        Jsonb(value) if isinstance(value := complete.get(name), (dict, list)) else value for name in table.all_columns
    ]
