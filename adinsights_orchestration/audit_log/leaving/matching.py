"""Which rows a request to erase means: columns and the values that they must hold, and then the keys of such rows.

Belongs here: the subject of a request, and telling its rows in a table of Arrow. Does not belong here: erasing them
(`erasure`), asking the table (`preflight`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.errors import AdinsightsError

Conditions = Mapping[str, str]
Key = tuple[str | None, ...]  # of a row, each column as Postgres writes it


class SubjectError(AdinsightsError):
    """It is not clear whose rows are meant; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose rows are meant.

    Attributes:
        tenant: In which tenant's archive.
        person: Rows that this person caused.
        resource_type: Rows about this kind of thing.
        resource_id: Rows about this one of them.
    """

    tenant: UUID
    person: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None

    def conditions(self, source: Source) -> Conditions:
        """Columns and what they must hold, all of them.

        Raises:
            SubjectError: Nothing is named, or less than is needed.
        """
        if self.resource_id is not None and self.resource_type is None:
            raise SubjectError("an id alone names no thing", next_step="Say of which type it is (--resource-type).")
        wanted = (
            (source.person, _as_postgres_writes_it(self.person)),
            (source.resource_type, self.resource_type),
            (source.resource_id, self.resource_id),
        )
        found = {column: value for column, value in wanted if column is not None and value}
        if not found or len(found) != sum(value is not None for _, value in wanted):
            raise SubjectError("nobody and nothing is named", next_step="Say whose rows, or rows about what.")
        return found


def _as_postgres_writes_it(person: str | None) -> str | None:
    """An id may be typed in capitals or without hyphens; both are the same person."""
    try:
        return str(UUID(person)) if person else person
    except ValueError:
        return person


def matches(table: pa.Table, conditions: Conditions) -> pa.Array | pa.ChunkedArray:
    """Of each row whether it meets all conditions, however its file keeps the columns."""
    chosen = pa.array([True] * table.num_rows, pa.bool_())
    for column, value in conditions.items():
        chosen = pc.and_(chosen, pc.fill_null(_equals(table, column, value), False))
    return chosen


def keys_of(table: pa.Table, names: Sequence[str]) -> list[Key]:
    """The key of each row, in order, however its file keeps the columns."""
    return list(zip(*(_texts(table, name) for name in names), strict=True))


def has_key(table: pa.Table, names: Sequence[str], keys: Collection[Key]) -> pa.Array:
    """Of each row whether its key is one of these."""
    return pa.array([key in keys for key in keys_of(table, names)], pa.bool_())


def _texts(table: pa.Table, name: str) -> list[str | None]:
    column = _stored(table, name)
    if not pa.types.is_fixed_size_binary(column.type):
        return list(column.cast(pa.string()).to_pylist())
    return [None if value is None else str(UUID(bytes=value)) for value in column.to_pylist()]


def _stored(table: pa.Table, name: str) -> pa.ChunkedArray:
    column = table.column(name)
    if not isinstance(column.type, pa.BaseExtensionType):
        return column
    return pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)


def _equals(table: pa.Table, name: str, value: str) -> pa.Array | pa.ChunkedArray:
    none = pa.array([False] * table.num_rows, pa.bool_())
    if name not in table.column_names:  # of a time before the column was there
        return none
    column = _stored(table, name)
    if not pa.types.is_fixed_size_binary(column.type):
        return pc.equal(column.cast(pa.string()), value)
    try:
        return pc.equal(column, pa.scalar(UUID(value).bytes, column.type))
    except ValueError:  # no id of anybody
        return none
