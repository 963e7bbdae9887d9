"""The registry's vocabulary: providers, schedules, tenants, connections.

Belongs here: immutable values and what follows from one value alone. Does not belong here: reading them from anywhere
(`sources`), keeping them (`store`). A `Registry` is one consistent picture of who is served, at one moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

DEFAULT_TIMEZONE = "America/Jamaica"  # ADinsights' home timezone
MINIMUM_RETENTION_DAYS = 365  # runbook: audit rows are kept at least this long


class Provider(StrEnum):
    """An ad or analytics platform; the value names its Dagster asset `airbyte/<value>`."""

    META = "meta"
    GOOGLE_ADS = "google_ads"
    LINKEDIN_ADS = "linkedin_ads"
    TIKTOK_ADS = "tiktok_ads"
    GA4 = "ga4"
    SEARCH_CONSOLE = "search_console"

    @property
    def label(self) -> str:
        """The platform's own name, for people."""
        return _LABELS[self]

    @property
    def backend_code(self) -> str:
        """The code that the backend's `integrations_airbyteconnection.provider` column holds."""
        return _BACKEND_CODES[self]

    @property
    def asset_path(self) -> tuple[str, str]:
        """The path of the provider's Dagster asset key."""
        return ("airbyte", self.value)

    @property
    def partitions_name(self) -> str:
        """The name of the provider's dynamic partitions definition."""
        return f"{self.value}_connections"

    @classmethod
    def from_code(cls, code: str) -> Provider:
        """Returns the provider of a backend code or of our own name; `ValueError` names an unknown one."""
        found = _BY_CODE.get(code.strip().upper())
        if found is None:
            raise ValueError(f"unknown provider {code!r}; known: {', '.join(sorted(_BY_CODE))}")
        return found


_BACKEND_CODES = {
    Provider.META: "META",
    Provider.GOOGLE_ADS: "GOOGLE",
    Provider.LINKEDIN_ADS: "LINKEDIN",
    Provider.TIKTOK_ADS: "TIKTOK",
    Provider.GA4: "GOOGLE_ANALYTICS",
    Provider.SEARCH_CONSOLE: "SEARCH_CONSOLE",
}
_LABELS = {
    Provider.META: "Meta",
    Provider.GOOGLE_ADS: "Google Ads",
    Provider.LINKEDIN_ADS: "LinkedIn Ads",
    Provider.TIKTOK_ADS: "TikTok Ads",
    Provider.GA4: "Google Analytics 4",
    Provider.SEARCH_CONSOLE: "Search Console",
}
_BY_CODE = {code: provider for provider, code in _BACKEND_CODES.items()} | {p.value.upper(): p for p in Provider}


class ScheduleType(StrEnum):
    """Who decides when a connection syncs; the backend's `schedule_type`."""

    MANUAL = "manual"
    INTERVAL = "interval"
    CRON = "cron"


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a connection is due: by hand only, every `interval`, or by `cron` in its tenant's timezone."""

    type: ScheduleType
    interval: timedelta | None = None
    cron: str | None = None

    def describe(self) -> str:
        """One short phrase for people: `every 60 min`, `cron 0 6-22 * * *`, `manual`."""
        if self.type is ScheduleType.INTERVAL and self.interval is not None:
            return f"every {int(self.interval.total_seconds() // 60)} min"
        if self.type is ScheduleType.CRON:
            return f"cron {self.cron}"
        return self.type.value


class Standing(StrEnum):
    """Whether a connection is driven at all; only `ACTIVE` ones are ever due or stale."""

    ACTIVE = "active"
    PAUSED = "paused"
    MANUAL = "manual"
    MISCONFIGURED = "misconfigured"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class ResourceHold:
    """A legal hold on the audit rows about one resource, or about every resource of a type."""

    resource_type: str
    resource_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tenant:
    """An agency or one of its clients.

    What the backend's tables lack (`slug`, `timezone`, `owner`, `retention_days`, `archive_retention_days` (None: the
    archive keeps them for ever), `legal_hold` on all rows and `legal_holds` on those about single resources, `sla`)
    comes from the overlay. A retired tenant is gone from the source and stays here for the connections that it had, and
    while something keeps its rows.
    """

    id: UUID
    name: str
    slug: str
    timezone: str = DEFAULT_TIMEZONE
    owner: str | None = None
    retention_days: int = MINIMUM_RETENTION_DAYS
    archive_retention_days: int | None = None
    legal_hold: bool = False
    legal_holds: tuple[ResourceHold, ...] = ()
    sla: Mapping[str, float] = field(default_factory=dict)
    retired: bool = False

    @property
    def keeps_rows(self) -> bool:
        """Whether its audit rows are kept for longer than everybody's: by a legal hold, or by a longer window."""
        return self.legal_hold or bool(self.legal_holds) or self.retention_days > MINIMUM_RETENTION_DAYS


@dataclass(frozen=True, slots=True)
class Connection:
    """One Airbyte connection of one tenant.

    `row_id` is the registry's own identity and survives a re-created Airbyte connection; `connection_id` is Airbyte's.
    `partition_key` is empty until the ops store has frozen one. `problem` says why the connection is misconfigured.
    """

    row_id: UUID
    tenant_id: UUID
    provider: Provider
    name: str
    connection_id: UUID
    schedule: Schedule
    workspace_id: UUID | None = None
    is_active: bool = True
    retired: bool = False
    problem: str | None = None
    partition_key: str = ""

    @property
    def standing(self) -> Standing:
        """The connection's standing; a retired or paused connection is never due whatever its schedule says."""
        if self.retired:
            return Standing.RETIRED
        if not self.is_active:
            return Standing.PAUSED
        if self.problem is not None:
            return Standing.MISCONFIGURED
        if self.schedule.type is ScheduleType.MANUAL:
            return Standing.MANUAL
        return Standing.ACTIVE


@dataclass(frozen=True, slots=True)
class RegistryProblem:
    """Something in the registry that a person must mend; the rest of the registry is used all the same.

    Attributes:
        place: Where, for a person.
        problem: What is wrong.
        keeps_rows: An entry of the overlay that asks for a legal hold or a longer window reaches no tenant because of
            it. While that is so nobody knows whose audit rows must stay, and none may be deleted.
    """

    place: str
    problem: str
    keeps_rows: bool = False


@dataclass(frozen=True, slots=True)
class Registry:
    """Who is served, as read from `source` at `read_at`; retired connections included, so that history keeps a name."""

    tenants: tuple[Tenant, ...]
    connections: tuple[Connection, ...]
    source: str
    read_at: datetime
    problems: tuple[RegistryProblem, ...] = ()

    def tenant(self, tenant_id: UUID) -> Tenant:
        """Returns the tenant with this id; `KeyError` when the registry does not hold it."""
        for tenant in self.tenants:
            if tenant.id == tenant_id:
                return tenant
        raise KeyError(tenant_id)

    def by_partition(self) -> dict[str, Connection]:
        """Connections by partition key."""
        return {c.partition_key: c for c in self.connections if c.partition_key}

    def partitions(self) -> dict[Provider, tuple[str, ...]]:
        """The partition keys of every provider: what its dynamic partitions should be.

        A retired connection cannot be materialized: offering its partition would only make "All" fail.
        """
        keys: dict[Provider, list[str]] = {provider: [] for provider in Provider}
        for connection in self.connections:
            if connection.partition_key and not connection.retired:
                keys[connection.provider].append(connection.partition_key)
        return {provider: tuple(sorted(found)) for provider, found in keys.items()}
