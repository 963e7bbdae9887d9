"""The incident's state machine: what one more observation makes of it.

Belongs here: `step` and `acknowledge`, pure. Does not belong here: observing (`rules`), telling (`notify`).

    ok -> pending -> firing <-> acknowledged -> resolving -> ok

No data changes no state: what fires goes on firing, what is pending waits, and a hold that was running begins anew,
because only unbroken good data ends anything. Waits are measured on a clock that may be set back: a beginning that lies
in the future is moved to now, so that a wait is at most started over and never lasts as long as the clock was wrong.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import (
    Absent,
    Beginning,
    Change,
    Finding,
    Incident,
    Observation,
    Policy,
    Present,
    State,
    Transition,
    Unknown,
)

_REMEMBERED = 10  # firings; more than any sensible number of episodes that count as flapping


def new(finding: Finding, now: datetime) -> Incident:
    """Returns the incident of a finding that was never found before, not yet stepped."""
    return Incident(finding.fingerprint, finding, State.OK, 0, finding.severity, now)


def step(
    incident: Incident, observation: Observation, policy: Policy, now: datetime
) -> tuple[Incident, tuple[Transition, ...]]:
    """Returns the incident after one more observation, and what changed.

    Args:
        incident: As it was.
        observation: What its rule saw.
        policy: How soon the rule is believed.
        now: The moment of the observation.
    """
    return _Step(incident, policy, now).take(observation)


def acknowledge(incident: Incident, who: str, now: datetime) -> tuple[Incident, tuple[Transition, ...]]:
    """Returns the incident after somebody took it on; what does not fire, or was taken on before, stays as it is."""
    if not incident.is_firing or incident.acked_at is not None:
        return incident, ()
    acked = replace(incident, acked_by=who, acked_at=now, acked_severity=incident.severity)
    if incident.state is State.FIRING:
        acked = replace(acked, state=State.ACKNOWLEDGED, since=now)
    return acked, (Transition(incident.fingerprint, incident.episode, Change.ACKNOWLEDGED, now, who),)


def is_flapping(incident: Incident, policy: Policy, now: datetime) -> bool:
    """Whether it fired so often lately that it must be quiet for longer to be over."""
    flap = policy.flap
    return flap is not None and sum(now - at <= flap.within for at in incident.recent) >= flap.episodes


class _Step:
    """One step: the incident as it becomes, and what is noted on the way."""

    def __init__(self, incident: Incident, policy: Policy, now: datetime) -> None:
        self._incident = _no_later_than(incident, now)
        self._policy, self._now = policy, now
        self._noted: list[Transition] = []

    def take(self, observation: Observation) -> tuple[Incident, tuple[Transition, ...]]:
        match observation:
            case Unknown(reason):
                self._blind(reason)
            case Present(finding):
                self._sighted()
                self._present(finding)
            case Absent(reason):
                self._sighted()
                self._absent(reason)
        return self._incident, tuple(self._noted)

    def _blind(self, reason: str) -> None:
        incident = self._incident
        if incident.state is State.OK:
            return
        if incident.state is State.RESOLVING:
            self._become(absent_since=None)
        if incident.unknown_since is None:
            self._become(unknown_since=self._now)
            self._note(Change.NO_DATA, reason)

    def _sighted(self) -> None:
        if self._incident.unknown_since is not None:
            self._become(unknown_since=None)
            self._note(Change.DATA_AGAIN)

    def _present(self, finding: Finding) -> None:
        if finding.is_since_found and self._incident.state is not State.OK:
            finding = replace(finding, since=self._incident.finding.since)
        if self._incident.finding != finding:
            self._become(finding=finding)
        state = self._incident.state
        if state is State.OK:
            self._enter(State.PENDING, pending_since=self._now, severity=finding.severity)
        if self._incident.state is State.PENDING:
            self._become_severity(finding.severity)
            self._maybe_fire(was_pending=state is State.PENDING)
            return
        if state is State.RESOLVING:
            back = State.ACKNOWLEDGED if self._incident.acked_at is not None else State.FIRING
            self._enter(back, absent_since=None)
            self._note(Change.RETURNED)
        self._weigh(finding.severity)

    def _maybe_fire(self, *, was_pending: bool) -> None:
        incident = self._incident
        assert incident.pending_since is not None
        if self._now - incident.pending_since < self._policy.for_:
            if not was_pending:
                self._note(Change.PENDING)
            return
        recent = (*incident.recent, self._now)[-_REMEMBERED:]
        self._enter(
            State.FIRING,
            episode=incident.episode + 1,
            pending_since=None,
            fired_at=self._now,
            ended_at=None,
            recent=recent,
            acked_by=None,
            acked_at=None,
            acked_severity=None,
        )
        self._note(Change.FIRED, str(Beginning.of(incident)))

    def _weigh(self, severity: Severity) -> None:
        before = self._incident.severity
        if severity is before:
            return
        self._become_severity(severity)
        worse = severity.rank > before.rank
        self._note(Change.WORSENED if worse else Change.EASED, f"{before} to {severity}")
        acked = self._incident.acked_severity
        if acked is not None and severity.rank > acked.rank:
            self._become(acked_by=None, acked_at=None, acked_severity=None)
            if self._incident.state is State.ACKNOWLEDGED:
                self._enter(State.FIRING)
            self._note(Change.ACK_CANCELLED, "it got worse")

    def _absent(self, reason: str) -> None:
        state = self._incident.state
        if state is State.PENDING:
            self._enter(State.OK, pending_since=None)
            self._note(Change.DROPPED, reason)
            return
        if not state.is_firing:
            return
        hold = self._hold()
        if state is not State.RESOLVING and hold:
            self._enter(State.RESOLVING, absent_since=self._now)
            self._note(Change.RESOLVING, reason)
            return
        since = self._incident.absent_since
        if hold and since is None:
            self._become(absent_since=self._now)
        elif not hold or (since is not None and self._now - since >= hold):
            self._enter(State.OK, absent_since=None, ended_at=self._now)
            self._note(Change.RESOLVED, reason)

    def _hold(self) -> timedelta:
        flap = self._policy.flap
        if flap is not None and is_flapping(self._incident, self._policy, self._now):
            return max(self._policy.keep_firing, flap.quiet)
        return self._policy.keep_firing

    def _enter(self, state: State, **changes: object) -> None:
        self._become(state=state, since=self._now, **changes)

    def _become_severity(self, severity: Severity) -> None:
        if severity is not self._incident.severity:
            self._become(severity=severity)

    def _become(self, **changes: object) -> None:
        self._incident = replace(self._incident, **changes)  # type: ignore[arg-type]

    def _note(self, change: Change, detail: str = "") -> None:
        incident = self._incident
        self._noted.append(Transition(incident.fingerprint, incident.episode, change, self._now, detail))


def _no_later_than(incident: Incident, now: datetime) -> Incident:
    """The incident with every beginning that is measured from brought back to now, where the clock was set back."""
    marks = ("pending_since", "absent_since")
    late = {name: now for name in marks if (at := getattr(incident, name)) is not None and at > now}
    if any(at > now for at in incident.recent):
        late["recent"] = tuple(min(at, now) for at in incident.recent)  # type: ignore[assignment]
    return replace(incident, **late) if late else incident  # type: ignore[arg-type]
