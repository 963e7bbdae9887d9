"""What proves that two sets of rows are the same: digests that depend on content and not on order.

Belongs here: what a row's fingerprint is, as SQL for Postgres and for DuckDB. Does not belong here: reading anything.
A digest is the sum of its rows' fingerprints, each a signed 64-bit number, with the count of rows beside it; sums of
parts add up to the sum of the whole. Two fingerprints are kept.

- *Portable*: the first 64 bits of the md5 of the row's canonical text, which any database can compute: it proves the
  archive with a reader that is not the writer.
- *Fast*: Postgres's own `hash_record_extended`, five times cheaper, which proves the table just before a deletion. Its
  value may differ between major versions, so the version is kept beside it.

The canonical text joins the columns with a separator, in the table's order, in one spelling per kind: moments as
microseconds since 1970, text with its length in bytes before it, so that no content can pass for a separator, null as
a mark that no value has.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from adinsights_orchestration.audit_log.source import Column, Kind

_SEPARATOR = 31
_NULL = 30
_SIGN = 1 << 63
_HASHED = frozenset(
    (
        *("jsonb", "numeric", "real", "double precision", "date", "interval", "inet", "cidr", "macaddr", "bytea"),
        *("time without time zone", "time with time zone", "timestamp without time zone", "character", "oid"),
    )
)
_SPELLING = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
}


def spelling(*, local: bool) -> sql.Composed:
    """Calls that set what a column's text depends on, as every session needs it whose text or digests are compared.

    Args:
        local: For this transaction; else for the session.
    """
    return sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, {})").format(sql.Literal(name), sql.Literal(value), sql.Literal(local))
        for name, value in _SPELLING.items()
    )


def fast(columns: Sequence[Column], row: str = "t") -> sql.Composed:
    """The fast fingerprint of row `row` in Postgres, a bigint, of these columns alone."""
    names = sql.SQL(", ").join(_hashable(column, sql.Identifier(row, column.name)) for column in columns)
    return sql.SQL("hash_record_extended(row({}), 0)").format(names)


def portable(columns: Sequence[Column], row: str = "t") -> sql.Composed:
    """The portable fingerprint of row `row` in Postgres, a bigint."""
    texts = sql.SQL(", ").join(_postgres(column, sql.Identifier(row, column.name)) for column in columns)
    canonical = sql.SQL("concat_ws(chr({}), {})").format(sql.Literal(_SEPARATOR), texts)
    return sql.SQL("('x' || substr(md5({}), 1, 16))::bit(64)::bigint").format(canonical)


def portable_in_duckdb(columns: Sequence[Column]) -> str:
    """The same in DuckDB, a hugeint, over columns as the archive has them."""
    texts = ", ".join(_duckdb(column) for column in columns)
    unsigned = f"('0x' || substr(md5(concat_ws(chr({_SEPARATOR}), {texts})), 1, 16))::ubigint::hugeint"
    return f"(case when {unsigned} >= {_SIGN} then {unsigned} - {_SIGN * 2} else {unsigned} end)"


def as_archived(column: Column, row: str = "t") -> sql.Composable:
    """The column as it goes into the archive."""
    name = sql.Identifier(row, column.name)
    if column.kind is Kind.OTHER:
        return sql.SQL("{}::text").format(name)
    return sql.SQL("{}::int8").format(name) if column.kind is Kind.INTEGER else name


def _hashable(column: Column, name: sql.Identifier) -> sql.Composable:
    """The column, or its text where Postgres may have no extended hash of its type, as of `json`."""
    own = column.kind is not Kind.OTHER or column.plain_type in _HASHED
    return name if own else sql.SQL("{}::text").format(name)


def _postgres(column: Column, name: sql.Identifier) -> sql.Composable:
    return sql.SQL("coalesce({}, chr({}))").format(_POSTGRES[column.kind].format(name), sql.Literal(_NULL))


_POSTGRES = {
    Kind.UUID: sql.SQL("{}::text"),
    Kind.TEXT: sql.SQL("octet_length({0}) || ':' || {0}"),
    Kind.INTEGER: sql.SQL("{}::text"),
    Kind.BOOLEAN: sql.SQL("{}::text"),
    Kind.MOMENT: sql.SQL(
        "case when isfinite({0}) then (extract(epoch from {0}) * 1000000)::bigint::text else {0}::text end"
    ),
    # To spell a jsonb out is most of a digest's cost; the subquery does so once, and its offset keeps the planner from
    # dissolving it.
    Kind.OTHER: sql.SQL(
        "(select octet_length(spelt.out) || ':' || spelt.out from (select {}::text as out offset 0) as spelt)"
    ),
}
_DUCKDB = {
    Kind.UUID: "{0}::varchar",
    Kind.TEXT: "strlen({0}) || ':' || {0}",
    Kind.INTEGER: "{0}::varchar",
    Kind.BOOLEAN: "{0}::varchar",
    Kind.MOMENT: "epoch_us({0})::varchar",
    Kind.OTHER: "strlen({0}) || ':' || {0}",
}


def _duckdb(column: Column) -> str:
    name = '"' + column.name.replace('"', '""') + '"'
    return f"coalesce({_DUCKDB[column.kind].format(name)}, chr({_NULL}))"
