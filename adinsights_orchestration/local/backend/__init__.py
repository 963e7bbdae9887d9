"""The Django backend as the orchestrator meets it: its tables with row level security, and its HTTP endpoints.

Belongs here: what the product's backend shows to an operator's tools. Does not belong here: Django, logins,
dashboards.
"""

from adinsights_orchestration.local.backend.schema import prepare_backend

__all__ = ["prepare_backend"]
