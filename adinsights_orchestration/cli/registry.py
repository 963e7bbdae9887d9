"""`adinsights registry`: who is served, and reading the source now.

Belongs here: showing and refreshing. Does not belong here: reading and judging the source (`tenants`).
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.redaction import Verbatim

if TYPE_CHECKING:
    from adinsights_orchestration.tenants.model import Registry, Tenant
    from adinsights_orchestration.tenants.refresh import RefreshReport
    from adinsights_orchestration.tenants.store import RegistryHealth

_PATIENCE_SECONDS = 15.0  # a refresh takes well below a second, unless its source is slow
_PAUSE_SECONDS = 0.5
app = typer.Typer(help="Show or refresh who is served.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def show(as_json: process.JsonOption = False) -> None:
    """Show tenants with their connections, the registry's age, and what a person must mend in it."""
    from adinsights_orchestration.cli.selection import served
    from adinsights_orchestration.tenants.store import registry_health

    store = process.open_ops_store(process.settings())
    registry = served(store)
    health = registry_health(store, utc_now())
    if as_json:
        process.print_json({"tenants": _rows(registry), "health": _health(health), "problems": registry.problems})
        return
    process.print_rows(_rows(registry), as_json=False, title=f"Read from {registry.source}")
    if registry.problems:
        problems = [{"place": each.place, "problem": each.problem} for each in registry.problems]
        process.print_rows(problems, as_json=False, title="To mend")
    age = f"read {health.age.total_seconds() / 60:.0f} min ago" if health.age else "never read"
    process.say(f"{age}; last error: {health.error}" if health.error else age)


@app.command()
def refresh(
    accept_loss: Annotated[
        bool,
        typer.Option(
            "--accept-loss", help="Take a source that suddenly lacks most tenants or connections for the truth, once."
        ),
    ] = False,
    as_json: process.JsonOption = False,
) -> None:
    """Read the source now. New connections appear as partitions with the sensor's next tick."""
    report = _read_now(accept_loss=accept_loss)
    new = sorted(key for keys in report.new_partitions.values() for key in keys)
    told: dict[str, Any] = {"changed": report.changed, "new": new, "retired": report.retired}
    told |= {"returned": report.returned, "problems": len(report.registry.problems), "error": report.error}
    told |= {"busy": report.busy}
    if as_json:
        process.print_json(told)
    else:
        process.print_rows([{key: _shown(value) for key, value in told.items()}], as_json=False)
    if report.busy:
        lost = " The loss is not accepted." if accept_loss else ""
        process.say(f"Another refresh has been under way all the time; this one did nothing.{lost} Try again.")
    raise typer.Exit(EXIT_NOT_WELL if report.error or report.busy else 0)


def _read_now(*, accept_loss: bool) -> RefreshReport:
    """Refreshes; while a sensor's tick is at it, tries again for a while: its refresh accepts no loss."""
    from adinsights_orchestration.tenants.refresh import refresh as read_now

    settings = process.settings()
    store = process.open_ops_store(settings)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        report = read_now(settings, store, utc_now(), accept_loss=accept_loss)
        if not report.busy or time.monotonic() >= give_up:
            return report
        time.sleep(_PAUSE_SECONDS)


def _rows(registry: Registry) -> list[dict[str, Any]]:
    return [_row(registry, tenant) for tenant in registry.tenants if not tenant.retired]


def _row(registry: Registry, tenant: Tenant) -> dict[str, Any]:
    standings = Counter(each.standing.value for each in registry.connections if each.tenant_id == tenant.id)
    return {
        "tenant": tenant.slug,
        "name": tenant.name,
        "timezone": tenant.timezone,
        "owner": Verbatim(tenant.owner) if tenant.owner else None,
        "retention_days": tenant.retention_days,
        "archive_retention_days": tenant.archive_retention_days,
        "legal_hold": tenant.legal_hold,
        "connections": ", ".join(f"{count} {name}" for name, count in sorted(standings.items())) or "none",
    }


def _health(health: RegistryHealth) -> dict[str, Any]:
    return {"attempted_at": health.attempted_at, "succeeded_at": health.succeeded_at, "error": health.error}


def _shown(value: object) -> object:
    return (", ".join(value) or "-") if isinstance(value, list | tuple) else value
