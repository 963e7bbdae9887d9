"""Writing to the warehouse the way destination-postgres does: copy, upsert, state in the same transaction.

Belongs here: one connection's session with the warehouse while it syncs or is cleared. Does not belong here: the
connector and the statements' text (`tables`). A crash at any point leaves what was committed: rows and the state that
covers them together, or rows without their state, which the next sync reads again and the key makes harmless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.local.connectors import tables
from adinsights_orchestration.local.connectors.catalog import StreamSpec
from adinsights_orchestration.local.connectors.messages import Record
from adinsights_orchestration.local.connectors.rows import Key, Row, RowMaker

BATCH_ROWS = 5_000  # rows held in memory per stream at most; committed without state when reached
_LOCK_TIMEOUT = "30s"
_CONNECT_TIMEOUT_SECONDS = 10


class WarehouseError(AdinsightsError):
    """The warehouse cannot take this sync."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose rows a session writes."""

    connection_id: UUID
    tenant_id: UUID
    provider: str
    namespace: str


@dataclass
class _Stream:
    spec: StreamSpec
    maker: RowMaker
    needs_pruning: bool
    batch: dict[Key, Row] = field(default_factory=dict)
    pending_rows: int = 0
    pending_bytes: int = 0
    rows: int = 0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """What one stream has committed in this sync: records as they were read, and bytes of their messages."""

    stream: str
    namespace: str
    rows: int
    size: int


