"""The overlay, `tenants.yaml`: what people know of tenants and the backend does not.

Belongs here: the file's keys, their checks, and which entry means which tenant. Does not belong here: reading the file
(`sources`), what follows from a retention or an SLA (their own domains). An entry that is wrong in itself makes the
whole file an error with its line, because half an overlay would shorten somebody's retention; one that fits no tenant
is a problem beside a registry that still works, because tenants leave. Those that have left are still meant by their
entries: what the law asks for does not end with the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from adinsights_orchestration.tenants.model import (
    MINIMUM_RETENTION_DAYS,
    Provider,
    RegistryProblem,
    ResourceHold,
    Tenant,
)
from adinsights_orchestration.tenants.raw import RawTenant
from adinsights_orchestration.tenants.slugs import LONGEST_SLUG, SLUG
from adinsights_orchestration.yaml_lines import Node, parse_yaml

_LONGEST_RETENTION_DAYS = 36_500
# What an SLA override may change, each with its unit; the defaults and their sources are the freshness domain's.
SLA_NAMES: tuple[str, ...] = (
    "sync_age_warn_minutes",
    "sync_age_page_minutes",
    "dashboard_age_warn_minutes",
    "dashboard_age_page_minutes",
    *(f"{provider.value}_source_warn_hours" for provider in Provider),
    *(f"{provider.value}_source_error_hours" for provider in Provider),
)


@dataclass(frozen=True, slots=True)
class TenantOverlay:
    """One entry: the tenant that it means, by id or by name, and what it says of it; None where it says nothing."""

    place: str
    id: UUID | None = None
    name: str | None = None
    slug: str | None = None
    timezone: str | None = None
    owner: str | None = None
    retention_days: int | None = None
    archive_retention_days: int | None = None
    legal_hold: bool | None = None
    legal_holds: tuple[ResourceHold, ...] | None = None
    sla: Mapping[str, float] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """The tenant as the entry calls it."""
        return str(self.id) if self.id is not None else repr(self.name)

    @property
    def keeps_rows(self) -> bool:
        """Whether it asks for audit rows to be kept for longer than everybody's."""
        return bool(self.legal_hold or self.legal_holds) or (self.retention_days or 0) > MINIMUM_RETENTION_DAYS


def parse_overlay(text: str, file: str) -> tuple[TenantOverlay, ...]:
    """Returns the entries of `tenants.yaml`; anything wrong with it is a `ConfigurationError` with file and line.

    Args:
        text: The file's text.
        file: What errors call it.
    """
    root = parse_yaml(text, file)
    if root is None:
        return ()
    tenants = root.mapping(("tenants",)).get("tenants")
    entries = tuple(_entry(node) for node in tenants.items()) if tenants else ()
    _refuse_repeated(tenants, entries)
    return entries


def match_overlay(
    entries: Iterable[TenantOverlay], tenants: Iterable[RawTenant], gone: Iterable[Tenant] = ()
) -> tuple[dict[UUID, TenantOverlay], tuple[RegistryProblem, ...]]:
    """Finds each entry's tenant; an entry that means none, several, or one that is already meant, is a problem.

    Args:
        entries: The overlay's.
        tenants: Those that the source has.
        gone: Those that have left it; a name means one of them only where no tenant that is there has it.
    """
    here, left = {each.id: each.name for each in tenants}, {each.id: each.name for each in gone}
    ids, by_name = {*here, *left}, _by_name(left) | _by_name(here)
    matched: dict[UUID, TenantOverlay] = {}
    problems = []
    for entry in entries:
        found = [entry.id] if entry.id is not None and entry.id in ids else by_name.get(entry.name, [])
        if problem := _mismatch(entry, found, matched):
            problems.append(RegistryProblem(entry.place, problem, entry.keeps_rows))
        else:
            matched[found[0]] = entry
    return matched, tuple(problems)


def _by_name(tenants: Mapping[UUID, str]) -> dict[str | None, list[UUID]]:
    found: dict[str | None, list[UUID]] = {}
    for tenant_id, name in tenants.items():
        found.setdefault(name.strip(), []).append(tenant_id)
    return found


