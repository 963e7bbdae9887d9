"""Every component: its probe, who owns it, what breaks with it, and what makes an environment watch it.

Belongs here: the table, and which of it applies to given settings. Does not belong here: any probe. A component that
this environment does not have is neither asked nor shown: it has no state, rather than a good one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, TypeAlias

from adinsights_orchestration.health.model import Component, Reading
from adinsights_orchestration.owners import DATA_ENG, PLATFORM_ENG
from adinsights_orchestration.settings import HealthSettings, Settings

if TYPE_CHECKING:
    from adinsights_orchestration.health.asking import Asking

Probe: TypeAlias = "Callable[[Asking], Awaitable[Reading]]"


@dataclass(frozen=True, slots=True)
class Entry:
    """One component.

    Attributes:
        probe: Asks it.
        owner: Whom the runbook names.
        watches: What is asked, in one line.
        breaks: What a customer or on-call loses while it is down.
        kind: What it is made of, as Dagster shows it.
        setting: The variable without which it is not watched; None where it always is.
        is_watched: Whether the settings name it.
    """

    probe: Probe
    owner: str
    watches: str
    breaks: str
    kind: str = "dagster"
    setting: str | None = None
    is_watched: Callable[[HealthSettings], bool] = lambda _: True


def _probe(module: str, name: str) -> Probe:
    """A probe, imported when it first asks: a location loads without clients for HTTP and Postgres."""

    async def ask(asking: Asking) -> Reading:
        probe: Probe = getattr(import_module(f"adinsights_orchestration.health.probes.{module}"), name)
        return await probe(asking)

    return ask


CATALOG: Mapping[Component, Entry] = {
    Component.FRONTEND: Entry(
        _probe("web_parts", "frontend"),
        PLATFORM_ENG,
        "The frontend's page is served and is the frontend's.",
        "Nobody can open ADinsights.",
        kind="react",
        setting="ADINSIGHTS_HEALTH__FRONTEND_URL",
        is_watched=lambda health: health.frontend_url is not None,
    ),
    Component.BACKEND: Entry(
        _probe("backend", "backend"),
        PLATFORM_ENG,
        "`GET /api/health/` of the backend.",
        "No page of ADinsights has data, no webhook is taken.",
        kind="django",
    ),
    Component.BACKEND_AIRBYTE: Entry(
        _probe("backend", "backend_airbyte"),
        DATA_ENG,
        "What the backend's `/api/health/airbyte/` says, beside the ledger. It speaks of the newest sync only.",
        "What the product itself says of its data is wrong, or its syncs are late.",
        kind="django",
    ),
    Component.BACKEND_DBT: Entry(
        _probe("backend", "backend_dbt"),
        DATA_ENG,
        "What the backend's `/api/health/dbt/` says of the published run results, beside the recorded builds.",
        "What the product itself says of its models is wrong, or they are.",
        kind="django",
    ),
    Component.API: Entry(
        _probe("api", "api"),
        PLATFORM_ENG,
        "The share of API requests that failed in five minutes, from Prometheus or the backend's counters.",
        "Customers see errors.",
        kind="django",
    ),
    Component.DASHBOARDS: Entry(
        _probe("dashboards", "dashboards"),
        DATA_ENG,
        "The age of every tenant's dashboard data; the worst tenant decides.",
        "Customers decide on old figures.",
        kind="django",
        setting="ADINSIGHTS_HEALTH__BACKEND_API_KEY",
        is_watched=lambda health: health.backend_api_key is not None,
    ),
    Component.SUPERSET: Entry(
        _probe("web_parts", "superset"),
        PLATFORM_ENG,
        "`GET /health` of Superset.",
        "No dashboard opens.",
        kind="superset",
        setting="ADINSIGHTS_HEALTH__SUPERSET_URL",
        is_watched=lambda health: health.superset_url is not None,
    ),
    Component.AIRBYTE: Entry(
        _probe("web_parts", "airbyte"),
        DATA_ENG,
        "Both of Airbyte's APIs answer.",
        "No sync is started or observed; running ones go on.",
        kind="airbyte",
    ),
    Component.WEBHOOK: Entry(
        _probe("records", "webhook"),
        DATA_ENG,
        "The backend is told of finished jobs, held against the ledger.",
        "The product shows old sync times, and its own alerts miss failures.",
        kind="airbyte",
    ),
    Component.DBT: Entry(
        _probe("records", "dbt"),
        DATA_ENG,
        "The recorded builds: the latest completed one, and the newest result of every model.",
        "Dashboards show figures of before the last good build.",
        kind="dbt",
    ),
    Component.WAREHOUSE: Entry(
        _probe("databases", "warehouse"),
        PLATFORM_ENG,  # runbook: databases
        "The warehouse takes our connection and answers a statement.",
        "Nothing is synced, built or shown.",
        kind="postgres",
    ),
    Component.OBJECT_STORE: Entry(
        _probe("databases", "object_store"),
        PLATFORM_ENG,
        "The object store answers, or its folder can be written and has room.",
        "The audit log is not archived, so nothing of it may be deleted.",
        kind="s3",
        setting="ADINSIGHTS_HEALTH__OBJECT_STORE_URL",
        is_watched=lambda health: health.object_store_url is not None,
    ),
    Component.REGISTRY: Entry(
        _probe("records", "registry"),
        DATA_ENG,
        "When the registry of tenants and connections was read last.",
        "New tenants and changed schedules wait.",
        kind="postgres",
    ),
    Component.DAGSTER_DAEMONS: Entry(
        _probe("dagster", "dagster_daemons"),
        PLATFORM_ENG,
        "The heartbeat of every Dagster daemon.",
        "Nothing is scheduled, observed or queued.",
        kind="dagster",
    ),
    Component.CODE_LOCATIONS: Entry(
        _probe("dagster", "code_locations"),
        PLATFORM_ENG,
        "Both code locations are loaded, asked of Dagster's webserver.",
        "The sensors, schedules and freshness of the one that is not stand still.",
        kind="dagster",
    ),
    Component.SCHEDULER: Entry(
        _probe("web_parts", "scheduler"),
        PLATFORM_ENG,
        "The old scheduler's heartbeat, while it still exists.",
        "What it still drives stands still.",
        kind="python",
        setting="ADINSIGHTS_HEALTH__SCHEDULER_HEARTBEAT",
        is_watched=lambda health: health.scheduler_heartbeat is not None,
    ),
}


def watched(settings: Settings) -> dict[Component, Entry]:
    """Returns the components that these settings name."""
    return {component: entry for component, entry in CATALOG.items() if entry.is_watched(settings.health)}


def unwatched(settings: Settings) -> dict[Component, str]:
    """Returns the components that are not watched, with the variable that would change that."""
    return {
        component: entry.setting
        for component, entry in CATALOG.items()
        if entry.setting is not None and not entry.is_watched(settings.health)
    }
