"""A chain must add up: nothing becomes less but by saying so, and what it says must be what stood there."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import (
    FORMAT,
    FORMAT_WITH_REMOVALS,
    Manifest,
    ManifestKind,
    newest,
    read_manifest,
)
from adinsights_orchestration.audit_log.bookkeeping.standing import History, Standing
from adinsights_orchestration.audit_log.model import Cause, Chunk, DataFile, Digest, Gone
from adinsights_orchestration.audit_log.source import Column

DAY = date(2024, 1, 1)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
TENANTS = [UUID(int=number) for number in (1, 2, 3)]
RUN = UUID(int=9)
COLUMNS = (Column("id", "uuid"), Column("action", "character varying(128)"))
WIDER = (Column("id", "uuid"), Column("action", "character varying(255)"))


def file_of(tenant: UUID, period: str, content: str, rows: int, columns: tuple[Column, ...] = COLUMNS) -> DataFile:
    key = chain.data_key("t", tenant, period, content.ljust(64, "0"))
    return DataFile(key, content.ljust(64, "0"), 10 * rows, rows, columns)


def chunk_of(tenant: UUID, day: date, revision: int, rows: int, *files: DataFile) -> Chunk:
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Chunk(tenant, day, revision, rows, rows * 7, Digest(), at, at, tuple(file.key for file in files))


def stand(manifests: Sequence[Manifest]) -> Standing:
    """What a whole chain says, from its first manifest on."""
    history = History()
    for manifest in manifests:
        history.take(manifest)
    return history.standing


@dataclass
class Chain:
    """A chain that grows by one allowed step after the other."""

    manifests: list[Manifest] = field(default_factory=list)
    stands: dict[tuple[UUID, date], tuple[Chunk, tuple[DataFile, ...]]] = field(default_factory=dict)
    number: int = 0
    source: str = "t"

    def add(self, kind: ManifestKind, chunks: Sequence[Chunk], files: Sequence[DataFile], gone: Gone | None) -> None:
        days = [chunk.day for chunk in (*chunks, *(gone.chunks if gone else ()))] or [DAY]
        previous = self.manifests[-1].hash if self.manifests else ""
        revision = max((chunk.revision for chunk in chunks), default=1) if kind is ManifestKind.DAY else 0
        place = (self.source, len(self.manifests) + 1, previous, kind, min(days), max(days), revision)
        manifest = Manifest(*place, tuple(chunks), tuple(files), NOW, gone=gone)
        self.manifests.append(read_manifest(manifest.to_bytes()))

    def archive(self, day: date, more: dict[UUID, int]) -> None:
        """The day anew: everybody who was there, some with more rows."""
        known = {tenant: each for (tenant, at), each in self.stands.items() if at == day}
        revision = max((chunk.revision for chunk, _ in known.values()), default=0) + 1
        revision = max([revision, *(m.revision + 1 for m in self.manifests if m.first_day == day)])
        for tenant, rows in more.items():
            before = known[tenant][0].rows if tenant in known else 0
            file = file_of(tenant, day.isoformat(), self._content(), before + rows)
            known[tenant] = (chunk_of(tenant, day, revision, before + rows, file), (file,))
        self.stands |= {(tenant, day): each for tenant, each in known.items()}
        files = {file.key: file for _, its in known.values() for file in its}
        self.add(ManifestKind.DAY, [chunk for chunk, _ in known.values()], list(files.values()), None)

    def expire(self, at: tuple[UUID, date]) -> None:
        chunk, files = self.stands.pop(at)
        needed = {file.key for _, its in self.stands.values() for file in its}
        gone = Gone(Cause.EXPIRED, "a test", RUN, (chunk,), tuple(file for file in files if file.key not in needed))
        self.add(ManifestKind.TOMBSTONE, (), (), gone)

    def erase(self, at: tuple[UUID, date]) -> None:
        chunk, files = self.stands[at]
        rows = chunk.rows - 1
        file = file_of(at[0], at[1].isoformat(), self._content(), rows)
        new = chunk_of(at[0], at[1], chunk.revision + 1, rows, file)
        self.stands[at] = (new, (file,))
        needed = {file.key for _, its in self.stands.values() for file in its}
        gone = Gone(Cause.ERASED, "a test", RUN, (chunk,), tuple(each for each in files if each.key not in needed))
        self.add(ManifestKind.TOMBSTONE, (new,), (file,), gone)

    def compact(self, tenant: UUID, month: date) -> None:
        mine = {at: each for at, each in self.stands.items() if at[0] == tenant and at[1].replace(day=1) == month}
        old = {file.key: file for _, its in mine.values() for file in its}
        file = file_of(tenant, f"{month:%Y-%m}", self._content(), sum(chunk.rows for chunk, _ in mine.values()))
        chunks = [replace(chunk, files=(file.key,)) for chunk, _ in mine.values()]
        self.stands |= {(tenant, chunk.day): (chunk, (file,)) for chunk in chunks}
        self.add(
            ManifestKind.COMPACTION, chunks, (file,), Gone(Cause.COMPACTED, "a test", RUN, (), tuple(old.values()))
        )

    def _content(self) -> str:
        self.number += 1
        return f"{self.number:032x}"


def grown(seed: int, steps: int, apart: int = 1) -> Chain:
    """Four days that are so many days apart, and steps of every kind."""
    rng, made = random.Random(seed), Chain()
    made.archive(DAY, dict.fromkeys(TENANTS, 3))
    for _ in range(steps):
        what, at = rng.randrange(5), rng.choice(sorted(made.stands) or [(TENANTS[0], DAY)])
        if what < 2 or at not in made.stands:
            made.archive(DAY + timedelta(days=apart * rng.randrange(4)), {rng.choice(TENANTS): rng.randrange(1, 5)})
        elif what == 2:
            made.compact(at[0], at[1].replace(day=1))
        elif what == 3 and made.stands[at][0].rows > 1:
            made.erase(at)
        else:
            made.expire(at)
    return made


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 14))
def test_whatever_is_allowed_adds_up_and_no_object_that_is_needed_is_gone(seed: int, steps: int) -> None:
    made = grown(seed, steps)
    found = stand(made.manifests)
    assert found.problems == []
    assert found.in_force == {at: c for at, (c, _) in made.stands.items()}
    assert newest(made.manifests).keys() == found.in_force.keys()
    needed = {key for chunk in found.in_force.values() for key in chunk.files}
    assert needed <= found.files.keys()
    assert not needed & found.gone.keys()
    assert not found.files.keys() & found.gone.keys()


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(2, 10))
def test_a_step_that_loses_a_row_without_saying_so_is_told(seed: int, steps: int) -> None:
    made = grown(seed, steps)
    day = next(iter(sorted(made.stands)), None)
    if day is None:
        return
    chunk, files = made.stands[day]
    others = [(c, f) for (tenant, at), (c, f) in made.stands.items() if at == chunk.day and tenant != chunk.tenant]
    kept = [replace(chunk, revision=99, rows=chunk.rows - 1), *(c for c, _ in others)]
    named = {file.key: file for its in (files, *(f for _, f in others)) for file in its}
    for chunks in (kept, kept[1:]) if others else (kept,):
        forged = Chain(list(made.manifests))
        forged.add(ManifestKind.DAY, chunks, list(named.values()), None)
        (problem,) = stand(forged.manifests).problems
        assert "tombstone" in problem


def two_days() -> Chain:
    made = Chain()
    made.archive(DAY, {TENANTS[0]: 3, TENANTS[1]: 4})
    return made


def test_a_tombstone_must_say_what_stood_there() -> None:
    made = two_days()
    chunk, files = made.stands[TENANTS[0], DAY]
    for wrong in (replace(chunk, rows=2), replace(chunk, portable=1), replace(chunk, tenant=TENANTS[2])):
        forged = Chain(list(made.manifests))
        forged.add(ManifestKind.TOMBSTONE, (), (), Gone(Cause.EXPIRED, "x", RUN, (wrong,), ()))
        assert any("something else is gone" in problem for problem in stand(forged.manifests).problems)
    forged = Chain(list(made.manifests))
    forged.add(ManifestKind.TOMBSTONE, (), (), Gone(Cause.EXPIRED, "x", RUN, (), files))
    assert any("still needed" in problem for problem in stand(forged.manifests).problems)


@pytest.mark.parametrize(("field_", "value"), [("rows", 2), ("portable", 5), ("revision", 8), ("rows", 9)])
def test_other_objects_for_the_same_rows_hold_the_same_content(field_: str, value: int) -> None:
    made = two_days()
    chunk, files = made.stands[TENANTS[0], DAY]
    file = file_of(TENANTS[0], "2024-01", "ff", 3)
    new = replace(chunk, files=(file.key,), **{field_: value})  # type: ignore[arg-type]
    made.add(ManifestKind.COMPACTION, (new,), (file,), Gone(Cause.COMPACTED, "x", RUN, (), files))
    assert any("another content" in problem for problem in stand(made.manifests).problems)


def test_an_object_that_comes_again_is_not_gone() -> None:
    made = two_days()
    chunk, files = made.stands[TENANTS[0], DAY]
    made.expire((TENANTS[0], DAY))
    assert files[0].key in stand(made.manifests).gone
    other, others = made.stands[TENANTS[1], DAY]
    again = replace(chunk, revision=2)
    made.add(ManifestKind.DAY, (again, other), (*files, *others), None)
    found = stand(made.manifests)
    assert (found.problems, found.gone) == ([], {})


def test_only_what_says_that_something_is_gone_is_of_the_new_format() -> None:
    made = two_days()
    made.expire((TENANTS[0], DAY))
    formats = [manifest.to_bytes().count(f'"format":{FORMAT_WITH_REMOVALS}'.encode()) for manifest in made.manifests]
    assert (formats, FORMAT) == ([0, 1], 1)


def test_a_manifest_with_the_same_columns_of_other_types_has_one_spelling() -> None:
    made = Chain()
    files = [file_of(TENANTS[0], "2024-01-01", f"{n}", 1, (COLUMNS, WIDER)[n % 2]) for n in range(4)]
    made.add(ManifestKind.DAY, [chunk_of(TENANTS[0], DAY, 1, 4, *files)], files, None)
    schemas = made.manifests[0].to_bytes().split(b'"schemas":')[1]
    assert schemas.index(b"(128)") < schemas.index(b"(255)")


def test_an_object_is_of_its_tenant_s_day_or_its_month_and_always_the_same() -> None:
    made = two_days()
    chunk, files = made.stands[TENANTS[0], DAY]
    other, others = made.stands[TENANTS[1], DAY]
    for tenant, period in ((TENANTS[0], "2024-02"), (TENANTS[2], "2024-01-01")):
        strange = file_of(tenant, period, "ff", 3)
        forged = Chain(list(made.manifests))
        new = replace(chunk, revision=2, files=(strange.key,))
        forged.add(ManifestKind.DAY, (new, other), (strange, *others), None)
        assert any("whose it cannot be" in problem for problem in stand(forged.manifests).problems)
    forged = Chain(list(made.manifests))
    changed = replace(files[0], sha256="e" * 64)
    forged.add(ManifestKind.DAY, (replace(chunk, revision=2), other), (changed, *others), None)
    assert any("another object than it was" in problem for problem in stand(forged.manifests).problems)
