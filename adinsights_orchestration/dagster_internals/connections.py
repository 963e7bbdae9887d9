"""Postgres connections that a run or a tick keeps instead of opening one for every statement.

Belongs here: how Dagster's Postgres storages connect in a process of ours. Does not belong here: what is stored.
Dagster opens and closes a connection for each statement, so that thousands of idle processes hold none; a run that
writes hundreds of events spends most of its time connecting that way (measured: 12 ms of CPU an event, 3 ms with a
kept connection). Every tick of a sensor has an instance of its own, so the connections are the process's and not the
instance's.
"""

from __future__ import annotations

import threading
from typing import TypeAlias

import dagster as dg
import sqlalchemy as sa
from dagster_postgres.event_log import PostgresEventLogStorage
from dagster_postgres.run_storage import PostgresRunStorage
from dagster_postgres.schedule_storage import PostgresScheduleStorage
from sqlalchemy.pool import NullPool

_Storage: TypeAlias = PostgresEventLogStorage | PostgresRunStorage | PostgresScheduleStorage
_RECYCLE_SECONDS = 300
_KEPT = 2  # storing an event nests two
_OVERFLOW = 8
_MOST_DATABASES = 2  # a process has one; whoever has more, as tests do, must not hold on to them all
_engines: dict[sa.URL, sa.Engine] = {}
_changing = threading.Lock()


def keep_connections(instance: dg.DagsterInstance) -> None:
    """Makes the instance's Postgres storages keep their connections, for the rest of this process.

    A kept connection is tried before it is used: a server that restarted meanwhile is connected to again, with
    Dagster's own retries. Other storages, and ones that log in with tokens that expire, stay as they are. Calling it
    again is free.
    """
    for storage in (instance.event_log_storage, instance.run_storage, instance.schedule_storage):
        if isinstance(storage, _Storage) and storage._token_provider is None:  # noqa: SLF001
            _keep(storage)


def _keep(storage: _Storage) -> None:
    engine = storage._engine  # noqa: SLF001
    if isinstance(engine.pool, NullPool):
        storage._engine = _shared(engine.url)  # noqa: SLF001


def _shared(url: sa.URL) -> sa.Engine:
    with _changing:
        engine = _engines.pop(url, None) or sa.create_engine(
            url,
            isolation_level="AUTOCOMMIT",
            pool_size=_KEPT,
            max_overflow=_OVERFLOW,
            pool_pre_ping=True,
            pool_recycle=_RECYCLE_SECONDS,
        )
        _engines[url] = engine
        if len(_engines) > _MOST_DATABASES:
            oldest = next(iter(_engines))
            _engines.pop(oldest).dispose()  # whoever still uses it connects again
        return engine
