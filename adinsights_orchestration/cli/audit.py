"""`adinsights audit`: the group of commands about the audit log.

Belongs here: the group. Does not belong here: its commands (the other modules `audit_...`).
"""

from __future__ import annotations

import typer

from adinsights_orchestration.cli import (
    audit_archive,
    audit_holds,
    audit_leaving,
    audit_life,
    audit_query,
    audit_restore,
    audit_retention,
    audit_vanished,
)

app = typer.Typer(
    help="The audit log: its archive, retention, and restoring.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """The audit log: its archive, retention, and restoring."""


audit_archive.register(app)
audit_query.register(app)
audit_retention.register(app)
audit_restore.register(app)
audit_vanished.register(app)
audit_holds.register(app)
audit_life.register(app)
audit_leaving.register(app)
