"""What changed between two catalogs, and whether it breaks a connection.

Belongs here: the difference as Airbyte describes it (streams added and removed, fields added, removed and retyped)
and its one rule: a change breaks when it takes away a selected stream's cursor or a part of its primary key. Does not
belong here: who discovers, and what happens to a connection that breaks (`world`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from adinsights_orchestration.local.airbyte.model import Catalog, CatalogStream

_NAMESPACE = uuid.UUID("3b0e3d5e-4a36-5f0b-9e0b-6d3f5a1f0c11")


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of one stream; `kind` is add_field, remove_field or update_field_schema."""

    kind: str
    name: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None
    breaking: bool


@dataclass(frozen=True, slots=True)
class StreamChange:
    """One stream; `kind` is add_stream, remove_stream or update_stream."""

    kind: str
    stream: CatalogStream
    fields: tuple[FieldChange, ...] = ()

    @property
    def breaking(self) -> bool:
        """Whether the stream cannot be synced as it was."""
        return any(change.breaking for change in self.fields)


def broken(catalog: Catalog) -> Catalog:
    """What the source offers after it renamed the cursor (or else the first key field) of the first selected stream."""
    hit = next((s for s in catalog.streams if s.selected and (s.cursor_field or s.primary_key)), None)
    if hit is None:
        return catalog
    lost = hit.cursor_field[0] if hit.cursor_field else hit.primary_key[0][0]
    properties = dict(_fields(hit))
    properties[f"{lost}_v2"] = properties.pop(lost, {"type": "string"})
    renamed = replace(
        hit,
        json_schema={**hit.json_schema, "properties": properties},
        cursor_field=tuple(f"{f}_v2" if f == lost else f for f in hit.cursor_field),
        primary_key=tuple(tuple(f"{f}_v2" if f == lost else f for f in path) for path in hit.primary_key),
    )
    streams = tuple(renamed if stream is hit else stream for stream in catalog.streams)
    return Catalog(uuid.uuid5(_NAMESPACE, f"{catalog.id}:{hit.name}:{lost}"), streams, simulated=True)


def difference(used: Catalog, offered: Catalog) -> tuple[StreamChange, ...]:
    """What must change in `used` to become `offered`."""
    before = {stream.descriptor: stream for stream in used.streams}
    after = {stream.descriptor: stream for stream in offered.streams}
    changes = [StreamChange("add_stream", after[name]) for name in after if name not in before]
    changes += [StreamChange("remove_stream", before[name]) for name in before if name not in after]
    for name, stream in before.items():
        if name in after and (fields := _field_changes(stream, after[name])):
            changes.append(StreamChange("update_stream", after[name], fields))
    return tuple(changes)


def breaks(changes: tuple[StreamChange, ...]) -> bool:
    """Whether any change is breaking."""
    return any(change.breaking for change in changes)


def verdict(changes: tuple[StreamChange, ...]) -> str:
    """Airbyte's `SchemaChange`: no_change, non_breaking or breaking."""
    if not changes:
        return "no_change"
    return "breaking" if breaks(changes) else "non_breaking"


def merged(used: Catalog, offered: Catalog) -> Catalog:
    """The offered catalog with the choices (selected or not) of the used one; streams that are new stay unselected."""
    chosen = {stream.descriptor: stream.selected for stream in used.streams}
    return Catalog(
        offered.id, tuple(replace(stream, selected=chosen.get(stream.descriptor, False)) for stream in offered.streams)
    )


def _field_changes(before: CatalogStream, after: CatalogStream) -> tuple[FieldChange, ...]:
    old, new = _fields(before), _fields(after)
    keys = (
        {*before.cursor_field, *(field for path in before.primary_key for field in path)} if before.selected else set()
    )
    changes = [FieldChange("add_field", name, None, new[name], breaking=False) for name in new if name not in old]
    changes += [FieldChange("remove_field", name, old[name], None, name in keys) for name in old if name not in new]
    changes += [
        FieldChange("update_field_schema", name, old[name], new[name], breaking=False)
        for name in old
        if name in new and old[name] != new[name]
    ]
    return tuple(changes)


def _fields(stream: CatalogStream) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = stream.json_schema.get("properties", {})
    return fields
