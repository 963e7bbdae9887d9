"""The teams that own what breaks, by the addresses of the runbook.

Belongs here: whom code names as an owner. Does not belong here: where a team is really reached, which the alert file's
contacts say, and owners of models and dashboards, which stand in the dbt project.
"""

from __future__ import annotations

DATA_ENG = "data-eng@example.com"  # runbook: contacts
PLATFORM_ENG = "platform-eng@example.com"
