"""Expiry: tenants' days whose time in the archive is over by contract leave it.

Belongs here: for how long the archive keeps what (`Keeping`), and one run that takes out what is due. Does not belong
here: the table's own windows (`windows`), how something is taken out (`removing`). The archive keeps everything for
ever unless a contract says for how long; a day whose rows should still be in the table, or may come back into it,
stays, and any hold of the law on the tenant keeps all of it: which rows of an object a hold means, only decoding it
would tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from enum import StrEnum
from uuid import UUID

from adinsights_orchestration.audit_log.bookkeeping import removal_ledger
from adinsights_orchestration.audit_log.bookkeeping.ledger import InForce
from adinsights_orchestration.audit_log.bookkeeping.standing import Standing
from adinsights_orchestration.audit_log.leaving.removing import Archive, Leaving, Swept, by_month
from adinsights_orchestration.audit_log.model import At, Cause, State
from adinsights_orchestration.audit_log.retention.policy import current_policy
from adinsights_orchestration.audit_log.windows import Hold, HoldKind, Policy, first_kept_day
from adinsights_orchestration.tenants.store import load_registry

_BEGINNING = date(1, 1, 1)


class Stays(StrEnum):
    """Why a tenant's day that is past its time in the archive stays."""

    LEGAL_HOLD = "legal hold"
    RESTORED = "restored, held for now"
    IN_TABLE = "its rows should still be in the table"
    SHARED = "it shares an object with a day that stays"


@dataclass(frozen=True, slots=True)
class Keeping:
    """For how long the archive keeps what, at one moment.

    Attributes:
        now: The moment.
        days: For how many days, by tenant; who is not named keeps everything.
        holds: Those in force.
    """

    now: datetime
    days: Mapping[UUID, int]
    holds: tuple[Hold, ...] = ()

    def cutoff(self, tenant: UUID) -> date:
        """The first day that is kept; before it everything is past its time."""
        if tenant not in self.days:
            return _BEGINNING
        return first_kept_day(self.now.astimezone(UTC).date(), self.days[tenant])

    @property
    def latest_cutoff(self) -> date:
        """No day from here on is past anybody's time."""
        return max((self.cutoff(tenant) for tenant in self.days), default=_BEGINNING)

    def why_held(self, tenant: UUID, day: date) -> Stays | None:
        """The hold that keeps a tenant's day, however old it is."""
        for hold in self.holds:
            if hold.kind is HoldKind.LEGAL and hold.tenant_id in (None, tenant):
                return Stays.LEGAL_HOLD
        if any(hold.kind is HoldKind.RESTORE and hold.covers(tenant, day) for hold in self.holds):
            return Stays.RESTORED
        return None

    def judge(self, known: Mapping[At, InForce]) -> tuple[set[At], dict[At, Stays]]:
        """Of what is archived, what is due, and what is past its time and stays."""
        due: set[At] = set()
        stays: dict[At, Stays] = {}
        for at, each in known.items():
            if at[1] >= self.cutoff(at[0]):
                continue
            if held := self.why_held(*at):
                stays[at] = held
            elif each.state is State.DELETING or each.left.rows:
                stays[at] = Stays.IN_TABLE
            else:
                due.add(at)
        return due, stays


@dataclass(slots=True)
class ExpiryReport:
    """What a run did, or would do.

    Attributes:
        dry_run: Nothing was done.
        rows: Rows that left, by tenant's day.
        stays: Tenants' days that are past their time and stay, and why.
        objects: Objects that left.
        size: Their bytes.
        swept: What became of these and of earlier ones that were still there.
        pending: Objects that the chain says are gone and the store still holds, after the run.
    """

    dry_run: bool
    rows: dict[At, int] = field(default_factory=dict)
    stays: dict[At, Stays] = field(default_factory=dict)
    objects: int = 0
    size: int = 0
    swept: Swept = field(default_factory=Swept)
    pending: int = 0

    def by_tenant_and_month(self) -> dict[tuple[UUID, str], int]:
        """Rows by tenant and month."""
        found: Counter[tuple[UUID, str]] = Counter()
        for (tenant, day), rows in self.rows.items():
            found[tenant, f"{day:%Y-%m}"] += rows
        return dict(sorted(found.items()))

    def why_stays(self) -> dict[str, int]:
        """Tenants' days that stay, by why."""
        return dict(sorted(Counter(why.value for why in self.stays.values()).items()))


def keeping_of(archive: Archive, policy: Policy) -> Keeping:
    """What the registry says of how long the archive keeps what."""
    tenants = load_registry(archive.ops).tenants
    days = {each.id: each.archive_retention_days for each in tenants if each.archive_retention_days is not None}
    return Keeping(policy.now, days, policy.holds)


def expire(archive: Archive, *, apply: bool) -> ExpiryReport:
    """Takes out what is due, and asks the store for what earlier runs left; or tells what would go.

    Raises:
        RetentionRefusedError: The registry cannot be trusted: a legal hold might be missed.
        RemovalError: The chain is not in order, or somebody else is at work.
    """
    report = ExpiryReport(not apply)
    if not apply:
        _choose(archive, report)
    else:
        with archive.locked(), archive.journalled(Cause.EXPIRED) as (run, summary):
            store = archive.store
            for leaving in _choose(archive, report):
                archive.bury(store, run, Cause.EXPIRED, leaving)
            report.swept = archive.sweep(store)
            summary |= {
                "objects": report.swept.removed,
                "refused": len(report.swept.refused),
                "left": report.swept.left,
            }
    report.pending = len(removal_ledger.pending(archive.ops, archive.source.name))
    return report


def _choose(archive: Archive, report: ExpiryReport) -> list[Leaving]:
    policy = current_policy(archive.settings, archive.ops, archive.source, archive.clock)
    keeping = keeping_of(archive, policy)
    due, report.stays = keeping.judge(archive.ledger.in_force(_BEGINNING, keeping.latest_cutoff))
    if not due:
        return []  # without a look at the store
    leaving: list[Leaving] = []
    for _, standing in archive.read_by_month(archive.store):
        here = due & standing.in_force.keys()
        goes = whole_objects(here, standing)
        report.stays |= dict.fromkeys(here - goes, Stays.SHARED)
        report.rows |= {at: standing.in_force[at].rows for at in goes}
        leaving += leaving_of(standing, goes)
    report.objects = sum(len(each.files) for each in leaving)
    report.size = sum(file.size for each in leaving for file in each.files)
    return leaving


def leaving_of(standing: Standing, due: Iterable[At]) -> list[Leaving]:
    """Tenants' days that leave as a whole, by month, each object with the last month that needs it."""
    holders = standing.holders()
    left: set[At] = set()
    taken: set[str] = set()
    found = []
    for month in by_month(list(due)):
        left |= set(month)
        files = [file for file in standing.left_over(left, holders) if file.key not in taken]
        taken |= {file.key for file in files}
        chunks = tuple(standing.in_force[at] for at in month)
        found.append(Leaving(month[0][1], month[-1][1], chunks, tuple(files)))
    return found


def whole_objects(due: Iterable[At], standing: Standing) -> set[At]:
    """Leaves out what shares an object with a day that stays; an object of a month goes when all of it is due.

    What an earlier revision of a day says in it counts as well: it leaves with its day, neither earlier nor later.
    """
    goes, holders = set(due), standing.holders()
    while stays := {at for days in holders.values() if not days <= goes for at in days & goes}:
        goes -= stays
    return goes
