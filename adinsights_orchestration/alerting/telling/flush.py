"""One group at one moment: what its incidents amount to, whether it speaks, and why.

Belongs here: the group's state as people are told of it, pure. Does not belong here: orders and bookkeeping (`notify`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from adinsights_orchestration.alerting.message import Severity, Standing
from adinsights_orchestration.alerting.model import Incident
from adinsights_orchestration.alerting.telling import wording
from adinsights_orchestration.alerting.telling.grouping import Escalation, Group, Reason, Timing, needs_update
from adinsights_orchestration.alerting.telling.quiet import OUT_OF_HOURS, cause_of, recovery_of
from adinsights_orchestration.alerting.telling.wording import Matter


def is_recovering(incident: Incident) -> bool:
    """Whether it is kept quiet because its cause is only just over."""
    return recovery_of(incident.suppressed_by) is not None


class Flush:
    """One group at one moment: what its incidents amount to, and whether it speaks."""

    def __init__(
        self, group: Group, members: Sequence[Incident], explained: Mapping[str, list[str]], now: datetime
    ) -> None:
        self.group, self.members, self._now = group, members, now
        firing = sorted((each for each in members if each.is_firing), key=_order_of)
        visible = [each for each in firing if not each.suppressed_by]
        self.ended = sorted((each for each in members if not each.is_firing and each.told), key=_order_of)
        # An end outside of hours is told when they open; one that is silenced or explained is not told at all.
        self.held = [each for each in self.ended if each.suppressed_by == OUT_OF_HOURS]
        self.quietly_ended = [each for each in self.ended if each.suppressed_by and each not in self.held]
        self.tellable = [each for each in self.ended if not each.suppressed_by]
        found = [rule for each in visible for rule in explained.get(each.fingerprint, ())]
        began = [each.finding.since for each in visible or firing or self.ended]
        self.severity = max((each.severity for each in visible), key=lambda one: one.rank, default=Severity.WARN)
        self.matter = Matter(
            key=group.key,
            episode=group.episode,
            visible=visible,
            ended=self.ended,
            hidden=[each for each in firing if each.suppressed_by],
            explained=found,
            since=min(began, default=group.since or now),
            severity=self.severity,
            title=group.title,
            most=group.most,
        )
        self.fires = bool(firing)
        self.recovers = any(is_recovering(each) for each in firing)
        self.is_due = group.flush_at is not None and group.flush_at <= now
        self.is_over = self.is_due and group.is_open and not firing and not self.held
        self.unacked_pages = [each for each in visible if each.severity is Severity.PAGE and each.acked_at is None]
        self.worsened = [each for each in visible if each.told and _is_worse(each)]
        self.news = [each for each in visible if not each.told or _is_worse(each)]
        self.reason: Reason | None = None

    def is_known(self, hidden: Incident) -> bool:
        """Whether the readers go on knowing of what is kept quiet: what explains it stands in the same message."""
        members = {each.fingerprint: each for each in self.members}
        one: Incident | None = hidden
        while one is not None and one.suppressed_by:
            if one.suppressed_by == OUT_OF_HOURS or is_recovering(one):
                return True
            one = members.get(cause_of(one.suppressed_by) or "")
        return one is not None

    def decide(self, timing: Timing, escalation: Sequence[Escalation]) -> None:
        """Finds out whether the group speaks."""
        group, visible = self.group, self.matter.visible
        if not self.is_due and not (self.worsened and group.is_open):
            self.reason = Reason.ESCALATED if self._escalates(escalation) else None
            return
        told_at = group.told_at or self._now
        unacked = self.matter.standing is Standing.FIRING
        self.reason = needs_update(
            is_open=group.is_open,
            firing=len(visible),
            new=sum(not each.told for each in visible),
            ended=len(self.tellable),
            worsened=bool(self.worsened),
            repeat_is_due=unacked and told_at < self._now - timing.repeat_interval,
        )
        if self.reason is Reason.RESOLVED and self.recovers:
            self.reason = None  # it is over with what recovers, or goes on with what does not
        if self.reason is None and self._escalates(escalation):
            self.reason = Reason.ESCALATED

    def _escalates(self, escalation: Sequence[Escalation]) -> bool:
        group = self.group
        if group.escalated >= len(escalation) or not group.is_open or group.unacked_at is None:
            return False
        return bool(self.unacked_pages) and self._now - group.unacked_at >= escalation[group.escalated].after

    def matter_of(self, group: Group) -> Matter:
        """The matter, as the group's episode has it."""
        since = min(group.since or self.matter.since, self.matter.since)
        return replace(
            self.matter, episode=group.episode, title=group.title, severity=group.severity, most=group.most, since=since
        )

    def words(self, reason: Reason, group: Group) -> str:
        """What the story says."""
        visible, ended = self.matter.visible, self.tellable
        match reason:
            case Reason.MORE | Reason.WORSENED:
                new = [each for each in visible if not each.told]
                said = [f"Worse, now a {self._paged()}: {wording.named(self.worsened)}." if self.worsened else ""]
                said += [
                    f"New: {wording.named(new)}." if new else "",
                    f"Over: {wording.named(ended)}." if ended else "",
                ]
                return " ".join(filter(None, said))
            case Reason.LESS:
                return f"Over: {wording.named(ended)}; {len(visible):,} left."
            case Reason.RESOLVED:
                matter = self.matter_of(group)
                if matter.hidden:
                    return f"Over: {wording.named(ended)}; {wording.kept_quiet(matter.hidden)}."
                return f"Resolved after {wording.lasted(matter, matter.over_at or self._now)}."
            case Reason.ESCALATED:
                return "Nobody has acknowledged it: the next contact is told."
            case _:
                return f"Still so: {wording.named(visible)}."

    def _paged(self) -> str:
        """What those that got worse are now, and for whom."""
        worst = max((each.severity for each in self.worsened), key=lambda one: one.rank)
        whose = wording.teams(self.worsened)
        return f"{worst} for {whose}" if whose else worst.value


def _is_worse(incident: Incident) -> bool:
    return incident.told_severity is not None and incident.severity.rank > incident.told_severity.rank


def _order_of(incident: Incident) -> tuple[int, datetime, str]:
    return -incident.severity.rank, incident.finding.since, incident.fingerprint
