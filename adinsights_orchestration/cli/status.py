"""`adinsights status`: how everything is, in one look and one exit code.

Belongs here: laying the picture out for a terminal. Does not belong here: taking it (`status`).
Exit codes: 0 ok, 1 degraded, 2 down; 64 wrong use, 78 wrong configuration.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.concluded import Concluded
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.redaction import redact

if TYPE_CHECKING:
    from adinsights_orchestration.ops_store.store import OpsStore
    from adinsights_orchestration.status.model import ConnectionStatus, Status

_STYLES = {
    **dict.fromkeys(("down", "stale", "no_recent_sync", "misconfigured"), "red"),
    **dict.fromkeys(("degraded", "unknown", "failing", "running_stale"), "yellow"),
}
_OVERALL = {"ok": "bold green", "degraded": "bold yellow", "down": "bold red"}


def status(
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant's connections.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="How many of the stalest connections to list.")] = 20,
    as_json: process.JsonOption = False,
) -> None:
    """Show how everything is. Exit code 0: ok, 1: degraded, 2: down."""
    from adinsights_orchestration.status.model import to_json
    from adinsights_orchestration.status.reading import down, take_status

    settings = process.settings()
    store = process.open_ops_store(settings)
    try:
        found = take_status(settings, store, utc_now(), tenant=_tenant(store, tenant), stalest=limit)
    except OpsStoreError as error:
        if as_json:
            process.print_json(to_json(down(settings, error, utc_now(), tenant=tenant)))
        raise
    if as_json:
        process.print_json(to_json(found))
    else:
        _print(found)
    raise Concluded(found.overall.exit_code)


def _tenant(store: OpsStore, name: str | None) -> tuple[str, Collection[UUID]] | None:
    if name is None:
        return None
    from adinsights_orchestration.cli.selection import served, tenants_called

    return name, [tenant.id for tenant in tenants_called(served(store), name)]


def _print(found: Status) -> None:
    _headline(found)
    process.print_rows([_component(each) for each in found.components], as_json=False, style=_style)
    _line("Connections", _connections_line(found))
    providers = list(_providers(found))
    if providers:
        process.print_rows(providers, as_json=False)
    if found.freshness.stalest:
        shown, driven = len(found.freshness.stalest), found.freshness.driven
        rows = [_connection(each) for each in found.freshness.stalest]
        process.print_rows(rows, as_json=False, title=f"Stalest first: {shown:,} of {driven:,}", style=_style)
    _line("Registry", f"{found.registry.health}: {found.registry.detail}{_problems(found.registry.problems)}")
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.findings.by_kind.items())
    _line("Findings", f"{found.findings.open:,} open: {kinds} (adinsights findings)" if kinds else "none open")
    _line("Topology", f"{found.topology.health}: {found.topology.detail}, {_ago(found.topology.age_seconds)}")


def _headline(found: Status) -> None:
    from rich.text import Text

    whose = f", connections of {found.tenant}" if found.tenant else ""
    head = Text(found.overall.value.upper(), style=_OVERALL[found.overall.value])
    process.console().print(head + Text(f"  as of {process.cell(found.as_of)}, {found.environment}{whose}"))
    for reason in found.reasons:
        process.console().print(Text(f"  {redact(reason)}"))


def _line(name: str, text: str) -> None:
    from rich.text import Text

    process.console().print(Text(f"{name}  ", style="bold") + Text(redact(text)))


def _component(each: Any) -> dict[str, Any]:
    return {
        "component": each.component.value,
        "health": each.health.value if each.watched else "not watched",
        "state": each.state,
        "since": each.since,
        "read": _ago(each.age_seconds),
        "detail": each.detail,
    }


def _connections_line(found: Status) -> str:
    freshness = found.freshness
    counts = ", ".join(f"{count:,} {state}" for state, count in freshness.by_state.items() if count) or "none"
    return f"{freshness.health}: {counts}; evaluated {_ago(freshness.age_seconds)}"


def _providers(found: Status) -> Iterable[dict[str, Any]]:
    states = [state for state, count in found.freshness.by_state.items() if count]
    for provider, counts in found.freshness.by_provider.items():
        yield {"provider": provider.value, **{state: counts.get(state, 0) for state in states}}


def _connection(each: ConnectionStatus) -> dict[str, Any]:
    return {
        "connection": each.partition,
        "provider": each.provider.value,
        "state": each.state,
        "last success": _ago(each.age_seconds),
        "late from": each.deadline,
        "reason": each.reason,
    }


def _style(row: Mapping[str, Any]) -> str:
    return _STYLES.get(str(row.get("health", row["state"])), "")


def _problems(count: int) -> str:
    return f"; {count} entries to mend (adinsights registry show)" if count else ""


def _ago(seconds: float | None) -> str:
    from adinsights_orchestration.status.rules import span_words

    return "never" if seconds is None else f"{span_words(seconds)} ago"
