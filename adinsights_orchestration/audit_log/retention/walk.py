"""The order in which a table is gone through, so that no index on its time is needed.

Belongs here: which scope to take next, and which days are left over. Does not belong here: the transaction itself
(`deletion`), what may go (`windows`).

An append-only table holds its days roughly in order. The *sweep* reads it page range by page range, once: days that are
complete in the range and equal what was sealed go, and the next range begins where the first incomplete day does. It
is a guess about where rows lie, and never about what they are: a day that the range does not hold as a whole is not
equal, and stays. What the sweep leaves (a straggler at the end of the table, a row that was changed, an unordered
table) is looked for tenant by tenant through the tenant's index, which tells mismatches from misses. With an index that
leads to days the sweep is not needed, and where row level security binds our role it is not possible.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from uuid import UUID

from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention.deletion import Content, Deleter, Sealed, Taken
from adinsights_orchestration.audit_log.retention.pace import Pace
from adinsights_orchestration.audit_log.table.statements import Run, Scope, runs_of_days
from adinsights_orchestration.audit_log.windows import Hold

_FIRST_PAGES, _LEAST_PAGES, _MOST_PAGES = 256, 16, 65_536
_FIRST_ROWS, _LEAST_ROWS, _MOST_ROWS = 10_000, 500, 50_000
MOST_RUNS = 8  # each is a condition that every row is held against
_WIDENED_UP_TO_SECONDS = 0.4  # a range that takes longer is not widened for the sake of one day
_UNORDERED_AFTER = 20  # days given up, with fewer than as many taken
_ATTEMPTS = 3


@dataclass(slots=True)
class WalkReport:
    """What a walk did.

    Attributes:
        deleted: Rows by tenant's day.
        differing: Tenants' days whose rows are not those that were sealed, with how many of them no hold keeps.
        gone: Tenants' days of which the table holds no row any more.
        blocked: Tenants' days that somebody else was in the way of, with how.
        left: Tenants' days that the run's time did not suffice for.
        transactions: How many were committed or rolled back.
    """

    deleted: dict[At, int] = field(default_factory=dict)
    differing: dict[At, int] = field(default_factory=dict)
    gone: list[At] = field(default_factory=list)
    blocked: dict[At, str] = field(default_factory=dict)
    left: list[At] = field(default_factory=list)
    transactions: int = 0

    @property
    def rows(self) -> int:
        """Rows that were deleted."""
        return sum(self.deleted.values())

    @property
    def unequal(self) -> list[At]:
        """Tenants' days that differ."""
        return list(self.differing)


