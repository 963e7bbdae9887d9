"""Restoring in Dagster: the job `audit_log_restore`, which people start.

Belongs here: the run's configuration and metadata. Does not belong here: restoring (`run`). Metadata holds counts, days
and the names of objects, never what a row says.
"""

# No postponed annotations: Dagster reads the type of an op's configuration.
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from adinsights_orchestration.audit_log import tallies
from adinsights_orchestration.audit_log.days import moment_of, named
from adinsights_orchestration.audit_log.journal import actor_of
from adinsights_orchestration.audit_log.restore.plan import Wanted, tenant_of
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.restore.report import RestoreReport
    from adinsights_orchestration.audit_log.restore.run import Order

JOB, OP = "audit_log_restore", "restore_audit_rows"
_DESCRIPTION = (
    "Brings audit rows back from the archive, into a table of their own or, behind a hold with an end, into the live"
    " one. Unless `dry_run` is false it only tells. Nothing else depends on it."
)
_SHOWN, _NAMED = 200, 10
_EVERY_LINE = "`adinsights audit restore --from DAY --to DAY` shows every line."
_AFTERWARDS = "What a run brought back of a tenant is in the tenant's audit row `audit_log_restored`."


class RestoreConfig(dg.Config):
    """What to bring back, and where; `adinsights audit restore` takes the same."""

    first: str = Field(description="First day (UTC), as 2026-01-31, or moment, as 2026-01-31T08:30.")
    last: str = Field(description="Last day (UTC), included; or the moment before which the rows are.")
    tenants: list[str] = Field(default=[], description="Only these tenants' rows (their ids); empty: everybody's.")
    into: str | None = Field(default=None, description="A table of its own; empty: accounts_auditlog_restored.")
    live: bool = Field(default=False, description="Into the table that was archived; needs `hold_until`.")
    hold_until: str | None = Field(default=None, description="Last day that retention leaves the rows alone.")
    dry_run: bool = Field(default=True, description="Only tell what would come.")


def build_restore(settings: Settings, store: OpsStore, *, clock: Clock = utc_now) -> dg.Definitions:
    """Builds the job."""

    @dg.op(name=OP, description=_DESCRIPTION, out=dg.Out(dg.Nothing))
    def restore_audit_rows(context: dg.OpExecutionContext, config: RestoreConfig) -> None:
        from adinsights_orchestration.audit_log.restore.run import Restore  # loads Arrow and DuckDB: not at every load

        reports: list[RestoreReport] = []
        with proof_of_life(context, store):
            try:
                restore = Restore(
                    settings, store, AUDIT_LOG, actor_of(context.run.tags), clock=clock, run_id=context.run_id
                )
                restore.run(order_of(config), reports.append)
            except AdinsightsError as error:
                metadata = metadata_of(reports[0]) if reports else {}
                raise dg.Failure(str(error), metadata=metadata, allow_retries=False) from None
        (report,) = reports
        (context.log.warning if report.left else context.log.info)(line_about(report))
        if not report.well:
            said = (
                report.problems[0] if report.problems else f"not archived: {', '.join(named(report.missing)[:_NAMED])}"
            )
            raise dg.Failure(said, metadata=metadata_of(report), allow_retries=False)
        context.add_output_metadata(metadata_of(report))

    @dg.job(
        name=JOB,
        description=_DESCRIPTION,
        tags={"adinsights/kind": "audit_log", "adinsights/at_once_1": JOB},
        executor_def=dg.in_process_executor,
        metadata={"runbook": dg.MetadataValue.url(f"{settings.runbook_url}#audit-rows-are-needed-back")},
    )
    def audit_log_restore() -> None:
        restore_audit_rows()

    return dg.Definitions(jobs=[audit_log_restore])


def order_of(config: RestoreConfig) -> "Order":
    """The order that a configuration means.

    Raises:
        ConfigurationError: A day, moment or tenant is none.
    """
    from adinsights_orchestration.audit_log.restore.run import Order

    return Order(
        wanted=Wanted(
            moment_of(config.first, "first"),
            moment_of(config.last, "last", end=True),
            tuple(tenant_of(each, "tenants") for each in config.tenants),
        ),
        into=config.into,
        live=config.live,
        hold_until=moment_of(config.hold_until, "hold_until", end=True) if config.hold_until else None,
        apply=not config.dry_run,
    )


def line_about(report: "RestoreReport") -> str:
    """One line about a run; who took something out of the archive is in the metadata alone."""
    total = report.total
    left = "; some of the range has left the archive and does not come back: the metadata names it"
    but = left if report.left else ""
    if report.dry_run:
        return f"{total.archived:,} rows would come into {report.into}; nothing was written{but}"
    there = f"{total.there:,} were there, {total.changed:,} of them changed"
    return f"{total.came:,} rows restored into {report.into}, {there}{but}"


def metadata_of(report: "RestoreReport") -> dict[str, Any]:
    """What a run's page shows."""
    total = report.total
    counts = {
        (tenant, f"{month:%Y-%m}"): (each.archived, each.came, each.there, each.changed)
        for (tenant, month), each in report.counts.items()
    }
    columns = ["archived", "restored", "there already", "changed since"]
    elsewhere = _EVERY_LINE if report.dry_run else _AFTERWARDS
    return {
        "dry run": str(report.dry_run).lower(),
        "into": report.into,
        "rows archived": total.archived,
        "rows restored": total.came,
        "rows there already": total.there,
        "rows changed since": total.changed,
        "rows without their user": total.unlinked,
        "tenants' days": report.days,
        "bytes read": report.size,
        "held until": report.hold_until.isoformat() if report.hold_until else "not held",
        "by tenant and month": tallies.by_tenant_and_month(counts, columns, str, elsewhere),
        "has left the archive": tallies.first_of(report.left, _SHOWN),
        "days that are not archived": tallies.first_of(named(report.missing), _SHOWN),
        "problems": tallies.first_of(report.problems, _SHOWN),
        "transactions": report.transactions,
        "seconds": round(report.seconds, 2),
    }
