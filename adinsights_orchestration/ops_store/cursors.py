"""Cursors: a small value under a name, which one part of the system keeps for its next tick.

Belongs here: writing one. Does not belong here: what is in it (whoever's it is).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.ops_store.compiling import compiled_once
from adinsights_orchestration.ops_store.tables import cursor


def keep_cursor(connection: sa.Connection, name: str, value: Mapping[str, Any], now: datetime) -> None:
    """Writes a cursor in place of the one before.

    Args:
        connection: The caller's transaction.
        name: Its name.
        value: What fits JSON.
        now: The moment.
    """
    connection.execute(_KEEP, {"name": name, "value": dict(value), "updated_at": now})


def _keep() -> sa.Insert:
    fresh = insert(cursor).values({column: sa.bindparam(column) for column in ("name", "value", "updated_at")})
    changed = {"value": fresh.excluded.value, "updated_at": fresh.excluded.updated_at}
    return fresh.on_conflict_do_update(index_elements=[cursor.c.name], set_=changed)


_KEEP = compiled_once(_keep())
