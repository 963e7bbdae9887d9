"""Streams and their columns: what a source declares, in the writer's terms.

Belongs here: reading manifests and catalogs into `StreamSpec`s, and the catalog that a read is started with. Does not
belong here: reading rows (`rows`) and creating tables (`warehouse`). JSON schema types map to column types the way
destination-postgres maps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files
from typing import Any

import yaml

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.tenants.model import Provider

_PACKAGE = "adinsights_orchestration.local.connectors"


class ColumnType(StrEnum):
    """A column's type in Postgres, as its DDL spells it."""

    VARCHAR = "varchar"
    BIGINT = "bigint"
    NUMERIC = "numeric(38,9)"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMPTZ = "timestamptz"
    JSONB = "jsonb"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a raw table."""

    name: str
    type: ColumnType


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream of a source and the table that it fills.

    Args:
        name: The stream's name, which is the table's.
        namespace: The table's schema.
        columns: The record's fields, in the declared order.
        primary_key: The columns that identify a row, tenant first.
        cursor_field: The field that an incremental read continues from; None reads everything each time.
        json_schema: The schema as the source declares it.
    """

    name: str
    namespace: str
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...]
    cursor_field: str | None
    json_schema: Mapping[str, Any]


def load_manifest(provider: Provider) -> Mapping[str, Any]:
    """Reads the provider's manifest, references resolved."""
    text = (files(_PACKAGE) / "manifests" / f"{provider.value}.yaml").read_text(encoding="utf-8")
    document: Mapping[str, Any] = yaml.safe_load(text)
    resolved: Mapping[str, Any] = _resolve(document, document)
    return resolved


def without_discovery(manifest: Mapping[str, Any], specs: Iterable[StreamSpec]) -> dict[str, Any]:
    """Returns the manifest for a read: each stream with the schema that its connection has approved.

    The manifest's own schemas ask the platform for fields that are new, which is `discover`'s work. During a read a
    platform that does not answer that question would end every stream, and not only the one it concerns.
    """
    schemas = {spec.name: {"type": "InlineSchemaLoader", "schema": dict(spec.json_schema)} for spec in specs}
    streams = [
        {**stream, "schema_loader": schemas[stream["name"]]}
        for stream in manifest["streams"]
        if stream["name"] in schemas
    ]
    return {**{key: value for key, value in manifest.items() if key != "definitions"}, "streams": streams}


def declared_streams(provider: Provider, manifest: Mapping[str, Any]) -> tuple[StreamSpec, ...]:
    """Returns the streams that a manifest declares, with the fields that it declares itself."""
    return tuple(
        _spec(
            provider,
            stream["name"],
            _inline_schema(stream["schema_loader"]),
            stream["primary_key"],
            stream.get("incremental_sync", {}).get("cursor_field"),
        )
        for stream in manifest["streams"]
    )


def discovered_streams(provider: Provider, catalog: Mapping[str, Any]) -> tuple[StreamSpec, ...]:
    """Returns the streams of a catalog, as `discover` gives it and a connection approves it."""
    return tuple(
        _spec(
            provider,
            stream["name"],
            stream["json_schema"],
            [path[0] for path in stream.get("source_defined_primary_key", [])],
            next(iter(stream.get("default_cursor_field") or []), None),
        )
        for stream in catalog["streams"]
    )


def chosen(specs: Iterable[StreamSpec], names: tuple[str, ...]) -> tuple[StreamSpec, ...]:
    """Returns the named streams in the order of `names`; `ConfigurationError` names those that the source lacks."""
    known = {spec.name: spec for spec in specs}
    if missing := [name for name in names if name not in known]:
        raise ConfigurationError(
            f"the source has no stream {', '.join(missing)}",
            next_step=f"Refresh the connection's schema; the source has {', '.join(sorted(known))}.",
        )
    return tuple(known[name] for name in names)


