"""Catalogs in the configuration API: how they look, how a changed one is read back, how a difference is told.

Belongs here: `AirbyteCatalog` and `CatalogDiff` to and from JSON. Does not belong here: what is different
(`catalogs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from adinsights_orchestration.local.airbyte.catalogs import FieldChange, StreamChange
from adinsights_orchestration.local.airbyte.config_views import descriptor
from adinsights_orchestration.local.airbyte.http import BadInputError
from adinsights_orchestration.local.airbyte.model import Catalog, CatalogStream

_DEDUPED = "append_dedup"
_OVERWRITE = "overwrite_dedup"


def catalog(value: Catalog) -> dict[str, Any]:
    """`AirbyteCatalog`: every stream with what the connection does with it."""
    return {"streams": [{"stream": _offered(stream), "config": _configured(stream)} for stream in value.streams]}


def read(body: object, catalog_id: UUID) -> Catalog:
    """Reads an `AirbyteCatalog` back; `BadInputError` when it is none."""
    try:
        streams = tuple(_read_stream(entry) for entry in body["streams"])  # type: ignore[index]
    except (KeyError, TypeError, AttributeError):
        raise BadInputError("is not a catalog", place="syncCatalog") from None
    return Catalog(catalog_id, streams)


def difference(changes: Sequence[StreamChange]) -> dict[str, Any]:
    """`CatalogDiff`."""
    return {"transforms": [_transform(change) for change in changes]}


def _offered(stream: CatalogStream) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": stream.name,
        "jsonSchema": dict(stream.json_schema),
        "supportedSyncModes": ["full_refresh", "incremental"] if stream.incremental else ["full_refresh"],
        "sourceDefinedCursor": stream.incremental,
        "defaultCursorField": list(stream.cursor_field),
        "sourceDefinedPrimaryKey": [list(path) for path in stream.primary_key],
        "isResumable": stream.incremental,
    }
    return shown if stream.namespace is None else {**shown, "namespace": stream.namespace}


def _configured(stream: CatalogStream) -> dict[str, Any]:
    return {
        "syncMode": "incremental" if stream.incremental else "full_refresh",
        "cursorField": list(stream.cursor_field),
        "destinationSyncMode": _DEDUPED if stream.incremental else _OVERWRITE,
        "primaryKey": [list(path) for path in stream.primary_key],
        "aliasName": stream.name,
        "selected": stream.selected,
        "suggested": False,
        "fieldSelectionEnabled": False,
        "includeFiles": False,
        "selectedFields": [],
        "hashedFields": [],
        "mappers": [],
    }


def _read_stream(entry: dict[str, Any]) -> CatalogStream:
    stream, config = entry["stream"], entry.get("config") or {}
    return CatalogStream(
        name=stream["name"],
        namespace=stream.get("namespace"),
        json_schema=stream.get("jsonSchema") or {},
        cursor_field=tuple(config.get("cursorField") or ()),
        primary_key=tuple(tuple(path) for path in config.get("primaryKey") or ()),
        selected=bool(config.get("selected", True)),
    )


def _transform(change: StreamChange) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "transformType": change.kind,
        "streamDescriptor": descriptor(change.stream.descriptor),
    }
    if change.kind == "update_stream":
        shown["updateStream"] = {
            "streamAttributeTransforms": [],
            "fieldTransforms": [_field_transform(field) for field in change.fields],
        }
    return shown


def _field_transform(change: FieldChange) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "transformType": change.kind,
        "fieldName": [change.name],
        "breaking": change.breaking,
    }
    match change.kind:
        case "add_field":
            shown["addField"] = {"schema": change.new}
        case "remove_field":
            shown["removeField"] = {"schema": change.old}
        case _:
            shown["updateFieldSchema"] = {"oldSchema": change.old, "newSchema": change.new}
    return shown
