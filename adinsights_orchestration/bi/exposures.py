"""dbt's exposures as assets: the dashboards that people look at, downstream of the marts they show.

Belongs here: their specs. Does not belong here: Superset's API. They are external assets, which nothing here builds:
they put at the end of the lineage who is affected when something before it is late, and whom to tell.
"""

from __future__ import annotations

import dagster as dg

from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation import links
from adinsights_orchestration.transformation.project import Project, Props, dagster_meta

GROUP = "bi"


def build_exposures(settings: Settings, project: Project) -> list[dg.AssetSpec]:
    """Returns an asset for each exposure: key `superset/<name>`, its dependencies, owner and links."""
    return [_spec(settings, project, props) for _, props in sorted(project.exposures.items())]


def _spec(settings: Settings, project: Project, props: Props) -> dg.AssetSpec:
    parents = [parent for parent in props["depends_on"]["nodes"] if parent in project.nodes]
    return dg.AssetSpec(
        key=dg.AssetKey(list(dagster_meta(props).get("asset_key") or ("superset", str(props["name"])))),
        deps=[dg.AssetKey(project.key_path(parent)) for parent in parents],
        description=_description(props),
        group_name=GROUP,
        kinds={"superset", str(props["type"])},
        owners=_owners(props),
        metadata=_metadata(settings, props),
    )


def _description(props: Props) -> str:
    own = str(props.get("description") or links.dashboard_title(props)).strip()
    owner = (props.get("owner") or {}).get("name")
    return f"{own}\n\n**When it is late:** tell {owner}." if owner else own


def _owners(props: Props) -> list[str]:
    configured = dagster_meta(props).get("owners")
    email = (props.get("owner") or {}).get("email")
    return list(configured) if configured else [email] if isinstance(email, str) else list(email or ())


def _metadata(settings: Settings, props: Props) -> dict[str, dg.MetadataValue[str]]:
    found: dict[str, dg.MetadataValue[str]] = {
        "title": dg.MetadataValue.text(links.dashboard_title(props)),
        "runbook": dg.MetadataValue.url(links.runbook(settings, props)),
    }
    if props.get("url"):
        found["dashboard"] = dg.MetadataValue.url(str(props["url"]))
    meta = (props.get("config") or {}).get("meta") or {}
    if meta.get("providers"):
        found["providers"] = dg.MetadataValue.text(", ".join(str(provider) for provider in meta["providers"]))
    path = (meta.get("superset") or {}).get("path")
    if path:
        found["Superset path"] = dg.MetadataValue.path(str(path))
    if props.get("maturity"):
        found["maturity"] = dg.MetadataValue.text(str(props["maturity"]))
    return found
