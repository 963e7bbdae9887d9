"""Many rows as one parameter: a JSON array that Postgres reads as a table.

Belongs here: that one trick. Does not belong here: any table's statements. A statement over a thousand rows stays one
statement with one parameter, compiled once, whatever the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB


def recordset(parameter: str, name: str, *columns: sa.Column[Any] | sa.ColumnClause[Any]) -> sa.TableValuedAlias:
    """Returns the table that the bind parameter `parameter` stands for, with these columns, under `name`."""
    rows = sa.bindparam(parameter, type_=JSONB)
    clauses = [sa.column(column.name, column.type) for column in columns]
    return sa.func.jsonb_to_recordset(rows).table_valued(*clauses).render_derived(name=name, with_types=True)


def as_rows(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rows in JSON's own types."""
    return [{key: _plain(value) for key, value in row.items()} for row in rows]


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    return value
