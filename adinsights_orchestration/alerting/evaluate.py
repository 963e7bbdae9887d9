"""One evaluation: facts are read, rules judge them, incidents move, and what is to be said is put into the outbox.

Belongs here: the one transaction in which all of that is committed or nothing. Does not belong here: the steps
themselves (`reading`, `rules`, `engine`), sending (`deliver`). How far foreign logs were read is committed with what
followed from it, so an evaluation that dies at any point is simply done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.alerting import outbox, rows
from adinsights_orchestration.alerting.engine import After, Before, Surroundings, advance
from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.grouping import Op, Options
from adinsights_orchestration.alerting.model import Policy
from adinsights_orchestration.alerting.rows import Event
from adinsights_orchestration.alerting.rules.rule import Judged, Rule, judge
from adinsights_orchestration.ops_store.connecting import lock_key
from adinsights_orchestration.ops_store.store import OpsStore

LOCK = "alert_evaluate"
KEEP_EVENTS = timedelta(days=400)  # an incident is looked back at for a year

Memory = Mapping[str, Any]
Read = Callable[[sa.Connection, datetime, Memory], tuple[Facts, Memory]]


@dataclass(frozen=True)
class Policies:
    """How findings become messages in this deployment.

    Attributes:
        rules: What is judged.
        options: How it is told.
        believed: How soon a rule is believed, by the rule's name.
    """

    rules: Sequence[Rule]
    options: Options
    believed: Mapping[str, Policy] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation did.

    Attributes:
        skipped: Why it did nothing, or empty.
        firing: How many incidents fire.
        changes: What happened to incidents, counted.
        orders: How many things are to be said.
        held: How many groups a storm holds back.
    """

    skipped: str = ""
    firing: int = 0
    changes: Mapping[str, int] = field(default_factory=dict)
    orders: int = 0
    held: int = 0


def run(store: OpsStore, read: Read, policies: Policies, now: datetime) -> Evaluation:
    """Evaluates once.

    Args:
        store: The ops store.
        read: Reads the facts within the transaction, from what the last evaluation remembered; returns them, and what
            the next is to remember.
        policies: What is judged and how it is told.
        now: The moment.

    Raises:
        OpsStoreError: The ops store does not answer; nothing has happened.
    """
    with store.exclusive(LOCK) as mine:
        if not mine:
            return Evaluation(skipped="another evaluation is at work")
        with store.begin() as connection:
            # The section's lock is on a connection of its own, which may be lost while this one goes on.
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key(f"{LOCK}:rows"))))
            return _evaluate(connection, read, policies, now)


def hold(connection: sa.Connection) -> None:
    """Keeps evaluations out until the transaction ends, for who changes incidents by hand."""
    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key(f"{LOCK}:rows"))))


def _evaluate(connection: sa.Connection, read: Read, policies: Policies, now: datetime) -> Evaluation:
    memory = rows.load_memory(connection)
    facts, remembered = read(connection, now, memory)
    judged = judge(policies.rules, facts)
    after = advance(
        _before(connection, judged, policies, now),
        judged.findings,
        judged.unfound,
        Surroundings(policies.options, facts.graph, rows.load_silences(connection, now), policies.believed),
        now,
    )
    _write(connection, after, now)
    rows.save_memory(connection, {**remembered, "held": list(after.held)}, now)
    rows.prune(connection, KEEP_EVENTS, now)
    changes = Counter(each.change.value for each in after.transitions)
    return Evaluation("", after.firing, changes, len(after.orders), len(after.held))


def _before(connection: sa.Connection, judged: Judged, policies: Policies, now: datetime) -> Before:
    incidents = rows.load_incidents(connection, {each.fingerprint for each in judged.findings})
    keys = {each.group_key for each in judged.findings}
    keys |= {each.finding.group_key for each in incidents.values() if each.is_open}
    storm = policies.options.storm
    lately = rows.opened_since(connection, now - storm.within) if storm else 0
    return Before(incidents, rows.load_groups(connection, keys), lately)


def _write(connection: sa.Connection, after: After, now: datetime) -> None:
    rows.save_incidents(connection, after.incidents)
    rows.save_groups(connection, after.groups)
    outbox.enqueue(connection, after.orders, now)
    told = [
        Event(now, f"group_{order.reason.value}", order.message.title[:300], None, order.group, order.episode)
        for order in after.orders
        if order.op is not Op.UPDATE
    ]
    rows.note(connection, [*rows.events_of(after.transitions), *told])
