"""What a restore commits to the ops store: what it brings of each tenant, and days that are in the table again.

Belongs here: those statements. Does not belong here: restoring, the end of a run (`audit_log.restored`). Both are
committed before the rows are: a process that dies in between has promised rows that never came, which retention finds
out by looking, and never left rows that nobody knows of.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import chain
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log.model import At, Digest
from adinsights_orchestration.audit_log.restore.target import RestoreError
from adinsights_orchestration.audit_log.restore.writing import Arrival
from adinsights_orchestration.audit_log.restored import PROMISED, Promise
from adinsights_orchestration.audit_log.source import Column, Source
from adinsights_orchestration.clock import Clock
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.audit_tables import audit_day, audit_run
from adinsights_orchestration.ops_store.store import OpsStore

# Only what is sealed or was deleted: a day that is being deleted is retention's until it knows what became of it.
_SO_FAR = sa.text("""
select c.tenant_id, c.day, c.left_rows
  from adinsights_ops.audit_chunk c,
       unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:revisions as int[]))
    as each (tenant_id, day, revision)
 where c.source = :source and c.tenant_id = each.tenant_id and c.day = each.day and c.revision = each.revision""")
_IN_TABLE_AGAIN = """
update adinsights_ops.audit_chunk c
   set state = 'sealed', changed_at = :now, left_rows = each.rows, left_portable = each.portable, left_fast = each.fast
  from unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:revisions as int[]), cast(:rows as bigint[]),
              cast(:portable as numeric[]), cast(:fast as numeric[]))
    as each (tenant_id, day, revision, rows, portable, fast)
 where c.source = :source and c.tenant_id = each.tenant_id and c.day = each.day and c.revision = each.revision
   and c.state in ('sealed', 'deleted')"""


@dataclass(slots=True)
class RestoreLedger:
    """The ledger of one restore, shared by its connections.

    Attributes:
        store: The ops store.
        source: The table.
        run: Its entry in the journal.
        clock: The moment of each step.
        live: Whether rows go into the table that retention watches.
        proofs: By day and revision, the columns that retention's digests are of.
        promises: What earlier restores promised, and may never have brought.
        hold: What the entry says of the hold that is new, tenants included: nothing of theirs has come yet.
    """

    store: OpsStore
    source: Source
    run: UUID
    clock: Clock
    live: bool
    proofs: Mapping[tuple[date, int], tuple[Column, ...]]
    promises: Mapping[At, Promise] = field(default_factory=dict)
    hold: Mapping[str, Any] = field(default_factory=dict)
    _brought: Counter[str] = field(default_factory=Counter)
    _days: Counter[str] = field(default_factory=Counter)
    _under_way: dict[int, Sequence[Arrival]] = field(default_factory=dict)
    _promised: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def intend(self, connection: int, arrivals: Sequence[Arrival]) -> None:
        """Commits what this connection is about to commit to the table, together with what all have done before.

        Raises:
            RestoreError: A day was archived anew since it was chosen: nothing would tell retention of these rows.
        """
        came = [arrival for arrival in arrivals if arrival.came]
        with self._turn:
            self._under_way[connection] = came
            if not came:
                return
            try:
                with self.store.begin() as ops:
                    if self.live:
                        self._promised[connection] = self._in_table_again(ops, came)
                    promised = list(chain.from_iterable(self._promised.values()))
                    so_far = {**self.hold, "tenants": self._so_far(), PROMISED: promised}
                    ops.execute(sa.update(audit_run).where(audit_run.c.id == self.run).values(summary=so_far))
            except AdinsightsError:
                del self._under_way[connection]
                self._promised.pop(connection, None)
                raise

    def done(self, connection: int) -> None:
        """It has been committed there too."""
        with self._turn:
            self._promised.pop(connection, None)
            for arrival in self._under_way.pop(connection, ()):
                self._brought[str(arrival.part.chunk.tenant)] += arrival.came
                self._days[str(arrival.part.chunk.tenant)] += 1

    def _so_far(self) -> dict[str, list[int]]:
        """Days and rows by tenant, with those that may be committed at any moment."""
        rows, days = Counter(self._brought), Counter(self._days)
        rows.update(dict.fromkeys(self.hold.get("tenants", ()), 0))
        for arrivals in self._under_way.values():
            for arrival in arrivals:
                rows[str(arrival.part.chunk.tenant)] += arrival.came
                days[str(arrival.part.chunk.tenant)] += 1
        return {tenant: [days[tenant], count] for tenant, count in sorted(rows.items())}

    def _in_table_again(self, connection: sa.Connection, came: list[Arrival]) -> list[dict[str, Any]]:
        """Says so of these chunks, and returns the promises that this is until the table has committed it."""
        left, now = [self._left(arrival) for arrival in came], self.clock()
        which = {
            "source": self.source.name,
            "tenants": [arrival.part.chunk.tenant for arrival in came],
            "days": [arrival.part.chunk.day for arrival in came],
            "revisions": [arrival.part.chunk.revision for arrival in came],
        }
        before = {(row.tenant_id, row.day): row.left_rows for row in connection.execute(_SO_FAR, which)}
        before |= {at: promise.before for at, promise in self.promises.items() if at in before}
        parameters = {
            **which,
            "now": now,
            "rows": [each.rows for each in left],
            "portable": [each.portable for each in left],
            "fast": [each.fast for each in left],
        }
        if connection.execute(sa.text(_IN_TABLE_AGAIN), parameters).rowcount != len(came):
            days = sorted({arrival.part.chunk.day for arrival in came})
            raise RestoreError(
                f"days from {days[0]} to {days[-1]} were archived anew while they were being restored",
                next_step="The same command takes them as they are archived now.",
            )
        return [
            Promise(each.rows, before[arrival.at]).written(*arrival.at, arrival.part.chunk.revision, now)
            for arrival, each in zip(came, left, strict=True)
        ]

    def _left(self, arrival: Arrival) -> Digest:
        """What retention will expect; digests of other columns than it computes tell it to archive the day anew."""
        chunk = arrival.part.chunk
        if arrival.part.schemas != (self.proofs.get((chunk.day, chunk.revision)),):
            return Digest(arrival.left.rows)
        return arrival.left


def proofs_of(store: OpsStore, source: Source, first: date, last: date) -> dict[tuple[date, int], tuple[Column, ...]]:
    """The columns that each revision of these days was read with."""
    day = audit_day.c
    query = sa.select(day.day, day.revision, day.columns).where(
        day.source == source.name, day.day.between(first, last), day.sequence.is_not(None)
    )
    with store.begin() as connection:
        return {
            (row.day, row.revision): tuple(Column(name, type_) for name, type_ in row.columns)
            for row in connection.execute(query)
        }
