"""Where to look: the pages that an alert links.

Belongs here: addresses. Does not belong here: which alert links which (`rules`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from adinsights_orchestration.airbyte_pages import AirbytePages
from adinsights_orchestration.alerting.message import Link
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.links import Links
from adinsights_orchestration.tenants.model import Connection, Provider
from adinsights_orchestration.topology.model import Dashboard, Topology

MOST_DASHBOARDS = 5
MOST_MODELS = 3  # a Slack message has room for so many beside the rest


@dataclass(frozen=True, slots=True)
class Places:
    """Addresses of one deployment.

    Attributes:
        links: Dagster's UI and the runbook.
        airbyte: Airbyte's UI.
        superset: Base URL of Superset; None where none is known.
        topology: The dashboards.
        workspaces: The workspaces of connections, as far as the registry has them.
    """

    links: Links
    airbyte: AirbytePages
    superset: str | None = None
    topology: Topology | None = None
    workspaces: Mapping[UUID, UUID] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, topology: Topology | None, served: Iterable[Connection] = ()) -> Places:
        """The addresses of a deployment with these connections."""
        pages, superset = AirbytePages.of(settings.airbyte), settings.health.superset_url
        workspaces = {one.connection_id: one.workspace_id for one in served if one.workspace_id is not None}
        return cls(Links.of(settings), pages, superset, topology, workspaces)

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

    def models(self, names: Iterable[str]) -> tuple[Link, ...]:
        """The assets of dbt's models, by what dbt calls them: `model.adinsights.agg_campaign_daily`."""
        wanted = dict.fromkeys(name.rpartition(".")[2] for name in names)
        keys = {key.rpartition("/")[2]: key for key in self.topology.by_key} if self.topology and wanted else {}
        links = [Link(name, self.asset(keys[name]).url) for name in wanted if name in keys]
        return tuple(links[:MOST_MODELS])

    def job(self, name: str) -> tuple[Link, ...]:
        """A job's page; nothing where the pipelines have none of that name."""
        if self.topology is None or all(job.name != name for job in self.topology.jobs):
            return ()
        return (Link("Job", self.links.job(self.topology.location, name)),)

    def run(self, run_id: str) -> Link:
        """A run."""
        return Link("Run", f"{self.links.ui}/runs/{run_id}")

    def automation(self, location: str, name: str, *, is_schedule: bool) -> Link:
        """A schedule's or sensor's page, with its ticks; the list of all where nobody knows which location has it."""
        return Link("Automation", self.links.automation(location, name, is_schedule=is_schedule))

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
            workspace = self.workspaces.get(connection_id)
            yield Link("Airbyte", self.airbyte.connection(workspace, connection_id, job))
        yield from self.dashboards(provider)
        yield self.runbook(section)

    def dashboards(self, provider: Provider | None = None) -> tuple[Link, ...]:
        """The dashboards that show a provider's data; where none is named, all of them."""
        found = self.topology.dashboards if self.topology else ()
        shown = [each for each in found if provider is None or provider.value in each.providers]
        links = [Link(each.title, url) for each in shown if (url := self._url(each))]
        return tuple(links[:MOST_DASHBOARDS])

    def _url(self, dashboard: Dashboard) -> str | None:
        if dashboard.path and self.superset:
            return f"{self.superset.rstrip('/')}{dashboard.path}"
        return dashboard.url
