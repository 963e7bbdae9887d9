"""The environment variables that point every process at the local stack.

Belongs here: from the local stack's settings to the product's settings and Dagster's. Does not belong here: starting
anything. The product reads these as it would read a production environment's; it cannot tell the difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.local import audit_history
from adinsights_orchestration.local.seed import (
    AIRBYTE_CLIENT_ID,
    AIRBYTE_CLIENT_SECRET,
    ALERTS_API_KEY,
    SERVICE_API_KEY,
    WEBHOOK_SECRET,
    WORKSPACE_ID,
)
from adinsights_orchestration.local.settings import PREFIX, LocalSettings
from adinsights_orchestration.local.slack import world as slack

POSTGRES_USER = "adinsights"
POSTGRES_PASSWORD = "adinsights-local"  # noqa: S105  (loopback only)
DATABASES = ("dagster", "warehouse", "backend")
TENANTS_OVERLAY = Path(__file__).parent / "tenants.yaml"


def service_url(local: LocalSettings) -> str:
    """Base URL of the loopback service."""
    return f"http://127.0.0.1:{local.service_port}"


def ui_url(local: LocalSettings) -> str:
    """Base URL of the Dagster UI."""
    return f"http://127.0.0.1:{local.ui_port}"


def database_url(local: LocalSettings, name: str) -> str:
    """Address of one of the stack's databases, with its loopback credentials."""
    return f"postgresql://{POSTGRES_USER}:{POSTGRES_PASSWORD}@127.0.0.1:{local.postgres_port}/{name}"


def stack_environment(local: LocalSettings) -> dict[str, str]:
    """All variables that the stack's processes and the command line need."""
    return {**_own(local), **_product(local), **_warehouse(local), **_dagster(local)}


def write_environment_file(path: Path, variables: Mapping[str, str]) -> None:
    """Writes `NAME=value` lines, readable by the owner only; replaced in one step."""
    unfinished = path.with_suffix(".tmp")
    unfinished.touch(mode=0o600)
    unfinished.write_text("".join(f"{name}={value}\n" for name, value in sorted(variables.items())))
    unfinished.replace(path)


def read_environment_file(path: Path) -> dict[str, str]:
    """What `write_environment_file` wrote; empty when there is no file."""
    if not path.exists():
        return {}
    pairs = (line.partition("=") for line in path.read_text().splitlines())
    return {name: value for name, _, value in pairs}


def _own(local: LocalSettings) -> dict[str, str]:
    """What was set of the local stack's own: a command that is given nothing else finds the stack that runs with it.

    Defaults are left out: a copy of the clone must not be pointed at the folder that was the default of the original.
    """
    values = local.model_dump(mode="json", exclude_defaults=True)
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    return {f"{PREFIX}{name.upper()}": text for name, text in texts.items()}


def _product(local: LocalSettings) -> dict[str, str]:
    service = service_url(local)
    return {
        "ADINSIGHTS_ENVIRONMENT": "local",
        "ADINSIGHTS_LOCAL_STACK": "true",
        "ADINSIGHTS_OPS_STORE__DSN": database_url(local, "dagster"),
        "ADINSIGHTS_REGISTRY__OVERLAY_PATH": str(TENANTS_OVERLAY),
        "ADINSIGHTS_BACKEND__DSN": database_url(local, "backend"),
        "ADINSIGHTS_BACKEND__URL": f"{service}/backend",
        "ADINSIGHTS_BACKEND__WEBHOOK_SECRET": WEBHOOK_SECRET,
        "ADINSIGHTS_AIRBYTE__PUBLIC_API_URL": f"{service}/airbyte/api/public/v1",
        "ADINSIGHTS_AIRBYTE__CONFIG_API_URL": f"{service}/airbyte/api/v1",
        "ADINSIGHTS_AIRBYTE__UI_URL": f"{service}/airbyte",
        "ADINSIGHTS_AIRBYTE__WORKSPACE_IDS": str(WORKSPACE_ID),
        "ADINSIGHTS_AIRBYTE__CLIENT_ID": AIRBYTE_CLIENT_ID,
        "ADINSIGHTS_AIRBYTE__CLIENT_SECRET": AIRBYTE_CLIENT_SECRET,
        "ADINSIGHTS_DBT__RUN_RESULTS_PATH": str(local.state_dir / "run_results.json"),
        "ADINSIGHTS_DAGSTER__UI_URL": ui_url(local),
        "ADINSIGHTS_HEALTH__FRONTEND_URL": f"{service}/frontend/",
        "ADINSIGHTS_HEALTH__SUPERSET_URL": f"{service}/superset",
        "ADINSIGHTS_HEALTH__BACKEND_API_KEY": SERVICE_API_KEY,
        "ADINSIGHTS_SLACK__TOKEN": slack.TOKEN,
        "ADINSIGHTS_SLACK__API_URL": f"{service}/slack/api",
        "ADINSIGHTS_SMTP__HOST": "127.0.0.1",
        "ADINSIGHTS_SMTP__PORT": str(local.mail_port),
        "ADINSIGHTS_SMTP__SECURITY": "none",
        "ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL": (local.state_dir / "audit_archive").as_uri(),
        "ADINSIGHTS_AUDIT_LOG__FIRST_DAY": str(audit_history.first_day(local, utc_now())),
        "ADINSIGHTS_ALERTING__PING_URL": f"{service}/ping/alerts",
        "ADINSIGHTS_ALERTING__BACKEND_ALERTS_KEY": ALERTS_API_KEY,
    }


def _warehouse(local: LocalSettings) -> dict[str, str]:
    return {
        "ADINSIGHTS_WAREHOUSE__HOST": "127.0.0.1",
        "ADINSIGHTS_WAREHOUSE__PORT": str(local.postgres_port),
        "ADINSIGHTS_WAREHOUSE__USER": POSTGRES_USER,
        "ADINSIGHTS_WAREHOUSE__PASSWORD": POSTGRES_PASSWORD,
        "ADINSIGHTS_WAREHOUSE__DBNAME": "warehouse",
    }


def _dagster(local: LocalSettings) -> dict[str, str]:
    return {
        "DAGSTER_HOME": str(local.state_dir / "dagster_home"),
        "DAGSTER_PG_HOST": "127.0.0.1",
        "DAGSTER_PG_PORT": str(local.postgres_port),
        "DAGSTER_PG_USER": POSTGRES_USER,
        "DAGSTER_PG_PASSWORD": POSTGRES_PASSWORD,
        "DAGSTER_PG_DB": "dagster",
        "DAGSTER_COMPUTE_LOG_DIR": str(local.state_dir / "compute_logs"),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
