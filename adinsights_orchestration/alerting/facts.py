"""What rules conclude from, as values: read once an evaluation, for all rules.

Belongs here: the shape of the facts. Does not belong here: reading them (`reading`), concluding (`rules`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from adinsights_orchestration.alerting.inhibition import Graph
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.sla import SlaTable
from adinsights_orchestration.health.model import Component, ComponentState
from adinsights_orchestration.tenants.model import Connection, Provider, Tenant

EMPTY_COUNTED = 100  # syncs in a row; that there are more is enough to know


@dataclass(frozen=True, slots=True)
class ConnectionFact:
    """A connection that is not simply well, as the last evaluation of freshness left it.

    Attributes:
        partition: Its partition key.
        provider: Its provider.
        tenant_id: Its tenant.
        state: What the evaluation said.
        detail: Why.
        since: Since when.
        deadline: From when it is late.
        last_success: When a sync last succeeded.
        failures: Failed syncs since then.
        last_job: The newest sync that is over.
        failed_at: When that one ended, where it failed.
        connection_id: Airbyte's id; None where the registry does not name it any more.
        running_since: Start of a sync that runs.
        usual_seconds: How long its syncs take; None while there is no history.
    """

    partition: str
    provider: Provider
    tenant_id: UUID
    state: Freshness
    detail: str
    since: datetime
    deadline: datetime | None = None
    last_success: datetime | None = None
    failures: int = 0
    last_job: int | None = None
    failed_at: datetime | None = None
    connection_id: UUID | None = None
    running_since: datetime | None = None
    usual_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ProviderFact:
    """How many tenants have active connections of a provider, and how many of them have a late one."""

    tenants: int
    stale: int


@dataclass(frozen=True, slots=True)
class SyncErrors:
    """Syncs of one tenant and provider that failed within the SLA's window.

    Attributes:
        tenant_id: The tenant.
        provider: The provider.
        errors: How many.
        first_at: When the first of them ended.
        partition: The one connection whose they all are; None where there are several.
        is_over: Whether that one has succeeded since.
    """

    tenant_id: UUID
    provider: Provider
    errors: int
    first_at: datetime
    partition: str | None = None
    is_over: bool = False


@dataclass(frozen=True, slots=True)
class EmptySyncs:
    """A connection whose newest successful syncs brought no rows, while nearly all before them did.

    Attributes:
        partition: Its partition key.
        provider: Its provider.
        tenant_id: Its tenant.
        in_a_row: How many brought none; of more than `EMPTY_COUNTED`, at least one more than that.
        since: When the first of them ended.
        last_rows_at: When the last one that brought rows ended.
        before: How many syncs before them were looked at.
        last_job: The newest of them.
        until: Until when the same syncs are looked at.
        usual_from: From when on that counts as usual; None where it does not yet, being so few.
    """

    partition: str
    provider: Provider
    tenant_id: UUID
    in_a_row: int
    since: datetime
    last_rows_at: datetime
    before: int
    last_job: int
    until: datetime
    usual_from: datetime | None = None


@dataclass(frozen=True, slots=True)
class NightDone:
    """What the night has done so far.

    Attributes:
        expected: Whether there was a pipeline before this night that should have done it again.
        built_at: When the first build of everything completed since the night began.
        fresh_at: When the first build completed that had rows of this night.
    """

    expected: bool
    built_at: datetime | None = None
    fresh_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Availability:
    """How available the API was over a window that ends now.

    Attributes:
        bad: The share of what was asked, of us or of customers, that got no answer or an error; 0 to 1.
        covered: The share of the window that is known.
    """

    bad: float
    covered: float


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that this deployment writes to.

    Attributes:
        folder: The folder on it, as configured.
        free_percent: How much of it is free; None where that is not known, or told of another folder on it.
        problem: Why it says nothing of the disk that was below the folder; empty where it does.
    """

    folder: str
    free_percent: float | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class OpenFinding:
    """Something that a domain noted for people."""

    kind: str
    subject: str
    detail: Mapping[str, Any]
    since: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """The newest of its kind failed: a job's run, an asset's check.

    Attributes:
        at: When.
        detail: What was said.
        run_id: The run.
        first_at: When the first one failed after which none succeeded, as far as that was seen; None where it is this.
    """

    at: datetime
    detail: str
    run_id: str | None = None
    first_at: datetime | None = None

    @property
    def since(self) -> datetime:
        """Since when it has failed, however often it was tried."""
        return self.first_at or self.at


