"""The ops store's engine, migrations and locks.

Belongs here: connecting, bringing the schema up to date, and the advisory locks that keep two ticks of one kind apart.
Does not belong here: any domain's rows. Dagster may run two evaluations of one sensor at once (a tick that outlives its
deadline goes on while the next begins), so every tick that writes takes its `exclusive` lock first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.tables import SCHEMA
from adinsights_orchestration.settings import OpsStoreSettings

_MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATION_LOCK = "adinsights_ops:migrate"


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
            self._engine = _engine(
                self._settings, pool_size=self._settings.pool_size, max_overflow=0, pool_recycle=1800
            )
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
        with translated_errors(), self._locks().connect() as connection:
            taken = connection.execute(sa.select(sa.func.pg_try_advisory_lock(_lock_key(name)))).scalar_one()
            try:
                yield bool(taken)
            finally:
                if taken and not connection.closed and not connection.invalidated:
                    connection.execute(sa.select(sa.func.pg_advisory_unlock(_lock_key(name))))

    def migrate(self) -> None:
        """Brings the schema to the newest revision; several processes may call it at once, one does the work."""
        with self.begin() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_lock_key(_MIGRATION_LOCK))))
            connection.execute(sa.schema.CreateSchema(SCHEMA, if_not_exists=True))
            config = alembic_config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def _locks(self) -> sa.Engine:
        """One connection is kept, since a tick every half minute should not log in each time; more come as needed."""
        if self._lock_engine is None:
            engine = _engine(self._settings, pool_size=1, max_overflow=64, pool_recycle=1800)
            self._lock_engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        return self._lock_engine

    def dispose(self) -> None:
        """Closes every pooled connection."""
        for engine in (self._engine, self._lock_engine):
            if engine is not None:
                engine.dispose()


def alembic_config() -> Config:
    """Alembic's configuration, made in code so that no ini file has to travel with the package."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turns the two failures an operator can mend into `OpsStoreError`; everything else passes unchanged."""
    try:
        yield
    except PoolTimeoutError as error:
        raise OpsStoreError(
            "every connection to the ops store is in use",
            place="ADINSIGHTS_OPS_STORE__POOL_SIZE",
            next_step="Raise it, or look for a statement that hangs.",
        ) from error
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig else "no answer"
        raise OpsStoreError(
            f"the ops store does not answer ({reason})",
            place="ADINSIGHTS_OPS_STORE__DSN",
            next_step="Check that Postgres is up and the address right; `adinsights doctor` shows more.",
        ) from error
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) not in ("42P01", "3F000", "42703"):
            raise
        raise OpsStoreError("the ops store is not migrated", next_step="Run `adinsights migrate`.") from error


def _lock_key(name: str) -> sa.ColumnElement[int]:
    return sa.func.hashtextextended(name, 0)


def _engine(settings: OpsStoreSettings, **pool: Any) -> sa.Engine:
    url = make_url(settings.dsn.get_secret_value()).set(drivername="postgresql+psycopg")
    options = f"-c statement_timeout={settings.statement_timeout_seconds * 1000} -c timezone=UTC"
    return sa.create_engine(
        url,
        pool_pre_ping=True,
        hide_parameters=True,  # an error text reaches logs; what a row holds must not
        connect_args={
            "connect_timeout": settings.connect_timeout_seconds,
            "application_name": "adinsights",
            "options": options,
        },
        **pool,
    )