class Session:
    """One connection's exclusive session; made by `exclusive`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], owner: Owner, batch_rows: int) -> None:
        self._connection = connection
        self._owner = owner
        self._batch_rows = batch_rows
        self._streams: dict[str, _Stream] = {}
        self._generation_id = 0

    async def begin(
        self, sync_id: int, generation_id: int, specs: Sequence[StreamSpec]
    ) -> Mapping[str, dict[str, Any]]:
        """Prepares tables and returns the states to continue from; those of older generations are not among them."""
        self._generation_id = generation_id
        async with self._connection.transaction():
            await self._create_tables(specs)
        async with self._connection.transaction():
            await self._claim(sync_id, generation_id)
            known = await self._fetch(tables.READ_STREAMS, self._owner.connection_id, self._owner.namespace)
        positions = {stream: (state, generation, oldest) for stream, state, generation, oldest in known}
        for spec in specs:
            await self._connection.execute(tables.create_incoming(spec))
            _, _, oldest = positions.get(spec.name, (None, None, None))
            needs_pruning = oldest is None or oldest < generation_id
            self._streams[spec.name] = _Stream(spec, RowMaker(spec, sync_id, generation_id), needs_pruning)
        return {
            name: state
            for name, (state, generation, _) in positions.items()
            if state is not None and generation == generation_id and name in self._streams
        }

    async def add(self, record: Record) -> Written | None:
        """Takes a record; returns what was committed if it filled the batch. Of two with one key the later stays."""
        stream = self._streams[record.stream]
        key, row = stream.maker.make(record)
        stream.batch[key] = row
        stream.pending_rows += 1
        stream.pending_bytes += record.size
        if len(stream.batch) < self._batch_rows:
            return None
        async with self._connection.transaction():
            await self._write(stream)
        return self._committed(stream)

    async def checkpoint(self, stream_name: str, state: Mapping[str, Any]) -> Written:
        """Commits the stream's records so far together with the state that covers them."""
        stream = self._streams[stream_name]
        owner = self._owner
        async with self._connection.transaction():
            await self._write(stream)
            await self._connection.execute(
                tables.WRITE_STATE,
                (owner.connection_id, owner.namespace, stream_name, self._generation_id, Jsonb(dict(state))),
            )
        return self._committed(stream)

    async def complete(self, stream_name: str) -> Written:
        """Ends a stream that was read to its end: commits the rest, and removes what older generations left."""
        stream = self._streams[stream_name]
        async with self._connection.transaction():
            await self._write(stream)
            if stream.needs_pruning:
                await self._prune(stream)
        return self._committed(stream)

    async def clear(self, streams: Iterable[str]) -> Mapping[str, int]:
        """Deletes the connection's rows and states of these streams, all or nothing; returns the rows per stream."""
        owner = self._owner
        deleted = {}
        async with self._connection.transaction():
            await self._create_internal_tables()
            for stream in streams:
                deleted[stream] = await self._delete_rows(stream)
                await self._connection.execute(tables.FORGET_STREAM, (owner.connection_id, owner.namespace, stream))
        return deleted

    async def _create_tables(self, specs: Sequence[StreamSpec]) -> None:
        await self._create_internal_tables()
        schema = sql.SQL("create schema if not exists {}").format(sql.Identifier(self._owner.namespace))
        await self._connection.execute(schema)
        for spec in specs:
            existing = await self._columns(spec)
            if not existing:
                await self._connection.execute(tables.create_table(spec))
                await self._connection.execute(tables.create_index(spec))
            for column in spec.columns:
                if existing and column.name not in existing:
                    await self._connection.execute(tables.add_column(spec, column))

    async def _create_internal_tables(self) -> None:
        # Connections share tables, and two `create ... if not exists` at once can still collide in the catalog.
        await self._connection.execute("select pg_advisory_xact_lock(%s)", (tables.DDL_LOCK,))
        known = await self._fetch("select to_regclass('airbyte_internal.stream') is not null")
        if not known[0][0]:
            for statement in tables.INTERNAL_TABLES:
                await self._connection.execute(statement)

    async def _columns(self, spec: StreamSpec) -> set[str]:
        query = "select column_name from information_schema.columns where table_schema = %s and table_name = %s"
        return {name for (name,) in await self._fetch(query, spec.namespace, spec.name)}

    async def _claim(self, sync_id: int, generation_id: int) -> None:
        owner = self._owner
        claimed = await self._fetch(
            tables.CLAIM_SYNC, sync_id, owner.connection_id, owner.tenant_id, owner.provider, generation_id
        )
        if not claimed:
            raise WarehouseError(
                f"job {sync_id} belongs to another connection in this warehouse",
                next_step="The job table was reset without the warehouse; reset both.",
            )

    async def _write(self, stream: _Stream) -> None:
        if not stream.batch:
            return
        async with self._connection.cursor() as cursor:
            async with cursor.copy(tables.copy_incoming(stream.spec)) as copy:
                for row in stream.batch.values():
                    await copy.write_row(row)
            await cursor.execute(tables.upsert(stream.spec))

    def _committed(self, stream: _Stream) -> Written:
        stream.rows += stream.pending_rows
        stream.size += stream.pending_bytes
        stream.pending_rows = stream.pending_bytes = 0
        stream.batch.clear()
        return Written(stream.spec.name, stream.spec.namespace, stream.rows, stream.size)

    async def _prune(self, stream: _Stream) -> None:
        owner, generation = self._owner, self._generation_id
        statement = tables.delete_older_generations(stream.spec)
        await self._connection.execute(statement, (str(owner.tenant_id), owner.connection_id, generation))
        done = (generation, owner.connection_id, owner.namespace, stream.spec.name)
        await self._connection.execute(tables.WRITE_OLDEST_GENERATION, done)

    async def _delete_rows(self, stream: str) -> int:
        owner = self._owner
        known = await self._fetch("select to_regclass(%s) is not null", f'"{owner.namespace}"."{stream}"')
        if not known[0][0]:
            return 0
        statement = tables.delete_rows(owner.namespace, stream)
        cursor = await self._connection.execute(statement, (str(owner.tenant_id), owner.connection_id))
        return cursor.rowcount

    async def _fetch(self, query: str, *parameters: object) -> list[Any]:
        cursor = await self._connection.execute(query, parameters)
        return await cursor.fetchall()


@asynccontextmanager
async def exclusive(dsn: str, owner: Owner, batch_rows: int = BATCH_ROWS) -> AsyncIterator[Session]:
    """Opens the connection's session, alone: another one's end is waited for, half a minute at most.

    The wait is for a service that was killed: its session is gone once Postgres notices, not before.
    """
    connection = await psycopg.AsyncConnection.connect(
        dsn, autocommit=True, application_name="airbyte destination", connect_timeout=_CONNECT_TIMEOUT_SECONDS
    )
    async with connection:
        await connection.execute("set timezone to 'UTC'")
        await connection.execute("select set_config('lock_timeout', %s, false)", (_LOCK_TIMEOUT,))
        await connection.execute("select pg_advisory_lock(%s)", (tables.connection_lock(owner.connection_id),))
        yield Session(connection, owner, batch_rows)