@dataclass(frozen=True, slots=True)
class Halt:
    """A schedule or sensor that should do its work here and does not.

    Attributes:
        at: Since when.
        detail: How that is known.
        location: The code location that has it; empty where Dagster knows nothing of it.
        is_schedule: Whether it is a schedule.
        fails: Whether it ticks, and every tick fails.
    """

    at: datetime
    detail: str
    location: str = ""
    is_schedule: bool = False
    fails: bool = False


@dataclass(frozen=True, slots=True)
class CheckKey:
    """Names an asset check, of one partition where it has partitions."""

    asset: str
    check: str
    partition: str | None = None


@dataclass(frozen=True)
class Events:
    """What Dagster's event log says up to now.

    Attributes:
        jobs: Jobs whose newest finished run failed.
        checks: Checks whose newest evaluation failed with severity error.
        stopped: Schedules and sensors that are declared to run and do not, or fail whenever they do.
        materialized: When each asset that must be made again and again was last made, or, where it never was, since
            when that is known, and whether it was.
        problem: Why the log could not be read; empty where it was.
    """

    jobs: Mapping[str, Failure] = field(default_factory=dict)
    checks: Mapping[CheckKey, Failure] = field(default_factory=dict)
    stopped: Mapping[str, Halt] = field(default_factory=dict)
    materialized: Mapping[str, tuple[datetime, bool]] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that rules may conclude from.

    Attributes:
        now: The moment.
        sla: The levels, with their sources.
        places: Links.
        tenants: Who is served.
        connections: Those that are not simply well.
        providers: Every provider with active connections.
        freshness_at: The last evaluation of freshness; None before the first.
        sync_errors: Failed syncs, counted.
        components: Every component that is watched, with its standing.
        findings: What domains noted.
        events: Dagster's event log.
        graph: What depends on what.
        held: Titles of groups that a storm held back in the last evaluation.
        served: Connections of the registry, by partition.
        empty_syncs: Connections whose newest syncs brought no rows.
        night: What the night has done; None where nothing is known of it.
        availability: The API's, by the length of the window.
        disks: Those that this deployment writes to.
        memo: Findings that were made of the very same fact before, for rules that speak of very many.
    """

    now: datetime
    sla: SlaTable
    places: Places
    tenants: Mapping[UUID, Tenant] = field(default_factory=dict)
    connections: Sequence[ConnectionFact] = ()
    providers: Mapping[Provider, ProviderFact] = field(default_factory=dict)
    freshness_at: datetime | None = None
    sync_errors: Sequence[SyncErrors] = ()
    components: Mapping[Component, ComponentState] = field(default_factory=dict)
    findings: Sequence[OpenFinding] = ()
    events: Events = field(default_factory=Events)
    graph: Graph = field(default_factory=Graph)
    held: Sequence[str] = ()
    served: Mapping[str, Connection] = field(default_factory=dict)
    empty_syncs: Sequence[EmptySyncs] = ()
    night: NightDone | None = None
    availability: Mapping[timedelta, Availability] = field(default_factory=dict)
    disks: Sequence[Disk] = ()
    memo: dict[Any, Any] = field(default_factory=dict)

    def tenant_name(self, tenant_id: UUID) -> str:
        """The tenant's name for people; its id where the registry does not know it any more."""
        tenant = self.tenants.get(tenant_id)
        return tenant.name if tenant else str(tenant_id)

    def tenant_slug(self, tenant_id: UUID) -> str:
        """What names the tenant in labels."""
        tenant = self.tenants.get(tenant_id)
        return tenant.slug if tenant else str(tenant_id)
