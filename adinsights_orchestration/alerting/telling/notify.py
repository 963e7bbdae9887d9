"""Who is told what, when: from incidents as they stand to messages to be sent.

Belongs here: what keeps incidents quiet, what each group is to say, and the bookkeeping of what its readers know; pure.
Does not belong here: words (`wording`), rows and sending (`outbox`, `deliver`). docs/alerts.md lists where we differ
from Alertmanager and why. Beside speaking, a group's first message is edited whenever what it shows has changed, which
notifies nobody.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from adinsights_orchestration.alerting.inhibition import Graph, inhibited
from adinsights_orchestration.alerting.matching import Silence
from adinsights_orchestration.alerting.message import Message, to_json
from adinsights_orchestration.alerting.model import Incident
from adinsights_orchestration.alerting.rules.rule import STORM_RULE
from adinsights_orchestration.alerting.telling import wording
from adinsights_orchestration.alerting.telling.flush import Flush
from adinsights_orchestration.alerting.telling.grouping import FAREWELL, Group, Op, Options, Order, Plan, Reason
from adinsights_orchestration.alerting.telling.quiet import OUT_OF_HOURS, Recovery, cause_of, explained, recovery_of


def suppressions(
    incidents: Iterable[Incident], graph: Graph, silences: Sequence[Silence], options: Options, now: datetime
) -> dict[str, str]:
    """Returns what keeps each quiet incident quiet, in the forms of `quiet`.

    Where its cause is over, it may be soon: that is waited for, but what gets worse meanwhile is told.

    Args:
        incidents: All that fire, or were told and are over.
        graph: What depends on what.
        silences: All that may be in force.
        options: Hours, and explanations by labels.
        now: The moment.
    """
    found = list(incidents)
    quiet = {fp: explained(cause) for fp, cause in inhibited(found, graph, options.inhibitions).items()}
    in_force = [silence for silence in silences if silence.starts_at <= now < silence.ends_at]
    for each in found:
        if each.fingerprint in quiet:
            continue
        hours = options.hours.get(each.severity)
        if hours is not None and not hours.are_now(now):
            quiet[each.fingerprint] = OUT_OF_HOURS
        elif in_force:
            labels = each.all_labels
            silence = next((one for one in in_force if one.covers(labels, now)), None)
            if silence is not None:
                quiet[each.fingerprint] = silence.label
    firing = {each.fingerprint for each in found if each.is_firing}
    for each in found:
        if each.fingerprint not in quiet and each.suppressed_by and options.grace:
            recovery = _recovery(each, firing, options.grace, now)
            if recovery is not None:
                quiet[each.fingerprint] = str(recovery)
    return quiet


def _recovery(incident: Incident, firing: Collection[str], grace: timedelta, now: datetime) -> Recovery | None:
    cause, known = cause_of(incident.suppressed_by), recovery_of(incident.suppressed_by)
    longest = round((now + grace).timestamp())
    if cause is not None:
        # A cause that goes on and is only less urgent now explains nothing: that is told at once.
        return Recovery(longest, incident.severity) if cause not in firing else None
    if known is None or incident.severity.rank > known.severity.rank:
        return None
    kept = replace(known, until=min(known.until, longest))  # the clock may have been set back
    return kept if now.timestamp() < kept.until else None


def plan(
    groups: Mapping[str, Group],
    incidents: Iterable[Incident],
    options: Options,
    now: datetime,
    *,
    opened_lately: int,
    touched: Collection[str] | None = None,
) -> Plan:
    """Returns what is to be said now.

    Args:
        groups: Those that are kept, by key; further ones are made as needed.
        incidents: All that are open, with `suppressed_by` as it is now.
        options: How to tell.
        now: The moment.
        opened_lately: How many groups opened a message within the storm's time.
        touched: Keys of the groups of which something changed since the last plan; None where that is not known.
    """
    return _Planner(groups, list(incidents), options, now).run(opened_lately, touched)


def rests_until(groups: Mapping[str, Group], keys: Iterable[str], options: Options, now: datetime) -> datetime | None:
    """Returns until when time alone gives none of the groups anything to do; None where it does for one of them.

    Args:
        groups: Those that are kept, by key.
        keys: All that there are: of those, and of open incidents.
        options: How to tell.
        now: The moment.
    """
    until = now + _longest(options)
    for key in keys:
        rests = _rests_until(groups.get(key), options, now)
        if rests is None:
            return None
        until = min(until, rests)
    return until


def _rests_until(group: Group | None, options: Options, now: datetime) -> datetime | None:
    """Until when time alone gives the group nothing to do; None where it may now."""
    if group is None or group.flush_at is None or group.escalated < len(options.escalation):
        return None
    if any(at is not None and at > now for at in (group.closed_at, group.unacked_at)):
        return None  # the clock was set back
    return group.flush_at if now < group.flush_at <= now + _longest(options) else None


def _longest(options: Options) -> timedelta:
    """The longest that a group's clock runs."""
    return max(options.timing.group_wait, options.timing.group_interval)


