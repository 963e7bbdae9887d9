"""The job index against reading everything."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.local.airbyte.index import JobIndex, JobQuery
from adinsights_orchestration.local.airbyte.model import ConfigType, Job, JobStatus, NotFoundError, StreamName
from tests.local.airbyte_support import START

CONNECTIONS = [UUID(int=n) for n in range(4)]
WORKSPACES = [UUID(int=100), UUID(int=101)]
Change = tuple[int, JobStatus, int]

moments = st.integers(0, 40).map(lambda seconds: START + timedelta(seconds=seconds))
queries = st.builds(
    JobQuery,
    connection_id=st.none() | st.sampled_from(CONNECTIONS),
    workspace_ids=st.none() | st.sampled_from([frozenset(WORKSPACES[:1]), frozenset(WORKSPACES), frozenset()]),
    config_types=st.none() | st.sampled_from([frozenset({ConfigType.SYNC}), frozenset(ConfigType)]),
    statuses=st.none() | st.frozensets(st.sampled_from(list(JobStatus)), min_size=1, max_size=3),
    created_from=st.none() | moments,
    created_to=st.none() | moments,
    updated_from=st.none() | moments,
    updated_to=st.none() | moments,
    excluded_ids=st.just(frozenset()) | st.just(frozenset({1, 3})),
    order_by=st.sampled_from(["createdAt", "updatedAt"]),
    descending=st.booleans(),
    limit=st.integers(1, 10),
    offset=st.integers(0, 5),
)
changes = st.lists(st.tuples(st.integers(0, 19), st.sampled_from(list(JobStatus)), st.integers(0, 20)), max_size=60)


def filled(plan: list[Change]) -> JobIndex:
    index = JobIndex()
    for number in range(20):
        created = START + timedelta(seconds=number)
        index.add(
            Job(
                id=number + 1,
                connection_id=CONNECTIONS[number % 4],
                workspace_id=WORKSPACES[number % 2],
                config_type=ConfigType.REFRESH if number % 5 == 0 else ConfigType.SYNC,
                created_at=created,
                updated_at=created,
                streams=(StreamName("a"),),
            )
        )
    for number, status, later in plan:
        job = index.get(number + 1)
        job.status, job.updated_at = status, START + timedelta(seconds=number + later)
        index.changed(job)
    return index


@given(plan=changes, query=queries)
def test_a_page_is_what_filtering_and_sorting_all_jobs_gives(plan: list[Change], query: JobQuery) -> None:
    index = filled(plan)
    attribute = "created_at" if query.order_by == "createdAt" else "updated_at"
    expected = [job for job in index if query.matches(job)]
    expected.sort(key=lambda job: getattr(job, attribute), reverse=query.descending)
    page = index.page(query)
    window = expected[query.offset : query.offset + query.limit]
    assert [getattr(job, attribute) for job in page] == [getattr(job, attribute) for job in window]
    assert index.count(query) == len(expected)


@given(plan=changes, descending=st.booleans())
def test_pages_of_a_listing_hold_every_job_once(plan: list[Change], descending: bool) -> None:
    index = filled(plan)
    listed = []
    for offset in range(0, 24, 3):
        listed += index.page(JobQuery(order_by="updatedAt", descending=descending, limit=3, offset=offset))
    assert sorted(job.id for job in listed) == list(range(1, 21))


@given(plan=changes)
def test_active_jobs_are_those_that_are_not_finished(plan: list[Change]) -> None:
    index = filled(plan)
    assert [job.id for job in index.active()] == [job.id for job in index if not job.terminal]


def test_a_long_history_of_changes_is_forgotten_in_time() -> None:
    index = filled([])
    for round_number in range(200):
        for job in list(index):
            job.updated_at = START + timedelta(seconds=100 + round_number)
            index.changed(job)
    assert len(index._changes) <= 2 * len(index) + 1000
    assert index.count(JobQuery(order_by="updatedAt")) == 20


def test_an_unknown_job_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        JobIndex().get(7)
