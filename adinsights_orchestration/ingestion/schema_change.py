"""What changed in what a source offers, and whether it can be approved as it is.

Belongs here: the difference of two catalogs and the choices that a connection has to make anew because of it, as pure
functions of Airbyte's own documents. Does not belong here: asking a source, applying anything (`repair`). A change
breaks a connection when a stream that it reads is gone, or has lost a field that it is read by.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Catalog = Mapping[str, Any]
_StreamName = tuple[str | None, str]


class Kind(StrEnum):
    """What happened to a stream or a field."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of one stream; types as JSON Schema names them."""

    stream: str
    field: str
    kind: Kind
    before: str | None
    after: str | None
    breaking: bool

    def describe(self) -> str:
        """One line for people."""
        types = {Kind.ADDED: f" ({self.after})", Kind.REMOVED: f" ({self.before})"}
        what = types.get(self.kind, f" from {self.before} to {self.after}")
        return f"{self.stream}.{self.field}: {self.kind}{what}" + (", read by it: breaking" if self.breaking else "")


@dataclass(frozen=True, slots=True)
class StreamChange:
    """One stream that came or went; `read` whether the connection reads it."""

    stream: str
    kind: Kind
    read: bool

    @property
    def breaking(self) -> bool:
        """Whether the connection cannot go on as it is."""
        return self.kind is Kind.REMOVED and self.read

    def describe(self) -> str:
        """One line for people."""
        if self.kind is Kind.ADDED:
            return f"{self.stream}: added, not read until somebody selects it in Airbyte"
        return f"{self.stream}: removed" + (", read until now: breaking" if self.read else "")


@dataclass(frozen=True, slots=True)
class SchemaDiff:
    """Everything that changed."""

    streams: tuple[StreamChange, ...]
    fields: tuple[FieldChange, ...]

    @property
    def empty(self) -> bool:
        """Whether nothing changed."""
        return not self.streams and not self.fields

    @property
    def breaking(self) -> bool:
        """Whether a connection cannot go on as it is."""
        return any(change.breaking for change in self.streams) or any(change.breaking for change in self.fields)

    def describe(self) -> str:
        """One line per change, streams first."""
        if self.empty:
            return "no difference between what is configured and what the source offers"
        lines = [change.describe() for change in self.streams]
        return "\n".join(lines + [change.describe() for change in self.fields])


@dataclass(frozen=True, slots=True)
class Adapted:
    """A rediscovered catalog with choices that exist in it; `problems` says what a person has to choose."""

    catalog: Catalog
    choices: tuple[str, ...]
    problems: tuple[str, ...]


def difference(before: Catalog, after: Catalog) -> SchemaDiff:
    """Returns what must change in the configured catalog `before` to become the offered one `after`."""
    old, new = _streams(before), _streams(after)
    streams = [StreamChange(_shown(name), Kind.ADDED, read=False) for name in new if name not in old]
    streams += [StreamChange(_shown(name), Kind.REMOVED, _selected(old[name])) for name in old if name not in new]
    fields = [change for name in old if name in new for change in _field_changes(name, old[name], new[name])]
    return SchemaDiff(tuple(streams), tuple(fields))


def adapted(before: Catalog, after: Catalog) -> Adapted:
    """Returns the offered catalog with the connection's choices, made anew where what was chosen is gone.

    A cursor or key that the source itself defines follows the source. One that a person chose and that is gone has no
    successor: only a person can choose another.
    """
    catalog = copy.deepcopy(dict(after))
    chosen = _streams(before)
    choices: list[str] = []
    problems: list[str] = []
    for entry in catalog.get("streams", ()):
        name = _name(entry)
        config = entry.setdefault("config", {})
        config["selected"] = name in chosen and _selected(chosen[name])
        if config["selected"]:
            _adapt_cursor(_shown(name), entry, choices, problems)
            _adapt_key(_shown(name), entry, choices, problems)
    return Adapted(catalog, tuple(choices), tuple(problems))


def digest(catalog: Catalog) -> str:
    """A short name of a catalog's content: the same for the same streams, fields and choices in any order."""
    entries = sorted(json.dumps(entry, sort_keys=True) for entry in catalog.get("streams", ()))
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()[:16]


