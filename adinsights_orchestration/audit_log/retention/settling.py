"""What became of deletions whose COMMIT nobody saw: a look at every tenant's day that a process left `deleting`.

Belongs here: looking, and what it means. Does not belong here: deleting. Every such day is looked at, whatever holds
and windows say by now: archiving, restoring and erasing refuse to touch a day that is half-way, so none may stay it.
What is neither as before nor as intended (a row that came late, a restored backup) is compared like any other day from
then on: it differs, so it stays until it is archived anew.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from uuid import UUID

from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention.account import Account
from adinsights_orchestration.audit_log.retention.chunks import Live, Proof, live_chunks, settle
from adinsights_orchestration.audit_log.retention.deletion import Content, Deleter
from adinsights_orchestration.audit_log.retention.shape import lacking, names_of, shape_of
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.table.access import Access
from adinsights_orchestration.audit_log.table.reaching import GAVE_WAY, Link
from adinsights_orchestration.audit_log.table.statements import Scope, Shape, runs_of_days
from adinsights_orchestration.ops_store.store import OpsStore


@dataclass(frozen=True, slots=True)
class Settling:
    """Looks on behalf of one run.

    Attributes:
        store: The ops store.
        source: The table.
        connection: To its database.
        access: How our role reaches it.
        deleter: Looks, with the fingerprint of a shape.
        account: Of the run.
    """

    store: OpsStore
    source: Source
    connection: Link
    access: Access
    deleter: Callable[[Shape], Deleter]
    account: Account

    def run(self) -> None:
        """Settles every day that is half-way, and closes the entries of runs that died, in one transaction."""
        with self.store.begin() as ledger:
            live = live_chunks(ledger, self.source.name, date.max, half_way=True)
        gone: dict[At, Content] = {}
        there: dict[At, Content] = {}
        rows: dict[At, int] = {}
        for at, found in self._found(live).items():
            staying = live[at].staying or Content()
            (gone if found == staying else there)[at] = staying
            rows[at] = went(live[at], found)
        with self.store.begin() as ledger:
            settle(ledger, self.source.name, gone, there, self.account.clock())
            self.account.take_over(ledger, {at: count for at, count in rows.items() if count})
        self.account.finish()

    def _found(self, live: Mapping[At, Live]) -> dict[At, Content]:
        """What the table holds of them, tenant by tenant; without those of which somebody is in the way."""
        found: dict[At, Content] = {}
        together: dict[tuple[UUID, Proof], list[date]] = defaultdict(list)
        for (tenant, day), each in live.items():
            together[tenant, each.proof].append(day)
        present = names_of(self.connection, self.source) if live else frozenset()
        for (tenant, proof), days in together.items():
            counted_only = bool(lacking(proof.columns, present))  # a column is gone: rows are all there or all gone
            columns = () if counted_only else proof.columns
            shape = shape_of(self.source, columns, fast=proof.server_major == self.access.server_major)
            scope = Scope(runs_of_days((day, frozenset((tenant,))) for day in days))
            try:
                seen = self.deleter(shape).look(scope)
            except GAVE_WAY:
                continue  # the next run looks again
            for day in days:
                content = seen[day].content if day in seen else Content()
                staying = live[tenant, day].staying or Content()
                same = counted_only and content.rows == staying.rows
                found[tenant, day] = staying if same else content
        return found


def went(live: Live, found: Content) -> int:
    """How many rows of a day the deletion took whose COMMIT nobody saw: what it meant to, or none.

    Rows that came late since are told from rows that are still there: what is found is nearer to one of both outcomes.

    Args:
        live: What was there, and what was to stay.
        found: What is there now; without a digest where a column of it is gone.
    """
    here, staying = live.fast.rows, (live.staying or Content()).rows
    if found.rows >= here:
        others = found.digest not in (0, live.fast.digest, live.portable.digest)
        return here - staying if found.rows == here and others else 0
    return here - staying if found.rows - staying <= here - found.rows else 0
