"""From the table of what runs unattended to Dagster's schedules, sensors and run queue.

Belongs here: whether an automation exists in this environment, in what state it starts, the tags by which the run queue
holds its runs back, and what one may call of another. Does not belong here: the table itself (`environments.py`) and
what the automations do. Domains ask here and register only what they are given.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import dagster as dg

from adinsights_orchestration.environments import UNATTENDED, Automation, Unattended
from adinsights_orchestration.settings import Settings

OnNews = Callable[[dg.DagsterInstance], None]  # called by a tick that found something to tell; must not raise


class Quietly(Protocol):
    """Keeps alerts quiet that work sets off itself, while its block runs; neither opening nor closing raises."""

    def __call__(self, *matchers: str, author: str, reason: str) -> AbstractContextManager[object]:
        """Matchers as a silence has them; who works, and at what."""


def as_ever(*matchers: str, author: str, reason: str) -> AbstractContextManager[object]:  # noqa: ARG001  (a `Quietly`)
    """Where nobody alerts there is nothing to keep quiet."""
    return nullcontext()


def declared(settings: Settings, automation: Automation) -> Unattended | None:
    """Returns how the automation runs in this environment; None when it does not exist there."""
    return UNATTENDED[settings.environment].get(automation)


def queue_tags(settings: Settings, automation: Automation) -> dict[str, str]:
    """The tags of an automation's job that make the run queue run so many at once as the table says.

    `dagster.yaml` limits each number's tag per value, and the value is the job: whoever starts a run, a person too, it
    waits for its turn. The job of an automation that an environment does not declare runs one at a time.
    """
    unattended = declared(settings, automation)
    at_once = unattended.at_once if unattended is not None else None
    return {f"adinsights/at_once_{at_once or 1}": automation.value}


def sensor_status(settings: Settings, unattended: Unattended) -> dg.DefaultSensorStatus:
    """RUNNING, except for what only the local stack may start by itself."""
    running = settings.local_stack or not unattended.stack_only
    return dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED


def schedule_status(settings: Settings, unattended: Unattended) -> dg.DefaultScheduleStatus:
    """RUNNING, except for what only the local stack may start by itself."""
    running = settings.local_stack or not unattended.stack_only
    return dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
