"""`adinsights audit query`: what archived rows say.

Belongs here: asking, showing the answer as it is, and what of the question is journalled. Does not belong here:
reading (`audit_log.reading`). It needs the store and no database; the ops store, where it answers, saves reading the
whole chain.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.audit_archive import FromOption, TableOption, ToOption, day_option, note_reading
from adinsights_orchestration.errors import AdinsightsError, OpsStoreError
from adinsights_orchestration.redaction import Verbatim, redact

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.bookkeeping.ledger import Known
    from adinsights_orchestration.audit_log.reading.choosing import Knowing
    from adinsights_orchestration.audit_log.reading.query import Answer, Question
    from adinsights_orchestration.audit_log.source import Source
    from adinsights_orchestration.settings import Settings

_JOURNALLED = 2000  # characters of SQL or of a filter


def register(app: typer.Typer) -> None:
    """Adds the command to the group."""
    app.command("query")(query)


def query(  # noqa: PLR0913, PLR0917  (a parameter for each option)
    tenant: Annotated[str, typer.Option(help="Only this tenant's rows: slug, name or id.")] = "",
    action: Annotated[str, typer.Option(help="Only rows of this action.")] = "",
    resource_type: Annotated[str, typer.Option("--resource-type", help="Only rows about this kind.")] = "",
    first: FromOption = "",
    last: ToOption = "",
    limit: Annotated[
        int | None, typer.Option(help="At most so many rows, the newest; 100 without it, 0 for all.", min=0)
    ] = None,
    sql: Annotated[
        str, typer.Option(help="A SELECT instead, over the view audit_log; of another table over its name.")
    ] = "",
    revisions: Annotated[
        bool,
        typer.Option(
            "--revisions", help="Also what rows said before they were changed; `in_force` tells which stands."
        ),
    ] = False,
    table: TableOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """Read the archive where it lies. The rows hold personal data: they go to your terminal and nowhere else."""
    from adinsights_orchestration.audit_log.own_history import archived_table
    from adinsights_orchestration.audit_log.reading.query import Question, ask
    from adinsights_orchestration.audit_log.store.opening import open_store
    from adinsights_orchestration.cli.selection import tenant_id

    settings, source = process.settings(), archived_table(table)
    question = Question(
        tenant=tenant_id(settings, tenant) if tenant else None,
        action=action or None,
        resource_type=resource_type or None,
        first=day_option(first, "--from"),
        last=day_option(last, "--to"),
        limit=limit,
        sql=sql or None,
        revisions=revisions,
    )
    about = journalled(question)
    try:
        answer = ask(
            open_store(settings.audit_log),
            source,
            question,
            at_once=settings.audit_log.at_once,
            knowing=_knowing(settings, source),
        )
    except AdinsightsError as error:  # whose own words may quote a row
        note_reading(settings, source, "query", {**about, "failed": type(error).__name__})
        raise
    note_reading(settings, source, "query", {**about, "rows": len(answer.rows)})
    _show(answer, as_json=as_json)


def journalled(question: Question) -> dict[str, Any]:
    """The whole question, as the journal keeps it: without what looks like somebody's data, and not at any length."""
    from adinsights_orchestration.audit_log.reading.query import MOST_ROWS

    def kept(text: str | None) -> str | None:
        if text is None:
            return None
        whole = redact(text)  # before it is cut: half a secret is none that is known
        return whole if len(whole) <= _JOURNALLED else f"{whole[:_JOURNALLED]}... ({len(whole):,} characters)"

    limit = None if question.sql is not None else MOST_ROWS if question.limit is None else question.limit
    return {
        "tenant": str(question.tenant) if question.tenant else None,
        "action": kept(question.action),
        "resource_type": kept(question.resource_type),
        "first": str(question.first) if question.first else None,
        "last": str(question.last) if question.last else None,
        "limit": limit or None,
        "sql": kept(question.sql),
        "revisions": question.revisions,
    }


def _show(answer: Answer, *, as_json: bool) -> None:
    """Who did it, and from where, is what is asked for here; everywhere else these are taken out."""
    shown = len(answer.rows)
    if as_json:
        rows = [dict(zip(answer.columns, map(_typed, row), strict=True)) for row in answer.rows]
        process.print_json(rows, verbatim=True)
    else:
        of = f"{shown:,}" if shown == answer.total else f"{shown:,} of {answer.total:,}"
        process.print_rows(
            [
                {
                    name: Verbatim("" if value is None else str(value))
                    for name, value in zip(answer.columns, row, strict=True)
                }
                for row in answer.rows
            ],
            as_json=False,
            empty="no row",
            title=f"{of} rows of {answer.objects} objects",
        )
    if shown < answer.total:
        process.say(
            f"{answer.total - shown:,} older rows of {answer.total:,} are not shown: --limit {answer.total} shows all"
            " of them, and so does --limit 0",
            style="yellow",
        )
    if answer.unreadable:
        process.say(
            f"{len(answer.unreadable)} objects of earlier revisions are damaged or missing, and what they held is not"
            f" shown; the first is {answer.unreadable[0]}",
            style="yellow",
        )


def _typed(value: object) -> Any:
    """A value as JSON has it; text where JSON has nothing that holds it exactly."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float | Decimal):
        return (
            float(value) if math.isfinite(value) and Decimal(str(float(value))) == Decimal(str(value)) else str(value)
        )
    if isinstance(value, Mapping):
        return {str(key): _typed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_typed(item) for item in value]
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


def _knowing(settings: Settings, source: Source) -> Knowing:
    """What the ledger knows, where it answers: then the chain need not be read from its beginning."""
    from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger

    ledger = ArchiveLedger(process.open_ops_store(settings), source.name)

    def about(first: date, last: date) -> Known | None:
        try:
            return ledger.about(first, last)
        except OpsStoreError:
            return None

    return about
