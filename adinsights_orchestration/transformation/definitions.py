"""The transformation domain as Definitions: where its parts meet.

Belongs here: putting them together for one environment. Does not belong here: any of the parts. Nothing is connected to
and no variable read; the prepared manifest, and the project's files to see that it is current, are all that is opened.
"""

from __future__ import annotations

import dagster as dg

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation import manifest
from adinsights_orchestration.transformation.assets import build_dbt_assets, build_dbt_job
from adinsights_orchestration.transformation.automation import build_automation
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.source_freshness import build_source_freshness
from adinsights_orchestration.transformation.translator import AdinsightsDbtTranslator
from adinsights_orchestration.unattended import Quietly, as_ever


def build_transformation(
    settings: Settings,
    store: OpsStore,
    project: Project | None = None,
    *,
    clock: Clock = utc_now,
    quietly: Quietly = as_ever,
) -> dg.Definitions:
    """Builds the dbt assets with their checks, jobs, and what runs unattended here.

    Args:
        settings: The settings of this process.
        store: The ops store.
        project: The dbt project, where the caller has read its manifest already.
        clock: The clock.
        quietly: What a run is wrapped in.

    Raises:
        ConfigurationError: The dbt manifest is missing, outdated or does not parse.
    """
    project = project or manifest.load(settings)
    translator = AdinsightsDbtTranslator(settings, project)
    assets = build_dbt_assets(settings, store, project, translator, quietly)
    own = dg.Definitions(
        assets=[assets],
        jobs=[build_dbt_job(settings, store, project, translator, quietly)],
    )
    return dg.Definitions.merge(
        own,
        build_source_freshness(settings, store, project),
        build_automation(settings, store, project, assets, clock=clock),
    )
