"""What an evaluating process knows of the last evaluation, so that the next costs what changed.

Belongs here: the values that are kept between ticks of one process, and when they hold. Does not belong here: anything
that must survive it: everything here can be thrown away at any moment, and a fresh process does without. Incidents hold
as long as the mark that every change of them writes into the ops store is the one that this process wrote or read;
connections hold as long as freshness wrote none of them anew.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from adinsights_orchestration.alerting.facts import ConnectionFact, Facts, ProviderFact
from adinsights_orchestration.alerting.gathering.automations import AutomationsKept
from adinsights_orchestration.alerting.gathering.dagster_events import LogKept
from adinsights_orchestration.alerting.inhibition import Graph
from adinsights_orchestration.alerting.matching import Silence
from adinsights_orchestration.alerting.model import Finding, Incident
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Tenant
from adinsights_orchestration.topology.model import Topology

REREAD = timedelta(minutes=2)  # freshness stamps a row before it commits it, within a tick's time
WHOLE_EVERY = timedelta(minutes=10)  # everything is read anew at least so often
PRUNE_EVERY = timedelta(minutes=10)
AVAILABILITY_EVERY = timedelta(minutes=1)  # samples of it are by the minute


@dataclass
class Connections:
    """Connections that are not simply well, as they were read last.

    Attributes:
        read_at: When.
        whole_at: When all of them were.
        facts: By partition.
        providers: Every provider with active connections.
        served: The registry that they were read with; another one makes all of it void.
        total: How many connections freshness keeps, those that are well included.
    """

    read_at: datetime
    whole_at: datetime
    facts: dict[str, ConnectionFact]
    providers: Mapping[Provider, ProviderFact]
    served: Mapping[str, Connection]
    total: int

    def holds(self, now: datetime) -> bool:
        """Whether what was written since `read_at` is all that can have changed."""
        return self.read_at <= now and self.whole_at <= now < self.whole_at + WHOLE_EVERY


@dataclass(frozen=True)
class Reading:
    """What was read last of the ops store, and when it is the same still.

    Attributes:
        at: When.
        until: Until when the same rows say the same.
        marks: What differs where a row differs; empty where that is not known.
        made_of: What else it is made of.
        facts: It; components and availability as they were then or later.
        probed: The mark of its components.
        available_at: When its availability was read.
    """

    at: datetime
    until: datetime
    marks: tuple[Any, ...]
    made_of: tuple[object, ...]
    facts: Facts
    probed: str | None
    available_at: datetime

    def holds(self, now: datetime, marks: tuple[Any, ...], made_of: tuple[object, ...]) -> bool:
        """Whether reading would say the same again."""
        same = all(one is other for one, other in zip(self.made_of, made_of, strict=True))
        return same and bool(marks[0]) and marks == self.marks and self.at <= now < self.until


@dataclass(frozen=True)
class Known:
    """What an evaluation leaves for the next one of its process; it holds while its mark stands in the ops store.

    Attributes:
        mark: Its mark; empty when nothing is known.
        at: When it was.
        incidents: All that are open, and those that were found again, by fingerprint.
        silences: Those that were in force.
        graph: The graph that explained them.
        unsettled: Keys of the groups that it did something to.
        rests_until: Until when time alone gives no group anything to do; None where it does.
        findings: What was found, where the same once more would move nothing; None where something waits.
        firing: How many incidents fire.
    """

    mark: str = ""
    at: datetime | None = None
    incidents: dict[str, Incident] = field(default_factory=dict)
    silences: Sequence[Silence] = ()
    graph: Graph | None = None
    unsettled: Collection[str] = ()
    rests_until: datetime | None = None
    findings: Sequence[Finding] | None = None
    firing: int = 0

    def rests(self, now: datetime) -> bool:
        """Whether no group's time has come since; not where the clock was set back."""
        if self.rests_until is None or self.at is None:
            return False
        return self.at <= now < self.rests_until

    def is_still(self, findings: Sequence[Finding], now: datetime) -> bool:
        """Whether these findings move nothing, and no group's time has come."""
        return self.rests(now) and self.findings is not None and findings == self.findings


@dataclass
class Standing:
    """What is kept between two evaluations of one process.

    Attributes:
        known: What the last evaluation left; nothing where that is not known to have been committed.
        pruned_at: When old lines of the history were last dropped.
        reading: Everything that was read of the ops store.
        connections: The connections.
        registry: Connections and tenants of the registry by key, and what they were made of.
        log: What Dagster says.
        automations: Which of its schedules and sensors run.
        topology: The topology, and the row that it was read from.
        surroundings: Places and graph, and what they were made of.
        memo: Findings that were made of the very same facts, by what they are about; void with other surroundings.
    """

    known: Known = field(default_factory=Known)
    pruned_at: datetime | None = None
    reading: Reading | None = None
    connections: Connections | None = None
    registry: tuple[object, dict[str, Connection], dict[UUID, Tenant]] | None = None
    log: LogKept = field(default_factory=LogKept)
    automations: AutomationsKept = field(default_factory=AutomationsKept)
    topology: tuple[int, Topology | None] | None = None
    surroundings: tuple[tuple[object, ...], Places, Graph] | None = None
    memo: dict[Any, Any] = field(default_factory=dict)

    def is_to_prune(self, now: datetime) -> bool:
        """Whether the history was not pruned lately."""
        return self.pruned_at is None or not timedelta() <= now - self.pruned_at < PRUNE_EVERY

    def of_registry(self, registry: Registry) -> tuple[dict[str, Connection], dict[UUID, Tenant]]:
        """Returns the registry's connections by partition, and its tenants; the same ones for the same registry."""
        if self.registry is None or self.registry[0] is not registry.connections:
            served = {one.partition_key: one for one in registry.connections if one.partition_key}
            self.registry = (registry.connections, served, {tenant.id: tenant for tenant in registry.tenants})
        return self.registry[1], self.registry[2]

    def around(self, settings: Settings, sla: object, topology: Topology | None) -> tuple[Places, Graph]:
        """Returns links and graph: the same while what they are made of is the same; else findings are forgotten."""
        made_of = (settings, sla, topology, self.registry and self.registry[0])
        known = self.surroundings
        if known is None or any(one is not other for one, other in zip(known[0], made_of, strict=True)):
            self.memo = {}
            served = self.registry[1].values() if self.registry else ()
            self.surroundings = known = (made_of, Places.of(settings, topology, served), Graph(topology))
        return known[1], known[2]
