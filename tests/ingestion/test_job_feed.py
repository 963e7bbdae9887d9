"""Reading what changed, page by page, while it changes: nothing missed, nothing read for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.ingestion.airbyte_api import ListedJobs
from adinsights_orchestration.ingestion.airbyte_errors import MalformedReplyError, PageRepeatsError
from adinsights_orchestration.ingestion.airbyte_models import AirbyteJob, JobStatus, JobType
from adinsights_orchestration.ingestion.job_feed import Harvest, Limits, changed_since, walk
from adinsights_orchestration.local.airbyte.model import AirbyteConnection
from tests.ingestion.support import airbyte_settings, with_client
from tests.local.airbyte_support import START, AirbyteServer, airbyte_server

CONNECTION, SECOND = uuid4(), timedelta(seconds=1)
T0 = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
EVERYTHING = Limits(jobs=100_000)


def nothing_known(jobs: Sequence[AirbyteJob], detailed: bool) -> Collection[int]:
    return ()


def job(number: int, second: float, status: JobStatus = JobStatus.SUCCEEDED, *, told: bool = True) -> AirbyteJob:
    moment = T0 + timedelta(seconds=second)
    return AirbyteJob(number, CONNECTION, JobType.SYNC, status, T0, updated_at=moment if told else None)


@dataclass
class Listing:
    """A server's jobs, ordered by their last change; changes itself between two pages."""

    jobs: list[AirbyteJob]
    page_size: int
    between: list[list[tuple[int, float]]] = field(default_factory=list)
    pages: int = 0
    ignores_offset: bool = False

    async def fetch(self, since: datetime, offset: int) -> ListedJobs:
        # The server filters and orders to the microsecond what it tells in whole seconds.
        found = [one for one in self.jobs if self.moment(one) >= since]
        found.sort(key=lambda one: (self.moment(one), one.job_id * 7919 % 101))
        start = 0 if self.ignores_offset else offset
        page = found[start : start + self.page_size]
        self.pages += 1
        if self.between:
            self.change(self.between.pop(0))
        return ListedJobs(tuple(page), full=len(page) >= self.page_size)

    @staticmethod
    def moment(one: AirbyteJob) -> datetime:
        assert one.updated_at is not None
        return one.updated_at

    def change(self, moves: list[tuple[int, float]]) -> None:
        """Jobs that were running end: they move behind everything that changed so far."""
        end = max(self.moment(one) for one in self.jobs)
        for index, later in moves:
            one = self.jobs[index % len(self.jobs)]
            if not one.status.terminal:
                moved = (end + timedelta(seconds=later)).replace(microsecond=0)
                self.jobs[index % len(self.jobs)] = replace(one, status=JobStatus.SUCCEEDED, updated_at=moved)


def read(listing: Listing, limits: Limits = EVERYTHING, start: datetime = T0) -> Harvest:
    return asyncio.run(walk(listing.fetch, start, nothing_known, limits, listing.page_size, detailed=True))


SECONDS = st.lists(st.integers(0, 30), min_size=1, max_size=80)
MOVES = st.lists(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 5)), max_size=6), max_size=5)


@settings(deadline=None, max_examples=300)
@given(SECONDS, st.integers(2, 9), MOVES, st.integers(0, 100))
def test_every_finished_job_is_read_although_running_ones_move_between_pages(
    seconds: list[int], page_size: int, between: list[list[tuple[int, float]]], running: int
) -> None:
    jobs = [
        job(number, second, JobStatus.RUNNING if number * 37 % 100 < running else JobStatus.SUCCEEDED)
        for number, second in enumerate(seconds)
    ]
    finished = {one.job_id for one in jobs if one.status.terminal}
    harvest = read(Listing(jobs, page_size, between))
    assert harvest.complete
    assert harvest.problem is None
    assert finished <= {one.job_id for one in harvest.jobs}