def read_digest(catalog: Catalog) -> str:
    """As `digest`, of the streams that a connection reads only: what it leaves out changes nothing that it does."""
    return digest({"streams": [entry for entry in catalog.get("streams", ()) if _selected(entry)]})


def selected_streams(catalog: Catalog) -> tuple[str, ...]:
    """Names of the streams that a connection reads."""
    return tuple(_shown(name) for name, entry in _streams(catalog).items() if _selected(entry))


def _streams(catalog: Catalog) -> dict[_StreamName, Mapping[str, Any]]:
    return {_name(entry): entry for entry in catalog.get("streams", ())}


def _name(entry: Mapping[str, Any]) -> _StreamName:
    stream = entry.get("stream") or {}
    return stream.get("namespace"), str(stream.get("name"))


def _shown(name: _StreamName) -> str:
    return name[1] if name[0] is None else f"{name[0]}.{name[1]}"


def _selected(entry: Mapping[str, Any]) -> bool:
    return bool((entry.get("config") or {}).get("selected", True))


def _properties(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    properties: Mapping[str, Any] = ((entry.get("stream") or {}).get("jsonSchema") or {}).get("properties") or {}
    return properties


def _read_by(entry: Mapping[str, Any]) -> set[str]:
    """Top-level fields that a selected stream is read by: its cursor and its key."""
    if not _selected(entry):
        return set()
    config = entry.get("config") or {}
    paths = [config.get("cursorField") or [], *(config.get("primaryKey") or [])]
    return {path[0] for path in paths if path}


def _field_changes(name: _StreamName, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[FieldChange]:
    old, new, read_by = _properties(before), _properties(after), _read_by(before)
    shown = _shown(name)
    for field in (field for field in new if field not in old):
        yield FieldChange(shown, field, Kind.ADDED, None, _type(new[field]), breaking=False)
    for field, schema in old.items():
        if field not in new:
            yield FieldChange(shown, field, Kind.REMOVED, _type(schema), None, breaking=field in read_by)
        elif _type(schema) != _type(new[field]):
            yield FieldChange(shown, field, Kind.CHANGED, _type(schema), _type(new[field]), breaking=False)


def _type(schema: object) -> str:
    """`string`, `string(date)`, `number or null`: what of a field's schema matters to whoever reads the table."""
    if not isinstance(schema, Mapping):
        return "anything"
    declared = schema.get("type", "anything")
    names = " or ".join(str(one) for one in declared) if isinstance(declared, list) else str(declared)
    form = schema.get("airbyte_type") or schema.get("format")
    return f"{names}({form})" if form else names


def _adapt_cursor(stream: str, entry: dict[str, Any], choices: list[str], problems: list[str]) -> None:
    config, offered = entry["config"], entry.get("stream") or {}
    cursor = config.get("cursorField") or []
    if not cursor or cursor[0] in _properties(entry) or config.get("syncMode") != "incremental":
        return
    successor = offered.get("defaultCursorField") or []
    if successor and successor[0] in _properties(entry):
        config["cursorField"] = list(successor)
        choices.append(f"{stream} is read by {'.'.join(successor)} instead of {'.'.join(cursor)}")
    else:
        problems.append(f"{stream}: its cursor {'.'.join(cursor)} is gone; choose another in Airbyte")


def _adapt_key(stream: str, entry: dict[str, Any], choices: list[str], problems: list[str]) -> None:
    config, offered = entry["config"], entry.get("stream") or {}
    key = config.get("primaryKey") or []
    if all(path and path[0] in _properties(entry) for path in key):
        return
    successor = offered.get("sourceDefinedPrimaryKey") or []
    if successor and all(path and path[0] in _properties(entry) for path in successor):
        config["primaryKey"] = [list(path) for path in successor]
        choices.append(f"{stream} is deduplicated by {_key(successor)} instead of {_key(key)}")
    else:
        problems.append(f"{stream}: its key {_key(key)} is gone; choose another in Airbyte")


def _key(paths: Iterable[Iterable[str]]) -> str:
    return "(" + ", ".join(".".join(path) for path in paths) + ")"
