"""When to build: never twice for nothing, never oftener than allowed, never without what is new."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.refresh import MAX_ATTEMPTS, Attempt, Start, Wait, decide

META, GOOGLE, GA4 = Provider.META, Provider.GOOGLE_ADS, Provider.GA4
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
INTERVAL = timedelta(minutes=15)


def _decide(
    newest: dict[Provider, int],
    covered: dict[Provider, int],
    last: Attempt | None = None,
    *,
    building: bool = False,
    now: datetime = NOW,
) -> Start | Wait:
    return decide(newest, covered, last, building=building, now=now, interval=INTERVAL)


def _providers(decision: Start | Wait) -> tuple[Provider, ...] | None:
    return decision.providers if isinstance(decision, Start) else None


def test_nothing_synced_and_nothing_new_start_nothing() -> None:
    assert isinstance(_decide({}, {}), Wait)
    assert isinstance(_decide({META: 5}, {META: 5}), Wait)


def test_only_the_providers_with_new_data_are_built() -> None:
    assert _providers(_decide({META: 6, GOOGLE: 4, GA4: 9}, {META: 5, GOOGLE: 4})) == (META, GA4)


def test_an_event_log_that_started_again_counts_as_new_data() -> None:
    assert _providers(_decide({META: 1}, {META: 5_000})) == (META,)


def test_a_build_that_is_queued_or_running_is_waited_for() -> None:
    decision = _decide({META: 6}, {}, building=True)
    assert isinstance(decision, Wait)
    assert "Meta" in decision.reason


def test_the_next_build_waits_for_the_interval_and_says_when_it_starts() -> None:
    last = Attempt(NOW - timedelta(minutes=14), {META: 5}, 1)
    decision = _decide({META: 6}, {META: 5}, last)
    assert isinstance(decision, Wait)
    assert "12:01:00" in decision.reason
    assert _providers(_decide({META: 6}, {META: 5}, last, now=NOW + timedelta(minutes=1))) == (META,)


def test_a_failed_build_is_tried_again_with_growing_pauses_and_then_left_to_people() -> None:
    newest, last, starts = {META: 6}, None, []
    for minute in range(0, 600, 5):
        decision = _decide(newest, {}, last, now=NOW + timedelta(minutes=minute))
        if isinstance(decision, Start):
            starts.append(minute)
            last = decision.attempt
    assert starts == [0, 15, 45]
    final = _decide(newest, {}, last, now=NOW + timedelta(days=30))
    assert isinstance(final, Wait)
    assert "3 builds did not bring the data of Meta" in final.reason


def test_new_data_of_any_provider_starts_the_count_again_and_takes_the_failed_one_along() -> None:
    last = Attempt(NOW - timedelta(days=1), {META: 6, GOOGLE: 1}, MAX_ATTEMPTS)
    decision = _decide({META: 6, GOOGLE: 2}, {GOOGLE: 1}, last)
    assert isinstance(decision, Start)
    assert decision.providers == (META, GOOGLE)
    assert decision.attempt.number == 1


@dataclass
class _World:
    """Syncs, builds and looks in any order: positions grow, a build sees what there is when it begins."""

    newest: dict[Provider, int] = field(default_factory=dict)
    covered: dict[Provider, int] = field(default_factory=dict)
    last: Attempt | None = None
    now: datetime = NOW
    position: int = 0
    asked: tuple[Provider, ...] | None = None  # queued
    sees: dict[Provider, int] | None = None  # running
    starts: list[datetime] = field(default_factory=list)

    def sync(self, provider: Provider) -> None:
        self.position += 1
        self.newest[provider] = self.position

    def look(self) -> None:
        self.now += timedelta(minutes=1)
        building = self.asked is not None or self.sees is not None
        decision = _decide(dict(self.newest), dict(self.covered), self.last, building=building, now=self.now)
        if isinstance(decision, Start):
            assert not building
            self.asked, self.last = decision.providers, decision.attempt
            self.starts.append(self.now)

    def begin(self) -> None:
        if self.asked is not None:
            self.sees = {provider: self.newest[provider] for provider in self.asked}
            self.asked = None

    def end(self, succeeded: bool) -> None:
        if self.sees is not None:
            self.covered |= self.sees if succeeded else {}
            self.sees = None


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("sync"), st.sampled_from([META, GOOGLE, GA4])),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("begin"), st.none()),
        st.tuples(st.just("succeed"), st.none()),
        st.tuples(st.just("fail"), st.none()),
    ),
    max_size=60,
)


@settings(max_examples=400)
@given(_STEPS)
def test_no_update_is_lost_and_no_two_builds_are_closer_than_the_interval(
    steps: list[tuple[str, Provider | None]],
) -> None:
    world = _World()
    for step, provider in steps:
        match step:
            case "sync":
                assert provider is not None
                world.sync(provider)
            case "look":
                world.look()
            case "begin":
                world.begin()
            case "succeed" | "fail":
                world.end(step == "succeed")
    # What ever happened: once a little more data comes and builds succeed again, the marts hold everything.
    world.begin()
    world.end(succeeded=True)
    world.sync(GA4)
    for _ in range(40):
        world.look()
        world.begin()
        world.end(succeeded=True)
    assert world.covered == world.newest
    assert all(later - earlier >= INTERVAL for earlier, later in zip(world.starts, world.starts[1:], strict=False))
    quiet = len(world.starts)
    for _ in range(40):
        world.look()
    assert len(world.starts) == quiet
