"""What a declared table looks like now, asked of Postgres.

Belongs here: its columns. Does not belong here: its size and indexes (`reaching`), rights and row level
security (`access`).
"""

from __future__ import annotations

from adinsights_orchestration.audit_log.source import Column, Source, SourceError
from adinsights_orchestration.backend.database import Cursor


def columns_of(cursor: Cursor, source: Source) -> tuple[Column, ...]:
    """The table's columns in its order, checked against the declaration.

    Raises:
        SourceError: The table or a column is missing, or the database's text is not UTF-8.
    """
    ((encoding,),) = cursor.execute("select getdatabaseencoding()").fetchall()
    if encoding != "UTF8":
        name = encoding.decode() if isinstance(encoding, bytes) else encoding  # psycopg gives bytes for SQL_ASCII
        raise SourceError(f"the database's text is {name}, not UTF8", next_step="The archive could not tell it truly.")
    cursor.execute(
        """select attname, format_type(atttypid, atttypmod) from pg_attribute
            where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped order by attnum""",
        (source.table,),
    )
    columns = tuple(Column(str(name), str(type_)) for name, type_ in cursor.fetchall())
    if not columns:
        raise SourceError(f"there is no table {source.table}", next_step="Check that the address names its database.")
    source.check(columns)
    return columns
