"""What the UI says about an asset beside its name: what breaks when it is late, whose it is, where to read on.

Belongs here: words and links made of the project and the settings. Does not belong here: Dagster's classes.
"""

from __future__ import annotations

from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.project import Project, Props, dagster_meta


def description(project: Project, unique_id: str) -> str:
    """The node's own description, and what is wrong on whose screen when it is late."""
    props = project.nodes[unique_id]
    own = str(props.get("description") or f"dbt {props['resource_type']} `{props['name']}`.").strip()
    return f"{own}\n\n**When it is late:** {_when_late(project, unique_id, props)}"


def runbook(settings: Settings, props: Props) -> str:
    """Link to the runbook's section about a node."""
    section = dagster_meta(props).get("runbook", "a-dbt-model-fails")
    return f"{settings.runbook_url}#{section}"


def dashboard_title(exposure: Props) -> str:
    """An exposure's name for people."""
    return str(exposure.get("label") or exposure["name"])


def _when_late(project: Project, unique_id: str, props: Props) -> str:
    told = dagster_meta(props).get("when_late")
    if told:
        return str(told)
    dashboards = [dashboard_title(exposure) for exposure in project.dashboards_of(unique_id)]
    if not dashboards:
        return "no dashboard shows it; what reads it keeps its older rows."
    return f"these dashboards go on showing older numbers: {', '.join(dashboards)}."
