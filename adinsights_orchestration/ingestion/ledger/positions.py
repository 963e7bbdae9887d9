"""How far readers of foreign logs have come.

Belongs here: reading and moving a named position. Does not belong here: what is read. A position only moves forward,
and in the same transaction as what was read up to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.ops_store.compiling import compiled_once
from adinsights_orchestration.ops_store.tables import cursor

OBSERVE = "airbyte_jobs"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a reader has come.

    Attributes:
        reached: Everything that changed in Airbyte up to this moment was read.
        complete: Whether nothing was left beyond it then.
        caught_up: Whether that was so at least once: before, what happened lately may be unknown.
    """

    reached: datetime
    complete: bool = True
    caught_up: bool = True


def load_position(connection: sa.Connection, name: str = OBSERVE) -> Position | None:
    """Returns the position, or None before the first reading."""
    value = connection.execute(_LOAD, {"name": name}).scalar_one_or_none()
    if value is None:
        return None
    return Position(datetime.fromisoformat(value["reached"]), bool(value["complete"]), value.get("caught_up", True))


def save_position(connection: sa.Connection, position: Position, now: datetime, name: str = OBSERVE) -> None:
    """Moves the position; one that lies behind the stored one changes nothing."""
    value = {
        "reached": position.reached.isoformat(),
        "complete": position.complete,
        "caught_up": position.caught_up,
    }
    connection.execute(_SAVE, {"name": name, "value": value, "updated_at": now, "reached": position.reached})


def _save_statement() -> sa.Insert:
    fresh = insert(cursor).values({column: sa.bindparam(column) for column in ("name", "value", "updated_at")})
    stored = sa.cast(cursor.c.value["reached"].astext, sa.DateTime(timezone=True))
    return fresh.on_conflict_do_update(
        index_elements=[cursor.c.name],
        set_={"value": fresh.excluded.value, "updated_at": fresh.excluded.updated_at},
        where=stored <= sa.bindparam("reached", type_=sa.DateTime(timezone=True)),
    )


# Positions of before it was noted are of readers that had caught up.
has_caught_up = sa.exists().where(
    cursor.c.name == OBSERVE, sa.func.coalesce(cursor.c.value["caught_up"].astext, "true") == "true"
)
_LOAD = sa.select(cursor.c.value).where(cursor.c.name == sa.bindparam("name"))
_SAVE = compiled_once(_save_statement())
