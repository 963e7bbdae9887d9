"""The composition root: the only place that puts domains together into a code location.

Belongs here: from settings to the two code locations' definitions. Does not belong here: any logic. Imports stand
inside the functions because each location must load without the other's: a broken dbt manifest may not take
monitoring down.
"""

from __future__ import annotations

from functools import partial

import dagster as dg

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings


def build_pipelines(settings: Settings, store: OpsStore | None = None) -> dg.Definitions:
    """Builds the location `pipelines`: registry, ingestion, transformation, BI, upkeep.

    Nothing is connected and nothing but the dbt manifest is read.

    Args:
        settings: The settings of this process.
        store: The ops store to use instead of the settings' own, for tests.
    """
    from adinsights_orchestration.alerting.operating import maintenance
    from adinsights_orchestration.audit_log.archive.automation import build_archive
    from adinsights_orchestration.audit_log.leaving.automation import build_archive_life
    from adinsights_orchestration.audit_log.own_history import ARCHIVED, OWN_HISTORY
    from adinsights_orchestration.audit_log.restore.automation import build_restore
    from adinsights_orchestration.audit_log.retention.again import archive_again, not_held_any_more
    from adinsights_orchestration.audit_log.retention.automation import build_retention
    from adinsights_orchestration.bi.exposures import build_exposures
    from adinsights_orchestration.dead_runs import build_dead_runs
    from adinsights_orchestration.ingestion.automation import build_ingestion
    from adinsights_orchestration.tenants.automation import build_registry_automation
    from adinsights_orchestration.topology.automation import build_topology
    from adinsights_orchestration.transformation import manifest
    from adinsights_orchestration.transformation.definitions import build_transformation
    from adinsights_orchestration.upkeep import build_upkeep

    store = store or OpsStore(settings.ops_store)
    quietly = partial(maintenance.around, store)
    project = manifest.load(settings)
    return dg.Definitions.merge(
        build_registry_automation(settings, store),
        build_ingestion(settings, store, quietly=quietly),
        build_transformation(settings, store, project, quietly=quietly),
        dg.Definitions(assets=build_exposures(settings, project)),
        build_topology(settings, store),
        build_archive(settings, store, ARCHIVED, quietly=quietly),
        build_upkeep(settings, store),
        build_retention(
            settings,
            store,
            OWN_HISTORY,
            rearchive=archive_again(settings, store),
            unproven=not_held_any_more(settings, store),
            quietly=quietly,
        ),
        build_archive_life(settings, store),
        build_restore(settings, store),
        build_dead_runs(settings, store),
        # A run's work is waiting for Airbyte or for dbt; a process per step would only cost its start.
        dg.Definitions(executor=dg.in_process_executor),
    )


def build_monitoring(settings: Settings, store: OpsStore | None = None) -> dg.Definitions:
    """Builds the location `monitoring`, which must load whatever happens to the pipelines: freshness, health, alerts.

    It works from the ops store alone; nothing is connected here.

    Args:
        settings: The settings of this process.
        store: The ops store to use instead of the settings' own, for tests.
    """
    from adinsights_orchestration.alerting.running.alerter import build_alerter
    from adinsights_orchestration.alerting.running.automation import build_alerting
    from adinsights_orchestration.freshness.automation import build_freshness
    from adinsights_orchestration.health.automation import build_health
    from adinsights_orchestration.status.automation import build_overview

    store = store or OpsStore(settings.ops_store)
    alerter = build_alerter(settings, store)
    return dg.Definitions.merge(
        build_freshness(settings, store, on_news=alerter.on_news),
        build_health(settings, store, on_news=alerter.on_news),
        build_overview(settings, store),
        build_alerting(settings, store, alerter),
        dg.Definitions(executor=dg.in_process_executor),
    )
