"""How dbt's nodes and tests become Dagster's assets and checks.

Belongs here: keys, owners, groups, freshness, links. Does not belong here: running anything. The rules are the
project's own (`meta.dagster`, see dbt_project/README.md); this class only puts them into Dagster's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtProject

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.freshness.policies import native_policy
from adinsights_orchestration.freshness.sla import Sla, SlaTable, load_sla
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation import links
from adinsights_orchestration.transformation.project import Project, dagster_meta, key_path

UNIQUE_ID_KEY = "dagster_dbt/unique_id"


class AdinsightsDbtTranslator(DagsterDbtTranslator):
    """Puts one project's nodes into Dagster's words.

    Args:
        settings: For links.
        project: The dbt project.
    """

    def __init__(self, settings: Settings, project: Project) -> None:
        super().__init__()
        self._adinsights = settings
        self._sla = load_sla(settings.environment, settings.freshness.sla_path)
        self._project = project
        self._specs: dict[str, dg.AssetSpec] = {}

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """Returns `layer/name` for a node and `airbyte/<provider>` for a source."""
        return dg.AssetKey(key_path(dbt_resource_props))

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """Returns the asset of a node or source."""
        if unique_id not in self._specs:
            spec = super().get_asset_spec(manifest, unique_id, project)
            policy = freshness_policy(self.get_resource_props(manifest, unique_id), self._sla)
            self._specs[unique_id] = spec.replace_attributes(freshness_policy=policy) if policy else spec
        return self._specs[unique_id]

    def check_specs(self) -> list[dg.AssetCheckSpec]:
        """Returns the checks of all tests, on the nodes that `Project.checked_nodes` says.

        Never on a provider's own asset: a check there would be planned in every sync of any partition, where nothing
        evaluates it, and show as failed.
        """
        return [self._check_spec(test, node) for test, node in self._project.checked_nodes.items()]

    def _check_spec(self, unique_id: str, node: str) -> dg.AssetCheckSpec:
        props = self._project.tests[unique_id]
        return dg.AssetCheckSpec(
            name=props["name"],
            asset=dg.AssetKey(self._project.key_path(node)),
            description=str(props.get("description") or "") or None,
            metadata={UNIQUE_ID_KEY: unique_id},
            blocking=str(props["config"].get("severity") or "error").lower() == "error",
        )

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """Returns what the node is and what breaks when it is late."""
        unique_id = dbt_resource_props["unique_id"]
        if unique_id not in self._project.nodes:
            return str(dbt_resource_props.get("description") or "")
        return links.description(self._project, unique_id)

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        """Returns `meta.dagster.group`, or the layer."""
        return str(dagster_meta(dbt_resource_props).get("group") or key_path(dbt_resource_props)[0])

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> Sequence[str] | None:
        """Returns `meta.dagster.owners`."""
        return list(dagster_meta(dbt_resource_props).get("owners") or ())

    def get_tags(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, str]:
        """Returns the dbt tags, and the provider of a node that has only one."""
        tags = dict(super().get_tags(dbt_resource_props))
        provider = self._project.only_provider(dbt_resource_props["unique_id"])
        if provider is not None:
            tags["adinsights/provider"] = str(provider)
        return tags

    def get_metadata(self, dbt_resource_props: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns table name, columns, and the runbook's section."""
        if dbt_resource_props["unique_id"] not in self._project.nodes:
            return super().get_metadata(dbt_resource_props)
        runbook = dg.MetadataValue.url(links.runbook(self._adinsights, dbt_resource_props))
        return {**super().get_metadata(dbt_resource_props), "runbook": runbook}


def freshness_policy(props: Mapping[str, Any], sla: SlaTable) -> dg.FreshnessPolicy | None:
    """Returns the policy of the SLA that `meta.dagster.freshness` names; None without one.

    Raises:
        ConfigurationError: The table has no such entry, or it is no time.
    """
    name = dagster_meta(props).get("freshness")
    if not name:
        return None
    if name not in set(Sla) or not sla[Sla(name)].is_time:
        raise ConfigurationError(
            f"freshness names {name!r}, which is no time in the SLA table",
            place=str(props["unique_id"]),
            next_step="Name an entry of freshness/sla.yaml in minutes or hours, such as dbt_run_age.",
        )
    return native_policy(sla[Sla(name)])
