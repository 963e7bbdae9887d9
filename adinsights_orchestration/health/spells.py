"""Spells: times in which probes of a component keep failing, with better ones among them or not.

Belongs here: when a spell begins, is believed and is over, pure. Does not belong here: what is shown meanwhile
(`states`). A spell lasts from the first probe that failed until none has failed for as long as an outage takes to be
believed. So a component that fails two probes of three is one outage, and not a new doubt with every third probe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from adinsights_orchestration.health.model import Health, Reading

SPELL = "spell"  # the fact of a component that holds it


@dataclass(frozen=True, slots=True)
class Spell:
    """A spell so far.

    Attributes:
        since: The first probe that failed.
        seen_at: The newest probe that said anything.
        failing: How long it has failed in all, each failed probe standing for the time since the one before it.
        failed: Probes that failed.
        probes: All that said anything.
        well_since: Since when none has failed; None while the newest one did.
    """

    since: datetime
    seen_at: datetime
    failing: timedelta = timedelta()
    failed: int = 1
    probes: int = 1
    well_since: datetime | None = None

    def is_outage(self, confirm_after: timedelta) -> bool:
        """Whether it is believed: it failed for long enough in all, and more often than not."""
        return self.failing >= confirm_after and 2 * self.failed > self.probes

    def to_json(self) -> dict[str, Any]:
        """What is kept of it."""
        return {
            "since": self.since.isoformat(),
            "seen_at": self.seen_at.isoformat(),
            "failing_seconds": self.failing.total_seconds(),
            "failed": self.failed,
            "probes": self.probes,
            "well_since": self.well_since.isoformat() if self.well_since else None,
        }

    @classmethod
    def from_json(cls, kept: Any) -> Spell | None:
        """What was kept, read back; None where nothing was, or another release kept it."""
        if not isinstance(kept, Mapping):
            return None
        try:
            return cls(
                datetime.fromisoformat(kept["since"]),
                datetime.fromisoformat(kept["seen_at"]),
                timedelta(seconds=kept["failing_seconds"]),
                kept["failed"],
                kept["probes"],
                datetime.fromisoformat(kept["well_since"]) if kept["well_since"] else None,
            )
        except (KeyError, TypeError, ValueError):
            return None


def after(spell: Spell | None, reading: Reading, confirm_after: timedelta) -> Spell | None:
    """Returns the spell after one more reading; None while there is none.

    Args:
        spell: As it was.
        reading: The new one; one that says nothing changes nothing.
        confirm_after: How long none may fail for it to be over; a gap in the readings counts as no more than that.
    """
    if reading.health is Health.UNKNOWN:
        return spell
    fails, at = reading.health is Health.DOWN, reading.at
    if spell is None or (spell.well_since is not None and at - spell.well_since >= confirm_after):
        return Spell(at, at) if fails else None
    if not fails:
        well_since = min(spell.well_since or at, at)  # a clock that went back makes nothing last longer
        return replace(spell, seen_at=at, probes=spell.probes + 1, well_since=well_since)
    failing = spell.failing + min(max(at - spell.seen_at, timedelta()), confirm_after)
    return Spell(min(spell.since, at), at, failing, spell.failed + 1, spell.probes + 1)
