"""Shares: how the places for running syncs are divided between schedules and people who wait.

Belongs here: that arithmetic, and its words. Does not belong here: counting (`ledger.claims`), starting (`starter`).
Each side is sure of half of the places as soon as it has something to start; what one side does not ask for, the other
may use. Nothing that runs is stopped for it: a side whose places the other uses has them back as those syncs end.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Demand:
    """Connections of one side: how many are being started or synced, and how many could be started at once."""

    running: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Shares:
    """Who runs and who waits.

    Attributes:
        bound: Syncs that may run at once, of both sides together.
        people: What people asked for in runs that still wait.
        schedules: What schedules ask for.
        people_last: Whether the newest start was people's; known where there is one place, which they take in turns.
    """

    bound: int
    people: Demand
    schedules: Demand
    people_last: bool = False

    def room(self, *, people: bool) -> int:
        """How many syncs a side may start now."""
        free = self.bound - self.people.running - self.schedules.running
        return max(0, free - self.kept(people=not people))

    def kept(self, *, people: bool) -> int:
        """How many of the places that are free, or become so next, are a side's own."""
        side = self.people if people else self.schedules
        return max(0, min(side.waiting, self._part(people) - side.running))

    def _part(self, people: bool) -> int:
        if self.bound == 1:
            return 0 if people is self.people_last else 1
        return self.bound // 2 if people else self.bound - self.bound // 2

    def held(self, *, people: bool) -> str:
        """Why a side's next sync does not start now, or empty where it may."""
        waiting = (self.people if people else self.schedules).waiting
        if not waiting or self.room(people=people):
            return ""
        running = self.people.running + self.schedules.running
        why = (
            f"{running} of at most {self.bound} syncs run, {self.schedules.running} scheduled and "
            f"{self.people.running} asked for by people"
        )
        kept = self.kept(people=not people)
        if not kept:
            return why
        others = f"{self.schedules.waiting} scheduled" if people else f"{self.people.waiting} that people wait for"
        return f"{why}; the next {kept} to start are of the {others}"