class _Planner:
    """One plan in the making."""

    def __init__(self, groups: Mapping[str, Group], incidents: list[Incident], options: Options, now: datetime) -> None:
        self._groups, self._options, self._now = groups, options, now
        self._members: dict[str, list[Incident]] = defaultdict(list)
        self._explained: dict[str, list[str]] = defaultdict(list)
        for each in incidents:
            self._members[each.finding.group_key].append(each)
            cause = cause_of(each.suppressed_by)
            if each.is_firing and cause is not None:
                self._explained[cause].append(each.finding.rule)
        self._kept: list[Group] = []
        self._changed: list[Incident] = []
        self._orders: list[Order] = []
        self._notices: dict[str, Reason] = {}

    def run(self, opened_lately: int, touched: Collection[str] | None) -> Plan:
        opening: list[Flush] = []
        for key in sorted(self._members.keys() | self._groups.keys()):
            if touched is not None and key not in touched and self._rests(key):
                continue
            flush = self._flush(key)
            if flush.reason is Reason.FIRST and not flush.matter.key.startswith(STORM_RULE):
                opening.append(flush)
            else:
                self._finish(flush)
        opening.sort(key=lambda each: (-each.severity.rank, each.matter.since, each.matter.key))
        storm = self._options.storm
        room = len(opening) if storm is None else max(storm.groups - opened_lately, 0)
        for flush in opening[:room]:
            self._finish(flush)
        held = opening[room:]
        self._kept += [flush.group for flush in held if flush.group != self._groups.get(flush.group.key)]
        return Plan(
            self._kept, self._changed, self._orders, [wording.title(each.matter) for each in held], self._notices
        )

    def _rests(self, key: str) -> bool:
        return _rests_until(self._groups.get(key), self._options, self._now) is not None

    def _flush(self, key: str) -> Flush:
        group, members = self._groups.get(key) or Group(key), self._members.get(key, [])
        group = self._clocked(group, members)
        flush = Flush(group, members, self._explained, self._now)
        flush.decide(self._options.timing, self._options.escalation)
        return flush

    def _clocked(self, group: Group, members: Sequence[Incident]) -> Group:
        """The group with a clock that runs while it has incidents, and a while longer."""
        timing, now = self._options.timing, self._now
        if group.flush_at is None:
            due = now + timing.group_wait
            return replace(group, flush_at=due) if any(each.is_firing for each in members) else group
        longest = _longest(self._options)
        if group.flush_at > now + longest:  # the clock was set back
            return replace(group, flush_at=now + longest)
        return group

    def _finish(self, flush: Flush) -> None:
        before, group = self._groups.get(flush.group.key), flush.group
        timing = self._options.timing
        if flush.is_due:
            group = replace(group, flush_at=self._now + timing.group_interval)
        if flush.reason is not None:
            group = self._speak(flush, group)
        elif group.is_open:
            group = self._edit(flush, group, Reason.EDITED)
        if flush.is_over:
            group = replace(group, shown="")
        group = self._rested(flush, self._watched(flush, group))
        self._book(flush)
        if group != before:
            self._kept.append(group)

    def _rested(self, flush: Flush, group: Group) -> Group:
        """The group with since when nothing of it fires, and without a clock once that is long enough."""
        if flush.fires or group.flush_at is None:
            return replace(group, closed_at=None) if flush.fires and group.closed_at is not None else group
        closed_at = min(group.closed_at or self._now, self._now)
        over = flush.is_due and not group.is_open and self._now - closed_at >= self._options.timing.linger
        return replace(group, closed_at=closed_at, flush_at=None if over else group.flush_at)

    def _watched(self, flush: Flush, group: Group) -> Group:
        """The group with since when its readers know of a page that nobody has taken on; from there contacts count."""
        waits = group.is_open and any(each.told or flush.reason is not None for each in flush.unacked_pages)
        if not waits:
            return replace(group, unacked_at=None, escalated=0)
        return replace(group, unacked_at=min(group.unacked_at or self._now, self._now))

    def _speak(self, flush: Flush, group: Group) -> Group:
        reason = flush.reason
        assert reason is not None
        self._notices[group.key] = reason
        if reason is Reason.FIRST:
            group = replace(
                group,
                episode=group.episode + 1,
                seq=0,
                sinks=(),
                opened_at=self._now,
                since=flush.matter.since,
                severity=flush.severity,
                title=wording.title(flush.matter),
                most=0,
                escalated=0,
                unacked_at=None,
                shown="",
            )
        group = replace(group, told_at=self._now)
        if reason is Reason.ESCALATED:
            group = replace(group, escalated=group.escalated + 1)
        words, readers = flush.words(reason, group), group.sinks
        rises = flush.severity.rank > group.severity.rank  # the first page of a matter that was none
        group = self._edit(flush, group, reason)
        if reason is Reason.FIRST:
            return group
        broadcast = bool(flush.worsened) or rises or reason in (Reason.REPEAT, Reason.ESCALATED)
        line = wording.story(
            flush.matter_of(group),
            words,
            self._now,
            news=flush.news,
            ended=flush.tellable,
            broadcast=broadcast,
            alarms=reason not in (Reason.LESS, Reason.RESOLVED),
        )
        # Whoever gets the whole message only now needs no line about what is new in it.
        return self._order(group, Op.REPLY, reason, line, readers)

    def _edit(self, flush: Flush, group: Group, reason: Reason) -> Group:
        """Makes the first message say how the group stands, where it does not yet."""
        worst = max((group.severity, flush.severity), key=lambda severity: severity.rank)
        most = max(group.most, len(flush.matter.visible))
        if most > group.most or (flush.matter.visible and worst is not group.severity):
            group = replace(group, title=wording.title(flush.matter))
        group = replace(group, most=most, severity=worst)
        if group.since is None or (flush.matter.visible and flush.matter.since < group.since):
            group = replace(group, since=flush.matter.since)
        matter = flush.matter_of(group)
        shown = _digest(wording.root(matter, None))
        missing, old = self._options.missing(group.sinks), group.sinks
        # Whoever is called back to an unchanged message reads its ages as those of now.
        changed = shown != group.shown or reason in (Reason.REPEAT, Reason.ESCALATED)
        instead = self._instead(flush, group) if missing else ()
        new = self._sinks(flush, replace(group, sinks=(*old, *instead)))
        group = replace(group, shown=shown, sinks=(*old, *instead, *new))
        if changed or new or instead:
            message = wording.root(matter, self._now)
            # Those that are missing too: where one comes back, what waits for it is how things stand.
            if changed and old:
                group = self._order(group, Op.UPDATE, reason, message, old)
            if instead:
                note = f"Here because {' and '.join(missing)} is not configured any more."
                group = self._order(group, Op.POST, reason, replace(message, note=note), instead)
                # A message that nobody edits any more would be taken for what still is so.
                left = f"{FAREWELL}{' and '.join(instead)}; this message stays as it is."
                group = self._order(group, Op.UPDATE, reason, replace(message, note=left), missing)
            if new:
                note = flush.words(reason, group) if reason is Reason.ESCALATED else ""
                group = self._order(group, Op.POST, reason, replace(message, note=note), new)
        return group

    def _instead(self, flush: Flush, group: Group) -> tuple[str, ...]:
        """Where what is told already goes by the routes that there are now, and is not yet."""
        told = [each.all_labels for each in flush.matter.visible if each.told_severity is each.severity]
        found = [sink for labels in told for sink in self._options.routes.sinks_for(labels)]
        return tuple(dict.fromkeys(sink for sink in found if sink not in group.sinks))

    def _sinks(self, flush: Flush, group: Group) -> tuple[str, ...]:
        """Where it goes beside where it is, because of what is new in it or who else is to know."""
        found = list(group.sinks)
        for each in flush.matter.visible:
            if each.told and each.told_severity is each.severity and found:
                continue  # its routes are among them already
            found += [sink for sink in self._options.routes.sinks_for(each.all_labels) if sink not in found]
        for step in self._options.escalation[: group.escalated]:
            for each in flush.unacked_pages:
                found += [sink for sink in step.to.sinks_for(each.all_labels) if sink not in found]
        return tuple(found[len(group.sinks) :])

    def _order(self, group: Group, op: Op, reason: Reason, message: Message, sinks: Iterable[str]) -> Group:
        seq = group.seq + 1
        self._orders += [Order(group.key, group.episode, seq, sink, op, reason, message) for sink in sinks]
        return replace(group, seq=seq)

    def _book(self, flush: Flush) -> None:
        """Notes what the readers know now."""
        spoke = flush.reason is not None
        for each in flush.matter.visible if spoke else ():
            if not each.told or each.told_severity is not each.severity:
                self._changed.append(replace(each, told=True, told_severity=each.severity))
        everything = spoke or flush.is_over or not flush.group.is_open
        told_off = [*flush.tellable] if everything else []
        told_off += flush.quietly_ended if everything or flush.is_due else []
        # What a notice leaves out because it is kept quiet, its readers do not know of any more.
        told_off += [each for each in flush.matter.hidden if each.told and spoke and not flush.is_known(each)]
        self._changed += [replace(each, told=False, told_severity=None) for each in told_off]


def _digest(message: Message) -> str:
    return hashlib.sha256(json.dumps(to_json(message), sort_keys=True).encode()).hexdigest()[:16]
