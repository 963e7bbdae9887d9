"""`adinsights migrate` and `adinsights settings`."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.errors import ConfigurationError


def migrate(
    dagster: Annotated[bool, typer.Option("--dagster", help="Before that, Dagster's own storage too.")] = False,
) -> None:
    """Bring the ops store to the newest schema. Safe at any time, also by several processes at once.

    A schema that a newer release has brought further is left as it is, and said.
    """
    settings = process.settings()
    if dagster:
        _migrate_dagster()
    store = process.open_ops_store(settings)
    found = store.migrate()
    store.dispose()
    if found.is_newer:
        process.say(f"Nothing was changed: {found.said}. It only adds to what this one uses.", style="yellow")
    else:
        process.say("The ops store is at the newest schema.")


def settings(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
    as_json: process.JsonOption = False,
) -> None:
    """Show every setting in force; secrets stay hidden."""
    from adinsights_orchestration.cli import settings_page

    if markdown:
        sys.stdout.write(settings_page.settings_page())
        return
    rows = list(settings_page.in_force(process.settings()))
    process.print_rows(rows, as_json=as_json)


def _migrate_dagster() -> None:
    if not os.environ.get("DAGSTER_HOME"):
        raise ConfigurationError(
            "is not set, so there is no Dagster storage to migrate",
            place="DAGSTER_HOME",
            next_step="Set it to the folder of dagster.yaml, or leave --dagster out.",
        )
    import dagster as dg

    from adinsights_orchestration.dagster_internals.storage_schema import upgraded

    with dg.DagsterInstance.get() as instance:
        if upgraded(instance):
            process.say("Dagster's storage is at the newest schema.")
        else:
            newer = f"Dagster's storage is newer than Dagster {dg.__version__} knows"
            process.say(f"Nothing was changed: {newer} (docs/deployment.md, Going back).", style="yellow")
