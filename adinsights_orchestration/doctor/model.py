"""A check's verdict, and what follows from all of them.

Belongs here: the values. Does not belong here: how a verdict comes about.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adinsights_orchestration.doctor.world import World


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found: one line of detail and, unless all is well, the next step."""

    status: Status
    detail: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """A verdict with the name of its check."""

    name: str
    status: Status
    detail: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        name: Short and stable: scripts read it.
        look: Looks, and returns its verdict; an `AdinsightsError` that it raises is a failure with that next step.
        needs: Names of the `World`'s facts without which there is nothing to look at; their failure skips the check.
    """

    name: str
    look: Callable[[World], Verdict]
    needs: tuple[str, ...] = ()


def ok(detail: str) -> Verdict:
    """All is well."""
    return Verdict(Status.OK, detail)


def warn(detail: str, next_step: str) -> Verdict:
    """It works, and somebody should look at it."""
    return Verdict(Status.WARN, detail, next_step)


def fail(detail: str, next_step: str) -> Verdict:
    """Something does not work."""
    return Verdict(Status.FAIL, detail, next_step)


def skipped(detail: str) -> Verdict:
    """There was nothing to look at."""
    return Verdict(Status.SKIPPED, detail)


def exit_code(results: Iterable[Result]) -> int:
    """0: all is well; 1: something should be looked at; 2: something does not work."""
    statuses = {result.status for result in results}
    if Status.FAIL in statuses:
        return 2
    return 1 if Status.WARN in statuses else 0


def some(names: Iterable[object], most: int = 3) -> str:
    """The first few of many names, for one line of detail."""
    known = [str(name) for name in names]
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
