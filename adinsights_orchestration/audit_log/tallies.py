"""What the UI shows of counts by tenant and month, and of lists, where there is more of them than a page takes.

Belongs here: which lines show, and the words for what does not. Does not belong here: counting. A run's metadata is
kept with every run for as long as its history, so it is bounded; but whoever looks for a tenant that should not be
there must find each of them, so months give way before tenants do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

import dagster as dg

from adinsights_orchestration.audit_log.tenant_names import TenantName

_LINES, _TENANTS = 200, 500  # a line is about 60 bytes

Tally = Mapping[tuple[UUID, str], Sequence[int]]


def by_tenant_and_month(
    tally: Tally, columns: Sequence[str], name: TenantName, elsewhere: str
) -> dg.MarkdownMetadataValue:
    """Counts as a table with their total: by tenant and month, or by tenant where those are too many.

    Args:
        tally: The counts of each tenant's month (2026-01), one for each column.
        columns: What is counted.
        name: What people call a tenant.
        elsewhere: Where every line is, as a sentence.
    """
    tenants = {tenant for tenant, _ in tally}
    total = _line("**total**", f"{len(tenants):,} tenants", _sum(tally.values(), columns))
    if len(tally) <= _LINES:
        lines = [_line(name(tenant), month, counts) for (tenant, month), counts in _by_name(tally, name)]
        return dg.MetadataValue.md("\n".join([*_head("month", columns), *lines, total]))
    of_tenant: dict[UUID, dict[str, Sequence[int]]] = defaultdict(dict)
    for (tenant, month), counts in tally.items():
        of_tenant[tenant][month] = counts
    each = sorted(of_tenant.items(), key=lambda item: name(item[0]))
    lines = [_line(name(tenant), _months(its), _sum(its.values(), columns)) for tenant, its in each[:_TENANTS]]
    said = f"{len(tally):,} lines by tenant and month are too many to show here: this is by tenant."
    if rest := each[_TENANTS:]:
        said += f" Only the first {_TENANTS} tenants show by their names."
        counts = _sum([counts for _, its in rest for counts in its.values()], columns)
        lines.append(_line(f"{len(rest):,} more tenants", "", counts))
    return dg.MetadataValue.md("\n".join([f"{said} {elsewhere}", "", *_head("months", columns), *lines, total]))


def first_of(found: Sequence[str], most: int) -> dg.JsonMetadataValue:
    """A list, and in its place how many more there are where it is cut."""
    more = [f"{len(found) - most:,} more"] if len(found) > most else []
    return dg.MetadataValue.json([*found[:most], *more])


def first_named(found: Mapping[str, str], most: int, elsewhere: str) -> dg.JsonMetadataValue:
    """The first of what is named, in order; where there are more, how many and where they all are."""
    more = {f"{len(found) - most:,} more": elsewhere} if len(found) > most else {}
    return dg.MetadataValue.json(dict(sorted(found.items())[:most]) | more)


def _by_name(tally: Tally, name: TenantName) -> list[tuple[tuple[UUID, str], Sequence[int]]]:
    return sorted(tally.items(), key=lambda item: (name(item[0][0]), item[0][1]))


def _head(months: str, columns: Sequence[str]) -> list[str]:
    return [f"| tenant | {months} | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]


def _line(tenant: str, months: str, counts: Sequence[int]) -> str:
    return f"| {tenant} | {months} | {' | '.join(f'{count:,}' for count in counts)} |"


def _months(its: Mapping[str, object]) -> str:
    first, last = min(its), max(its)
    return first if first == last else f"{first} to {last} ({len(its)})"


def _sum(counts: Iterable[Sequence[int]], columns: Sequence[str]) -> list[int]:
    total = [0] * len(columns)
    for each in counts:
        total = [so_far + one for so_far, one in zip(total, each, strict=True)]
    return total
