"""The incident's state machine: what every sequence of observations keeps to, and its turns one by one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from adinsights_orchestration.alerting.evaluation.incidents import acknowledge, new, step
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import (
    Absent,
    Change,
    Flap,
    Incident,
    Observation,
    Policy,
    Present,
    State,
    Transition,
    Unknown,
)
from tests.alerting.support import NOON, finding

MINUTE = timedelta(minutes=1)
WARN, PAGE = Present(finding()), Present(finding(severity=Severity.PAGE))
AT_ONCE = Policy()
SPANS = st.sampled_from([timedelta(), MINUTE, 5 * MINUTE])


class Watched:
    """One incident under a policy, stepped minute by minute."""

    def __init__(self, policy: Policy = AT_ONCE) -> None:
        self.policy, self.now, self.incident = policy, NOON, new(finding(), NOON)
        self.changes: list[Change] = []

    def see(self, *observations: Observation, after: timedelta = MINUTE) -> Watched:
        for observation in observations:
            self.now += after
            self.incident, noted = step(self.incident, observation, self.policy, self.now)
            self.changes += [each.change for each in noted]
        return self

    def ack(self, who: str = "ann") -> Watched:
        self.incident, noted = acknowledge(self.incident, who, self.now)
        self.changes += [each.change for each in noted]
        return self


def test_what_is_found_fires_at_once_and_is_over_when_it_is_not_found() -> None:
    watched = Watched().see(WARN, WARN, Absent("fresh again"))
    assert watched.changes == [Change.FIRED, Change.RESOLVED]
    assert (watched.incident.state, watched.incident.episode) == (State.OK, 1)
    assert watched.incident.ended_at == NOON + 3 * MINUTE


def test_what_must_be_found_for_a_while_is_dropped_when_it_goes_before() -> None:
    watched = Watched(Policy(for_=2 * MINUTE)).see(WARN, WARN, Absent())
    assert watched.changes == [Change.PENDING, Change.DROPPED]
    assert watched.incident.episode == 0
    assert watched.see(WARN, WARN, WARN).changes[2:] == [Change.PENDING, Change.FIRED]


def test_no_data_begins_nothing_and_ends_nothing() -> None:
    assert Watched().see(Unknown("no answer")).incident.state is State.OK
    watched = Watched().see(WARN, Unknown("no answer"), Unknown("no answer"))
    assert (watched.incident.state, watched.changes) == (State.FIRING, [Change.FIRED, Change.NO_DATA])
    assert watched.see(WARN).changes[2:] == [Change.DATA_AGAIN]


def test_no_data_during_a_hold_starts_the_hold_over() -> None:
    watched = Watched(Policy(keep_firing=3 * MINUTE)).see(WARN, Absent(), Absent(), Unknown(), Absent(), Absent())
    assert watched.incident.state is State.RESOLVING
    assert watched.see(Absent(), Absent()).incident.state is State.OK


def test_what_returns_during_the_hold_is_the_same_episode_and_keeps_its_acknowledgement() -> None:
    watched = Watched(Policy(keep_firing=3 * MINUTE)).see(WARN).ack().see(Absent(), WARN)
    assert (watched.incident.state, watched.incident.episode) == (State.ACKNOWLEDGED, 1)
    assert watched.incident.acked_by == "ann"


def test_an_incident_that_worsens_needs_a_new_acknowledgement_and_one_that_eases_does_not() -> None:
    watched = Watched().see(PAGE).ack().see(WARN)
    assert watched.incident.state is State.ACKNOWLEDGED
    assert watched.see(PAGE).incident.state is State.ACKNOWLEDGED, "it is what was acknowledged"
    worse = Watched().see(WARN).ack().see(PAGE)
    assert (worse.incident.state, worse.incident.acked_by) == (State.FIRING, None)
    assert worse.changes[-2:] == [Change.WORSENED, Change.ACK_CANCELLED]


def test_a_new_episode_is_not_acknowledged() -> None:
    watched = Watched().see(WARN).ack().see(Absent(), WARN)
    assert (watched.incident.state, watched.incident.episode) == (State.FIRING, 2)


def test_what_does_not_fire_cannot_be_acknowledged() -> None:
    assert Watched().ack().changes == []
    assert Watched(Policy(for_=MINUTE)).see(WARN).ack().changes == [Change.PENDING]


def test_a_flapping_incident_is_held_open_until_it_is_quiet() -> None:
    flap = Policy(flap=Flap(episodes=3, within=timedelta(hours=1), quiet=timedelta(minutes=30)))
    watched = Watched(flap).see(WARN, Absent(), WARN, Absent(), WARN, Absent())
    assert (watched.incident.state, watched.incident.episode) == (State.RESOLVING, 3)
    watched.see(WARN, Absent())
    assert watched.changes[-2:] == [Change.RETURNED, Change.RESOLVING], "no further episode"
    assert watched.see(Absent(), after=timedelta(minutes=31)).incident.state is State.OK


def test_a_clock_that_was_a_day_ahead_delays_a_hold_by_no_more_than_the_hold() -> None:
    watched = Watched(Policy(keep_firing=3 * MINUTE)).see(WARN)
    watched.now += timedelta(days=1)
    watched.see(Absent())
    watched.now -= timedelta(days=1)
    assert watched.see(Absent(), Absent(), Absent(), Absent()).incident.state is State.OK


def test_the_fingerprint_is_of_what_it_is_about_and_not_of_what_was_measured() -> None:
    one = finding(labels={"provider": "meta", "stream": "ads"}, detail="61 min", tenant="acme")
    same = replace(one, detail="75 min", severity=Severity.PAGE, since=NOON + MINUTE, title="late")
    assert one.fingerprint == same.fingerprint
    assert one.fingerprint == replace(one, labels={"stream": "ads", "provider": "meta"}).fingerprint
    others = [replace(one, tenant="bravo"), replace(one, resource="x"), replace(one, labels={}), replace(one, rule="r")]
    assert len({one.fingerprint, *(each.fingerprint for each in others)}) == 5


class Life(RuleBasedStateMachine):
    """Any observations, acknowledgements and clocks, compared with what a plain history of them says."""

    @initialize(for_=SPANS, keep=SPANS, flap=st.booleans())
    def begin(self, for_: timedelta, keep: timedelta, flap: bool) -> None:
        self.policy = Policy(for_, keep, Flap(2, timedelta(minutes=20), timedelta(minutes=7)) if flap else None)
        self.now: datetime = NOON
        self.incident: Incident = new(finding(), NOON)
        self.last: Observation = Absent()
        self.noted: list[Transition] = []
        self.before = self.incident

    @rule(
        seen=st.sampled_from([WARN, WARN, PAGE, Absent(), Absent(), Unknown()]),
        minutes=st.sampled_from([1, 1, 2, 5, 60, -3, -600]),
    )
    def observe(self, seen: Observation, minutes: int) -> None:
        self.now += minutes * MINUTE
        self.before, self.last = self.incident, seen
        self.incident, noted = step(self.incident, seen, self.policy, self.now)
        self.noted = list(noted)

    @rule()
    def acknowledge(self) -> None:
        self.before = self.incident
        self.incident, noted = acknowledge(self.incident, "ann", self.now)
        self.noted, self.last = list(noted), Present(self.incident.finding) if self.incident.is_firing else self.last

    @rule(seen=st.sampled_from([WARN, Absent()]))
    def the_same_for_long_enough(self, seen: Observation) -> None:
        for _ in range(13):
            self.observe(seen, 1)
        if seen is WARN:
            assert self.incident.is_firing, "found for longer than any wait"
        else:
            assert self.incident.state is State.OK, "not found for longer than any hold"

    @invariant()
    def no_data_changes_no_state(self) -> None:
        if isinstance(self.last, Unknown):
            assert (self.incident.state, self.incident.episode) == (self.before.state, self.before.episode)

    @invariant()
    def an_episode_begins_with_every_firing_and_with_nothing_else(self) -> None:
        fired = sum(each.change is Change.FIRED for each in self.noted)
        assert self.incident.episode == self.before.episode + fired
        if fired:
            assert isinstance(self.last, Present)
        if any(each.change is Change.RESOLVED for each in self.noted):
            assert isinstance(self.last, Absent)
            assert self.before.is_firing

    @invariant()
    def an_acknowledgement_covers_no_worse_than_was_acknowledged(self) -> None:
        incident = self.incident
        assert (incident.state is State.ACKNOWLEDGED) <= (incident.acked_by is not None)
        if incident.is_firing and incident.acked_severity is not None:
            assert incident.severity.rank <= incident.acked_severity.rank
        assert not (incident.state is State.FIRING and incident.acked_by)

    @invariant()
    def nothing_that_is_measured_lies_in_the_future(self) -> None:
        marks = (self.incident.pending_since, self.incident.absent_since, *self.incident.recent)
        assert all(at <= self.now for at in marks if at is not None)

    @invariant()
    def marks_are_there_exactly_while_they_mean_something(self) -> None:
        incident = self.incident
        assert (incident.pending_since is not None) == (incident.state is State.PENDING)
        assert (incident.absent_since is None) or incident.state is State.RESOLVING
        assert (incident.unknown_since is None) or incident.state is not State.OK


Life.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestLife = Life.TestCase
