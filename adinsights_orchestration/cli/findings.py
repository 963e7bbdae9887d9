"""`adinsights findings`: what a person should know, while it is so.

Belongs here: listing open findings. Does not belong here: opening and clearing them (each domain), telling people.
"""

from __future__ import annotations

from typing import Annotated

import typer

from adinsights_orchestration.cli import process


def findings(
    kind: Annotated[str | None, typer.Option("--kind", help="Only findings of this kind.")] = None,
    as_json: process.JsonOption = False,
) -> None:
    """List open findings, oldest first."""
    from adinsights_orchestration.ops_store.findings import open_findings

    store = process.open_ops_store(process.settings())
    with store.begin() as connection:
        found = open_findings(connection, kind)
    if as_json:
        process.print_json(found)
        return
    rows = [
        {
            "kind": each.kind,
            "subject": each.subject,
            "since": each.first_seen_at,
            "last_seen": each.last_seen_at,
            "detail": "; ".join(f"{name}: {value}" for name, value in each.detail.items()),
        }
        for each in found
    ]
    process.print_rows(rows, as_json=False, empty="no open findings")
