"""A database session that holds advisory locks for longer than one tick, and whose end is noticed.

Belongs here: one connection of its own with the locks that live and die with it. Does not belong here: what is locked
and what follows from a lost lock (`liveness`, `transformation.turn`). A lock of a session is proof that its process is
there: Postgres gives it up when the process ends, however it ends, and also when Postgres itself restarts, so whoever
holds one for long must look after it.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.connecting import lock_key, translated_errors


class LockSession:
    """One connection; not for two threads at once.

    Args:
        engine: Connects anew each time and commits each statement.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._connection: sa.Connection | None = None

    @property
    def is_open(self) -> bool:
        """Whether nothing has been seen of its end yet."""
        return self._connection is not None

    def open(self) -> None:
        """Connects, without any lock; an earlier connection is given up. `OpsStoreError` when nobody answers."""
        self.close()
        with translated_errors():
            self._connection = self._engine.connect()

    def take(self, name: str) -> bool:
        """Takes the advisory lock `name`; returns False at once when another session has it."""
        return bool(self.run(sa.select(sa.func.pg_try_advisory_lock(lock_key(name)))).scalar_one())

    def run(self, statement: sa.Executable) -> sa.CursorResult[Any]:
        """Runs one statement in this session and no other.

        Raises:
            OpsStoreError: The session has ended, and with it every lock; `open` begins another.
        """
        if self._connection is None:
            raise OpsStoreError("the session with the ops store has ended")
        try:
            with translated_errors():
                return self._connection.execute(statement)
        except BaseException:
            # Never used again: SQLAlchemy would connect anew without a word, and the locks would not be there.
            self.close()
            raise

    def close(self) -> None:
        """Gives every lock back and disconnects; a session that has ended already is no error."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            if not connection.invalidated:
                # Disconnecting frees them too, but only when the server gets round to it.
                connection.execute(sa.select(sa.func.pg_advisory_unlock_all()))
        except sa.exc.SQLAlchemyError:
            connection.invalidate()
        finally:
            connection.close()
