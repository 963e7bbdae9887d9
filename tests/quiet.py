"""A `Quietly` that remembers which windows were asked for, for tests of the jobs that ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from adinsights_orchestration.alerting.matching import Matcher, all_match


@dataclass
class Windows:
    """The windows that work opened.

    Attributes:
        opened: Matchers and author of each, in order.
        open_now: How many of them work goes on in.
    """

    opened: list[tuple[tuple[Matcher, ...], str]] = field(default_factory=list)
    open_now: int = 0

    @contextmanager
    def __call__(self, *matchers: str, author: str, reason: str) -> Iterator[None]:
        assert reason
        self.opened.append((tuple(map(Matcher.parse, matchers)), author))
        self.open_now += 1
        try:
            yield
        finally:
            self.open_now -= 1

    def cover(self, **labels: str) -> bool:
        """Whether one of them kept such an alert quiet."""
        return any(all_match(matchers, labels) for matchers, _ in self.opened)
