"""Statements that are compiled once a process.

Belongs here: that. Does not belong here: any statement. SQLAlchemy keeps what it compiled by a key that it makes of a
statement; one with `ON CONFLICT` has none, so that every execution would compile it anew, which for a large one takes
several times as long as Postgres does.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.base import PGDialect


def compiled_once(statement: sa.Insert) -> sa.TextClause:
    """Returns the statement as text that takes the same parameters; what it returns has the driver's own types.

    Args:
        statement: With a named parameter, `sa.bindparam`, for everything that differs from one execution to the next,
            and without `in_`, which SQLAlchemy writes out at each execution.
    """
    compiled = statement.compile(dialect=PGDialect(paramstyle="named"))  # type: ignore[no-untyped-call]
    given = [
        sa.bindparam(name, type_=bind.type) if bind.required else sa.bindparam(name, bind.value, type_=bind.type)
        for bind, name in compiled.bind_names.items()
    ]
    casts_escaped = str(compiled).replace("::", r"\:\:")  # in text, a colon begins a parameter
    return sa.text(casts_escaped).bindparams(*given)
