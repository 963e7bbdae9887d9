"""One evaluation without its rows: observations make incidents move, and what moved is told.

Belongs here: the order of the steps, pure. Does not belong here: the steps (`incidents`, `notify`), facts and rules,
rows (`evaluate`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from adinsights_orchestration.alerting.evaluation import incidents as machine
from adinsights_orchestration.alerting.inhibition import Graph
from adinsights_orchestration.alerting.matching import Silence
from adinsights_orchestration.alerting.model import Finding, Incident, Observation, Policy, Present, State, Transition
from adinsights_orchestration.alerting.telling import notify
from adinsights_orchestration.alerting.telling.flush import is_recovering
from adinsights_orchestration.alerting.telling.grouping import Group, Options, Order
from adinsights_orchestration.alerting.telling.quiet import cause_of

_AT_ONCE = Policy()


@dataclass(frozen=True)
class Before:
    """What is kept from earlier evaluations.

    Attributes:
        incidents: Those that are open, and those that are found again; by fingerprint.
        groups: Those with a clock or an open message, and those of the incidents; by key.
        opened_lately: How many groups opened a message within the storm's time.
        unsettled: Keys of the groups that the last plan did something to: what they show may change once more.
        same_around: Whether graph, silences and options are those that the incidents' `suppressed_by` follows from.
    """

    incidents: Mapping[str, Incident] = field(default_factory=dict)
    groups: Mapping[str, Group] = field(default_factory=dict)
    opened_lately: int = 0
    same_around: bool = False
    unsettled: Collection[str] = ()


@dataclass(frozen=True)
class Surroundings:
    """What an evaluation goes by beside facts.

    Attributes:
        options: How to tell.
        graph: What depends on what.
        silences: All that may be in force.
        policies: How soon a rule is believed; at once where none is given.
    """

    options: Options
    graph: Graph = field(default_factory=Graph)
    silences: Sequence[Silence] = ()
    policies: Mapping[str, Policy] = field(default_factory=dict)


@dataclass(frozen=True)
class After:
    """What an evaluation came to.

    Attributes:
        incidents: Those that changed.
        transitions: What happened to them, in order.
        groups: Those that changed.
        orders: What is to be said.
        held: Titles of groups that a storm holds back.
        firing: How many incidents fire.
        unsettled: Keys of the groups that something was done to.
    """

    incidents: Sequence[Incident]
    transitions: Sequence[Transition]
    groups: Sequence[Group]
    orders: Sequence[Order]
    held: Sequence[str]
    firing: int
    unsettled: Collection[str] = ()


@dataclass(frozen=True)
class Moved:
    """Incidents after one more observation of each, before anybody is told.

    Attributes:
        before: As they were.
        after: As they are.
        transitions: What happened to them, in order.
        touched: Keys of the groups that may have something to say; None for any.
    """

    before: Mapping[str, Incident]
    after: dict[str, Incident]
    transitions: Sequence[Transition]
    touched: Collection[str] | None

    def rests(self) -> After:
        """What it comes to where nothing was touched and no group's time has come."""
        return After((), self.transitions, (), (), (), sum(each.is_firing for each in self.after.values()))


def advance(
    before: Before,
    findings: Iterable[Finding],
    unfound: Callable[[Incident], Observation],
    surroundings: Surroundings,
    now: datetime,
) -> After:
    """Returns what one evaluation makes of what is kept.

    Args:
        before: What is kept.
        findings: Everything that was found; of two with one fingerprint the more urgent counts.
        unfound: Whether an open incident that was not found is over, or nothing is known of it.
        surroundings: What it goes by.
        now: The moment.
    """
    return tell(move(before, by_fingerprint(findings), unfound, surroundings, now), before, surroundings, now)


