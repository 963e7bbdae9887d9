"""One evaluation: facts are read, rules judge them, incidents move, and what is to be said is put into the outbox.

Belongs here: the one transaction in which all of that is committed or nothing. Does not belong here: the steps
themselves (`reading`, `rules`, `engine`), sending (`deliver`). How far foreign logs were read is committed with what
followed from it, so an evaluation that dies at any point is simply done again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import sqlalchemy as sa

from adinsights_orchestration.alerting.bookkeeping import outbox, rows
from adinsights_orchestration.alerting.bookkeeping.rows import Event
from adinsights_orchestration.alerting.evaluation.engine import (
    After,
    Before,
    Moved,
    Surroundings,
    by_fingerprint,
    is_still,
    move,
    tell,
)
from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.gathering.standing import Known, Standing
from adinsights_orchestration.alerting.model import Finding, Incident, Policy
from adinsights_orchestration.alerting.rules.rule import Judged, Rule, judge
from adinsights_orchestration.alerting.telling import digest, notify
from adinsights_orchestration.alerting.telling.digest import KEPT_AS, Digest, Told
from adinsights_orchestration.alerting.telling.grouping import Op, Options
from adinsights_orchestration.alerting.windows import Window, in_force
from adinsights_orchestration.ops_store.connecting import lock_key
from adinsights_orchestration.ops_store.store import OpsStore

LOCK = "alert_evaluate"
_ROWS = sa.func.pg_advisory_xact_lock(lock_key(f"{LOCK}:rows"))
_HOLD = sa.select(_ROWS)
# Turned away by another evaluation at once, but waiting for a person's change, which is short. A statement of its own:
# what follows must see what was committed while it waited.
_TAKE_TURN = sa.select(
    sa.case(
        (sa.func.pg_try_advisory_xact_lock(lock_key(LOCK)), sa.cast(_ROWS, sa.Text).is_not(None)),
        else_=sa.false(),
    )
)
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
        windows: Quiet times that the configuration knows.
        digests: Daily summaries.
    """

    rules: Sequence[Rule]
    options: Options
    believed: Mapping[str, Policy] = field(default_factory=dict)
    windows: Sequence[Window] = ()
    digests: Sequence[Digest] = ()


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


def run(store: OpsStore, read: Read, policies: Policies, now: datetime, standing: Standing | None = None) -> Evaluation:
    """Evaluates once.

    Args:
        store: The ops store.
        read: Reads the facts within the transaction, from what the last evaluation remembered; returns them, and what
            the next is to remember.
        policies: What is judged and how it is told.
        now: The moment.
        standing: What this process knows of its last evaluation, brought to this one; then it costs what changed.

    Raises:
        OpsStoreError: The ops store does not answer; nothing has happened.
    """
    standing = standing or Standing()
    with store.begin() as connection:
        if not connection.execute(_TAKE_TURN).scalar_one():
            return Evaluation(skipped="another evaluation is at work")
        known, standing.known = standing.known, Known()
        done, left = _evaluate(connection, read, policies, now, known)
        if standing.is_to_prune(now):
            rows.prune(connection, KEEP_EVENTS, now)
            standing.pruned_at = now
    # Committed: only now it is how things stand. Whatever failed before leaves nothing that is believed.
    standing.known = left
    return done


def hold(connection: sa.Connection) -> None:
    """Keeps evaluations out until the transaction ends, for who changes incidents by hand."""
    connection.execute(_HOLD)


