"""The manifest, which is what makes a day archived, and the chain that makes a missing or altered one visible.

Belongs here: what a manifest says, its one spelling in bytes, its hash, and what must hold between two neighbours. Does
not belong here: reading or writing it (`chain`, `archive`, `reading`). Manifests of a table are numbered from 1 without
a gap, and each names the hash of the one before; the object's key is made of the number, and it is only ever created,
so two writers cannot fork the chain, and a reader needs no listing to follow it. A manifest states all of what it is
about: the newest one that names a tenant's day is right about it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from typing import Any
from uuid import UUID

from adinsights_orchestration.audit_log.model import At, Cause, Chunk, DataFile, Digest, Gone
from adinsights_orchestration.audit_log.source import Column
from adinsights_orchestration.errors import AdinsightsError

FORMAT = 1
FORMAT_WITH_REMOVALS = 2  # only what says that something is gone: who does not know that may not take it for damage
ADVICE = 'docs/runbook.md says what to do: "The chain is broken, or a day does not verify".'


class ManifestError(AdinsightsError):
    """A manifest is not what was written, or does not follow on the one before."""


class ManifestKind(StrEnum):
    """What a manifest states."""

    DAY = "day"  # everything that the archive holds of one day
    COMPACTION = "compaction"  # the same rows of several days in fewer files
    TOMBSTONE = "tombstone"  # what is gone on purpose, and what stands in its place, if anything does


@dataclass(frozen=True, slots=True)
class Manifest:
    """One link of a table's chain.

    Attributes:
        source: The table's name in the archive.
        sequence: Its number in the chain, from 1.
        previous: The hash of the one before; empty at the first.
        kind: What it states.
        first_day: The first day it is about.
        last_day: The last one, included.
        revision: How often the day has been archived, this time included; 0 for what is not about one day.
        chunks: What the archive holds of these days, by tenant and day: all of a day, of another kind what changed.
        files: The objects that the chunks name.
        written_at: When.
        server_major: The major version of the Postgres that the fast digests are of; 0 where there are none.
        versions: What wrote it, for people.
        reason: Why, where somebody asked for it.
        gone: What has left the archive with it; None of a day, which forgets nothing.
    """

    source: str
    sequence: int
    previous: str
    kind: ManifestKind
    first_day: date
    last_day: date
    revision: int
    chunks: tuple[Chunk, ...]
    files: tuple[DataFile, ...]
    written_at: datetime
    server_major: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    gone: Gone | None = None

    @property
    def rows(self) -> int:
        """How many rows its chunks hold."""
        return sum(chunk.rows for chunk in self.chunks)

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(file.size for file in self.files)

    def to_bytes(self) -> bytes:
        """Its one spelling: sorted keys, no spaces, sums as strings, since JSON's numbers are not exact for them."""
        files = [*self.files, *(self.gone.files if self.gone is not None else ())]
        schemas = sorted({file.columns for file in files}, key=_names_and_types)
        value = {
            "format": FORMAT if self.gone is None else FORMAT_WITH_REMOVALS,
            "source": self.source,
            "sequence": self.sequence,
            "previous": self.previous,
            "kind": self.kind.value,
            "first_day": self.first_day.isoformat(),
            "last_day": self.last_day.isoformat(),
            "revision": self.revision,
            "rows": self.rows,
            "chunks": [_chunk_value(chunk) for chunk in self.chunks],
            "schemas": [[[column.name, column.type] for column in schema] for schema in schemas],
            "files": [_file_value(file, schemas.index(file.columns)) for file in self.files],
            "written_at": _moment_text(self.written_at),
            "server_major": self.server_major,
            "versions": dict(self.versions),
            "reason": self.reason,
        }
        if self.gone is not None:
            value["gone"] = _gone_value(self.gone, schemas)
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @property
    def hash(self) -> str:
        """The sha256 of its spelling, in hex; what the next one names."""
        return hash_of(self.to_bytes())


def hash_of(content: bytes) -> str:
    """The sha256 in hex."""
    return hashlib.sha256(content).hexdigest()


def read_manifest(content: bytes, *, place: str = "") -> Manifest:
    """The manifest of these bytes, which must be exactly its spelling.

    Raises:
        ManifestError: It is no manifest, of another format, or has been written to by something else.
    """
    manifest = parse_manifest(content, place=place)
    if manifest.to_bytes() != content:
        raise ManifestError("the manifest has been changed", place=place, next_step=ADVICE)
    return manifest


def parse_manifest(content: bytes, *, place: str = "") -> Manifest:
    """The manifest of bytes whose hash is known to be that of one: its spelling is not looked at again."""
    try:
        return _manifest(json.loads(content))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ManifestError(
            f"this is no manifest ({type(error).__name__})",
            place=place,
            next_step=ADVICE,
        ) from None


def require_follows(manifest: Manifest, source: str, sequence: int, previous: str, *, place: str = "") -> None:
    """Refuses a manifest that is not the one that belongs at this place of the chain."""
    if (manifest.source, manifest.sequence) != (source, sequence):
        raise ManifestError(
            f"it says that it is number {manifest.sequence} of {manifest.source}", place=place, next_step=ADVICE
        )
    if manifest.previous != previous:
        raise ManifestError("it does not follow on the manifest before it", place=place, next_step=ADVICE)


