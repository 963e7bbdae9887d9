"""Whose an alert is, and what a tenant's customers notice of it, in words that need no knowledge of how it is built.

Belongs here: teams, and sentences by rule and component, pure. Does not belong here: who reads them (`alert_file`),
how they are set (`mail_message`). Marketing Operations answers customers: it needs to know what they see, not which
job failed.
"""

from __future__ import annotations

from collections.abc import Mapping

from adinsights_orchestration.tenants.model import Provider

CUSTOMERS = "customers"  # the value of the label `audience`
# runbook: contacts; by the names under which the alert file has their addresses
_TEAMS = {
    "data-eng": "Data Engineering",
    "platform-eng": "Platform Engineering",
    "marketing-ops": "Marketing Operations",
}
_OLD = "do not show the newest figures"
_BY_RULE = {
    "connection_stale": "{provider} figures{of} are not up to date.",
    "connection_no_recent_sync": "{provider} figures{of} are missing or old.",
    "connection_failing": "{provider} figures{of} are not up to date.",
    "connection_disabled": "{provider} figures{of} are not updated any more.",
    "sync_empty": "{provider} figures{of} may be missing for the last hours.",
    "sync_errors": "{provider} figures{of} may come late.",
    "provider_stale": "{provider} figures of many customers are not up to date.",
    "no_fresh_rows": "Dashboards do not show last night's figures.",
    "dashboards_stale": f"Dashboards {_OLD}.",
    "dbt_stale": f"Dashboards {_OLD}.",
    "dbt_failing": f"Some dashboards {_OLD}.",
    "dbt_invalid": "Some dashboards may be behind.",
    "dbt_missing": "Some dashboards may be behind.",
    "api_error_rate": "Pages of ADinsights fail to load for some customers.",
    "availability_burning": "Pages of ADinsights fail to load again and again.",
}
_BY_COMPONENT = {
    "frontend": "ADinsights cannot be opened.",
    "backend": "ADinsights opens, and its pages stay empty.",
    "superset": "Dashboards cannot be opened.",
    "airbyte": "New figures do not arrive; what is shown stays as it is.",
    "warehouse": "Dashboards show no figures, and new ones do not arrive.",
}


def team(owner: str) -> str:
    """Returns the team's name for people; an owner that the runbook does not know is its own name.

    Args:
        owner: The owner's address, of which the alert file knows the part before the `@`.
    """
    name = owner.partition("@")[0]
    return _TEAMS.get(name, name)


def owner_name(owner: str) -> str:
    """Returns the team and its name in the alert file: `Data Engineering (data-eng)`; empty where it is nobody's.

    Rules name owners by the addresses of the runbook; where a team is really reached, the alert file's contacts say.
    """
    return f"{team(owner)} ({owner.partition('@')[0]})" if owner else ""


def noticed(rule: str, labels: Mapping[str, str], tenant: str | None = None) -> str:
    """Returns what customers notice, in a sentence; empty where they notice nothing.

    Args:
        rule: The alert's rule.
        labels: Its labels.
        tenant: Whose customers, where it is one tenant's.
    """
    sentence = _BY_RULE.get(rule)
    if sentence is None:
        return _BY_COMPONENT.get(labels.get("component", ""), "") if rule == "component_down" else ""
    return sentence.format(provider=_label(labels.get("provider", "")), of=f" of {tenant}" if tenant else "")


def _label(provider: str) -> str:
    return Provider(provider).label if provider in set(Provider) else "Advertising"
