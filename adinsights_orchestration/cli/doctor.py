"""`adinsights doctor`: the report of all checks.

Belongs here: printing and the exit code. Does not belong here: any check (`doctor/`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.doctor.model import Result, Status, exit_code
from adinsights_orchestration.errors import ConfigurationError

_STYLES = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red", Status.SKIPPED: "dim"}


def doctor(as_json: process.JsonOption = False) -> None:
    """Check every setting against the world, with the next step for whatever is not well.

    Exit code: 0 when all is well, 1 with warnings, 2 when something does not work.
    """
    results = _examine()
    if as_json:
        process.print_json({"exit_code": exit_code(results), "checks": results})
    else:
        _print(results)
    raise typer.Exit(exit_code(results))


def _examine() -> Sequence[Result]:
    try:
        settings = process.settings()
    except ConfigurationError as error:
        return [Result("settings", Status.FAIL, f"{error.place}: {error.problem}", error.next_step)]
    from adinsights_orchestration.doctor.catalog import CHECKS
    from adinsights_orchestration.doctor.runner import examine
    from adinsights_orchestration.doctor.world import World

    return examine(World(settings, os.environ, utc_now()), CHECKS)


def _nothing_runs(results: Sequence[Result]) -> bool:
    outside = {result.status for result in results if result.name in ("ops store", "dagster ui", "backend api")}
    local = any(result.name == "local defaults" and "local environment" in result.detail for result in results)
    return local and outside == {Status.FAIL}


def _print(results: Sequence[Result]) -> None:
    from rich.text import Text

    out = process.console()
    width = max(len(result.name) for result in results)
    for result in results:
        line = Text(f"{result.status.value:<8}", style=_STYLES[result.status])
        out.print(line + Text(f"{result.name:<{width}}  {result.detail}"), soft_wrap=True)
        if result.next_step and result.status is not Status.OK:
            out.print(Text(f"{'':<{8 + width}}  → {result.next_step}", style=_STYLES[result.status]), soft_wrap=True)
    counts = Counter(result.status for result in results)
    if _nothing_runs(results):
        out.print("Nothing of the local stack runs here: `make up` starts it.")
    out.print(", ".join(f"{counts[status]} {status.value}" for status in Status if counts[status]))