@given(SECONDS, st.integers(2, 9))
@settings(deadline=None)
def test_a_listing_that_stands_still_is_read_whole_and_once(seconds: list[int], page_size: int) -> None:
    jobs = [job(number, second) for number, second in enumerate(seconds)]
    listing = Listing(jobs, page_size)
    # Ties in a stable order: what Postgres gives for an unchanged table.
    listing.jobs.sort(key=lambda one: (Listing.moment(one), one.job_id))

    async def stable(since: datetime, offset: int) -> ListedJobs:
        found = [one for one in listing.jobs if Listing.moment(one) >= since]
        listing.pages += 1
        return ListedJobs(tuple(found[offset : offset + page_size]), full=len(found[offset:]) >= page_size)

    harvest = asyncio.run(walk(stable, T0, nothing_known, EVERYTHING, page_size, detailed=True))
    assert sorted(one.job_id for one in harvest.jobs) == list(range(len(jobs)))
    assert harvest.complete
    assert harvest.problem is None
    assert harvest.reached == max(Listing.moment(one) for one in jobs)
    assert listing.pages <= 2 * len(jobs) + 2


def test_a_job_that_changed_while_it_was_read_is_taken_in_its_newest_form() -> None:
    jobs = [job(1, 0, JobStatus.RUNNING), job(2, 1), job(3, 2), job(4, 3)]
    harvest = read(Listing(jobs, 2, between=[[(0, 5)]]))
    assert {one.job_id: one.status for one in harvest.jobs}[1] is JobStatus.SUCCEEDED


def test_more_jobs_in_one_second_than_on_a_page_are_counted_through() -> None:
    jobs = [job(number, 7) for number in range(25)]
    harvest = read(Listing(jobs, 10))
    assert harvest.complete
    assert harvest.reached == T0 + 7 * SECOND


def test_jobs_that_end_while_a_crowded_second_is_read_hide_none_of_its_others() -> None:
    jobs = [job(number, 7, JobStatus.RUNNING if number < 5 else JobStatus.SUCCEEDED) for number in range(25)]
    listing = Listing(jobs, 10, between=[[(0, 3), (1, 3), (2, 3)], [(3, 4)]])
    listing.jobs.sort(key=lambda one: one.job_id * 7919 % 101)
    harvest = read(listing)
    assert harvest.complete
    assert {one.job_id for one in harvest.jobs} == set(range(25))


def test_a_second_whose_rows_never_stand_still_is_read_so_many_times_and_no_more() -> None:
    """An order of ties that changes from page to page; the next tick's overlap is behind this."""
    jobs, pages = [job(number, 7) for number in range(25)], 0

    async def fetch(since: datetime, offset: int) -> ListedJobs:
        nonlocal pages
        pages += 1
        turned = [*jobs[pages % 25 :], *jobs[: pages % 25]]
        return ListedJobs(tuple(turned[offset : offset + 10]), full=len(turned[offset:]) >= 10)

    harvest = asyncio.run(walk(fetch, T0, nothing_known, EVERYTHING, 10, detailed=True))
    assert harvest.complete
    assert pages < 20


def test_a_page_that_repeats_for_ever_ends_as_a_problem_with_what_was_read() -> None:
    jobs = [job(number, 7) for number in range(25)]
    harvest = read(Listing(jobs, 10, ignores_offset=True))
    assert isinstance(harvest.problem, PageRepeatsError)
    assert not harvest.complete
    assert len(harvest.jobs) >= 10
    assert harvest.reached == T0 + 7 * SECOND


def test_a_server_that_ignores_the_offset_only_does_not_matter_while_moments_differ() -> None:
    jobs = [job(number, number) for number in range(25)]
    harvest = read(Listing(jobs, 10, ignores_offset=True))
    assert harvest.complete
    assert len(harvest.jobs) == 25


def test_reading_stops_at_its_limit_and_says_how_far_it_came() -> None:
    jobs = [job(number, number) for number in range(50)]
    harvest = read(Listing(jobs, 10), Limits(jobs=20))
    assert not harvest.complete
    assert 20 <= len(harvest.jobs) < 50
    rest = read(Listing(jobs, 10), start=harvest.reached)
    assert {one.job_id for one in (*harvest.jobs, *rest.jobs)} == set(range(50))


def test_reading_stops_when_its_time_is_up() -> None:
    jobs = [job(number, number) for number in range(50)]
    assert len(read(Listing(jobs, 10), Limits(1000, out_of_time=lambda: True)).jobs) == 10


