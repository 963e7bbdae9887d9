"""`adinsights incidents`: the report that starts a root-cause ticket.

Belongs here: printing it. Does not belong here: what it says (`alerting.operating.report`).
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.redaction import redact

app = typer.Typer(help="Write an incident's report.", no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _group() -> None:
    """Write an incident's report."""


@app.command()
def report(
    incident: Annotated[str, typer.Argument(help="The alert's id.")],
    episode: Annotated[int | None, typer.Option("--episode", min=1, help="Which time; the newest else.")] = None,
) -> None:
    """Print what happened in an incident, as Markdown: what and when, who was told, runs, and what it cost."""
    from adinsights_orchestration.alerting.operating.report import markdown, read_report
    from adinsights_orchestration.freshness.sla import load_sla

    settings = process.settings()
    sla = load_sla(settings.environment, settings.freshness.sla_path)
    found = read_report(process.open_ops_store(settings), sla, incident, utc_now(), episode)
    sys.stdout.write(redact(markdown(found)))
