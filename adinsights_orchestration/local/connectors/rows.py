"""Records as rows: every value in its column's type, or null and the reason.

Belongs here: turning JSON values into Postgres' text form, column by column. Does not belong here: SQL. A value that
does not fit its column is nulled and noted in `_airbyte_meta.changes`, as destination-postgres does, so that one odd
value costs one field and not the sync; only a key without a value is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import uuid4

import orjson

from adinsights_orchestration.local.connectors.catalog import Column, ColumnType, StreamSpec
from adinsights_orchestration.local.connectors.messages import Record

META_COLUMNS = ("_airbyte_raw_id", "_airbyte_extracted_at", "_airbyte_meta", "_airbyte_generation_id")
_LARGEST_BIGINT = 2**63
_NUMERIC_LIMIT = Decimal(10) ** 29  # numeric(38,9) has 29 digits before the point

Row = tuple[str | None, ...]
"""A row in Postgres' text form: the four metadata columns, then the stream's own in their declared order."""
Key = tuple[str | None, ...]


class MissingKeyError(ValueError):
    """A record lacks a usable value in a column of its primary key."""


def to_text(value: Any, kind: ColumnType) -> str:
    """Returns a value in Postgres' text form; `ValueError` when it does not fit the type."""
    return _WRITERS[kind](value)


class RowMaker:
    """Makes the rows of one stream in one sync.

    Args:
        spec: The stream.
        sync_id: The job's id, for `_airbyte_meta`.
        generation_id: For `_airbyte_generation_id`.
    """

    def __init__(self, spec: StreamSpec, sync_id: int, generation_id: int) -> None:
        self._writers = [(column, _WRITERS[column.type]) for column in spec.columns]
        self._key = [_position(spec.columns, name) for name in spec.primary_key]
        self._spec = spec
        self._sync_id = sync_id
        self._generation_id = str(generation_id)
        self._clean_meta = self._meta([])

    def make(self, record: Record) -> tuple[Key, Row]:
        """Returns the record's key and row; `MissingKeyError` when a key column has no value."""
        changes: list[dict[str, str]] = []
        values: list[str | None] = []
        for column, write in self._writers:
            value = record.data.get(column.name)
            try:
                values.append(None if value is None else write(value))
            except (ValueError, TypeError, OverflowError):
                values.append(None)
                changes.append(_nulled(column))
        meta = self._meta(changes) if changes else self._clean_meta
        extracted_at = datetime.fromtimestamp(record.emitted_at / 1000, UTC).isoformat()
        return self._key_of(values), (str(uuid4()), extracted_at, meta, self._generation_id, *values)

    def _key_of(self, values: Sequence[str | None]) -> Key:
        key = tuple(values[position] for position in self._key)
        if None in key:
            missing = self._spec.primary_key[key.index(None)]
            raise MissingKeyError(f"a record of {self._spec.name} has no usable {missing}, which is part of its key")
        return key

    def _meta(self, changes: list[dict[str, str]]) -> str:
        return orjson.dumps({"sync_id": self._sync_id, "changes": changes}).decode()


def _position(columns: Sequence[Column], name: str) -> int:
    return next(i for i, column in enumerate(columns) if column.name == name)


def _nulled(column: Column) -> dict[str, str]:
    return {"field": column.name, "change": "NULLED", "reason": "DESTINATION_TYPECAST_ERROR"}


def _varchar(value: Any) -> str:
    # Postgres has no place for a zero character in text.
    return value.replace("\x00", "") if isinstance(value, str) else _json(value)


def _bigint(value: Any) -> str:
    number = int(value) if not isinstance(value, float) else _whole(value)
    if isinstance(value, bool) or not -_LARGEST_BIGINT <= number < _LARGEST_BIGINT:
        raise ValueError("not a 64-bit integer")
    return str(number)


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError("not a whole number")
    return int(value)


def _numeric(value: Any) -> str:
    if isinstance(value, bool) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError("not a number") from None
    if not number.is_finite() or abs(number) >= _NUMERIC_LIMIT:
        raise ValueError("out of range")
    return str(number)


def _boolean(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower()
    raise ValueError("not a boolean")


def _date(value: Any) -> str:
    return date.fromisoformat(value).isoformat()


def _timestamptz(value: Any) -> str:
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()


def _json(value: Any) -> str:
    return orjson.dumps(value).decode().replace("\\u0000", "")


_WRITERS: Mapping[ColumnType, Callable[[Any], str]] = {
    ColumnType.VARCHAR: _varchar,
    ColumnType.BIGINT: _bigint,
    ColumnType.NUMERIC: _numeric,
    ColumnType.BOOLEAN: _boolean,
    ColumnType.DATE: _date,
    ColumnType.TIMESTAMPTZ: _timestamptz,
    ColumnType.JSONB: _json,
}
