"""When to build, and what: the decision behind the sensor `dbt_refresh`, over plain values.

Belongs here: that decision. Does not belong here: reading what it needs and starting runs (`automation`). It compares
two states, how far the raw data has come and how far the marts hold it, and keeps no list of events: an update that
arrives during a build, a build that fails, a process that dies each leave a difference, and a difference is built
(ADR 0010).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from adinsights_orchestration.tenants.model import Provider

MAX_ATTEMPTS = 3  # builds of the same data; the next ones wait for new data, the nightly build or a person

Positions = Mapping[Provider, int]


@dataclass(frozen=True, slots=True)
class Attempt:
    """The last build that was asked for.

    `newest` is how far the raw data had come then, `number` how many builds of that same state there were with it.
    """

    requested_at: datetime
    newest: Positions
    number: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be started now, for `reason`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Start:
    """Build what is downstream of `providers`, and remember `attempt`."""

    providers: tuple[Provider, ...]
    attempt: Attempt


def decide(
    newest: Positions, covered: Positions, last: Attempt | None, *, building: bool, now: datetime, interval: timedelta
) -> Start | Wait:
    """Decides whether to start a build.

    Args:
        newest: How far each provider's raw data has come.
        covered: How far the marts hold it. A difference counts in either direction: positions start again with a new
            event log.
        last: The last build that was asked for, by this sensor.
        building: Whether a build is queued or running, whoever asked for it.
        now: The time.
        interval: The shortest time between two builds, and the wait after a first failure, which then doubles.
    """
    pending = tuple(
        provider for provider in Provider if provider in newest and newest[provider] != covered.get(provider)
    )
    if not pending:
        return Wait("The marts hold everything that was synced.")
    names = ", ".join(provider.label for provider in pending)
    if building:
        return Wait(f"New data from {names} waits for the build that is queued or running.")
    number = 1 if last is None or dict(last.newest) != dict(newest) else last.number + 1
    if number > MAX_ATTEMPTS:
        return Wait(
            f"{MAX_ATTEMPTS} builds did not bring the data of {names} into the marts. New data, the nightly build or"
            " Materialize starts the next one."
        )
    earliest = None if last is None else last.requested_at + interval * 2 ** max(0, number - 2)
    if earliest is not None and now < earliest:
        return Wait(f"New data from {names}; the next build starts at {earliest:%H:%M:%S} UTC.")
    return Start(pending, Attempt(now, newest, number))
