"""Where a row of the picture leads: its asset or partition in Dagster's UI, its section of the runbook.

Belongs here: addresses. Does not belong here: Dagster.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from adinsights_orchestration.health.model import Component
from adinsights_orchestration.health.runbook import SECTIONS
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider

REGISTRY_SECTION = "the-registry-cannot-be-read"
CONNECTION_SECTION = "a-connection-is-stale"
OVERVIEW_SECTION = "the-overview"


@dataclass(frozen=True, slots=True)
class Links:
    """Addresses below the UI and the runbook of one deployment.

    Attributes:
        ui: Base URL of Dagster's UI, without a slash at its end.
        runbook_url: The runbook.
    """

    ui: str
    runbook_url: str

    @classmethod
    def of(cls, settings: Settings) -> Links:
        """The addresses of a deployment."""
        return cls(settings.dagster.ui_url.rstrip("/"), settings.runbook_url)

    def asset(self, *path: str) -> str:
        """An asset's page."""
        return f"{self.ui}/assets/{'/'.join(quote(part, safe='') for part in path)}"

    def component(self, component: Component) -> str:
        """A component's asset."""
        return self.asset("health", component.value)

    def partition(self, provider: Provider, key: str) -> str:
        """A connection's partition."""
        return f"{self.asset(*provider.asset_path)}?view=partitions&partition={quote(key, safe='')}"

    def automation(self, location: str, name: str, *, is_schedule: bool) -> str:
        """A schedule's or sensor's page; the list of all where its code location is not known."""
        if not location:
            return f"{self.ui}/automation"
        kind = "schedules" if is_schedule else "sensors"
        return f"{self.ui}/locations/{quote(location, safe='')}/{kind}/{quote(name, safe='')}"

    def job(self, location: str, name: str) -> str:
        """A job's page, with its runs."""
        return f"{self.ui}/locations/{quote(location, safe='')}/jobs/{quote(name, safe='')}"

    def runbook(self, section: str) -> str:
        """A section of the runbook."""
        return f"{self.runbook_url}#{section}"

    def component_runbook(self, component: Component) -> str:
        """The section about a component."""
        return self.runbook(SECTIONS[component])
