"""Lint the dbt project's SQL with sqlfluff, against a Postgres of its own that lives as long as the lint.

What this is: the SQL part of `make lint`. sqlfluff compiles each model with dbt itself, and dbt looks its relations up
in a warehouse before it compiles anything; a throw-away empty one keeps lint independent of what runs on the machine.
What does not belong here: rules (pyproject.toml, `tool.sqlfluff`).
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from adinsights_orchestration.local.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parent.parent
LINTED = ("models", "snapshots", "tests", "analyses")


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lint(folders: list[str], postgres: EmbeddedPostgres) -> int:
    """Runs sqlfluff over the folders and returns its exit code."""
    warehouse = {
        "ADINSIGHTS_WAREHOUSE__HOST": postgres.host,
        "ADINSIGHTS_WAREHOUSE__PORT": str(postgres.port),
        "ADINSIGHTS_WAREHOUSE__USER": postgres.user,
        "ADINSIGHTS_WAREHOUSE__PASSWORD": postgres.password,
        "ADINSIGHTS_WAREHOUSE__DBNAME": "warehouse",
    }
    sqlfluff = [str(Path(sys.executable).parent / "sqlfluff"), "lint", "--disable-progress-bar", *folders]
    return subprocess.run(sqlfluff, cwd=ROOT, env=os.environ | warehouse, check=False).returncode


def main() -> int:
    """Starts the warehouse, lints, stops it."""
    folders = [f"dbt_project/{name}" for name in LINTED if any((ROOT / "dbt_project" / name).rglob("*.sql"))]
    if not folders:
        return 0
    with tempfile.TemporaryDirectory(prefix="adinsights-lint-") as place:
        # mkdtemp's 0700 would shut out the user that root's Postgres runs as.
        Path(place).chmod(0o755)
        postgres = EmbeddedPostgres(Path(place) / "postgres", free_port(), die_with_parent=True)
        postgres.start()
        try:
            postgres.create_database("warehouse")
            return lint(folders, postgres)
        finally:
            postgres.stop()


if __name__ == "__main__":
    raise SystemExit(main())
