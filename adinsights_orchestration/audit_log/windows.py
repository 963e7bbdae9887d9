"""For how long rows are kept: windows per tenant, and holds that beat every window.

Belongs here: the decision for a tenant's day, as a function of plain values. Does not belong here: reading tenants or
holds from anywhere (`holds`), deleting (`deletion`). Days are UTC days, the archive's own unit. A row of day D with a
window of N days is kept to the end of day D + N and may go on the day after: at least N times 24 hours, whatever the
time of day that it was written at. Nothing here knows a default for a tenant that the registry does not hold: whose
contract is unknown, keeps its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.tenants.model import MINIMUM_RETENTION_DAYS, Registry


class ShortWindowError(AdinsightsError):
    """A window is shorter than the law and the runbook allow; nothing was deleted."""


class Why(StrEnum):
    """Why a tenant's day goes or stays."""

    DUE = "due"
    WINDOW = "inside its window"
    LEGAL_HOLD = "legal hold"
    RESTORED = "restored, held for now"
    UNKNOWN_TENANT = "the registry does not know the tenant"


class HoldKind(StrEnum):
    """Who asked for a hold: the law, until it is lifted, or a person who restored rows, until a moment."""

    LEGAL = "legal"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class Hold:
    """Rows that are not deleted, however old they are; what is None does not narrow it.

    Attributes:
        kind: Who asked for it.
        reason: Why, for people.
        tenant_id: Whose rows.
        resource_type: Rows about this kind of resource.
        resource_id: Rows about this one.
        first_day: From this day on.
        last_day: To this day, included.
        until: When it ends by itself.
    """

    kind: HoldKind
    reason: str
    tenant_id: UUID | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    first_day: date | None = None
    last_day: date | None = None
    until: datetime | None = None

    @property
    def whole(self) -> bool:
        """Whether it holds everything of a tenant's day, and not only the rows of a resource."""
        return self.resource_type is None and self.resource_id is None

    def in_force(self, now: datetime) -> bool:
        """Whether it still holds."""
        return self.until is None or now < self.until

    def covers(self, tenant_id: UUID, day: date) -> bool:
        """Whether it concerns rows of this tenant's day."""
        return (
            self.tenant_id in (None, tenant_id)
            and (self.first_day is None or self.first_day <= day)
            and (self.last_day is None or day <= self.last_day)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What may go at one moment.

    Attributes:
        now: The moment.
        windows: Days that each tenant's rows are kept.
        holds: Those in force and those that have ended; the latter count for nothing.
        least_days: The shortest window that is not refused; a year, unless the table is the orchestrator's own.
        departed: Tenants that have left the backend, which takes their rows along when it deletes them.
    """

    now: datetime
    windows: Mapping[UUID, int]
    holds: tuple[Hold, ...] = ()
    least_days: int = MINIMUM_RETENTION_DAYS
    departed: frozenset[UUID] = frozenset()
    today: date = field(init=False)

    def __post_init__(self) -> None:
        for tenant_id, days in self.windows.items():
            require_window(days, least=self.least_days, place=f"tenant {tenant_id}")
        object.__setattr__(self, "today", self.now.astimezone(UTC).date())
        object.__setattr__(self, "holds", tuple(hold for hold in self.holds if hold.in_force(self.now)))

    def cutoff(self, tenant_id: UUID) -> date | None:
        """The first day that is kept; every earlier one is past its window. None for a tenant that nobody knows."""
        days = self.windows.get(tenant_id)
        return first_kept_day(self.today, days) if days is not None else None

    @property
    def latest_cutoff(self) -> date:
        """The latest of all cutoffs: no row of this day or a later one is past anybody's window."""
        return first_kept_day(self.today, min(self.windows.values(), default=MINIMUM_RETENTION_DAYS))

    def judge(self, tenant_id: UUID, day: date) -> Why:
        """Whether the tenant's day may go; `DUE` still leaves out the rows that `resource_holds` hold."""
        cutoff = self.cutoff(tenant_id)
        if cutoff is None:
            return Why.UNKNOWN_TENANT
        kinds = {hold.kind for hold in self.holds if hold.whole and hold.covers(tenant_id, day)}
        if HoldKind.LEGAL in kinds:
            return Why.LEGAL_HOLD
        if HoldKind.RESTORE in kinds:
            return Why.RESTORED
        return Why.DUE if day < cutoff else Why.WINDOW

    def resource_holds(self) -> tuple[Hold, ...]:
        """The holds that keep single rows of a day that may otherwise go."""
        return tuple(hold for hold in self.holds if not hold.whole)


def first_kept_day(today: date, window_days: int) -> date:
    """The oldest day that is still inside its window."""
    return today - timedelta(days=window_days)


def require_window(days: int, *, least: int = MINIMUM_RETENTION_DAYS, place: str = "") -> int:
    """Returns the window, or refuses one that is too short."""
    if days < least:
        raise ShortWindowError(
            f"a window of {days} days is shorter than the {least} that must be kept",
            place=place,
            next_step="Nothing was deleted. Set it to at least that many days.",
        )
    return days


def policy_of(registry: Registry, now: datetime, holds: Iterable[Hold] = ()) -> Policy:
    """What may go of the registry's tenants, the holds of `tenants.yaml` included."""
    windows = {tenant.id: tenant.retention_days for tenant in registry.tenants}
    departed = frozenset(tenant.id for tenant in registry.tenants if tenant.retired)
    return Policy(now, windows, (*_holds_of(registry), *holds), departed=departed)


def _holds_of(registry: Registry) -> Iterator[Hold]:
    for tenant in registry.tenants:
        if tenant.legal_hold:
            yield Hold(HoldKind.LEGAL, "tenants.yaml: legal_hold", tenant.id)
        for one in tenant.legal_holds:
            yield Hold(
                HoldKind.LEGAL,
                f"tenants.yaml: legal_holds of {one.resource_type}",
                tenant.id,
                one.resource_type,
                one.resource_id,
            )
