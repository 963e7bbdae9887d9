"""How every connection to the ops store is made, and what its failures are called.

Belongs here: the engine's settings and the translation of errors. Does not belong here: what is done with a connection.
A host that loses its power says no goodbye, so both sides ask for a sign of life after 15 seconds and give up after 30:
the server because the locks and transactions of a client that is gone would hold up everybody for hours, and the client
because a tick would wait a quarter of an hour for a server that has moved elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.settings import OpsStoreSettings

_IDLE_SECONDS, _INTERVAL_SECONDS, _COUNT = 15, 5, 3
_SERVER_KEEPALIVES = {
    "tcp_keepalives_idle": _IDLE_SECONDS,
    "tcp_keepalives_interval": _INTERVAL_SECONDS,
    "tcp_keepalives_count": _COUNT,
}
# The storage of Dagster's instance has the same ones, in dagster.yaml.
CLIENT_KEEPALIVES = {
    "keepalives_idle": _IDLE_SECONDS,
    "keepalives_interval": _INTERVAL_SECONDS,
    "keepalives_count": _COUNT,
    "tcp_user_timeout": (_IDLE_SECONDS + _INTERVAL_SECONDS * _COUNT) * 1000,  # ms; for what was sent and not received
}


def make_engine(settings: OpsStoreSettings, *, connect: Mapping[str, Any] | None = None, **pool: Any) -> sa.Engine:
    """Returns an engine; it connects at its first statement.

    Args:
        settings: Address and deadlines.
        connect: libpq's parameters beyond the usual ones, or instead of them.
        pool: SQLAlchemy's parameters of the pool.
    """
    url = make_url(settings.dsn.get_secret_value()).set(drivername="postgresql+psycopg")
    server = {"statement_timeout": settings.statement_timeout_seconds * 1000, "timezone": "UTC", **_SERVER_KEEPALIVES}
    return sa.create_engine(
        url,
        hide_parameters=True,  # an error text reaches logs; what a row holds must not
        connect_args={
            "connect_timeout": settings.connect_timeout_seconds,
            "application_name": "adinsights",
            **CLIENT_KEEPALIVES,
            "options": " ".join(f"-c {name}={value}" for name, value in server.items()),
            **(connect or {}),
        },
        **pool,
    )


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


def lock_key(name: str | sa.BindParameter[str]) -> sa.ColumnElement[int]:
    """The number by which Postgres knows the advisory lock `name`."""
    return sa.func.hashtextextended(name, 0)
