"""How hard retention works: transactions of about the same length, pauses while others wait, an end.

Belongs here: how much to take next, when to pause, when to stop. Does not belong here: what is taken. Deleting history
is never urgent; whatever else the database does goes first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from adinsights_orchestration.audit_log.table.reaching import Link
from adinsights_orchestration.clock import elapsed_seconds

_LOOKS_EVERY_SECONDS = 1.0
# Sessions of others that wait for a lock, and how far the slowest replica is behind, as far as our role may see it.
_LOAD = """
select (select count(*) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and wait_event_type = 'Lock'),
       coalesce((select extract(epoch from max(replay_lag)) from pg_stat_replication), 0)::float
"""


@dataclass(frozen=True, slots=True)
class PaceLimits:
    """When to pause and when to stop.

    Attributes:
        transaction_seconds: How long a transaction should take.
        budget_seconds: How long a run may take; what is left waits for the next one.
        lag_seconds: Pause while a replica is further behind.
        pause_seconds: For how long before looking again.
    """

    transaction_seconds: float = 0.2
    budget_seconds: float = 7200.0
    lag_seconds: float = 30.0
    pause_seconds: float = 0.5


@dataclass(slots=True)
class Pace:
    """The pace of one run.

    Attributes:
        connection: To ask for the load on; None asks nobody.
        limits: When to pause and when to stop.
        seconds: Measures what has passed.
        sleep: Pauses.
        paused_seconds: For how long it has paused so far.
        longest_seconds: The longest transaction so far.
    """

    connection: Link | None
    limits: PaceLimits = field(default_factory=PaceLimits)
    seconds: Callable[[], float] = elapsed_seconds
    sleep: Callable[[float], None] = time.sleep
    paused_seconds: float = 0.0
    longest_seconds: float = 0.0
    _began: float = field(init=False)
    _looked: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self._began = self.seconds()

    def over(self) -> bool:
        """Whether the run's time is over."""
        return self.seconds() - self._began >= self.limits.budget_seconds

    def after(self, took_seconds: float) -> None:
        """To be called after every transaction: pauses while the database is busy."""
        self.longest_seconds = max(self.longest_seconds, took_seconds)
        if self.connection is None or self.seconds() - self._looked < _LOOKS_EVERY_SECONDS:
            return
        while self._busy(self.connection) and not self.over():
            self._pause(self.limits.pause_seconds)
        self._looked = self.seconds()

    def next_size(self, size: int, took_seconds: float, least: int, most: int) -> int:
        """How much to take next, after so much took so long: at most twice as much, at least half."""
        factor = self.limits.transaction_seconds / max(took_seconds, 1e-6)
        return max(least, min(most, int(size * min(max(factor, 0.5), 2.0))))

    def _pause(self, seconds: float) -> None:
        self.paused_seconds += seconds
        self.sleep(seconds)

    def _busy(self, connection: Link) -> bool:
        row = connection.execute(_LOAD).fetchone()
        assert row is not None
        waiting, lag = row
        return bool(waiting > 0 or lag > self.limits.lag_seconds)