def move(
    before: Before,
    found: Mapping[str, Finding],
    unfound: Callable[[Incident], Observation],
    surroundings: Surroundings,
    now: datetime,
) -> Moved:
    """Returns the incidents as they are now; groups are not looked at. The arguments are those of `advance`."""
    after: dict[str, Incident] = {}
    noted: list[Transition] = []
    for fp in {**before.incidents, **found}:
        incident = before.incidents.get(fp) or machine.new(found[fp], now)
        if fp in found and _is_settled(incident, found[fp], now):
            after[fp] = incident
            continue
        observation = Present(found[fp]) if fp in found else unfound(incident)
        policy = surroundings.policies.get(incident.finding.rule, _AT_ONCE)
        after[fp], changes = machine.step(incident, observation, policy, now)
        noted += changes
    moved = any(each is not before.incidents.get(fp) for fp, each in after.items())
    waits = surroundings.options.hours or any(map(is_recovering, after.values()))
    if moved or waits or not before.same_around:
        _quieten(after, surroundings, now)
    touched = {*_touched(before.incidents, after), *before.unsettled} if before.same_around else None
    return Moved(before.incidents, after, noted, touched)


def tell(moved: Moved, before: Before, surroundings: Surroundings, now: datetime) -> After:
    """Returns what is to be said of the incidents as they are now. The arguments are those of `advance`."""
    open_ones = [each for each in moved.after.values() if each.is_open]
    plan = notify.plan(
        before.groups, open_ones, surroundings.options, now, opened_lately=before.opened_lately, touched=moved.touched
    )
    after = moved.after | {each.fingerprint: each for each in plan.incidents}
    changed = [each for fp, each in after.items() if each is not (known := moved.before.get(fp)) and each != known]
    firing = sum(each.is_firing for each in after.values())
    unsettled = {each.key for each in plan.groups} | {each.finding.group_key for each in plan.incidents}
    return After(changed, moved.transitions, plan.groups, plan.orders, plan.held, firing, unsettled)


def is_still(moved: Moved, found: Mapping[str, Finding], options: Options, now: datetime) -> bool:
    """Whether the very same findings would move nothing from now on, however often they are made."""
    if options.hours:
        return False
    return all(
        (_is_settled(each, found[fp], now) if fp in found else each.state is State.OK) and not is_recovering(each)
        for fp, each in moved.after.items()
    )


def _is_settled(incident: Incident, finding: Finding, now: datetime) -> bool:
    """Whether it was found just as it was found before, and has nothing to wait for: then nothing can follow."""
    waits = incident.state not in (State.FIRING, State.ACKNOWLEDGED) or incident.unknown_since is not None
    is_same = incident.finding is finding or incident.finding == finding
    if waits or not is_same or incident.severity is not finding.severity:
        return False
    return not incident.recent or incident.recent[-1] <= now  # the clock may have been set back


def _quieten(after: dict[str, Incident], surroundings: Surroundings, now: datetime) -> None:
    """Notes what keeps each incident quiet."""
    quiet = notify.suppressions(
        (each for each in after.values() if each.is_firing or each.told),
        surroundings.graph,
        surroundings.silences,
        surroundings.options,
        now,
    )
    for fp, incident in after.items():
        if incident.suppressed_by != quiet.get(fp, ""):
            after[fp] = replace(incident, suppressed_by=quiet.get(fp, ""))


def _touched(before: Mapping[str, Incident], after: Mapping[str, Incident]) -> set[str]:
    """Keys of the groups whose incidents changed, and of those that explain such: their messages count them."""
    keys: set[str] = set()
    for fp, each in after.items():
        known = before.get(fp)
        if known is each:
            continue
        for one in (each, *((known,) if known else ())):
            keys.add(one.finding.group_key)
            cause = after.get(cause_of(one.suppressed_by) or "")
            if cause is not None:
                keys.add(cause.finding.group_key)
    return keys


def by_fingerprint(findings: Iterable[Finding]) -> dict[str, Finding]:
    """The findings by what they name; of two that name the same the more urgent counts."""
    found: dict[str, Finding] = {}
    for each in findings:
        fp = each.fingerprint
        known = found.get(fp)
        if known is None or each.severity.rank > known.severity.rank:
            found[fp] = each
    return found
