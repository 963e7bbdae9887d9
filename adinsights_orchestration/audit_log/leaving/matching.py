"""Which rows a request to erase means: columns and the values that they must hold.

Belongs here: the subject of a request, and telling its rows in a table of Arrow and in Postgres. Does not belong here:
erasing them (`erasure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.errors import AdinsightsError

Conditions = Mapping[str, str]


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


def _equals(table: pa.Table, name: str, value: str) -> pa.Array | pa.ChunkedArray:
    none = pa.array([False] * table.num_rows, pa.bool_())
    if name not in table.column_names:  # of a time before the column was there
        return none
    column = table.column(name)
    if isinstance(column.type, pa.BaseExtensionType):
        storage = column.type.storage_type
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], storage)
    if not pa.types.is_fixed_size_binary(column.type):
        return pc.equal(column.cast(pa.string()), value)
    try:
        return pc.equal(column, pa.scalar(UUID(value).bytes, column.type))
    except ValueError:  # no id of anybody
        return none
