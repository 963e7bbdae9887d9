"""What keeps an incident from people: the text of its `suppressed_by`, written and read here and nowhere else.

Belongs here: the forms of that text, as rows have it. Does not belong here: what keeps which incident quiet (`notify`),
how people are told (`wording`). It is a kind, and behind a colon what belongs to it: `explained:<fingerprint of the
cause>`, `recovering:<until when, in seconds>:<how urgent it was>`, `out of hours`, and the labels of silences
(`silenced:<number>`, `maintenance:<name>`).
"""

from __future__ import annotations

from dataclasses import dataclass

from adinsights_orchestration.alerting.message import Severity

OUT_OF_HOURS = "out of hours"
_EXPLAINED, _RECOVERING = "explained", "recovering"


@dataclass(frozen=True, slots=True)
class Recovery:
    """That its cause is over, and it may soon be too.

    Attributes:
        until: Until when it has time for that, in seconds of Unix time.
        severity: How urgent it was when its cause ended; what gets worse than that is told.
    """

    until: int
    severity: Severity

    def __str__(self) -> str:
        return f"{_RECOVERING}:{self.until}:{self.severity.value}"


def recovery_of(suppressed_by: str) -> Recovery | None:
    """Returns what `str` of one made a text of; None where something else keeps it quiet, or nothing."""
    kind, _, rest = suppressed_by.partition(":")
    until, _, severity = rest.partition(":")
    return Recovery(int(until), Severity(severity)) if kind == _RECOVERING else None


def explained(cause: str) -> str:
    """What is kept of one that another incident explains.

    Args:
        cause: The other's fingerprint.
    """
    return f"{_EXPLAINED}:{cause}"


def cause_of(suppressed_by: str) -> str | None:
    """Returns the fingerprint of what explains it; None where nothing does."""
    kind, _, cause = suppressed_by.partition(":")
    return cause if kind == _EXPLAINED else None


def kind_of(suppressed_by: str) -> str:
    """What keeps it quiet, in a word or three; empty where nothing does."""
    return suppressed_by.partition(":")[0]