@dataclass(slots=True)
class Walk:
    """One walk over one table.

    Attributes:
        deleter: Runs the transactions.
        pace: How much at a time.
        expected: What was sealed and is still to be there, of every tenant's day that may go.
        may_go: Whether all rows of a tenant's day may go, sealed or not.
        holds: Holds on single resources.
        pages: The table's size; 0 where it must not be swept.
        indexed: Whether an index leads to the rows of a day.
        per_tenant: Whether every transaction stands in one tenant.
    """

    deleter: Deleter
    pace: Pace
    expected: dict[At, Content]
    may_go: Callable[[UUID, date], bool]
    holds: tuple[Hold, ...] = ()
    pages: int = 0
    indexed: bool = False
    per_tenant: bool = False
    report: WalkReport = field(default_factory=WalkReport)

    def run(self) -> WalkReport:
        """Goes through the table; returns when nothing is left to do, or no time."""
        if not self.per_tenant:
            days, runs = self._together()
            if self.indexed:
                self._by_days(days, runs)
            elif self.pages:
                Sweep(self, days, runs).run()
        for tenant in sorted({tenant for tenant, _ in self.expected}):
            self._one_tenant(tenant)
        self.report.left += sorted(self.expected)
        return self.report

    def take(self, scope: Scope, expected: Mapping[date, Sealed]) -> tuple[Taken, float]:
        """One transaction; returns its outcome and how long it took."""
        began = self.pace.seconds()
        taken = self.deleter.take(scope, expected)
        took = self.pace.seconds() - began
        self.report.transactions += 1
        for day, content in taken.days.items():
            whose = expected[day].chunks
            for tenant, sealed in whose.items():
                del self.expected[tenant, day]
                self.report.deleted[tenant, day] = content.rows if len(whose) == 1 else sealed.rows
        self.pace.after(took)
        return taken, took

    def _together(self) -> tuple[dict[date, Sealed], tuple[Run, ...]]:
        """The days of all tenants without holds on single resources, in few runs.

        A run means every tenant whose rows may go, those without any on a day included: else hardly two neighbouring
        days would mean the same tenants. Rows of such a tenant's day that were never sealed make the day unequal.
        """
        tenants = {tenant for tenant, _ in self.expected if not self._holds_of(tenant)}
        days = by_day({chunk: content for chunk, content in self.expected.items() if chunk[0] in tenants})
        whose = {day: frozenset(tenant for tenant in tenants if self.may_go(tenant, day)) for day in days}
        runs = runs_of_days(whose.items())
        if len(runs) > MOST_RUNS:
            runs = _longest(runs, days)
            days = {day: sealed for day, sealed in days.items() if any(includes(run, day) for run in runs)}
        return days, runs

    def _by_days(self, days: Mapping[date, Sealed], runs: Sequence[Run]) -> None:
        """Through an index on time: neighbouring days of all tenants together."""
        order, size = sorted(days), _FIRST_ROWS
        while order and not self.pace.over():
            batch = _batch(order, days, size)
            del order[: len(batch)]
            scope = Scope(cut(runs, batch[0], batch[-1]))
            _, took = self.take(scope, {day: days[day] for day in batch})
            size = self.pace.next_size(size, took, _LEAST_ROWS, _MOST_ROWS)

    def _one_tenant(self, tenant: UUID) -> None:
        order = sorted(day for whose, day in self.expected if whose == tenant)
        size, attempts = _FIRST_ROWS, 0
        days = by_day({(tenant, day): self.expected[tenant, day] for day in order})
        while order and not self.pace.over():
            batch = _batch(order, days, size)
            scope = Scope(runs_of_days((day, frozenset((tenant,))) for day in batch), holds=self._holds_of(tenant))
            taken, took = self.take(scope, {day: days[day] for day in batch})
            attempts += 1
            if taken.gave_way and (len(batch) > 1 or attempts < _ATTEMPTS):
                size = max(size // 2, 1)
                continue
            self._settle(tenant, batch, taken)
            del order[: len(batch)]
            size, attempts = self.pace.next_size(size, took, _LEAST_ROWS, _MOST_ROWS), 0

    def _settle(self, tenant: UUID, batch: Sequence[date], taken: Taken) -> None:
        for day in batch:
            chunk = (tenant, day)
            if chunk not in self.expected:
                continue  # deleted
            expected = self.expected.pop(chunk)
            found = taken.found.get(day)
            if taken.gave_way:
                self.report.blocked[chunk] = taken.gave_way
            elif found is None:
                self.report.gone.append(chunk)
            elif found.content != expected:
                self.report.differing[chunk] = (found.content - found.held).rows
            # else everything that is there is held

    def _holds_of(self, tenant: UUID) -> tuple[Hold, ...]:
        return tuple(hold for hold in self.holds if hold.tenant_id in (None, tenant))


@dataclass(slots=True)
class Sweep:
    """Goes through the pages of the table once.

    Attributes:
        walk: Whose sweep it is.
        days: What to look for.
        runs: Whose rows of which days.
    """

    walk: Walk
    days: dict[date, Sealed]
    runs: tuple[Run, ...]
    _given_up: set[date] = field(init=False, default_factory=set)
    _taken: int = field(init=False, default=0)

    def run(self) -> None:
        """Takes what it finds whole; the rest stays expected."""
        page, width, attempts = 0, _FIRST_PAGES, 0
        pace, pages = self.walk.pace, self.walk.pages
        while page < pages and self.days and not pace.over() and not self._unordered():
            end = min(page + width, pages)
            scope = Scope(self.runs, (page, end), tuple(sorted(self._given_up)))
            taken, took = self.walk.take(scope, dict(self.days))
            if taken.gave_way and attempts < _ATTEMPTS:
                width, attempts = max(width // 2, _LEAST_PAGES), attempts + 1
                continue
            for day in taken.days:
                del self.days[day]
            self._taken += len(taken.days)
            page, widen = self._next(page, end, taken, took)
            width = min(width * 2, _MOST_PAGES) if widen else pace.next_size(width, took, _LEAST_PAGES, _MOST_PAGES)
            attempts = 0

    def _next(self, page: int, end: int, taken: Taken, took: float) -> tuple[int, bool]:
        """Where the next range begins, and whether it must be wider than this one."""
        incomplete = {day: found.page for day, found in taken.found.items() if day in self.days}
        if not incomplete or end >= self.walk.pages:
            return end, False
        begins = min(incomplete.values())
        if begins > page and not taken.gave_way:
            return begins, False
        if took < _WIDENED_UP_TO_SECONDS and end - page < _MOST_PAGES and not taken.gave_way:
            return page, True
        for day in [day for day, first in incomplete.items() if first <= begins]:
            self._given_up.add(day)
            del self.days[day]
        return page if not taken.gave_way else end, False

    def _unordered(self) -> bool:
        return len(self._given_up) >= _UNORDERED_AFTER and self._taken < len(self._given_up)


def by_day(chunks: Mapping[At, Content]) -> dict[date, Sealed]:
    """The same, day by day."""
    days: dict[date, dict[UUID, Content]] = defaultdict(dict)
    for (tenant, day), content in chunks.items():
        days[day][tenant] = content
    return {day: Sealed(content) for day, content in days.items()}


def cut(runs: Iterable[Run], first: date, last: date) -> tuple[Run, ...]:
    """The part of the runs that lies from `first` to `last`."""
    end = last + timedelta(days=1)
    parts = (Run(run.tenants, max(run.first, first), min(run.end, end)) for run in runs)
    return tuple(part for part in parts if part.first < part.end)


def includes(run: Run, day: date) -> bool:
    """Whether the day is one of the run's."""
    return run.first <= day < run.end


def _longest(runs: Iterable[Run], days: Mapping[date, Sealed]) -> tuple[Run, ...]:
    def rows(run: Run) -> int:
        return sum(sealed.content.rows for day, sealed in days.items() if includes(run, day))

    return tuple(sorted(runs, key=rows, reverse=True)[:MOST_RUNS])


def _batch(order: Sequence[date], days: Mapping[date, Sealed], rows: int) -> list[date]:
    """The next days, of about so many rows together; one at least."""
    batch: list[date] = []
    for day in order:
        rows -= days[day].content.rows
        if batch and rows < 0:
            break
        batch.append(day)
    return batch
