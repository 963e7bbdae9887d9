"""`adinsights healthcheck`: whether alerting is alive, for a container's liveness probe.

Belongs here: two ages and an exit code. Does not belong here: how anything else is (`status`).
Exit codes: 0 both sensors tick, 1 one does not, 2 the ops store does not answer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.clock import utc_now


def healthcheck(
    oldest: Annotated[
        float | None, typer.Option("--max-age", min=1, help="Seconds that may have passed; from the SLA table else.")
    ] = None,
    as_json: process.JsonOption = False,
) -> None:
    """Whether alerts are evaluated and delivered. Exit code 0: yes, 1: no, 2: the ops store does not answer."""
    from adinsights_orchestration.alerting.running.pulse import pulses
    from adinsights_orchestration.freshness.sla import load_sla

    settings = process.settings()
    sla = load_sla(settings.environment, settings.freshness.sla_path)
    allowed = timedelta(seconds=oldest) if oldest is not None else None
    found = pulses(process.open_ops_store(settings), settings, sla, utc_now(), allowed)
    rows = [
        {
            "sensor": each.sensor,
            "alive": each.alive,
            "age": each.age.total_seconds() if as_json and each.age is not None else each.age,
            "at most": each.oldest.total_seconds() if as_json else each.oldest,
        }
        for each in found
    ]
    process.print_rows(rows, as_json=as_json, empty="no alerts are evaluated in this environment")
    if not all(each.alive for each in found):
        raise typer.Exit(1)
