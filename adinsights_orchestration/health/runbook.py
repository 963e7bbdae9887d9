"""Which section of the runbook speaks of each component.

Belongs here: the table, which tests hold against the page. Does not belong here: addresses. Apart from `catalog`, so
that what only links a component need not load the probes.
"""

from __future__ import annotations

from collections.abc import Mapping

from adinsights_orchestration.health.model import Component

SECTIONS: Mapping[Component, str] = {
    Component.FRONTEND: "the-frontend-is-down",
    Component.BACKEND: "the-backend-is-down",
    Component.BACKEND_AIRBYTE: "the-backends-airbyte-health-is-not-ok",
    Component.BACKEND_DBT: "the-backends-dbt-health-is-stale-though-builds-succeed",
    Component.API: "the-api-fails-too-often",
    Component.DASHBOARDS: "dashboards-show-old-data",
    Component.SUPERSET: "superset-is-down",
    Component.AIRBYTE: "airbyte-is-down",
    Component.WEBHOOK: "the-backend-missed-webhooks",
    Component.DBT: "a-dbt-model-fails",
    Component.WAREHOUSE: "the-warehouse-is-down",
    Component.OBJECT_STORE: "the-object-store-is-down",
    Component.REGISTRY: "the-registry-cannot-be-read",
    Component.DAGSTER_DAEMONS: "a-dagster-daemon-is-silent",
    Component.CODE_LOCATIONS: "a-code-location-is-not-loaded",
    Component.SCHEDULER: "the-old-scheduler-is-silent",
}
