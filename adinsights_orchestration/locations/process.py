"""What a code location's process does before it builds anything: settings, logs, warnings.

Belongs here: the start of a process that Dagster made. Does not belong here: definitions. A command that builds
definitions itself has configured its own logs already, and does not come through here.
"""

from __future__ import annotations

import warnings

import dagster as dg

from adinsights_orchestration.logs import configure_dagster_logging
from adinsights_orchestration.settings import Settings, load_settings


def start(component: str) -> Settings:
    """Reads the settings and configures logging for a code location's process.

    Args:
        component: The location's name, for its log lines.
    """
    settings = load_settings()
    configure_dagster_logging(settings, component)
    # Known and decided on: one pinned Dagster release, with contract tests for what it calls preview or beta.
    for category in (dg.PreviewWarning, dg.BetaWarning):
        warnings.filterwarnings("ignore", category=category)
    return settings
