"""A chain that is read month by month says what it says as a whole, in memory that does not grow with it."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.links import Links
from adinsights_orchestration.audit_log.bookkeeping.manifest import ManifestError, ManifestKind
from adinsights_orchestration.audit_log.bookkeeping.standing import Standing
from adinsights_orchestration.audit_log.model import Cause, Gone
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.errors import MissingObjectError
from adinsights_orchestration.audit_log.store.folder import Folder
from tests.audit_log.bookkeeping.test_standing import DAY, RUN, TENANTS, Chain, grown, stand

NAME = "t"


class Written:
    """A store that holds a chain."""

    def __init__(self, made: Chain) -> None:
        self.objects = {chain.manifest_key(NAME, each.sequence): each.to_bytes() for each in made.manifests}

    def get(self, key: str) -> bytes:
        if key not in self.objects:
            raise MissingObjectError("there is no such object", place=key)
        return self.objects[key]


def followed(made: Chain) -> Links:
    return followed_in(Written(made))


def followed_in(store: Any) -> Links:
    links = Links(store, NAME)
    links.follow()
    return links


def together(links: Links) -> Standing:
    """All of its months as one."""
    found = Standing()
    for month in links.months:
        each = links.standing(month)
        for name in ("in_force", "named", "files", "gone", "revisions"):
            assert not getattr(found, name).keys() & getattr(each, name).keys()
            getattr(found, name).update(getattr(each, name))
        found.archived |= each.archived
        found.problems += each.problems
    return found


def same(links: Links, made: Chain) -> None:
    whole, parts = stand(made.manifests), together(links)
    for name in ("in_force", "named", "files", "gone", "archived", "revisions"):
        assert getattr(parts, name) == getattr(whole, name)
    assert sorted(parts.problems) == sorted(whole.problems)
    assert links.removed == whole.removed
    assert (links.number, links.days) == (len(made.manifests), whole.archived)
    assert links.head == made.manifests[-1].hash


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 14))
def test_month_by_month_it_says_the_same_as_at_once(seed: int, steps: int) -> None:
    made = grown(seed, steps, apart=16)
    same(followed(made), made)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 14), whose=st.sampled_from(TENANTS))
def test_of_one_tenant_it_says_what_the_whole_chain_says_of_it(seed: int, steps: int, whose: UUID) -> None:
    made = grown(seed, steps, apart=16)
    links, whole, found = followed(made), stand(made.manifests), Standing()
    for month in links.months:
        found.take_in(links.standing(month), lambda at: at[0] == whose)
    assert found.in_force == {at: chunk for at, chunk in whole.in_force.items() if at[0] == whose}
    for name in ("named", "files", "gone"):
        every = getattr(whole, name)
        assert getattr(found, name) == {key: each for key, each in every.items() if chain.tenant_of_key(key) == whose}
    assert {day: found.next_revision(day) for _, day in found.in_force} == {
        day: whole.next_revision(day) for _, day in found.in_force
    }


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), steps=st.integers(1, 10))
def test_month_by_month_the_same_is_wrong_with_it_as_at_once(seed: int, steps: int) -> None:
    made = grown(seed, steps, apart=16)
    every = [(chunk, files) for _, (chunk, files) in sorted(made.stands.items())]
    if not every:
        return
    (first, _), files = every[0], [file for _, its in every for file in its]
    lie = Gone(Cause.EXPIRED, "x", RUN, (replace(first, rows=first.rows + 1),), tuple(files))
    made.add(ManifestKind.TOMBSTONE, (), (), lie)
    fewer = [replace(chunk, revision=99, rows=0) for chunk, _ in every if chunk.day == first.day]
    made.add(ManifestKind.DAY, fewer[1:], files, None)
    links = followed(made)
    assert together(links).problems
    same(links, made)


def test_a_tombstone_takes_objects_of_other_months_along_and_is_read_for_each_of_them() -> None:
    made = Chain()
    months = (DAY, DAY + timedelta(days=40))
    for day in months:
        made.archive(day, {TENANTS[0]: 3})
    ats = [(TENANTS[0], day) for day in months]
    old = [made.stands[at][1][0] for at in ats]
    for day in months:
        made.archive(day, {TENANTS[0]: 1})
    gone = Gone(Cause.ERASED, "x", RUN, (), tuple(old))
    made.add(ManifestKind.TOMBSTONE, (), (), gone)  # about the first month, by its own word
    links = followed(made)
    assert [set(links.standing(month).gone) for month in links.months] == [{file.key} for file in old]
    same(links, made)


def test_what_is_added_later_is_followed_and_says_of_which_months_it_is() -> None:
    made = grown(3, 4, apart=16)
    store = Written(made)
    links = followed_in(store)
    assert links.follow() == set()
    made.archive(date(2024, 5, 7), {TENANTS[0]: 2})
    store.objects |= Written(made).objects
    assert links.follow() == {date(2024, 5, 1)}
    same(links, made)


def test_a_manifest_that_changed_since_it_was_followed_is_not_read() -> None:
    store = Written(grown(3, 4, apart=16))
    links = followed_in(store)
    key = chain.manifest_key(NAME, 1)
    store.objects[key] = store.objects[key].replace(b'"revision":1', b'"revision":7')
    with pytest.raises(ManifestError, match="not the one that was sealed"):
        links.standing(date(2024, 1, 1))
    del store.objects[key]
    with pytest.raises(ManifestError, match="the manifest is missing"):
        links.standing(date(2024, 1, 1))


def test_proving_a_long_chain_takes_the_memory_of_its_largest_month(tmp_path: Path) -> None:
    peaks, many = list[int](), [UUID(int=number) for number in range(10)]
    for days in (62, 186):
        made, store = Chain(source=AUDIT_LOG.name), Folder(tmp_path / str(days))
        for number in range(days):
            made.archive(DAY + timedelta(days=number), dict.fromkeys(many, 3))
        for manifest in made.manifests:
            store.create(chain.manifest_key(AUDIT_LOG.name, manifest.sequence), manifest.to_bytes())
        last = DAY + timedelta(days=days - 1)
        del made
        gc.collect()
        tracemalloc.start()
        report = verify_range(store, AUDIT_LOG, DAY, last, only=lambda _: False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (report.problems, report.missing, report.manifests) == ([], [], days)
    assert peaks[1] < 1.3 * peaks[0]
