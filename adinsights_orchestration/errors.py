"""Typed failures: one class per kind, each saying what to do next.

Belongs here: the exception types that cross domain boundaries. Does not belong here: failures of one module that
nobody else catches. An `AdinsightsError` carries a one-line problem, the next step for whoever reads it, and the
place it concerns (a file with a line, a connection, a setting); it never carries a secret, because its text reaches
logs and the UI.
"""

from __future__ import annotations


class AdinsightsError(Exception):
    """A failure with a next step.

    Args:
        problem: What is wrong, in one line.
        next_step: What the reader should do about it, in one line.
        place: Where it is: `tenants.yaml:12`, a setting's name, a partition key.
    """

    def __init__(self, problem: str, *, next_step: str = "", place: str = "") -> None:
        self.problem = problem
        self.next_step = next_step
        self.place = place
        super().__init__(self._text())

    def _text(self) -> str:
        where = f"{self.place}: " if self.place else ""
        if not self.next_step:
            return f"{where}{self.problem}"
        stop = "" if self.problem.endswith((".", "!", "?")) else "."
        return f"{where}{self.problem}{stop} {self.next_step}"


class ConfigurationError(AdinsightsError):
    """A setting or a file that a person wrote is wrong; nothing was started."""


class OpsStoreError(AdinsightsError):
    """The ops store is unreachable or not migrated."""
