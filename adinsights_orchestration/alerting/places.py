"""Where to look: the pages that an alert links.

Belongs here: addresses. Does not belong here: which alert links which (`rules`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from adinsights_orchestration.alerting.message import Link
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.links import Links
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.topology.model import Dashboard, Topology

MOST_DASHBOARDS = 5


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses of one deployment.

    Attributes:
        links: Dagster's UI and the runbook.
        airbyte: Base URL of Airbyte's UI.
        superset: Base URL of Superset; None where none is known.
        topology: The dashboards.
    """

    links: Links
    airbyte: str
    superset: str | None = None
    topology: Topology | None = None

    @classmethod
    def of(cls, settings: Settings, topology: Topology | None) -> Places:
        """The addresses of a deployment."""
        return cls(Links.of(settings), settings.airbyte.ui_url.rstrip("/"), settings.health.superset_url, topology)

    def runbook(self, section: str) -> Link:
        """A section of the runbook."""
        return Link("Runbook", self.links.runbook(section))

    def component(self, component: Component) -> tuple[Link, ...]:
        """A component's asset and its section of the runbook."""
        runbook = Link("Runbook", self.links.component_runbook(component))
        return Link("Health", self.links.component(component)), runbook

    def asset(self, key: str) -> Link:
        """An asset."""
        return Link("Asset", self.links.asset(*key.split("/")))

    def run(self, run_id: str) -> Link:
        """A run."""
        return Link("Run", f"{self.links.ui}/runs/{run_id}")

    def connection(
        self, provider: Provider, partition: str, connection_id: UUID | None, job: int | None, section: str
    ) -> tuple[Link, ...]:
        """A connection's partition, its page and newest job in Airbyte, its dashboards, the runbook."""
        return tuple(self._connection(provider, partition, connection_id, job, section))

    def _connection(
        self, provider: Provider, partition: str, connection_id: UUID | None, job: int | None, section: str
    ) -> Iterator[Link]:
        yield Link("Partition", self.links.partition(provider, partition))
        if connection_id is not None:
            page = f"{self.airbyte}/connections/{connection_id}/timeline"
            yield Link("Airbyte", page if job is None else f"{page}?openLogs=true&jobId={job}")
        yield from self.dashboards(provider)
        yield self.runbook(section)

    def dashboards(self, provider: Provider) -> tuple[Link, ...]:
        """The dashboards that show a provider's data."""
        found = self.topology.dashboards if self.topology else ()
        shown = [each for each in found if provider.value in each.providers]
        links = [Link(each.title, url) for each in shown if (url := self._url(each))]
        return tuple(links[:MOST_DASHBOARDS])

    def _url(self, dashboard: Dashboard) -> str | None:
        if dashboard.path and self.superset:
            return f"{self.superset.rstrip('/')}{dashboard.path}"
        return dashboard.url
