"""Messages, columns and rows: the pure part between a connector's lines and the warehouse."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.local.connectors import catalog, messages
from adinsights_orchestration.local.connectors.catalog import Column, ColumnType, StreamSpec
from adinsights_orchestration.local.connectors.rows import META_COLUMNS, MissingKeyError, RowMaker, to_text
from adinsights_orchestration.tenants.model import Provider
from tests.local.raw_contract import RAW_TABLES

EMITTED_AT = 1_750_000_000_123
SPEC = StreamSpec(
    name="facts",
    namespace="raw_test",
    columns=(
        Column("tenant_id", ColumnType.VARCHAR),
        Column("day", ColumnType.DATE),
        Column("clicks", ColumnType.BIGINT),
        Column("spend", ColumnType.NUMERIC),
    ),
    primary_key=("tenant_id", "day"),
    cursor_field="day",
    json_schema={},
)


def record(**data: Any) -> messages.Record:
    return messages.Record("facts", data, EMITTED_AT, size=100)


def line(**message: Any) -> bytes:
    return json.dumps(message).encode()


def test_a_row_has_airbytes_columns_and_then_the_streams_own() -> None:
    key, row = RowMaker(SPEC, 7, 2).make(record(tenant_id="t", day="2026-06-01", clicks=3, spend=1.25, other="x"))
    named = dict(zip((*META_COLUMNS, "tenant_id", "day", "clicks", "spend"), row, strict=True))
    assert key == ("t", "2026-06-01")
    assert named["_airbyte_extracted_at"] == "2025-06-15T15:06:40.123000+00:00"
    assert json.loads(named["_airbyte_meta"] or "") == {"sync_id": 7, "changes": []}
    assert named["_airbyte_generation_id"] == "2"
    assert row[4:] == ("t", "2026-06-01", "3", "1.25")


def test_every_row_has_an_id_of_its_own() -> None:
    maker = RowMaker(SPEC, 7, 2)
    rows = [maker.make(record(tenant_id="t", day="2026-06-01"))[1] for _ in range(10)]
    assert len({row[0] for row in rows}) == 10


def test_a_value_that_does_not_fit_costs_the_field_and_is_noted() -> None:
    _, row = RowMaker(SPEC, 7, 0).make(record(tenant_id="t", day="2026-06-01", clicks="many", spend=1))
    changes = json.loads(row[2] or "")["changes"]
    assert changes == [{"field": "clicks", "change": "NULLED", "reason": "DESTINATION_TYPECAST_ERROR"}]
    assert row[6] is None
    assert row[7] == "1"


@pytest.mark.parametrize("day", [None, "yesterday", 20260601])
def test_a_record_without_a_usable_key_is_refused_by_name(day: object) -> None:
    with pytest.raises(MissingKeyError, match="facts has no usable day"):
        RowMaker(SPEC, 7, 0).make(record(tenant_id="t", day=day))


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (ColumnType.VARCHAR, "Café ☕", "Café ☕"),
        (ColumnType.VARCHAR, "a\x00b", "ab"),
        (ColumnType.VARCHAR, 12, "12"),
        (ColumnType.VARCHAR, {"a": 1}, '{"a":1}'),
        (ColumnType.BIGINT, 3.0, "3"),
        (ColumnType.BIGINT, "42", "42"),
        (ColumnType.BIGINT, -(2**63), str(-(2**63))),
        (ColumnType.NUMERIC, "12.50", "12.50"),
        (ColumnType.NUMERIC, 1e-7, "1E-7"),
        (ColumnType.BOOLEAN, True, "true"),
        (ColumnType.BOOLEAN, "FALSE", "false"),
        (ColumnType.DATE, "2026-02-28", "2026-02-28"),
        (ColumnType.TIMESTAMPTZ, "2026-11-24T17:28:00-0500", "2026-11-24T17:28:00-05:00"),
        (ColumnType.TIMESTAMPTZ, "2026-11-24T17:28:00Z", "2026-11-24T17:28:00+00:00"),
        (ColumnType.TIMESTAMPTZ, "2026-11-24 17:28:00", "2026-11-24T17:28:00+00:00"),
        (ColumnType.JSONB, [{"a": "ü\x00"}], '[{"a":"ü"}]'),
    ],
)
def test_values_are_written_as_their_columns_read_them(kind: ColumnType, value: object, text: str) -> None:
    assert to_text(value, kind) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (ColumnType.BIGINT, 3.5),
        (ColumnType.BIGINT, True),
        (ColumnType.BIGINT, 2**63),
        (ColumnType.BIGINT, "3.5"),
        (ColumnType.NUMERIC, "NaN"),
        (ColumnType.NUMERIC, float("inf")),
        (ColumnType.NUMERIC, "1e30"),
        (ColumnType.NUMERIC, "ten"),
        (ColumnType.BOOLEAN, 1),
        (ColumnType.DATE, "2026-02-30"),
        (ColumnType.TIMESTAMPTZ, "noon"),
    ],
)
def test_values_of_another_kind_are_refused(kind: ColumnType, value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  (the caller only needs to know that it does not fit)
        to_text(value, kind)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_postgres_reads_whatever_the_writer_accepts(database: str) -> None:
    """One session for all examples: what to_text accepts, the column's type must accept too."""
    with psycopg.connect(database, autocommit=True) as session:

        @given(json_values, st.sampled_from(ColumnType))
        def check(value: object, kind: ColumnType) -> None:
            if value is None:
                return
            try:
                text = to_text(value, kind)
            except (ValueError, TypeError, OverflowError):
                return
            session.execute("create temp table if not exists dual (v text)")
            session.execute(f"select cast(%s::text as {kind.value})", (text,))

        check()