def newest(
    manifests: Iterable[Manifest], wanted: Callable[[At], bool] | None = None
) -> dict[At, tuple[Chunk, Manifest]]:
    """What is in force of every tenant's day, by a chain in its order, or those of its manifests that name the day.

    Args:
        manifests: They may come one by one: with `wanted`, nothing else of them is kept.
        wanted: The tenants' days that are asked for; all when None.
    """
    by_day: dict[date, dict[UUID, tuple[Chunk, Manifest]]] = {}
    for each in manifests:
        manifest = each if wanted is None else _only(each, wanted)
        if manifest.kind is ManifestKind.DAY:
            by_day[manifest.first_day] = {}
        for chunk in manifest.gone.chunks if manifest.gone is not None else ():
            by_day.get(chunk.day, {}).pop(chunk.tenant, None)
        for chunk in manifest.chunks:
            by_day.setdefault(chunk.day, {})[chunk.tenant] = (chunk, manifest)
    return {(tenant, day): each for day, tenants in by_day.items() for tenant, each in tenants.items()}


def _only(manifest: Manifest, wanted: Callable[[At], bool]) -> Manifest:
    """A manifest without what nobody asks for."""
    chunks = tuple(chunk for chunk in manifest.chunks if wanted((chunk.tenant, chunk.day)))
    named = {key for chunk in chunks for key in chunk.files}
    gone = manifest.gone
    if gone is not None:
        left = tuple(chunk for chunk in gone.chunks if wanted((chunk.tenant, chunk.day)))
        gone = replace(gone, chunks=left, files=())
    return replace(
        manifest, chunks=chunks, files=tuple(file for file in manifest.files if file.key in named), gone=gone
    )


def _names_and_types(columns: Sequence[Column]) -> tuple[list[str], list[str]]:
    return [column.name for column in columns], [column.type for column in columns]


def _chunk_value(chunk: Chunk) -> dict[str, Any]:
    value: dict[str, Any] = {
        "tenant": str(chunk.tenant),
        "day": chunk.day.isoformat(),
        "revision": chunk.revision,
        "rows": chunk.rows,
        "portable": str(chunk.portable),
        "live": {"rows": chunk.live.rows, "portable": str(chunk.live.portable), "fast": str(chunk.live.fast)},
        "earliest": _moment_text(chunk.earliest),
        "latest": _moment_text(chunk.latest),
        "files": list(chunk.files),
    }
    return value


def _file_value(file: DataFile, schema: int) -> dict[str, Any]:
    return {"key": file.key, "sha256": file.sha256, "size": file.size, "rows": file.rows, "schema": schema}


def _gone_value(gone: Gone, schemas: Sequence[tuple[Column, ...]]) -> dict[str, Any]:
    return {
        "cause": gone.cause.value,
        "actor": gone.actor,
        "run": str(gone.run),
        "rows": sum(chunk.rows for chunk in gone.chunks),
        "chunks": [_chunk_value(chunk) for chunk in gone.chunks],
        "files": [_file_value(file, schemas.index(file.columns)) for file in gone.files],
    }


def _manifest(value: Mapping[str, Any]) -> Manifest:
    if value["format"] not in (FORMAT, FORMAT_WITH_REMOVALS):
        raise ValueError("another format")
    schemas = [tuple(Column(name, type_) for name, type_ in schema) for schema in value["schemas"]]
    files = _files(value["files"], schemas)
    keys = {file.key: file.key for file in files}
    return Manifest(
        source=value["source"],
        sequence=value["sequence"],
        previous=value["previous"],
        kind=ManifestKind(value["kind"]),
        first_day=date.fromisoformat(value["first_day"]),
        last_day=date.fromisoformat(value["last_day"]),
        revision=value["revision"],
        chunks=tuple(_chunk(each, keys) for each in value["chunks"]),
        files=files,
        written_at=datetime.fromisoformat(value["written_at"]),
        server_major=value["server_major"],
        versions=value["versions"],
        reason=value["reason"],
        gone=_gone(value["gone"], schemas) if value["format"] == FORMAT_WITH_REMOVALS else None,
    )


def _gone(value: Mapping[str, Any], schemas: Sequence[tuple[Column, ...]]) -> Gone:
    files = _files(value["files"], schemas)
    chunks = tuple(_chunk(each, {file.key: file.key for file in files}) for each in value["chunks"])
    return Gone(Cause(value["cause"]), value["actor"], UUID(value["run"]), chunks, files)


def _files(values: Sequence[Mapping[str, Any]], schemas: Sequence[tuple[Column, ...]]) -> tuple[DataFile, ...]:
    return tuple(
        DataFile(each["key"], each["sha256"], each["size"], each["rows"], schemas[each["schema"]]) for each in values
    )


def _chunk(value: Mapping[str, Any], keys: Mapping[str, str]) -> Chunk:
    """A chunk; `keys` are those of the manifest's files, so that a chain that is read as a whole holds each once."""
    live = value["live"]
    return Chunk(
        tenant=_tenant(value["tenant"]),
        day=date.fromisoformat(value["day"]),
        revision=value["revision"],
        rows=value["rows"],
        portable=int(value["portable"]),
        live=Digest(live["rows"], int(live["portable"]), int(live["fast"])),
        earliest=datetime.fromisoformat(value["earliest"]),
        latest=datetime.fromisoformat(value["latest"]),
        files=tuple(keys.get(key, key) for key in value["files"]),
    )


@lru_cache(maxsize=4096)
def _tenant(text: str) -> UUID:
    return UUID(text)


def _moment_text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
