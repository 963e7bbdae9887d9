"""How long to wait before trying again: base 2, with jitter, bounded.

Belongs here: the arithmetic. Does not belong here: whether to try again (`intents`). Jitter keeps connections that
failed together from coming back together; it comes from a seed, so that a decision can be repeated.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import timedelta

from adinsights_orchestration.settings import IngestionSettings

# Starts that Airbyte does not take are tried again without end: it may be back for so long before they notice.
LONGEST_DELAY = timedelta(minutes=16)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When and how often.

    Attributes:
        max_attempts: Jobs per slot, the first included.
        base: Delay before the second; it doubles from there up to the longest, and a longer one stays as it is.
        jitter: Share of a delay that is random, either way.
    """

    max_attempts: int = 5
    base: timedelta = timedelta(seconds=60)
    jitter: float = 0.2

    @classmethod
    def of(cls, settings: IngestionSettings) -> RetryPolicy:
        """The policy that the settings describe."""
        return cls(settings.retry_max_attempts, timedelta(seconds=settings.retry_base_seconds), settings.retry_jitter)

    def delay(self, failures: int, rng: random.Random) -> timedelta:
        """Returns the delay after so many failures in a row (at least one)."""
        longest = max(LONGEST_DELAY, self.base)
        # Bounded before it is multiplied: half a day of refusals doubles further than a timedelta reaches.
        doublings = min(max(failures, 1) - 1, math.ceil(math.log2(longest / self.base)))
        grown = min(self.base * 2.0**doublings, longest)
        return grown * (1 + self.jitter * (2 * rng.random() - 1))
