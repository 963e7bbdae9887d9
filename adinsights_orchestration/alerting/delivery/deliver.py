"""Delivery: takes rows from the outbox, hands them to their sinks, and records what came of each.

Belongs here: one row after another, within a budget, and what follows from each outcome. Does not belong here: any
channel's protocol (`sinks`), rows (`outbox`). Claim, commit, send, record, commit: whatever dies in between, the row
says that an attempt was made, and once nothing of it can arrive any more the sink is asked whether it did. A message is
sent twice only if a sink applies a request later than its deadline and its settling time together; sinks that cannot be
asked are sent to again under the same id, so that nothing is lost.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from adinsights_orchestration.alerting.bookkeeping import orphans, outbox, rows, upkeep
from adinsights_orchestration.alerting.bookkeeping.outbox import Claimed
from adinsights_orchestration.alerting.bookkeeping.rows import Event
from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.channels.sinks import (
    Attempted,
    Found,
    Gone,
    Later,
    Notice,
    Outcome,
    Refused,
    Sent,
    Sink,
    Sinks,
    Uncertain,
)
from adinsights_orchestration.alerting.contacts import IS_MAIN
from adinsights_orchestration.alerting.delivery import takeover
from adinsights_orchestration.alerting.telling.grouping import FAREWELL, Op
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.findings import clear_finding, open_finding
from adinsights_orchestration.ops_store.store import OpsStore

_log = get_logger(__name__)
KEEP = timedelta(days=30)
_KEEP_FOR_MISSING = timedelta(days=1)  # a deployment without the token, and its mending
_SHORTEST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 5, 60  # a page waits no longer once the channel is back


@dataclass
class Delivered:
    """What a delivery did.

    Attributes:
        counts: How many rows ended how: `sent`, `found`, `refused`, `later`, `uncertain`, `dead`, `anew`; and how many
            a second channel took over (`taken_over`).
        left: Whether it stopped because its time was over.
    """

    counts: Counter[str] = field(default_factory=Counter)
    left: bool = False


def run(store: OpsStore, sinks: Sinks, clock: TickClock, only: Collection[str] | None = None) -> Delivered:
    """Sends what is due, until nothing is, every sink's allowance is used, or the time is over. Never sleeps.

    Args:
        store: The ops store.
        sinks: Every sink.
        clock: The tick, with its budget: nothing is begun that could outlast it.
        only: The sinks that are looked at; None for all of them, and for whoever stands in for one.

    Raises:
        OpsStoreError: The ops store does not answer; what was claimed is looked up later.
    """
    delivery = _Delivery(store, sinks, clock)
    if only is None:
        delivery.see_to_the_rest()
    with store.begin() as connection:
        waiting = outbox.waiting_sinks(connection, clock.now())
    waiting = [name for name in waiting if only is None or name in only]
    while waiting and not delivery.done.left:
        waiting = [name for name in waiting if delivery.one(name)]
    with store.begin() as connection:
        if delivery.done.counts:
            upkeep.prune(connection, KEEP, clock.now())
        if only is None:  # whoever delivers a part is no proof that delivery is alive
            rows.note_delivery(connection, clock.now())
    return delivery.done


class _Delivery:
    """One delivery at work."""

    def __init__(self, store: OpsStore, sinks: Sinks, clock: TickClock) -> None:
        self._store, self._sinks, self._clock = store, sinks, clock
        self.done = Delivered()

    def see_to_the_rest(self) -> None:
        """What is to be done beside sending: after a clock was set back, for channels that are down, or gone."""
        now = self._clock.now()
        with self._store.begin() as connection:
            found = upkeep.survey(connection, now)
            if found.is_ahead:
                upkeep.take_back_the_clock(connection, _longest_lease(self._sinks), now)
            for name in sorted(found.unsent - self._sinks.by_name.keys()):
                ended = upkeep.give_up(connection, name, now - _KEEP_FOR_MISSING, now)
                if ended:
                    self.done.counts["dead"] += len(ended)
                    rows.note(connection, ended)
            for name in sorted(found.undeliverable - self._sinks.by_name.keys()):
                clear_finding(connection, UNDELIVERABLE, name, now)
        for name, fallback in self._sinks.fallback.items():
            if name in found.unsent:
                self.take_over(name, fallback)

    def one(self, name: str) -> bool:
        """Sends the next row of a sink; returns False when there is none, or the time is over."""
        is_there = name in self._sinks.by_name
        sink = self._sinks.by_name[name] if is_there else self._sinks.former(name)
        if sink is None:  # for who brings it back; told elsewhere meanwhile (`notify`)
            return False
        if self._clock.left() < 2 * sink.traits.deadline_seconds:
            self.done.left = True
            return False
        with self._store.begin() as connection:
            claimed = outbox.claim(connection, name, sink.traits, self._clock.now(), only_farewells=not is_there)
            if claimed is None:
                return False
            orphaned = self._is_orphaned(connection, claimed, is_there=is_there)
            whole = _adopted(connection, claimed, self._clock.now()) if orphaned and is_there else None
        row = whole or claimed
        outcome = _ORPHANED if orphaned and whole is None else self._safely(sink, row)
        with self._store.begin() as connection:
            self._record(connection, sink, row, outcome, claimed)
        return True

    def _is_orphaned(self, connection: sa.Connection, row: Claimed, *, is_there: bool) -> bool:
        return row.op is not Op.POST and row.root is None and (not is_there or orphans.has_dead_root(connection, row))

    def _safely(self, sink: Sink, row: Claimed) -> Outcome | Found:
        """What came of it; a sink that raises has a defect, which must keep no other one from its messages."""
        try:
            return self._attempt(sink, row)
        except Exception as error:  # noqa: BLE001  (whether anything was sent before it nobody knows)
            kind = type(error).__name__
            _log.error("a channel's sink failed; tell Platform Engineering", sink=sink.name, error=kind)
            return Uncertain(f"the sink failed: {kind}")

    def _attempt(self, sink: Sink, row: Claimed) -> Outcome | Found:
        message = replace(row.message, origin=self._sinks.origin)
        if message.note.startswith(FAREWELL) and sink.name in self._sinks.by_name:  # it has come back
            message = replace(message, note="")
        traits, notice = sink.traits, Notice(row.notice_id, message, row.attempt)
        if (row.op is Op.UPDATE and not traits.edits) or (row.op is Op.REPLY and not traits.threads):
            return _Left(row.root or "")
        if row.may_have_arrived and row.op is not Op.UPDATE and traits.can_look_up:
            seen = _looked_up(sink, notice, row)
            if seen is not None:
                return seen
        if self._clock.now() + timedelta(seconds=traits.deadline_seconds + traits.settle_seconds) > row.until:
            return _NotAsked("the claim is too old to begin")
        if row.op is Op.POST or row.root is None:
            return sink.post(notice)
        return sink.update(notice, row.root) if row.op is Op.UPDATE else sink.reply(notice, row.root)

    def _record(
        self, connection: sa.Connection, sink: Sink, row: Claimed, outcome: Outcome | Found, claimed: Claimed
    ) -> None:
        now = self._clock.now()
        kind, mine = self._settle(connection, sink, row, outcome, now)
        if mine and kind == "dead":  # the second channel may have the message, and wants what was claimed
            self._bury(connection, claimed, getattr(outcome, "reason", ""), now)
        kind = kind if mine else "lost_claim"
        self.done.counts[kind] += 1
        said = getattr(outcome, "reason", "") or row.op.value
        event = Event(now, f"notice_{kind}", f"{sink.name}: {said}"[:300], None, row.group, row.episode, row.notice_id)
        rows.note(connection, [event])

    def _settle(
        self, connection: sa.Connection, sink: Sink, row: Claimed, outcome: Outcome | Found, now: datetime
    ) -> tuple[str, bool]:
        """Writes what the outcome means for the row; returns its kind, and whether the row was still in our hands."""
        match outcome:
            case Sent(ref) | Found(ref):
                if not isinstance(outcome, _Left):
                    clear_finding(connection, UNDELIVERABLE, sink.name, now)
                return ("found" if isinstance(outcome, Found) else "sent"), outbox.sent(connection, row, ref, now)
            case Refused(reason, permanent=True):
                mine = outbox.dead(connection, row, reason, now)
                # Of what is refused for its message a person was told before; a channel that was taken out is nobody's.
                if mine and outcome is not _ORPHANED and sink.name in self._sinks.by_name:
                    detail = {**_undeliverable(row, reason), IS_MAIN: row.sink == self._sinks.main}
                    open_finding(connection, UNDELIVERABLE, row.sink, detail, now)
                return "dead", mine
            case Refused(reason):
                return "refused", outbox.refused(connection, row, reason, now + _pause(row.refusals))
            case Later(not_before, reason):
                outbox.close_channel(connection, sink.name, not_before, reason)
                return "later", outbox.refused(connection, row, reason, not_before)
            case Gone(reason):
                return "anew", outbox.becomes_post(connection, row, reason)
            case _:
                return "uncertain", outbox.uncertain(connection, row, outcome.reason, _look_at(sink, row, outcome, now))

    def _bury(self, connection: sa.Connection, row: Claimed, reason: str, now: datetime) -> None:
        fallback = self._sinks.fallback.get(row.sink)
        if fallback is None or fallback not in self._sinks.by_name:
            return
        whole = takeover.instead(connection, row, fallback)
        if whole is not None:
            takeover.hand_over(connection, whole, fallback, f"Here because {row.sink} does not take it: {reason}.", now)

    def take_over(self, name: str, fallback: str) -> None:
        """Lets the second channel say what the first has not taken for long; the first says it too once it can."""
        if fallback not in self._sinks.by_name:
            return
        now = self._clock.now()
        with self._store.begin() as connection:
            before = now - self._sinks.fallback_after
            first = takeover.overdue(connection, name, before, now)
            late = [*first, *takeover.unheard(connection, name, fallback, before, now)]
            takeover.lock_groups(connection, late)
            for row in late:
                why = f"Here because {name} has not taken it since {row.created_at:%H:%M} UTC."
                if takeover.hand_over(connection, row, fallback, why, now):
                    self.done.counts["taken_over"] += 1


_ORPHANED = Refused("its first message could not be sent", permanent=True)


@dataclass(frozen=True, slots=True)
class _Left(Sent):
    """There is nothing to be done in such a sink, and it was not asked."""


def _undeliverable(row: Claimed, reason: str) -> dict[str, str]:
    mend = "Mend the channel, or route to another; then `adinsights alerts test`, and `adinsights alerts replay`."
    return {"reason": reason, "group": row.group, "next": mend}


def _adopted(connection: sa.Connection, row: Claimed, now: datetime) -> Claimed | None:
    """An edit or answer whose message was refused, as the whole message, where the sink may take that by now."""
    message = takeover.unless_over(connection, row) if orphans.is_worth_asking(connection, row, now) else None
    return None if message is None else outbox.becomes_whole(connection, row, message)


@dataclass(frozen=True, slots=True)
class _NotAsked(Uncertain):
    """Nothing was sent this time, and whether an earlier attempt arrived is still not known."""

    not_before: datetime | None = None


def _looked_up(sink: Sink, notice: Notice, row: Claimed) -> Found | Uncertain | None:
    """What the sink knows of earlier attempts; None where it is certain that none arrived, or may not be asked."""
    thread = row.root if row.op is Op.REPLY else None
    match sink.lookup(notice, Attempted(row.first_attempt_at, row.last_attempt_at, thread)):
        case Found() as found:
            return found
        case Later(not_before, reason):
            return _NotAsked(f"not asked: {reason}", not_before)
        case Refused(reason, permanent=False) | Uncertain(reason):
            return _NotAsked(f"not asked: {reason}")
        case _:
            return None  # what may never be asked for is sent again rather than lost


def _look_at(sink: Sink, row: Claimed, outcome: Uncertain, now: datetime) -> datetime:
    if isinstance(outcome, _NotAsked):
        return max(outcome.not_before or now, now + _pause(row.attempt))
    return now + timedelta(seconds=sink.traits.settle_seconds)


def _longest_lease(sinks: Sinks) -> timedelta:
    return max((outbox.lease(sink.traits) for sink in sinks.by_name.values()), default=timedelta(0))


def _pause(times: int) -> timedelta:
    return timedelta(seconds=min(_SHORTEST_PAUSE_SECONDS * 2 ** min(times, 10), _LONGEST_PAUSE_SECONDS))
