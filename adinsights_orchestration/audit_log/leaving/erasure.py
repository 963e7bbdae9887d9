"""Erasure: one person's rows, or those about one thing, leave a tenant's archive because the law asks for it.

Belongs here: finding them in every object that was ever written of the tenant, and writing what holds some of them
anew. Does not belong here: how something leaves (`removing`), or how it is written anew (`rewriting`). Nothing that the
chain keeps for ever says who was erased: a tombstone has counts, digests and the reason in somebody's words. A row that
is meant in one revision is meant in all of them, by its key: the backend empties the user of a row when it deletes the
user, and leaves the row, with what else it says of the person. Rows in the table are the backend's to delete; while
some are there the archive would only take them in again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from adinsights_orchestration.audit_log.archive.writing import put
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import InForce
from adinsights_orchestration.audit_log.bookkeeping.standing import Standing, month_of
from adinsights_orchestration.audit_log.leaving import preflight
from adinsights_orchestration.audit_log.leaving.matching import Conditions, Key, Subject, has_key, keys_of, matches
from adinsights_orchestration.audit_log.leaving.removing import Archive, Leaving, RemovalError, Swept, by_month, unnamed
from adinsights_orchestration.audit_log.leaving.rewriting import Rewrite, inputs_of, leave_out
from adinsights_orchestration.audit_log.model import At, Cause, Chunk, DataFile, Digest
from adinsights_orchestration.audit_log.reading import reader
from adinsights_orchestration.audit_log.reading.decoding import decoded
from adinsights_orchestration.audit_log.reading.proving import verify
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.plan_digest import plan_digest

_DAY_MICROSECONDS = 86_400_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_Seen = TypeVar("_Seen")


@dataclass(slots=True)
class ErasurePlan:
    """What would be done, or was.

    Attributes:
        subject: Whose rows.
        keys: Of all rows that are meant, whether in force or not.
        in_table: Those of them that are in the table, and of rows there that nothing archived yet.
        rows: Rows that go, by day.
        rewritten: Objects that are written anew without them.
        former: Rows of others, as an earlier revision has them, in objects of which nothing that is in force is left:
            they go along, and with them what a row said before it was changed.
        removed: Objects that go as a whole: of earlier revisions with such rows, and of runs that died.
        obstacles: Why nothing can be done now.
        swept: What became of the objects.
    """

    subject: Subject
    keys: frozenset[Key] = frozenset()
    in_table: list[Key] = field(default_factory=list)
    rows: dict[date, int] = field(default_factory=dict)
    rewritten: set[str] = field(default_factory=set)
    former: int = 0
    removed: dict[str, DataFile] = field(default_factory=dict)
    obstacles: list[str] = field(default_factory=list)
    swept: Swept = field(default_factory=Swept)

    @property
    def digest(self) -> str:
        """Names everything that it would do."""
        days = sorted((day.isoformat(), rows) for day, rows in self.rows.items())
        return plan_digest(
            repr(self.subject), days, sorted(map(repr, self.keys)), sorted(self.rewritten), sorted(self.removed)
        )

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.rewritten or self.removed)


@dataclass(frozen=True, slots=True)
class Erasure:
    """The erasure of one subject's rows.

    Attributes:
        archive: Where.
        subject: Whose.
        reason: In somebody's words; without a name, since it is kept for ever.
    """

    archive: Archive
    subject: Subject
    reason: str

    def plan(self) -> ErasurePlan:
        """Finds the rows; changes nothing.

        Raises:
            SubjectError: It is not clear whose rows are meant.
            ContentError: An object of the tenant is missing or damaged, so that nobody knows what it holds.
        """
        store = self.archive.store
        return self._plan(store, self._read(store))

    def apply(self, wanted: str = "") -> ErasurePlan:
        """Carries out the plan that somebody read.

        Raises:
            PlanChangedError: There is another plan now.
            RemovalError: Something is in the way, or no reason is given.
        """
        if not self.reason:
            raise RemovalError("no reason is given", next_step="Name the request (--reason), not the person.")
        with self.archive.locked():
            store = self.archive.store
            standing = self._read(store)
            plan = self._plan(store, standing)
            preflight.require(plan.digest, wanted, plan.obstacles)
            with self.archive.journalled(Cause.ERASED) as (run, summary):
                for leaving in self._leavings(store, plan, standing):
                    self.archive.bury(store, run, Cause.ERASED, leaving, self.reason)
                plan.swept = self.archive.sweep(store)
                summary |= {"removed": plan.swept.removed, "refused": len(plan.swept.refused)}
        return plan

    def _read(self, store: Store) -> Standing:
        return self.archive.read(store, lambda at: at[0] == self.subject.tenant)

    def _plan(self, store: Store, standing: Standing) -> ErasurePlan:
        archive, tenant = self.archive, self.subject.tenant
        conditions = self.subject.conditions(archive.source)
        plan = ErasurePlan(self.subject, obstacles=list(preflight.obstacles(archive, tenant)))
        strays = preflight.leftovers(store, archive.source, tenant, standing)
        users = standing.users()
        damaged, months = self._find_keys(store, [*standing.files.values(), *strays], conditions, plan)
        for file, error in damaged.items():
            if file.key in users:
                raise error
            plan.removed[file.key] = file  # a damaged object that was kept as evidence: it may hold such rows
        files = [file for file in standing.files.values() if file not in damaged and _month(file) in months]
        self._find_rows(store, files, users, plan)
        plan.removed |= {file.key: file for file in strays}
        plan.in_table = preflight.keys_in_table(archive, tenant, conditions, plan.keys)
        if plan.in_table:
            plan.obstacles.append(
                f"{len(plan.in_table):,} of these rows are in the table, by their ids: delete them in the backend first"
            )
        return plan

    def _find_keys(
        self, store: Store, files: Sequence[DataFile], conditions: Conditions, plan: ErasurePlan
    ) -> tuple[dict[DataFile, ContentError], set[date]]:
        """The keys of what is meant; told: which objects cannot be read, and in which months such rows are."""
        names = self.archive.source.keys
        damaged: dict[DataFile, ContentError] = {}
        months: set[date] = set()
        keys: set[Key] = set()
        for file, found in _search(store, files, lambda rows: _keys(rows, conditions, names), self._at_once):
            if isinstance(found, ContentError):
                damaged[file] = found
            elif found:
                months.add(_month(file))
                keys |= found
        plan.keys = frozenset(keys)
        return damaged, months

    def _find_rows(
        self, store: Store, files: Sequence[DataFile], users: Mapping[str, set[At]], plan: ErasurePlan
    ) -> None:
        """Where the rows with these keys are, by whichever name of a person, or none, each object has them."""
        source = self.archive.source
        days: Counter[date] = Counter()
        for file, found in _search(store, files, lambda rows: _by_day(source, rows, plan.keys), self._at_once):
            if isinstance(found, ContentError):  # it was whole a moment ago
                raise found
            doomed, others = found
            needed = {day for _, day in users.get(file.key, ())}
            if doomed and needed:
                plan.rewritten.add(file.key)
            elif doomed:
                plan.removed[file.key] = file
            if doomed and needed.isdisjoint(others):
                plan.former += others.total()
            days.update({day: rows for day, rows in doomed.items() if day in needed})
        plan.rows = dict(sorted(days.items()))

    @property
    def _at_once(self) -> int:
        return self.archive.settings.audit_log.at_once

    def _leavings(self, store: Store, plan: ErasurePlan, standing: Standing) -> Iterator[Leaving]:
        """By month; what goes as a whole goes with the first."""
        touched = [at for at, chunk in standing.in_force.items() if plan.rewritten.intersection(chunk.files)]
        besides = tuple(plan.removed.values())
        for month in by_month(touched):
            leaving = self._month(store, plan, standing, [standing.in_force[at] for at in month])
            yield replace(leaving, files=(*leaving.files, *besides))
            besides = ()
        if besides:
            yield unnamed(besides)

    def _month(
        self,
        store: Store,
        plan: ErasurePlan,
        standing: Standing,
        chunks: Sequence[Chunk],
    ) -> Leaving:
        source, tenant = self.archive.source, self.subject.tenant
        doomed = partial(has_key, names=source.keys, keys=plan.keys)
        keys = plan.rewritten.intersection(key for chunk in chunks for key in chunk.files)
        inputs = inputs_of(standing, tenant, keys, standing.users())
        rewrites = {each.file.key: leave_out(store, source, tenant, each, doomed) for each in inputs}
        files = {key: put(store, each.encoded) for key, each in rewrites.items() if each.encoded is not None}
        known = self.archive.ledger.in_force(chunks[0].day, chunks[-1].day)
        before, after = [], []
        for chunk in chunks:
            new, left_out = _anew(chunk, rewrites, files)
            if left_out.rows:
                before.append(chunk)
                revision = standing.next_revision(chunk.day)
                new = replace(new, revision=revision, live=_live(known.get((tenant, chunk.day)), new))
            if new.rows:
                after.append(new)
        named = {key for chunk in after for key in chunk.files}
        stands = {file.key: file for file in (*files.values(), *standing.files.values()) if file.key in named}
        if after:
            verify(source, store, after, list(stands.values()), self.archive.settings.audit_log.at_once)
        gone = tuple(standing.files[key] for key in sorted(keys))
        return Leaving(chunks[0].day, chunks[-1].day, tuple(before), gone, tuple(after), tuple(stands.values()))


def _anew(chunk: Chunk, rewrites: Mapping[str, Rewrite], files: Mapping[str, DataFile]) -> tuple[Chunk, Digest]:
    """A chunk without what was left out of its objects, and that; its content is proven when it is read back."""
    mine = [rewrites[key] for key in chunk.files if key in rewrites]
    left_out = sum((each.left_out.get(chunk.day, Digest()) for each in mine), Digest())
    names = [
        files[key].key if key in rewrites else key
        for key in chunk.files
        if key not in rewrites or chunk.day in rewrites[key].kept
    ]
    rows, portable = chunk.rows - left_out.rows, chunk.portable - left_out.portable
    new = replace(chunk, rows=rows, portable=portable, files=tuple(names))
    bounds = [each.bounds[chunk.day] for each in mine if chunk.day in each.bounds]
    if bounds and len(mine) == len(chunk.files):
        new = replace(new, earliest=min(each[0] for each in bounds), latest=max(each[1] for each in bounds))
    return new, left_out


def _live(known: InForce | None, new: Chunk) -> Digest:
    """What the table should hold of it. Nobody has read it now, so retention archives the day anew before it goes."""
    return Digest(min(known.left.rows, new.rows)) if known is not None and known.left.rows else Digest()


def _search(
    store: Store, files: Sequence[DataFile], see: Callable[[pa.Table], _Seen], at_once: int
) -> Iterator[tuple[DataFile, _Seen | ContentError]]:
    """Each object with what is seen in its rows; or why it cannot be read."""

    def look(file: DataFile) -> tuple[DataFile, _Seen | ContentError]:
        try:
            return file, see(decoded(file, reader.fetch(store, file)))
        except ContentError as error:
            return file, error

    with ThreadPoolExecutor(at_once) as pool:
        yield from pool.map(look, files)


def _month(file: DataFile) -> date:
    return month_of(chain.day_of_key(file.key))


def _keys(rows: pa.Table, conditions: Conditions, names: Sequence[str]) -> set[Key]:
    return set(keys_of(rows.filter(matches(rows, conditions)), names))


def _by_day(source: Source, rows: pa.Table, keys: Collection[Key]) -> tuple[Counter[date], Counter[date]]:
    """The rows with these keys, and the others, counted by day."""
    meant = has_key(rows, source.keys, keys)
    return _days(source, rows.filter(meant)), _days(source, rows.filter(pc.invert(meant)))


def _days(source: Source, rows: pa.Table) -> Counter[date]:
    days = pc.value_counts(pc.divide(pc.cast(rows.column(source.time), pa.int64()), _DAY_MICROSECONDS))
    return Counter({date.fromordinal(_EPOCH + each["values"]): each["counts"] for each in days.to_pylist()})
