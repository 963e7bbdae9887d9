"""One evaluation: which connections have news or ran out of time, and what is true of them now.

Belongs here: the order of an evaluation's steps, in one transaction. Does not belong here: the rule (`evaluate`),
showing anything (`showing`). Its cost follows from what changed, not from how many connections there are: a verdict
holds until its own `valid_until`, and news are read from where the last evaluation stood.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import sqlalchemy as sa

from adinsights_orchestration.freshness import catching_up
from adinsights_orchestration.freshness import states as kept
from adinsights_orchestration.freshness.evaluate import Rules, evaluate
from adinsights_orchestration.freshness.facts import changed_partitions, first_seen, ledger_reading, load_facts
from adinsights_orchestration.freshness.model import ConnectionState, Expectation, Facts, Freshness
from adinsights_orchestration.freshness.sla import Sla, SlaTable
from adinsights_orchestration.freshness.states import Place
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.tenants.model import DEFAULT_TIMEZONE, Connection, Registry, Standing, Tenant
from adinsights_orchestration.tenants.nights import Nightly, when_due
from adinsights_orchestration.tenants.store import last_snapshot

Expecting = Callable[[Connection, Tenant | None], Expectation]
LOCK = "freshness_evaluate"
# A job is stamped when it is observed and committed within a tick's time; what was read is read again for so long.
_OVERLAP = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Transition:
    """A connection that is in another state than before; `before` is None for a new one."""

    before: Freshness | None
    after: ConnectionState


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What an evaluation did.

    Attributes:
        skipped: Why it did nothing, or empty.
        evaluated: Connections that it looked at.
        written: Rows that it wrote.
        transitions: Connections that changed their state.
        forgotten: Connections that are not served any more.
        troubled: Connections that are not well, and of which something changed.
        excused: Connections that are due, and were not called late because the ledger lies behind.
        behind: What the ledger's lying behind Airbyte does to this evaluation; empty while it does not.
    """

    skipped: str = ""
    evaluated: int = 0
    written: int = 0
    transitions: tuple[Transition, ...] = ()
    forgotten: int = 0
    troubled: int = 0
    excused: int = 0
    behind: str = ""

    @property
    def is_news(self) -> bool:
        """Whether there may be something to tell somebody: a state changed, or something that is not well went on."""
        return bool(self.transitions or self.troubled or self.forgotten)


def run(store: OpsStore, sla: SlaTable, now: datetime, nights: Nightly | None = None) -> Evaluation:
    """Evaluates what has news or ran out of time, and keeps the result.

    Args:
        store: The ops store.
        sla: The levels.
        now: The moment.
        nights: When connections are due where that is once a night, whatever their own schedules say.

    Raises:
        OpsStoreError: The ops store does not answer; the states that are kept stay, with their age.
    """
    with store.exclusive(LOCK) as mine:
        if not mine:
            return Evaluation(skipped="another evaluation is at work")
        with store.begin() as connection:
            snapshot = last_snapshot(store, connection)
            if snapshot is None:
                return Evaluation(skipped="the registry was never read")
            rules = Rules.of(sla, nights)
            # The place tells two tables apart whose difference is in the rules; what differs by tenant is expected.
            by = f"{rules}|{sla[Sla.SYNC_AGE].warn_after}" + (f"|{nights}" if nights else "")
            place = Place(now, snapshot.id, by)
            expected = partial(expectation_of, sla=sla, nights=nights)
            evaluator = _Evaluator(connection, snapshot.registry, expected, rules, now)
            return evaluator.run(kept.load_place(connection), place)


def expectation_of(one: Connection, tenant: Tenant | None, sla: SlaTable, nights: Nightly | None) -> Expectation:
    """What may be expected of a connection: its schedule in its tenant's timezone or the night, and the age allowed."""
    schedule, timezone = when_due(one, tenant.timezone if tenant else DEFAULT_TIMEZONE, nights)
    minutes = (tenant.sla if tenant else {}).get("sync_age_warn_minutes")
    return Expectation(
        standing=one.standing,
        schedule=schedule,
        timezone=timezone,
        connection_id=one.connection_id,
        max_age=sla[Sla.SYNC_AGE].warn_after if minutes is None else timedelta(minutes=minutes),
        problem=one.problem,
    )