def as_catalog(specs: Iterable[StreamSpec]) -> dict[str, Any]:
    """Returns the streams as a catalog, in the form that `discover` gives."""
    return {"streams": [_as_stream(spec) for spec in specs]}


def configured_catalog(specs: Iterable[StreamSpec], generation_id: int, sync_id: int) -> dict[str, Any]:
    """Returns the catalog with which a read is started."""
    return {
        "streams": [
            {
                "stream": _as_stream(spec),
                "sync_mode": "full_refresh" if spec.cursor_field is None else "incremental",
                "cursor_field": _path(spec.cursor_field),
                "destination_sync_mode": "append_dedup",
                "primary_key": [[name] for name in spec.primary_key],
                "generation_id": generation_id,
                "sync_id": sync_id,
            }
            for spec in specs
        ]
    }


def secrets_of(manifest: Mapping[str, Any], config: Mapping[str, object]) -> tuple[str, ...]:
    """Returns the values of `config` that the manifest marks as secret."""
    properties = manifest["spec"]["connection_specification"]["properties"]
    return tuple(
        str(config[name]) for name, field in properties.items() if field.get("airbyte_secret") and config.get(name)
    )


def column_type(schema: Mapping[str, Any]) -> ColumnType:
    """Returns the column type of a JSON schema; a string of unknown format is text, anything unclear is JSON."""
    kinds = schema.get("type", [])
    kind = next((k for k in ([kinds] if isinstance(kinds, str) else kinds) if k != "null"), None)
    if kind == "string":
        return _FORMATS.get(schema.get("format", ""), ColumnType.VARCHAR)
    return _TYPES.get(kind or "", ColumnType.JSONB)


_FORMATS = {"date": ColumnType.DATE, "date-time": ColumnType.TIMESTAMPTZ}
_TYPES = {"integer": ColumnType.BIGINT, "number": ColumnType.NUMERIC, "boolean": ColumnType.BOOLEAN}


def _spec(
    provider: Provider, name: str, schema: Mapping[str, Any], primary_key: Iterable[str], cursor_field: str | None
) -> StreamSpec:
    columns = tuple(Column(field, column_type(kind)) for field, kind in schema["properties"].items())
    key = tuple(primary_key)
    if missing := set(key) - {column.name for column in columns}:
        raise ConfigurationError(
            f"stream {name} has no {', '.join(sorted(missing))} any more, which is part of its key",
            next_step="Refresh the connection's schema and approve the change.",
        )
    return StreamSpec(name, f"raw_{provider.value}", columns, key, cursor_field, schema)


def _as_stream(spec: StreamSpec) -> dict[str, Any]:
    modes = ["full_refresh"] if spec.cursor_field is None else ["full_refresh", "incremental"]
    return {
        "name": spec.name,
        "json_schema": dict(spec.json_schema),
        "supported_sync_modes": modes,
        "source_defined_cursor": spec.cursor_field is not None,
        "default_cursor_field": _path(spec.cursor_field),
        "source_defined_primary_key": [[name] for name in spec.primary_key],
        "is_resumable": spec.cursor_field is not None,
    }


def _path(field: str | None) -> list[str]:
    return [] if field is None else [field]


def _inline_schema(loader: Mapping[str, Any] | list[Mapping[str, Any]]) -> Mapping[str, Any]:
    loaders = loader if isinstance(loader, list) else [loader]
    schema: Mapping[str, Any] = next(one["schema"] for one in loaders if one["type"] == "InlineSchemaLoader")
    return schema


def _resolve(node: Any, document: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_resolve(item, document) for item in node]
    if not isinstance(node, Mapping):
        return node
    own = {key: _resolve(value, document) for key, value in node.items() if key != "$ref"}
    if "$ref" not in node:
        return own
    target: Any = document
    for part in str(node["$ref"]).removeprefix("#/").split("/"):
        target = target[part]
    referred = _resolve(target, document)
    return {**referred, **own} if isinstance(referred, Mapping) else referred
