"""The ledger of tenants' days, as deletion sees it: what is archived and still in the table, and what is being deleted.

Belongs here: reading and moving rows of `audit_chunk` by compare-and-set. Does not belong here: how a chunk comes to be
sealed (the archive), whether it may go (`windows`). Of a chunk of which a hold kept rows, these are what is left, and
it is sealed as before.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.audit_log.bookkeeping.vanishing import came_back
from adinsights_orchestration.audit_log.model import At, State
from adinsights_orchestration.audit_log.retention.account import Account
from adinsights_orchestration.audit_log.retention.deletion import Content
from adinsights_orchestration.audit_log.source import Column
from adinsights_orchestration.clock import Clock
from adinsights_orchestration.ops_store.audit_tables import audit_chunk, audit_day
from adinsights_orchestration.ops_store.store import OpsStore

_MANY = """
  from unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:rows as bigint[]), cast(:sums as numeric[]))
    as each (tenant_id, day, rows, sum)
 where c.source = :source and c.tenant_id = each.tenant_id and c.day = each.day
"""
# A chunk that a killed process left `deleting` is begun again: the rows that were read now are what was archived.
_BEGIN = """
update adinsights_ops.audit_chunk c
   set state = 'deleting', changed_at = :now,
       staying = jsonb_build_object('rows', each.rows, 'fast', each.sum::text)
{many} and c.state in ('sealed', 'deleting')
returning c.tenant_id, c.day, c.left_rows - each.rows as rows"""
_FINISH = """
update adinsights_ops.audit_chunk c
   set state = case when each.rows = 0 then 'deleted' else 'sealed' end, changed_at = :now, deleted_at = :now,
       deleted_rows = c.deleted_rows + c.left_rows - each.rows,
       left_rows = each.rows, left_fast = each.sum, left_portable = 0, staying = null
{many} and c.state = 'deleting'"""
_ABANDON = """
update adinsights_ops.audit_chunk c set state = 'sealed', changed_at = :now, staying = null
{many} and c.state = 'deleting'"""


@dataclass(frozen=True, slots=True)
class Proof:
    """By what a chunk's rows are recognised: the columns that were archived, on which version of the server."""

    columns: tuple[Column, ...]
    server_major: int


@dataclass(frozen=True, slots=True)
class Live:
    """A chunk that should still be in the table.

    Attributes:
        proof: By what its rows are recognised.
        fast: What is there, by the server's own digest.
        portable: What is there, by the digest that any server computes.
        staying: What is there instead if the deletion that was under way when a process died has been committed.
    """

    proof: Proof
    fast: Content
    portable: Content
    staying: Content | None = None


def live_chunks(connection: sa.Connection, source: str, before: date, *, half_way: bool = False) -> dict[At, Live]:
    """Returns every chunk before a day of which rows should still be in the table, oldest first.

    Args:
        connection: To the ops store.
        source: The table's name in the archive.
        before: The day.
        half_way: Only those of whose deletion a process that died left open whether it was committed.
    """
    chunk = audit_chunk.c
    query = (
        sa.select(
            chunk.tenant_id,
            chunk.day,
            chunk.revision,
            chunk.left_rows,
            chunk.left_fast,
            chunk.left_portable,
            chunk.staying,
        )
        .where(chunk.source == source, chunk.state.in_((State.SEALED, State.DELETING)), chunk.day < before)
        .order_by(chunk.day, chunk.tenant_id)
    )
    if half_way:
        query = query.where(chunk.state == State.DELETING)
    proofs = _proofs(connection, source, before)
    found = connection.execute(query).all()
    return {(row.tenant_id, row.day): _live(row, proofs[row.day, row.revision]) for row in found}


def rows_in_table(connection: sa.Connection, source: str) -> dict[At, int]:
    """Returns how many rows of every archived chunk should be in the table now."""
    chunk = audit_chunk.c
    query = sa.select(chunk.tenant_id, chunk.day, chunk.left_rows).where(
        chunk.source == source, chunk.state == State.SEALED, chunk.left_rows > 0
    )
    return {(row.tenant_id, row.day): row.left_rows for row in connection.execute(query)}