class _Evaluator:
    """One evaluation's work, in one transaction."""

    def __init__(
        self, connection: sa.Connection, registry: Registry, expected: Expecting, rules: Rules, now: datetime
    ) -> None:
        self._connection, self._expected, self._rules, self._now = connection, expected, rules, now
        self._registry = registry
        self._excused = False

    def run(self, before: Place | None, place: Place) -> Evaluation:
        behind_since = self._behind_since(before)
        self._excused = catching_up.excuses(behind_since, self._now)
        since = min(before.read_at, self._now) - _OVERLAP if before else self._now
        candidates = changed_partitions(self._connection, since, self._now)
        moved = before is None or (before.snapshot_id, before.rules) != (place.snapshot_id, place.rules)
        evaluation = Evaluation()
        if candidates or moved:
            evaluation = self._evaluate(
                candidates, everything=before is None or before.rules != place.rules, moved=moved
            )
        place = replace(place, behind_since=behind_since)
        kept.save_place(self._connection, _marked(place, before, evaluation), self._now)
        return replace(evaluation, behind=catching_up.describe(behind_since, evaluation.excused, self._now))

    def _behind_since(self, before: Place | None) -> datetime | None:
        if before is None:
            return None
        reading = ledger_reading(self._connection)
        return catching_up.behind_since(before.behind_since, before.read_at, reading, self._now)

    def _evaluate(self, candidates: set[str], *, everything: bool, moved: bool) -> Evaluation:
        served = {one.partition_key: one for one in self._registry.connections if one.partition_key and not one.retired}
        tenants = {tenant.id: tenant for tenant in self._registry.tenants}
        expected = _Expected(served, tenants, self._expected)
        gone: Collection[str] = ()
        if everything:
            candidates = set(served)
        if moved:
            known = kept.expectations(self._connection)
            gone = known.keys() - served.keys()
            candidates |= {key for key in served if known.get(key) != expected.of(key).digest}
        looked_at = [served[key] for key in candidates if key in served]
        facts = load_facts(self._connection, looked_at)
        before = kept.load_states(self._connection, [one.partition_key for one in looked_at])
        seen = first_seen(self._connection, facts.keys() - before.keys())
        after = [self._conclude(facts[key], expected.of(key), before.get(key), seen.get(key)) for key in facts]
        changed = [state for state in after if before.get(state.facts.partition_key) != state]
        kept.write_states(self._connection, changed, self._now)
        kept.forget(self._connection, gone)
        return Evaluation(
            evaluated=len(after),
            written=len(changed),
            transitions=tuple(_transitions(changed, before)),
            forgotten=len(gone),
            troubled=sum(state.verdict.state.rank > 0 for state in changed),
            excused=sum(_is_excused(state, self._now) for state in after),
        )

    def _conclude(
        self, facts: Facts, expectation: Expectation, before: ConnectionState | None, first_seen_at: datetime | None
    ) -> ConnectionState:
        expected_since = self._expected_since(expectation, before, first_seen_at)
        excused = self._excused and not (before is not None and before.verdict.state.is_late)
        verdict = evaluate(facts, expectation, self._rules, expected_since, self._now, excused=excused)
        same = before is not None and before.verdict.state is verdict.state
        since = before.since if before is not None and same else self._now
        return ConnectionState(facts, verdict, since, expectation.digest, expected_since)

    def _expected_since(
        self, expectation: Expectation, before: ConnectionState | None, first_seen_at: datetime | None
    ) -> datetime:
        """Since when this is expected; a change of its schedule excuses no connection that is late already."""
        if before is None:
            return first_seen_at or self._now
        excused = before.verdict.state.is_late and expectation.standing is Standing.ACTIVE
        return before.expected_since if excused or before.expectation == expectation.digest else self._now


class _Expected:
    """Expectations, each made once."""

    def __init__(self, served: Mapping[str, Connection], tenants: Mapping[UUID, Tenant], expected: Expecting) -> None:
        self._served, self._tenants, self._expected = served, tenants, expected
        self._made: dict[str, Expectation] = {}

    def of(self, key: str) -> Expectation:
        if key not in self._made:
            one = self._served[key]
            self._made[key] = self._expected(one, self._tenants.get(one.tenant_id))
        return self._made[key]


def _is_excused(state: ConnectionState, now: datetime) -> bool:
    deadline = state.verdict.deadline
    return deadline is not None and deadline <= now and not state.verdict.state.is_late


def _marked(place: Place, before: Place | None, evaluation: Evaluation) -> Place:
    """The place with marks of the last evaluations that wrote something; its own if it did, or went by other rules."""
    own = replace(place, mark=uuid4().hex, turned=uuid4().hex)
    if before is None or before.rules != place.rules or evaluation.forgotten:
        return own
    mark = "" if evaluation.written else before.mark
    turned = "" if evaluation.transitions else before.turned
    return replace(own, mark=mark or own.mark, turned=turned or own.turned)


def _transitions(changed: list[ConnectionState], before: Mapping[str, ConnectionState]) -> list[Transition]:
    found = []
    for state in changed:
        old = before.get(state.facts.partition_key)
        if old is None or old.verdict.state is not state.verdict.state:
            found.append(Transition(old.verdict.state if old else None, state))
    return found