def _evaluate(
    connection: sa.Connection, read: Read, policies: Policies, now: datetime, known: Known
) -> tuple[Evaluation, Known]:
    memory, asked_for = rows.load_kept(connection, now)
    mark = str(memory.get("mark", ""))
    facts, remembered = read(connection, now, memory)
    judged = judge(policies.rules, facts)
    silences = [*asked_for, *in_force(policies.windows, now)]
    quiet = [each for each in silences if each.starts_at <= now]
    before = known if mark and mark == known.mark else None
    same = before is not None and quiet == before.silences and facts.graph is before.graph
    around = Surroundings(policies.options, facts.graph, silences, policies.believed)
    if before is not None and same and before.is_still(judged.findings, now):
        after, left = After((), (), (), (), (), before.firing), before
    else:
        after, left = _advance(connection, judged, around, before, now, same_around=same)
    if after.incidents or not mark:
        mark = uuid4().hex
    _write(connection, after, now)
    told = _digests(connection, policies.digests, Told.all_from(memory), now)
    digests = {sink: each.to_json() for sink, each in told.items()}
    remembered = {**remembered, "held": list(after.held), KEPT_AS: digests, "mark": mark}
    rows.save_memory(connection, remembered, now)
    changes = Counter(each.change.value for each in after.transitions)
    done = Evaluation("", after.firing, changes, len(after.orders), len(after.held))
    return done, replace(left, mark=mark, silences=quiet, graph=facts.graph, at=now)


def _advance(
    connection: sa.Connection,
    judged: Judged,
    around: Surroundings,
    known: Known | None,
    now: datetime,
    *,
    same_around: bool,
) -> tuple[After, Known]:
    """What follows from what was found; groups are only looked at where one may have something to say."""
    found = by_fingerprint(judged.findings)
    incidents = _incidents(connection, found, known)
    before = Before(incidents, same_around=same_around, unsettled=known.unsettled if known else ())
    moved = move(before, found, judged.unfound, around, now)
    if known is not None and moved.touched is not None and not moved.touched and known.rests(now):
        after, rests_until = moved.rests(), known.rests_until
    else:
        before = _with_groups(connection, before, found, around.options, now)
        after = tell(moved, before, around, now)
        rests_until = _rests_until(before, moved, after, around.options, now)
    kept = incidents
    if after.incidents:
        kept = {**incidents, **{each.fingerprint: each for each in after.incidents}}
        kept = {fp: each for fp, each in kept.items() if each.is_open}
    still = not after.incidents and not after.unsettled and is_still(moved, found, around.options, now)
    findings = judged.findings if still else None
    return after, Known(
        incidents=kept, unsettled=after.unsettled, rests_until=rests_until, findings=findings, firing=after.firing
    )


def _digests(
    connection: sa.Connection, digests: Sequence[Digest], told: Mapping[str, Told], now: datetime
) -> dict[str, Told]:
    """Puts the digests that are due into the outbox; returns what the newest of each channel covered."""
    after: dict[str, Told] = {}
    for each in digests:
        covered = told.get(each.sink, Told(now))
        since = each.since(now, covered)
        if since is None:
            # The clock may have been set back.
            after[each.sink] = replace(covered, until=min(covered.until, now))
            continue
        order = digest.order(each, rows.load_lately(connection, since, now), since, now)
        outbox.enqueue(connection, [outbox.numbered(connection, order)] if order else [], now)
        after[each.sink] = Told(now, each.last_due(now))
    return after


def _incidents(connection: sa.Connection, found: Mapping[str, Finding], known: Known | None) -> dict[str, Incident]:
    """All that are open, and those that were found again."""
    if known is None:
        return rows.load_incidents(connection, found.keys())
    new = found.keys() - known.incidents.keys()
    return {**known.incidents, **rows.load_named(connection, new)} if new else known.incidents


def _with_groups(
    connection: sa.Connection, before: Before, found: Mapping[str, Finding], options: Options, now: datetime
) -> Before:
    keys = {each.group_key for each in found.values()}
    keys |= {each.finding.group_key for each in before.incidents.values() if each.is_open}
    lately = rows.opened_within(connection, now - options.storm.within, now) if options.storm else 0
    return replace(before, groups=rows.load_groups(connection, keys), opened_lately=lately)


def _rests_until(before: Before, moved: Moved, after: After, options: Options, now: datetime) -> datetime | None:
    groups = {**before.groups, **{each.key: each for each in after.groups}}
    told = {**moved.after, **{each.fingerprint: each for each in after.incidents}}
    keys = {*groups, *(each.finding.group_key for each in told.values() if each.is_open)}
    return notify.rests_until(groups, keys, options, now)


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