def archived_days(connection: sa.Connection, source: str, present: Collection[str]) -> frozenset[date]:
    """Returns the archived days that lose nothing by being archived anew.

    Not those of which a deletion is half-way, nor those that were archived with a column that the table lacks by now.

    Args:
        connection: To the ops store.
        source: The table's name in the archive.
        present: The columns that the table has.
    """
    half_way = sa.select(audit_chunk.c.day).where(audit_chunk.c.source == source, audit_chunk.c.state == State.DELETING)
    query = sa.select(audit_day.c.day, audit_day.c.columns).where(
        audit_day.c.source == source, audit_day.c.sequence.is_not(None), audit_day.c.day.not_in(half_way)
    )
    found, richer = set[date](), set[date]()
    for day, columns in connection.execute(query):
        (found if all(name in present for name, _ in columns) else richer).add(day)
    return frozenset(found - richer)


def mark_gone(connection: sa.Connection, source: str, chunks: Iterable[At], now: datetime) -> None:
    """Records that nothing of these archived chunks is in the table any more, by whoever's hand."""
    nothing = dict.fromkeys(chunks, Content())
    _many(connection, _BEGIN, source, nothing, now)
    _many(connection, _FINISH, source, nothing, now)


def settle(
    connection: sa.Connection,
    source: str,
    gone: Mapping[At, Content],
    there: Mapping[At, Content],
    now: datetime,
) -> None:
    """Records what became of deletions of unknown outcome.

    Args:
        connection: To the ops store.
        source: The table's name in the archive.
        gone: Those that were committed, with what stays of each.
        there: Those that are to be compared again like any other day.
        now: The moment.
    """
    _many(connection, _ABANDON, source, there, now)
    _many(connection, _FINISH, source, gone, now)


@dataclass(slots=True)
class ChunkLedger:
    """The ledger of one table, as `deletion` wants it.

    Attributes:
        store: The ops store.
        source: The table's name in the archive.
        clock: The moment of each change.
        account: Counts what is gone, in the transaction that says so.
    """

    store: OpsStore
    source: str
    clock: Clock
    account: Account | None = None
    _going: dict[At, int] = field(init=False, default_factory=dict)

    def begin(self, staying: Mapping[At, Content]) -> bool:
        """All of them become `deleting`, or none."""
        with self.store.begin() as connection:
            came_back(connection, self.source, staying)
            found = _many(connection, _BEGIN, self.source, staying, self.clock()).all()
            begun = len(found) == len(staying)
            if not begun:
                connection.rollback()
        self._going = {(row.tenant_id, row.day): row.rows for row in found} if begun else {}
        return begun

    def finish(self, staying: Mapping[At, Content]) -> None:
        """They become `deleted`, or `sealed` with what a hold keeps."""
        with self.store.begin() as connection:
            _many(connection, _FINISH, self.source, staying, self.clock())
            if self.account is not None:
                self.account.count(connection, self._going)
        if self.account is not None:
            self.account.finish()

    def abandon(self, staying: Mapping[At, Content]) -> None:
        """They become `sealed` again."""
        with self.store.begin() as connection:
            _many(connection, _ABANDON, self.source, staying, self.clock())


def _many(
    connection: sa.Connection, statement: str, source: str, chunks: Mapping[At, Content], now: datetime
) -> sa.CursorResult[Any]:
    parameters = {
        "source": source,
        "now": now,
        "tenants": [tenant for tenant, _ in chunks],
        "days": [day for _, day in chunks],
        "rows": [content.rows for content in chunks.values()],
        "sums": [content.digest for content in chunks.values()],
    }
    return connection.execute(sa.text(statement.format(many=_MANY)), parameters)


def _proofs(connection: sa.Connection, source: str, before: date) -> dict[tuple[date, int], Proof]:
    """By day and revision; days that were read alike share one, for there are few such, and many chunks."""
    of = audit_day.c
    query = sa.select(of.day, of.revision, of.columns, of.server_major).where(of.source == source, of.day < before)
    alike: dict[tuple[str, int], Proof] = {}
    found: dict[tuple[date, int], Proof] = {}
    for row in connection.execute(query):
        key = json.dumps(row.columns), row.server_major
        if key not in alike:
            alike[key] = Proof(tuple(Column(name, type_) for name, type_ in row.columns), row.server_major)
        found[row.day, row.revision] = alike[key]
    return found


def _live(row: sa.Row[Any], proof: Proof) -> Live:
    staying = Content(row.staying["rows"], int(row.staying["fast"])) if row.staying else None
    fast, portable = Content(row.left_rows, int(row.left_fast)), Content(row.left_rows, int(row.left_portable))
    return Live(proof, fast, portable, staying)
