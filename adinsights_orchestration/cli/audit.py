"""`adinsights audit`: the group of commands about the audit log.

Belongs here: the group. Does not belong here: its commands (`audit_archive`, `audit_retention`, `audit_restore`,
`audit_life`).
"""

from __future__ import annotations

import typer

from adinsights_orchestration.cli import audit_archive, audit_life, audit_restore, audit_retention

app = typer.Typer(
    help="The audit log: its archive, retention, and restoring.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _group() -> None:
    """The audit log: its archive, retention, and restoring."""


audit_archive.register(app)
audit_retention.register(app)
audit_restore.register(app)
audit_life.register(app)