def test_jobs_that_bring_nothing_new_do_not_count_against_the_limit() -> None:
    jobs = [job(number, number) for number in range(50)]
    listing = Listing(jobs, 10)

    def known(page: Sequence[AirbyteJob], detailed: bool) -> Collection[int]:
        return {one.job_id for one in page if one.job_id < 40}

    harvest = asyncio.run(walk(listing.fetch, T0, known, Limits(jobs=5), 10, detailed=True))
    assert {one.job_id for one in harvest.jobs} >= set(range(40, 45))
    assert min(one.job_id for one in harvest.jobs) == 40


def test_rows_without_a_moment_are_counted_through() -> None:
    """The public API does not tell when a running job last changed."""
    untold = [job(number, 0, JobStatus.RUNNING, told=False) for number in range(25)]

    async def fetch(since: datetime, offset: int) -> ListedJobs:
        page = untold[offset : offset + 10]
        return ListedJobs(tuple(page), full=len(page) == 10)

    harvest = asyncio.run(walk(fetch, T0, nothing_known, EVERYTHING, 10, detailed=False))
    assert len(harvest.jobs) == 25
    assert harvest.reached == T0


@pytest.mark.parametrize(
    ("jobs", "says"),
    [([job(1, -60), job(2, 5)], "ignores updatedAtStart"), ([job(1, 9), job(2, 5)], "ignores its order")],
)
def test_a_server_that_ignores_the_filter_or_the_order_is_not_believed(jobs: list[AirbyteJob], says: str) -> None:
    async def fetch(since: datetime, offset: int) -> ListedJobs:
        return ListedJobs(tuple(jobs), full=False)

    with pytest.raises(MalformedReplyError, match=says):
        asyncio.run(walk(fetch, T0, nothing_known, EVERYTHING, 10, detailed=True))


# ------------------------------------------------------------------------------------------------------ over real HTTP


def harvest_of(server: AirbyteServer, **overrides: object) -> Harvest:
    async def run() -> Harvest:
        async with with_client(airbyte_settings(server.url, **overrides)) as api:
            return await changed_since(api, START - SECOND, [server.workspace_id], nothing_known, EVERYTHING)

    return asyncio.run(run())


def finished_jobs(server: AirbyteServer, count: int) -> list[AirbyteConnection]:
    connections = [server.add_connection(f"Connection {number}") for number in range(count)]
    for connection in connections:
        server.start(connection)
        server.clock.advance(1)
    server.clock.advance(120)
    return connections


def test_the_configuration_api_tells_jobs_with_their_details() -> None:
    with airbyte_server() as server:
        finished_jobs(server, 7)
        harvest = harvest_of(server, page_size=3)
    assert harvest.detailed
    assert len(harvest.jobs) == 7
    assert all(one.attempts == 1 and len(one.streams) == 2 for one in harvest.jobs)


def test_without_the_configuration_api_the_public_one_tells_what_finished_of_every_type() -> None:
    with airbyte_server() as server:
        connections = finished_jobs(server, 5)
        server.config("/connections/refresh", {"connectionId": str(connections[0].id), "refreshMode": "Merge"})
        server.start(connections[1], "clear")
        server.clock.advance(120)
        server.set("config_api_down", True)
        harvest = harvest_of(server, page_size=2)
    assert not harvest.detailed
    assert harvest.problem is not None
    assert {one.type for one in harvest.jobs} == {JobType.SYNC, JobType.REFRESH, JobType.RESET}
    assert len(harvest.jobs) == 7
    assert all(one.attempts is None for one in harvest.jobs)


def test_pages_that_repeat_over_http_end_as_a_problem() -> None:
    with airbyte_server() as server:
        connections = [server.add_connection(f"Connection {number}") for number in range(9)]
        for connection in connections:
            server.start(connection)  # all in one second
        server.clock.advance(120)
        server.set("repeat_page", True)
        harvest = harvest_of(server, page_size=3)
    assert isinstance(harvest.problem, PageRepeatsError)


def test_only_the_named_workspaces_are_read() -> None:
    with airbyte_server() as server:
        finished_jobs(server, 2)

        async def elsewhere(workspaces: list[UUID]) -> Harvest:
            async with with_client(airbyte_settings(server.url)) as api:
                return await changed_since(api, START - SECOND, workspaces, nothing_known, EVERYTHING)

        assert asyncio.run(elsewhere([uuid4()])).jobs == ()
