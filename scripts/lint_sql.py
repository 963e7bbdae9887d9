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
# Macros and generic tests are Jinja around fragments of SQL, which sqlfluff passes over.
LINTED = ("models/**/*.sql", "snapshots/**/*.sql", "tests/*.sql", "analyses/**/*.sql")


def free_port() -> int:
    """A loopback port that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def lint(files: list[str], postgres: EmbeddedPostgres, place: Path) -> int:
    """Runs sqlfluff over the files and returns its exit code; what dbt writes meanwhile goes to `place`."""
    environment = {
        "ADINSIGHTS_WAREHOUSE__HOST": postgres.host,
        "ADINSIGHTS_WAREHOUSE__PORT": str(postgres.port),
        "ADINSIGHTS_WAREHOUSE__USER": postgres.user,
        "ADINSIGHTS_WAREHOUSE__PASSWORD": postgres.password,
        "ADINSIGHTS_WAREHOUSE__DBNAME": "warehouse",
        "DBT_TARGET_PATH": str(place / "target"),
        "DBT_LOG_PATH": str(place / "logs"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    quiet = [] if sys.stdout.isatty() else ["--disable-progress-bar"]
    sqlfluff = [str(Path(sys.executable).parent / "sqlfluff"), "lint", *quiet, *files]
    return subprocess.run(sqlfluff, cwd=ROOT, env=os.environ | environment, check=False).returncode


def main() -> int:
    """Starts the warehouse, lints, stops it."""
    project = ROOT / "dbt_project"
    files = sorted(str(file.relative_to(ROOT)) for pattern in LINTED for file in project.glob(pattern))
    print(f"sqlfluff: {len(files)} files, each compiled by dbt; this takes a minute or two", flush=True)
    with tempfile.TemporaryDirectory(prefix="adinsights-lint-") as folder:
        place = Path(folder)
        # mkdtemp's 0700 would shut out the user that root's Postgres runs as.
        place.chmod(0o755)
        postgres = EmbeddedPostgres(place / "postgres", free_port(), die_with_parent=True)
        postgres.start()
        try:
            postgres.create_database("warehouse")
            return lint(files, postgres, place)
        finally:
            postgres.stop()


if __name__ == "__main__":
    raise SystemExit(main())
