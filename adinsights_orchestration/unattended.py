"""From the table of what runs unattended to Dagster's schedules and sensors.

Belongs here: whether an automation exists in this environment and in what state it starts. Does not belong here:
the table itself (`environments.py`) and what the automations do. Domains ask here and register only what they are
given.
"""

from __future__ import annotations

import dagster as dg

from adinsights_orchestration.environments import UNATTENDED, Automation, Unattended
from adinsights_orchestration.settings import Settings


def declared(settings: Settings, automation: Automation) -> Unattended | None:
    """Returns how the automation runs in this environment; None when it does not exist there."""
    return UNATTENDED[settings.environment].get(automation)


def sensor_status(settings: Settings, unattended: Unattended) -> dg.DefaultSensorStatus:
    """RUNNING, except for what only the local stack may start by itself."""
    running = settings.local_stack or not unattended.stack_only
    return dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED


def schedule_status(settings: Settings, unattended: Unattended) -> dg.DefaultScheduleStatus:
    """RUNNING, except for what only the local stack may start by itself."""
    running = settings.local_stack or not unattended.stack_only
    return dg.DefaultScheduleStatus.RUNNING if running else dg.DefaultScheduleStatus.STOPPED
