"""Deleting by age alone, where nothing is archived first: the table in pieces, each of a bounded number of rows.

Belongs here: which rows to take next, and what to do when somebody is in the way. Does not belong here: the transaction
itself (`deletion`), what may go (`windows`). Without an index the table is read page range by page range, once. With
one, and where row level security binds our role, what is due is taken through the index until nothing is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from uuid import UUID

from adinsights_orchestration.audit_log.retention.deletion import Counting, Deleter
from adinsights_orchestration.audit_log.retention.pace import Pace
from adinsights_orchestration.audit_log.retention.walk import WalkReport
from adinsights_orchestration.audit_log.table.access import Access
from adinsights_orchestration.audit_log.table.statements import Run, Scope
from adinsights_orchestration.audit_log.windows import Policy, Why

_PAGES = 2_000  # about 40,000 rows of an audit log
_FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS = 10_000, 500, 50_000
_ATTEMPTS = 3


@dataclass(slots=True)
class ByAge:
    """One passage through one table.

    Attributes:
        deleter: Runs the transactions.
        pace: How much at a time.
        policy: What may go.
        access: How our role reaches the table.
        account: Counts what goes; None: nothing is deleted, and every piece is told of once.
        pages: The table's size; 0 where an index leads to what is due, or the table must not be read by pages.
    """

    deleter: Deleter
    pace: Pace
    policy: Policy
    access: Access
    account: Counting | None
    pages: int
    report: WalkReport = field(default_factory=WalkReport)

    def run(self) -> WalkReport:
        """Takes everything that is past its window; returns when nothing is left to do, or no time."""
        for run in self._runs():
            holds = tuple(
                hold for hold in self.policy.holds if any(hold.tenant_id in (None, tenant) for tenant in run.tenants)
            )
            for pages in self._ranges():
                if not self._piece(Scope((run,), pages, holds=holds)):
                    self.report.left += [(tenant, _last(run)) for tenant in run.tenants]
                    return self.report
        return self.report

    def _piece(self, scope: Scope) -> bool:
        """Takes one piece as far as nobody is in the way; False where the time is over."""
        size, attempts = _FIRST_ROWS if scope.pages is None else _MOST_ROWS, 0  # a range of pages is bounded itself
        while not self.pace.over():
            began = self.pace.seconds()
            swept = self.deleter.sweep_by_age(scope, size, self.account)
            took = self.pace.seconds() - began
            self.pace.after(took)
            self.report.transactions += 1
            if swept.gave_way:
                attempts += 1
                if self.account is None or attempts == _ATTEMPTS:
                    return self._without(scope, swept.gave_way)
                size = max(size // 2, 1)
                continue
            for at, rows in swept.rows.items():
                self.report.deleted[at] = self.report.deleted.get(at, 0) + rows
            if self.account is None or sum(swept.rows.values()) < size:
                return True
            size, attempts = self.pace.next_size(size, took, _LEAST_ROWS, _MOST_ROWS), 0
        return False

    def _without(self, scope: Scope, gave_way: str) -> bool:
        """Tenant by tenant, so that only whose rows somebody is at wait for another night."""
        (run,) = scope.runs
        if len(run.tenants) > 1:
            return all(self._piece(replace(scope, runs=(replace(run, tenants=(each,)),))) for each in run.tenants)
        self.report.blocked |= {(tenant, _last(run)): gave_way for tenant in run.tenants}
        return True

    def _runs(self) -> Iterator[Run]:
        """Tenants with the same cutoff together; those that are held as a whole left out."""
        by_cutoff: dict[date, list[UUID]] = defaultdict(list)
        for tenant in sorted(self.policy.windows):
            cutoff = self.policy.cutoff(tenant)
            if cutoff is not None and self.policy.judge(tenant, cutoff - timedelta(days=1)) is not Why.LEGAL_HOLD:
                by_cutoff[cutoff].append(tenant)
        for cutoff, tenants in sorted(by_cutoff.items()):
            for group in self.access.groups(tenants):
                yield Run(tuple(group), date(1, 1, 1), cutoff)

    def _ranges(self) -> Iterator[tuple[int, int] | None]:
        if not self.pages:
            yield None
        for first in range(0, self.pages, _PAGES):
            yield first, min(first + _PAGES, self.pages)


def _last(run: Run) -> date:
    """The last day that is past the window."""
    return run.end - timedelta(days=1)