def _mismatch(entry: TenantOverlay, found: list[UUID], matched: Mapping[UUID, TenantOverlay]) -> str:
    if not found and entry.keeps_rows:
        return f"no tenant is {entry.label}; name it by its id, since this entry keeps audit rows and reaches none"
    if not found:
        return f"no tenant is {entry.label}; remove the entry if it left"
    if len(found) > 1:
        return f"{len(found)} tenants are called {entry.label}; name the one by its id"
    earlier = matched.get(found[0])
    return f"it means the same tenant as {earlier.place}, which is used" if earlier else ""


def _entry(node: Node) -> TenantOverlay:
    keys = node.mapping(("id", "name", *_READERS))
    if ("id" in keys) == ("name" in keys):
        raise node.error("an entry names its tenant by 'id' or by 'name', one of them")
    entry = TenantOverlay(
        place=node.place,
        id=keys["id"].uuid() if "id" in keys else None,
        name=keys["name"].text() if "name" in keys else None,
        **{name: read(keys[name]) for name, read in _READERS.items() if name in keys},
    )
    in_table = entry.retention_days or MINIMUM_RETENTION_DAYS
    if entry.archive_retention_days is not None and entry.archive_retention_days <= in_table:
        raise keys["archive_retention_days"].error(
            f"archive_retention_days is {entry.archive_retention_days}, and the table keeps rows for {in_table}",
            "The archive keeps rows for longer than the table, or for ever where nothing is said.",
        )
    return entry


def _slug(node: Node) -> str:
    slug = node.text()
    if not SLUG.fullmatch(slug) or len(slug) > LONGEST_SLUG:
        raise node.error(f"a slug is at most {LONGEST_SLUG} of a-z, 0-9 and single hyphens between them, not {slug!r}")
    return slug


def _timezone(node: Node) -> str:
    name = node.text()
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):  # unknown; not a relative path; a folder of the timezone database
        raise node.error(f"unknown timezone {name!r}", "Use an IANA name such as America/Jamaica.") from None
    return name


def _retention_days(node: Node) -> int:
    return _days(node, "retention_days")


def _archive_retention_days(node: Node) -> int:
    return _days(node, "archive_retention_days")


def _days(node: Node, name: str) -> int:
    days = node.integer()
    if not MINIMUM_RETENTION_DAYS <= days <= _LONGEST_RETENTION_DAYS:
        raise node.error(
            f"{name} is {days}; it must be from {MINIMUM_RETENTION_DAYS} to {_LONGEST_RETENTION_DAYS}",
            "The runbook keeps audit rows for at least a year.",
        )
    return days


def _legal_holds(node: Node) -> tuple[ResourceHold, ...]:
    holds = []
    for item in node.items():
        keys = item.mapping(("resource_type", "resource_id"), required=("resource_type",))
        resource_id = keys["resource_id"].text() if "resource_id" in keys else None
        holds.append(ResourceHold(keys["resource_type"].text(), resource_id))
    return tuple(holds)


def _sla(node: Node) -> dict[str, float]:
    entries = node.mapping(SLA_NAMES)
    for name, value in entries.items():
        if value.number() <= 0:
            raise value.error(f"{name} must be above zero")
    return {name: value.number() for name, value in entries.items()}


_READERS: Mapping[str, Callable[[Node], Any]] = {
    "slug": _slug,
    "timezone": _timezone,
    "owner": Node.text,
    "retention_days": _retention_days,
    "archive_retention_days": _archive_retention_days,
    "legal_hold": Node.boolean,
    "legal_holds": _legal_holds,
    "sla": _sla,
}


def _refuse_repeated(tenants: Node | None, entries: tuple[TenantOverlay, ...]) -> None:
    seen: dict[object, str] = {}
    for node, entry in zip(tenants.items() if tenants else (), entries, strict=True):
        marks: list[tuple[object, str]] = [(entry.id or entry.name, f"the tenant {entry.label} is there twice")]
        if entry.slug:
            marks.append((("slug", entry.slug), f"the slug {entry.slug!r} is there twice"))
        for mark, problem in marks:
            if mark in seen:
                raise node.error(problem, f"It first stands in {seen[mark]}.")
            seen[mark] = entry.place