@given(st.decimals(min_value=-(10**20), max_value=10**20, places=9))
def test_amounts_keep_every_digit(amount: Decimal) -> None:
    assert Decimal(to_text(str(amount), ColumnType.NUMERIC)) == amount


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": "string"}, ColumnType.VARCHAR),
        ({"type": ["null", "string"], "format": "date"}, ColumnType.DATE),
        ({"type": ["string", "null"], "format": "date-time"}, ColumnType.TIMESTAMPTZ),
        ({"type": ["null", "string"], "format": "email"}, ColumnType.VARCHAR),
        ({"type": ["null", "integer"]}, ColumnType.BIGINT),
        ({"type": "number"}, ColumnType.NUMERIC),
        ({"type": "boolean"}, ColumnType.BOOLEAN),
        ({"type": ["null", "object"]}, ColumnType.JSONB),
        ({"type": "array", "items": {"type": "string"}}, ColumnType.JSONB),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ColumnType.JSONB),
        ({}, ColumnType.JSONB),
    ],
)
def test_json_schema_types_become_column_types(schema: dict[str, Any], kind: ColumnType) -> None:
    assert catalog.column_type(schema) is kind


def test_manifests_declare_exactly_the_agreed_streams_and_keys() -> None:
    declared = {
        f"{spec.namespace}.{spec.name}": spec
        for provider in Provider
        for spec in catalog.declared_streams(provider, catalog.load_manifest(provider))
    }
    assert set(declared) == set(RAW_TABLES)
    for name, spec in declared.items():
        assert spec.primary_key == RAW_TABLES[name].key
        assert {column.name for column in spec.columns} == set(RAW_TABLES[name].columns)


def test_reports_are_incremental_with_a_lookback_and_the_other_streams_are_read_in_full() -> None:
    for provider in Provider:
        manifest = catalog.load_manifest(provider)
        specs = catalog.declared_streams(provider, manifest)
        days = {spec.name: {"date", "date_start", "stat_time_day"} & set(spec.primary_key) for spec in specs}
        assert all(spec.cursor_field == next(iter(days[spec.name]), None) for spec in specs)
        windows = [s["incremental_sync"]["lookback_window"] for s in manifest["streams"] if "incremental_sync" in s]
        assert windows
        assert all("lookback_days', 3" in window for window in windows)


def test_a_catalog_made_of_streams_reads_back_as_the_same_streams() -> None:
    for provider in Provider:
        specs = catalog.declared_streams(provider, catalog.load_manifest(provider))
        assert catalog.discovered_streams(provider, catalog.as_catalog(specs)) == specs


def test_a_read_never_asks_for_schemas_and_holds_the_chosen_streams_only() -> None:
    manifest = catalog.load_manifest(Provider.META)
    specs = catalog.chosen(catalog.declared_streams(Provider.META, manifest), ("ads", "ad_insights"))
    reading = catalog.without_discovery(manifest, specs)
    assert {stream["name"] for stream in reading["streams"]} == {"ads", "ad_insights"}
    assert "DynamicSchemaLoader" in json.dumps(manifest)
    assert "DynamicSchemaLoader" not in json.dumps(reading)


def test_unknown_streams_are_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match=r"no stream views.*facts"):
        catalog.chosen([SPEC], ("facts", "views"))


def test_only_what_a_manifest_marks_is_secret() -> None:
    manifest = catalog.load_manifest(Provider.TIKTOK_ADS)
    assert catalog.secrets_of(manifest, {"access_token": "s3cret", "base_url": "http://x"}) == ("s3cret",)
    assert catalog.secrets_of(manifest, {"base_url": "http://x"}) == ()


def test_the_protocols_messages_are_read() -> None:
    data = {"a": 1}
    assert messages.parse(
        line(type="RECORD", record={"stream": "s", "data": data, "emitted_at": 5})
    ) == messages.Record("s", data, 5, len(line(type="RECORD", record={"stream": "s", "data": data, "emitted_at": 5})))
    state = {"stream_descriptor": {"name": "s"}, "stream_state": {"x": 1}}
    assert messages.parse(line(type="STATE", state={"type": "STREAM", "stream": state})) == messages.State(
        "s", {"x": 1}
    )
    status = {"stream_descriptor": {"name": "s"}, "status": "COMPLETE"}
    trace = {"type": "STREAM_STATUS", "stream_status": status}
    assert messages.parse(line(type="TRACE", trace=trace)) == messages.StreamStatus("s", "COMPLETE")
    assert messages.parse(line(type="LOG", log={"level": "INFO", "message": "m"})) == messages.Log("INFO", "m")
    assert messages.parse(line(type="CATALOG", catalog={"streams": []})) == messages.Catalog({"streams": []})
    checked = messages.parse(line(type="CONNECTION_STATUS", connectionStatus={"status": "FAILED", "message": "no"}))
    assert checked == messages.ConnectionStatus("FAILED", "no")


def test_an_error_without_a_type_or_stream_is_the_sources_own_system_error() -> None:
    trace = {"type": "ERROR", "error": {"message": "broke"}}
    assert messages.parse(line(type="TRACE", trace=trace)) == messages.TraceError(
        "system_error", "broke", "broke", None
    )


@pytest.mark.parametrize("text", [b"Traceback (most recent call last):", b"17", b"[]", b'{"no": "type"}', b"\xff\xfe"])
def test_a_line_that_is_no_message_is_a_log_line(text: bytes) -> None:
    assert messages.parse(text) == messages.Log("DEBUG", text.decode(errors="replace"))


@pytest.mark.parametrize("kind", ["CONTROL", "SPEC", "SOMETHING_NEW"])
def test_messages_that_nobody_acts_on_are_passed_over(kind: str) -> None:
    assert messages.parse(line(type=kind)) is None
