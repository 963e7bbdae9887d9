"""`adinsights audit archive`, `verify`, `status`: the archive from the command line.

Belongs here: asking and showing, and who read it. Does not belong here: the work (`audit_log`), what rows say
(`audit_query`). `verify` needs the store and no database; what it was asked for is journalled where the ops store
answers.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.errors import AdinsightsError, ConfigurationError, OpsStoreError

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.archive.report import ArchiveReport
    from adinsights_orchestration.audit_log.reading.verify import VerifyReport
    from adinsights_orchestration.audit_log.source import Source
    from adinsights_orchestration.ops_store.store import OpsStore
    from adinsights_orchestration.settings import Settings

FromOption = Annotated[str, typer.Option("--from", metavar="DAY", help="First day (UTC), YYYY-MM-DD.")]
ToOption = Annotated[str, typer.Option("--to", metavar="DAY", help="Last day (UTC), included.")]
TableOption = Annotated[
    str, typer.Option("--table", metavar="NAME", help="Another archived table; without it the audit log.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands to the group."""
    app.command("archive")(archive)
    app.command("verify")(verify)
    app.command("status")(status)


def archive(
    first: FromOption = "", last: ToOption = "", table: TableOption = "", as_json: process.JsonOption = False
) -> None:
    """Archive closed days, in one scan of the table: all since the first day, unless days are named.

    Those that are as they were archived stay as they are.
    """
    from adinsights_orchestration.alerting.operating.maintenance import around
    from adinsights_orchestration.audit_log.alerts import archive_asset, set_off_by
    from adinsights_orchestration.audit_log.archive.run import Archiver
    from adinsights_orchestration.audit_log.own_history import archived_table
    from adinsights_orchestration.cli.runs import requester

    settings, source = process.settings(), archived_table(table)
    store = process.open_ops_store(settings)
    begin, end = range_of(settings, first, last)
    reports: list[ArchiveReport] = []
    try:
        with around(store, *set_off_by(archive_asset(source)), author=requester(), reason="days are being archived"):
            report = Archiver(settings, store, source).run(
                begin, end, actor=requester(), report_to=reports.append, narrower=bool(first or last)
            )
    finally:  # what was sealed before a failure stays sealed
        if reports:
            _tell_dagster(settings, store, source, reports[0])
    if as_json:
        process.print_json({"run": str(report.run), **report.summary()})
        return
    summary = report.summary()
    process.say(
        f"{summary['rows']:,} rows of {summary['days']} days; {summary['sealed']} sealed in {summary['seconds']} s,"
        f" {summary['objects']} objects, {summary['bytes']:,} bytes"
    )
    if said := [f"{summary[what]:,} {what}" for what in ("late", "vanished", "changed") if summary[what]]:
        process.say(f"{', '.join(said)} rows, against what was archived of these days before", style="yellow")
    if summary["vanished"]:
        process.say(
            "The archive has what vanished. What did so before its time fails the check no_row_vanished until it is"
            " back or somebody has answered for it (`adinsights audit accept-vanished`).",
            style="yellow",
        )
    if report.kept:
        process.say(
            f"{len(report.kept)} tenants' days stay as they were archived: the table lacks a column by now"
            " (docs/runbook.md); name the days with --from and --to to archive them without it",
            style="yellow",
        )


