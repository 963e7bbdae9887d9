"""The ops store's engine, migrations and locks.

Belongs here: connecting, bringing the schema up to date, and the advisory locks that keep two ticks of one kind apart.
Does not belong here: any domain's rows. Dagster may run two evaluations of one sensor at once (a tick that outlives its
deadline goes on while the next begins), so every tick that writes takes its `exclusive` lock first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store import alert_tables, audit_tables  # noqa: F401  (belong to the schema)
from adinsights_orchestration.ops_store.connecting import lock_key, make_engine, translated_errors
from adinsights_orchestration.ops_store.lock_session import LockSession
from adinsights_orchestration.ops_store.tables import SCHEMA
from adinsights_orchestration.settings import OpsStoreSettings

if TYPE_CHECKING:
    from adinsights_orchestration.ops_store.revisions import Standing

_MIGRATION_LOCK = "adinsights_ops:migrate"
_KEPT: Mapping[str, Any] = {"pool_pre_ping": True, "pool_recycle": 1800}  # connections of a pool outlive a restart
_SESSION_WAITS_SECONDS = 5
# A location has at most eight sensors that lock, each with a tick at work and the next one, which only asks whether it
# is; a run holds three at most, one in another.
LOCKS_AT_ONCE = 16
LOCK_WAITS_SECONDS = 30  # for one of these connections; what is turned away gives its own back at once
_name = sa.bindparam("name", type_=sa.Text)
_TAKE = sa.select(sa.func.pg_try_advisory_lock(lock_key(_name)))
_GIVE_BACK = sa.select(sa.func.pg_advisory_unlock(lock_key(_name)))
# Postgres shows an advisory lock's number in halves.
_HELD = """
select name from unnest(cast(:names as text[])) as wanted (name) where exists (
    select from pg_locks
    where locktype = 'advisory' and objsubid = 1 and granted
    and database = (select oid from pg_database where datname = current_database())
    and (classid::bigint << 32) | objid::bigint = hashtextextended(name, 0))
"""


class OpsStore:
    """A lazily connected handle on the ops store; safe to build while the database is down.

    Args:
        settings: Address, pool size and deadlines.
    """

    def __init__(self, settings: OpsStoreSettings) -> None:
        self._settings = settings
        self._engine: sa.Engine | None = None
        self._lock_engine: sa.Engine | None = None

    @property
    def engine(self) -> sa.Engine:
        """The engine; made at first use, connected at first statement."""
        if self._engine is None:
            size = self._settings.pool_size
            self._engine = make_engine(self._settings, **_KEPT, pool_size=size, max_overflow=0)
        return self._engine

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """One transaction; an unreachable or unmigrated store is an `OpsStoreError` with the next step."""
        with translated_errors(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def exclusive(self, name: str) -> Iterator[bool]:
        """Holds the advisory lock `name` on a connection of its own; yields False at once when somebody else has it.

        The connection is of a pool apart: sections that each held one of the store's own while their bodies waited for
        a second would wait for each other.
        """
        with translated_errors(), self._lock_connection() as connection:
            taken = connection.execute(_TAKE, {"name": name}).scalar_one()
            try:
                yield bool(taken)
            finally:
                if taken and not connection.closed and not connection.invalidated:
                    connection.execute(_GIVE_BACK, {"name": name})

    def session(self) -> LockSession:
        """Returns a session for locks that are held for longer than a tick; not connected yet.

        It notices a server that has vanished within seconds instead of the minutes that TCP gives it.
        """
        waits = min(self._settings.connect_timeout_seconds, _SESSION_WAITS_SECONDS)
        connect = {"connect_timeout": waits, "tcp_user_timeout": _SESSION_WAITS_SECONDS * 1000}
        engine = make_engine(self._settings, connect=connect, poolclass=sa.NullPool)
        return LockSession(engine.execution_options(isolation_level="AUTOCOMMIT"))

    def held(self, names: Iterable[str]) -> set[str]:
        """Returns those of the advisory locks `names` that any session holds at this moment; takes none of them."""
        with self.begin() as connection:
            return set(connection.execute(sa.text(_HELD), {"names": list(names)}).scalars())

    def migrate(self) -> Standing:
        """Brings the schema to the newest revision; several processes may call it at once, one does the work.

        Returns:
            Where the schema stood before. One that a newer release has brought further is left as it is: revisions only
            add, so this release works on it.
        """
        from alembic import command  # a code location never migrates

        from adinsights_orchestration.ops_store.revisions import alembic_config, keep_release, standing

        with self.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key(_MIGRATION_LOCK))))
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
            found = standing(connection)
            if not found.is_newer and found.revision != found.newest:
                config = alembic_config()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                keep_release(connection)
        return found

    def _lock_connection(self) -> sa.Connection:
        """One connection is kept, since a tick every half minute should not log in each time; more come as needed."""
        if self._lock_engine is None:
            more = LOCKS_AT_ONCE - 1
            engine = make_engine(
                self._settings, **_KEPT, pool_size=1, max_overflow=more, pool_timeout=LOCK_WAITS_SECONDS
            )
            self._lock_engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        try:
            return self._lock_engine.connect()
        except PoolTimeoutError as error:
            raise OpsStoreError(
                f"this process holds {LOCKS_AT_ONCE} locks of the ops store, and none was given back",
                next_step="Look for ticks that hang, and restart the process.",
            ) from error

    def dispose(self) -> None:
        """Closes every pooled connection."""
        for engine in (self._engine, self._lock_engine):
            if engine is not None:
                engine.dispose()
