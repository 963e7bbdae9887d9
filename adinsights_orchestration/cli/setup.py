"""`adinsights migrate` and `adinsights settings`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adinsights_orchestration.cli import process


def migrate() -> None:
    """Bring the ops store to the newest schema. Safe at any time, also by several processes at once."""
    store = process.open_ops_store(process.settings())
    store.migrate()
    store.dispose()
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