def verify(
    first: FromOption = "",
    last: ToOption = "",
    head: Annotated[str, typer.Option(help="A manifest hash that the chain must have come by.")] = "",
    table: TableOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """Prove a range from the archive alone: the chain, every object, all digests. Exit code 0: it holds."""
    from adinsights_orchestration.audit_log.days import named
    from adinsights_orchestration.audit_log.own_history import archived_table
    from adinsights_orchestration.audit_log.reading.verify import verify_range
    from adinsights_orchestration.audit_log.store.opening import open_store

    settings, source = process.settings(), archived_table(table)
    log = settings.audit_log
    begin, end = range_of(settings, first, last)
    about = {"first": str(begin), "last": str(end)}
    try:
        report = verify_range(open_store(log), source, begin, end, at_once=log.at_once, head=head)
    except AdinsightsError as error:
        note_reading(settings, source, "verify", {**about, "failed": type(error).__name__})
        raise
    note_reading(settings, source, "verify", {**about, "problems": len(report.problems)})
    if as_json:
        process.print_json(_document(report))
    else:
        process.say(
            f"{report.rows:,} rows in {report.objects} objects ({report.size:,} bytes) of {report.days} days are as"
            f" they were sealed; {report.manifests} manifests, head {report.head or 'none'}"
        )
        for removed in report.removed:
            process.say(str(removed))
        if report.lingering:
            process.say(
                f"{len(report.lingering)} objects of that are still in the store: `audit expire --apply` asks again"
            )
        for days in named(report.missing):
            process.say(f"{days}: not archived", style="yellow")
        for problem in report.problems:
            process.say(problem, style="red")
    raise typer.Exit(EXIT_NOT_WELL if report.problems or report.missing else 0)


def status(table: TableOption = "", as_json: process.JsonOption = False) -> None:
    """Show which days are archived, and the runs of the last days."""
    from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
    from adinsights_orchestration.audit_log.bookkeeping.removal_ledger import pending
    from adinsights_orchestration.audit_log.days import last_closed, missing, named, ranges
    from adinsights_orchestration.audit_log.own_history import archived_table

    settings, source = process.settings(), archived_table(table)
    log = settings.audit_log
    store = process.open_ops_store(settings)
    ledger = ArchiveLedger(store, source.name)
    closed = last_closed(utc_now(), timedelta(minutes=log.settle_minutes))
    days = ledger.days(log.first_day, closed)
    absent = missing(log.first_day, closed, days)
    sequence, head = ledger.head()
    document = {
        "archive": log.archive_url,
        "days": len(days),
        "rows": sum(day.rows for day in days.values()),
        "bytes": sum(day.size for day in days.values()),
        "objects": sum(day.files for day in days.values()),
        "objects_to_remove": len(pending(store, source.name)),
        "manifests": sequence,
        "head": head,
        "newest_day": str(max(days)) if days else None,
        "missing": [[str(begin), str(end)] for begin, end in ranges(absent)],
    }
    if as_json:
        process.print_json(document)
    else:
        process.print_rows(
            [{"what": name, "is": _shown(value)} for name, value in document.items() if name != "missing"],
            as_json=False,
            empty="",
            title=f"the archive of {table}" if table else "the audit log's archive",
        )
        for days_without in named(absent):
            process.say(f"{days_without}: not archived", style="yellow")
    raise typer.Exit(EXIT_NOT_WELL if absent else 0)


def range_of(settings: Settings, first: str, last: str) -> tuple[date, date]:
    """The days that were asked for; all that are closed where none were named.

    Raises:
        ConfigurationError: No day lies between those that were named: what looks at nothing finds nothing wrong.
    """
    from adinsights_orchestration.audit_log.days import last_closed

    log = settings.audit_log
    closed = last_closed(utc_now(), timedelta(minutes=log.settle_minutes))
    begin, end = day_option(first, "--from") or log.first_day, day_option(last, "--to") or closed
    if begin > end and (first or last):
        raise ConfigurationError(
            f"no day lies between {begin} and {end}",
            place="--from, --to",
            next_step=f"Give the first day first; the archive begins with {log.first_day} and ends with {closed}.",
        )
    return begin, end


def day_option(text: str, option: str) -> date | None:
    """The day that an option names, if any."""
    from adinsights_orchestration.audit_log.days import day_of

    return day_of(text, option) if text else None


def _document(report: VerifyReport) -> dict[str, Any]:
    return {
        "manifests": report.manifests,
        "head": report.head,
        "days": report.days,
        "rows": report.rows,
        "objects": report.objects,
        "bytes": report.size,
        "missing": [str(day) for day in report.missing],
        "problems": report.problems,
        "removed": [
            {
                "manifest": each.sequence,
                "cause": each.cause.value,
                "actor": each.actor,
                "at": each.at.isoformat(),
                "reason": each.reason,
                "first_day": str(each.first_day),
                "last_day": str(each.last_day),
                "tenants": [str(tenant) for tenant in each.tenants],
                "rows": each.rows,
                "objects": each.objects,
                "bytes": each.size,
            }
            for each in report.removed
        ],
        "lingering": report.lingering,
    }


def _shown(value: object) -> str:
    return "" if value is None else str(value)


def _tell_dagster(settings: Settings, store: OpsStore, source: Source, report: ArchiveReport) -> None:
    """Has the UI show the days as materialized."""
    from adinsights_orchestration.audit_log.archive.reporting import tell
    from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
    from adinsights_orchestration.cli.telling import tell_dagster

    first, closed = range_of(settings, "", "")
    ledger = ArchiveLedger(store, source.name)
    tell_dagster(
        lambda instance: tell(instance, source, ledger.days(first, closed), utc_now(), report),
        "Its UI does not show these days yet: this command, given again, or the nightly run tells it.",
    )


def note_reading(settings: Settings, source: Source, kind: str, summary: dict[str, Any]) -> None:
    """Who read or proved what: in the ops store, and where that does not answer, beside the archive."""
    from adinsights_orchestration.audit_log.journal import note
    from adinsights_orchestration.audit_log.reading.journal import note_beside
    from adinsights_orchestration.audit_log.store.errors import StoreError
    from adinsights_orchestration.audit_log.store.opening import open_store
    from adinsights_orchestration.cli.runs import requester
    from adinsights_orchestration.ops_store.store import OpsStore

    store, who = OpsStore(settings.ops_store), requester()
    try:
        note(store, source.name, kind, actor=who, now=utc_now(), summary=summary)
    except OpsStoreError:
        try:
            beside = open_store(settings.audit_log)
            key = note_beside(beside, source.name, kind, actor=who, now=utc_now(), summary=summary)
        except StoreError:
            process.say("Neither the ops store nor the archive takes it: this is in no journal.", style="yellow")
        else:
            process.say(f"The ops store does not answer: this is journaled in the archive's {key}.", style="yellow")
    finally:
        store.dispose()
