"""Schema changes: discovered, told, approved."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import pytest

from adinsights_orchestration.local.airbyte.catalogs import breaks, broken, difference, merged, verdict
from adinsights_orchestration.local.airbyte.model import Actor, Catalog, CatalogStream
from tests.local.airbyte_support import STREAMS, AirbyteServer, airbyte_server

USED = Catalog(uuid.UUID(int=1), STREAMS)


def with_field(stream: CatalogStream, name: str, schema: dict[str, Any]) -> CatalogStream:
    properties = {**stream.json_schema["properties"], name: schema}
    return replace(stream, json_schema={**stream.json_schema, "properties": properties})


def without_field(stream: CatalogStream, name: str) -> CatalogStream:
    properties = {key: value for key, value in stream.json_schema["properties"].items() if key != name}
    return replace(stream, json_schema={**stream.json_schema, "properties": properties})


def offering(*streams: CatalogStream) -> Catalog:
    return replace(USED, streams=streams)


def test_equal_catalogs_do_not_differ() -> None:
    assert verdict(difference(USED, USED)) == "no_change"


@pytest.mark.parametrize(
    ("offered", "expected"),
    [
        (offering(with_field(STREAMS[0], "reach", {"type": "integer"}), STREAMS[1]), "non_breaking"),
        (offering(without_field(STREAMS[0], "spend"), STREAMS[1]), "non_breaking"),
        (offering(with_field(STREAMS[0], "spend", {"type": "string"}), STREAMS[1]), "non_breaking"),
        (offering(STREAMS[0]), "non_breaking"),
        (offering(*STREAMS, replace(STREAMS[1], name="ads")), "non_breaking"),
        (offering(without_field(STREAMS[0], "date_start"), STREAMS[1]), "breaking"),
        (offering(without_field(STREAMS[0], "account_id"), STREAMS[1]), "breaking"),
        (offering(STREAMS[0], without_field(STREAMS[1], "id")), "breaking"),
    ],
)
def test_only_a_lost_cursor_or_key_breaks(offered: Catalog, expected: str) -> None:
    assert verdict(difference(USED, offered)) == expected


def test_a_stream_that_is_not_selected_cannot_break() -> None:
    unselected = offering(replace(STREAMS[0], selected=False), STREAMS[1])
    assert not breaks(difference(unselected, offering(without_field(STREAMS[0], "date_start"), STREAMS[1])))


def test_a_simulated_break_breaks() -> None:
    assert breaks(difference(USED, broken(USED)))


def test_merging_keeps_choices_and_leaves_new_streams_out() -> None:
    used = offering(STREAMS[0], replace(STREAMS[1], selected=False))
    result = merged(used, offering(*STREAMS, replace(STREAMS[1], name="ads")))
    assert {stream.name: stream.selected for stream in result.streams} == {
        "ad_insights": True,
        "campaigns": False,
        "ads": False,
    }


def web_backend(server: AirbyteServer, *, refreshed: bool = True) -> dict[str, Any]:
    body = {"connectionId": str(server.connection.id), "withRefreshedCatalog": refreshed}
    reply: dict[str, Any] = server.config("/web_backend/connections/get", body).json()
    return reply


def approve(server: AirbyteServer, **more: Any) -> dict[str, Any]:
    offered = web_backend(server)
    body = {
        "connectionId": str(server.connection.id),
        "syncCatalog": offered["syncCatalog"],
        "sourceCatalogId": offered["catalogId"],
        "status": "active",
        **more,
    }
    reply: dict[str, Any] = server.config("/web_backend/connections/update", body).json()
    return reply


def break_schema(server: AirbyteServer) -> None:
    server.set("schema_break", [str(server.connection.id)])
    server.start()


def test_a_breaking_change_switches_the_connection_off_and_cancels_the_job(airbyte: AirbyteServer) -> None:
    break_schema(airbyte)
    assert airbyte.public("GET", "/jobs/1").json()["status"] == "cancelled"
    shown = airbyte.public("GET", f"/connections/{airbyte.connection.id}").json()
    assert (shown["status"], shown["statusReason"]) == ("inactive", "SCHEMA_CHANGES_ARE_BREAKING")
    assert airbyte.config("/connections/get", {"connectionId": str(airbyte.connection.id)}).json()["breakingChange"]
    assert airbyte.start().json()["title"] == "state-conflict"


def test_the_difference_names_the_lost_cursor(airbyte: AirbyteServer) -> None:
    break_schema(airbyte)
    shown = web_backend(airbyte)
    assert shown["schemaChange"] == "breaking"
    transform = shown["catalogDiff"]["transforms"][0]
    assert transform["streamDescriptor"] == {"name": "ad_insights"}
    lost = [field for field in transform["updateStream"]["fieldTransforms"] if field["breaking"]]
    assert [(field["transformType"], field["fieldName"]) for field in lost] == [("remove_field", ["date_start"])]


def test_an_approved_change_lets_the_connection_run_again(airbyte: AirbyteServer) -> None:
    break_schema(airbyte)
    after = approve(airbyte, skipReset=True)
    assert (after["status"], after["schemaChange"]) == ("active", "no_change")
    assert "statusReason" not in after
    assert airbyte.start().json()["jobType"] == "sync"
    airbyte.clock.advance(31)
    assert airbyte.public("GET", "/jobs/2").json()["status"] == "succeeded"


def test_approving_clears_what_changed_unless_told_otherwise(airbyte: AirbyteServer) -> None:
    break_schema(airbyte)
    approve(airbyte)
    job = airbyte.config("/jobs/get_light", {"id": 2}).json()["job"]
    assert job["resetConfig"]["streamsToReset"] == [{"name": "ad_insights"}]


def test_switching_on_without_the_new_catalog_approves_nothing(airbyte: AirbyteServer) -> None:
    break_schema(airbyte)
    airbyte.public("PATCH", f"/connections/{airbyte.connection.id}", json={"status": "active"})
    assert web_backend(airbyte, refreshed=False)["schemaChange"] == "breaking"


def extended(streams: tuple[CatalogStream, ...] = STREAMS) -> tuple[CatalogStream, ...]:
    return (with_field(streams[0], "reach", {"type": "integer"}), *streams[1:])


async def offers_more(_: Actor) -> tuple[CatalogStream, ...]:
    return extended()


async def offers_less(_: Actor) -> tuple[CatalogStream, ...]:
    return (without_field(STREAMS[0], "date_start"), STREAMS[1])


def test_asking_the_source_again_shows_a_new_column_and_approving_takes_it() -> None:
    with airbyte_server(discover=offers_more) as server:
        assert web_backend(server, refreshed=False)["schemaChange"] == "no_change"
        assert web_backend(server)["schemaChange"] == "non_breaking"
        assert approve(server, skipReset=True)["schemaChange"] == "no_change"
        catalog = server.world.resources.connection(server.connection.id).catalog
        assert "reach" in catalog.streams[0].json_schema["properties"]


def test_discovery_for_a_connection_switches_it_off_when_the_change_breaks() -> None:
    with airbyte_server(discover=offers_less) as server:
        body = {"sourceId": str(server.connection.source_id), "connectionId": str(server.connection.id)}
        found = server.config("/sources/discover_schema", body).json()
        assert found["jobInfo"]["succeeded"]
        assert (found["breakingChange"], found["connectionStatus"]) == (True, "inactive")


@pytest.mark.parametrize(("preference", "propagated"), [("ignore", False), ("propagate_columns", True)])
def test_a_harmless_change_is_propagated_where_the_connection_wants_it(preference: str, propagated: bool) -> None:
    with airbyte_server(discover=offers_more) as server:
        connection = {"connectionId": str(server.connection.id)}
        server.config("/connections/update", {**connection, "nonBreakingChangesPreference": preference})
        found = server.config("/sources/discover_schema", {"sourceId": str(server.connection.source_id)}).json()
        body = {
            **connection,
            "workspaceId": str(server.workspace_id),
            "catalogId": found["catalogId"],
            "catalog": found["catalog"],
        }
        assert bool(server.config("/connections/apply_schema_change", body).json()) is propagated
        properties = (
            server.world.resources.connection(server.connection.id).catalog.streams[0].json_schema["properties"]
        )
        assert ("reach" in properties) is propagated


def test_a_breaking_change_is_never_propagated() -> None:
    with airbyte_server(discover=offers_less) as server:
        connection = {"connectionId": str(server.connection.id)}
        server.config("/connections/update", {**connection, "nonBreakingChangesPreference": "propagate_fully"})
        found = server.config("/sources/discover_schema", {"sourceId": str(server.connection.source_id)}).json()
        body = {
            **connection,
            "workspaceId": str(server.workspace_id),
            "catalogId": found["catalogId"],
            "catalog": found["catalog"],
        }
        assert server.config("/connections/apply_schema_change", body).json() == {}
