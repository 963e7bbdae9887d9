"""How schedules and people share the places for running syncs: neither starves the other, and no place stays empty."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.ingestion.shares import Demand, Shares

FEW = st.integers(0, 12)
SHARES = st.builds(
    Shares,
    bound=st.integers(1, 12),
    people=st.builds(Demand, running=FEW, waiting=st.integers(0, 40)),
    schedules=st.builds(Demand, running=FEW, waiting=st.integers(0, 40)),
    people_last=st.booleans(),
)


@given(SHARES)
def test_a_free_place_is_for_somebody_who_waits(shares: Shares) -> None:
    free = shares.bound - shares.people.running - shares.schedules.running
    taken = [
        min(shares.room(people=people), side.waiting)
        for people, side in ((True, shares.people), (False, shares.schedules))
    ]
    assert max(taken) <= max(0, free)
    if free > 0 and (shares.people.waiting or shares.schedules.waiting):
        assert max(taken) > 0
        if not (shares.people.waiting and shares.schedules.waiting):
            assert max(taken) == min(free, max(shares.people.waiting, shares.schedules.waiting))


@given(SHARES, st.lists(st.tuples(st.sampled_from(("people", "schedules")), st.booleans()), max_size=60))
def test_while_both_wait_each_comes_to_its_half_as_syncs_end_and_keeps_it(
    shares: Shares, events: list[tuple[str, bool]]
) -> None:
    """Whoever looks more often takes all that it may; a side that had its half never falls below it by the other."""
    bound = shares.bound
    running = {"people": min(shares.people.running, bound), "schedules": 0}
    running["schedules"] = min(shares.schedules.running, bound - running["people"])
    last = shares.people_last

    def look(side: str) -> None:
        nonlocal last
        demands = {name: Demand(count, 40) for name, count in running.items()}
        room = Shares(bound, people_last=last, **demands).room(people=side == "people")
        if room:
            running[side] += room
            last = side == "people"

    for side, ends in events:
        if ends and running[side]:
            running[side] -= 1
        look(side)
        assert sum(running.values()) <= bound
    for _ in range(2 * bound):  # everything ends in turn, and both look
        for side in ("people", "schedules"):
            running[side] = max(0, running[side] - 1)
            look("people")
            look("schedules")
    if bound > 1:
        assert running == {"people": bound // 2, "schedules": bound - bound // 2}


def test_one_place_is_taken_in_turns() -> None:
    both = {"people": Demand(0, 3), "schedules": Demand(0, 3)}
    assert Shares(1, **both, people_last=True).room(people=True) == 0
    assert Shares(1, **both, people_last=True).room(people=False) == 1
    assert Shares(1, **both, people_last=False).room(people=True) == 1
    assert Shares(1, Demand(0, 3), Demand(), people_last=True).room(people=True) == 1


def test_who_waits_is_told_who_runs_and_whose_the_next_places_are() -> None:
    full = Shares(20, people=Demand(14, 11), schedules=Demand(6, 34))
    assert full.held(people=True) == (
        "20 of at most 20 syncs run, 6 scheduled and 14 asked for by people; "
        "the next 4 to start are of the 34 scheduled"
    )
    assert full.held(people=False) == "20 of at most 20 syncs run, 6 scheduled and 14 asked for by people"
    assert Shares(20, people=Demand(0, 1), schedules=Demand(19, 34)).held(people=True) == ""
    assert Shares(20, people=Demand(0, 0), schedules=Demand(20, 34)).held(people=True) == ""
