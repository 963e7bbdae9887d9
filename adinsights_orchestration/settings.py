"""Every setting: name, unit, default, consequence; one frozen object, validated once.

Belongs here: what an operator may change, with its environment variable (`ADINSIGHTS_` plus the path, joined by
`__`). Does not belong here: constants of the product (they live beside the code they govern) and the local stack's
own settings (`local/settings.py`). `docs/settings.md` is generated from this module. Secrets are `SecretStr`: they
never print.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.config import JsonDict
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.tenants.model import Provider

_LOCAL_DATABASE = "postgresql://adinsights:adinsights-local@127.0.0.1:15432"
_LOCAL_SERVICE = "http://127.0.0.1:18000"
PROJECT_ROOT = Path(__file__).resolve().parent.parent


def _setting(default: Any, description: str, *, unit: str = "", consequence: str = "", **kwargs: Any) -> Any:
    extra: JsonDict = {"unit": unit, "consequence": consequence}
    return Field(default=default, description=description, json_schema_extra=extra, **kwargs)


def _comma_separated(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


CommaSeparated = BeforeValidator(_comma_separated)


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RegistrySource(StrEnum):
    """Where tenants and connections are read from."""

    BACKEND = "backend"
    YAML = "yaml"


class Driver(StrEnum):
    """Who starts syncs. With `external` the orchestrator only observes."""

    ORCHESTRATOR = "orchestrator"
    EXTERNAL = "external"


class WebhookSender(StrEnum):
    """Who tells the backend about finished jobs."""

    AIRBYTE = "airbyte"
    ORCHESTRATOR = "orchestrator"
    RECONCILE = "reconcile"


class OpsStoreSettings(_Group):
    """The orchestrator's own Postgres schema `adinsights_ops`."""

    dsn: SecretStr = _setting(
        SecretStr(f"{_LOCAL_DATABASE}/dagster"),
        "Postgres address of the orchestrator's own database (never the backend's).",
        consequence="Without it nothing is driven or observed; Dagster's UI stays up.",
    )
    pool_size: int = _setting(4, "Connections each process may hold.", unit="connections", ge=1, le=50)
    connect_timeout_seconds: int = _setting(5, "How long a connection attempt may take.", unit="s", ge=1, le=60)
    statement_timeout_seconds: int = _setting(20, "How long one statement may run.", unit="s", ge=1, le=600)


class RegistrySettings(_Group):
    """Who is served."""

    source: RegistrySource = _setting(RegistrySource.BACKEND, "Read the backend's tables, or a YAML file.")
    yaml_path: Path | None = _setting(None, "The registry file; needed when the source is `yaml`.")
    overlay_path: Path | None = _setting(
        None,
        "Optional `tenants.yaml` that adds slug, timezone, retention, legal hold, owner and SLA overrides.",
        consequence="Without it tenants get a slug made of their name and the home timezone.",
    )


class BackendSettings(_Group):
    """The Django backend: its database and its HTTP API."""

    dsn: SecretStr = _setting(
        SecretStr(f"{_LOCAL_DATABASE}/backend"),
        "Postgres address of the backend's database, with the orchestrator's role.",
    )
    url: str = _setting(f"{_LOCAL_SERVICE}/backend", "Base URL of the backend, without a trailing slash.")
    webhook_secret: SecretStr | None = _setting(
        None,
        "Value of X-Airbyte-Webhook-Secret.",
        consequence="Needed when the orchestrator posts finished jobs (`webhook.sender` orchestrator or reconcile).",
    )
    request_timeout_seconds: float = _setting(10.0, "Deadline of one request.", unit="s", gt=0, le=60)


class AirbyteSettings(_Group):
    """Airbyte's two HTTP APIs."""

    public_api_url: str = _setting(f"{_LOCAL_SERVICE}/airbyte/api/public/v1", "Base URL of the public API.")
    config_api_url: str = _setting(
        f"{_LOCAL_SERVICE}/airbyte/api/v1",
        "Base URL of the configuration API (failure reasons, catalog, statistics).",
        consequence="When it fails, syncs are still driven and observed, without reasons and per-stream rows.",
    )
    ui_url: str = _setting(f"{_LOCAL_SERVICE}/airbyte", "Base URL of Airbyte's UI, for links.")
    workspace_ids: Annotated[tuple[UUID, ...], NoDecode, CommaSeparated] = _setting(
        (),
        "Workspaces to list jobs in, comma separated; empty: those the registry names, else all visible ones.",
    )
    client_id: str | None = _setting(None, "Application client id; with it `client_secret` is needed.")
    client_secret: SecretStr | None = _setting(None, "Application client secret.")
    username: str | None = _setting(None, "Basic authentication user, where no application is used.")
    password: SecretStr | None = _setting(None, "Basic authentication password.")
    request_timeout_seconds: float = _setting(
        15.0, "Deadline of one request, POST /jobs included.", unit="s", gt=0, le=60
    )
    max_concurrent_requests: int = _setting(
        5,
        "Requests in flight at once.",
        unit="requests",
        consequence="A self-managed server has five public API threads; more only queue there.",
        ge=1,
        le=64,
    )
    page_size: int = _setting(100, "Rows per page of a listing; Airbyte's maximum is 100.", unit="rows", ge=1, le=100)


class IngestionSettings(_Group):
    """How syncs are started and observed."""

    driver: Driver = _setting(
        Driver.ORCHESTRATOR,
        "Who starts scheduled syncs; exactly one driver may be on.",
        consequence="`external` (Celery or Airbyte's own schedule): the orchestrator starts nothing unasked.",
    )
    max_running_syncs: int | None = _setting(
        None,
        "Syncs that this orchestrator keeps running at once, scheduled and asked for together.",
        unit="syncs",
        consequence="Empty: the environment's own bound.",
        ge=1,
    )
    tick_budget_seconds: float = _setting(40.0, "Work of one tick; Dagster ends a tick at 60 s.", unit="s", gt=0, le=50)
    retry_max_attempts: int = _setting(5, "Attempts per due slot, the first included.", unit="attempts", ge=1, le=10)
    retry_base_seconds: float = _setting(
        60.0, "Delay before the second attempt; it doubles from there.", unit="s", gt=0, le=3600
    )
    retry_jitter: float = _setting(0.2, "Share of the delay that is random, either way.", ge=0, le=0.5)
    observe_overlap_seconds: float = _setting(
        120.0,
        "How far each observation reads back before its cursor.",
        unit="s",
        consequence="Covers clock skew between Airbyte's servers and late commits.",
        ge=0,
        le=3600,
    )
    observe_max_jobs_per_tick: int = _setting(1000, "Finished jobs that one tick takes.", unit="jobs", ge=1, le=10_000)
    first_observation_hours: float = _setting(
        48.0, "How far back the very first observation reads.", unit="h", gt=0, le=24 * 90
    )


class WebhookSettings(_Group):
    """Who tells the backend about finished jobs."""

    sender: WebhookSender = _setting(
        WebhookSender.AIRBYTE,
        "`airbyte` posts itself; `orchestrator` posts every job; `reconcile` posts only what the backend missed.",
        consequence="A doubled post writes a second audit row and hides the webhook-silence alert.",
    )
    reconcile_after_minutes: float = _setting(
        10.0, "How long the backend may be behind a finished job before it is posted.", unit="min", gt=0, le=24 * 60
    )


class WarehouseSettings(_Group):
    """The Postgres warehouse that Airbyte writes and dbt models; also read by `dbt_project/profiles.yml`."""

    host: str = _setting("127.0.0.1", "Host name.")
    port: int = _setting(15432, "Port.", ge=1, le=65535)
    user: str = _setting("adinsights", "Role.")
    password: SecretStr = _setting(SecretStr("adinsights-local"), "The role's password.")
    dbname: str = _setting("warehouse", "Database name.")


class DbtSettings(_Group):
    """The dbt project and what is published of it."""

    project_dir: Path = _setting(PROJECT_ROOT / "dbt_project", "The dbt project's folder.")
    schema_: str = _setting("analytics", "Schema prefix of the models.", alias="schema")
    threads: int = _setting(4, "Models that dbt builds at once.", unit="threads", ge=1, le=64)
    enabled_providers: Annotated[tuple[Provider, ...], NoDecode, CommaSeparated] = _setting(
        tuple(Provider), "Providers whose models exist, comma separated."
    )
    run_results_path: Path = _setting(
        PROJECT_ROOT / ".local" / "run_results.json",
        "Where the backend's dbt health endpoint reads run results; replaced atomically after every build.",
    )
    keep_target_hours: float = _setting(
        24.0, "How long dbt's per-run target folders are kept.", unit="h", gt=0, le=24 * 90
    )

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class DagsterSettings(_Group):
    """Dagster itself."""

    ui_url: str = _setting("http://127.0.0.1:3000", "Base URL of the Dagster UI, for links.")
    keep_runs_days: int = _setting(30, "How long finished runs and their events are kept.", unit="days", ge=1, le=3650)
    keep_runless_events_days: int = _setting(
        30,
        "How long events without a run are kept.",
        unit="days",
        consequence="The newest materialization, check evaluation and freshness state of everything always stay.",
        ge=1,
        le=3650,
    )


class LogSettings(_Group):
    """Logs: one JSON object a line."""

    level: str = _setting("INFO", "Least severe level that is written.", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    json_lines: bool = _setting(True, "JSON lines; off prints for people.")


class Settings(BaseSettings):
    """All settings of one process, frozen."""

    model_config = SettingsConfigDict(
        env_prefix="ADINSIGHTS_", env_nested_delimiter="__", frozen=True, extra="ignore", env_ignore_empty=True
    )

    environment: Environment = _setting(
        Environment.LOCAL, "Where this runs: local, staging or production.", consequence="Decides what runs unattended."
    )
    local_stack: bool = _setting(
        False, "Set by the local stack itself.", consequence="Lets automation run unattended in the local environment."
    )
    home_timezone: str = _setting("America/Jamaica", "Timezone of nightly schedules.")
    runbook_url: str = _setting(
        "https://github.com/adinsights/adinsights-orchestration/blob/main/docs/runbook.md", "Runbook, for links."
    )
    ops_store: OpsStoreSettings = OpsStoreSettings()
    registry: RegistrySettings = RegistrySettings()
    backend: BackendSettings = BackendSettings()
    airbyte: AirbyteSettings = AirbyteSettings()
    ingestion: IngestionSettings = IngestionSettings()
    webhook: WebhookSettings = WebhookSettings()
    warehouse: WarehouseSettings = WarehouseSettings()
    dbt: DbtSettings = DbtSettings()
    dagster: DagsterSettings = DagsterSettings()
    log: LogSettings = LogSettings()


def load_settings() -> Settings:
    """Reads the environment; a wrong value is a `ConfigurationError` that names the variable, never its value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        variable = "ADINSIGHTS_" + "__".join(str(part).upper() for part in first["loc"])
        raise ConfigurationError(
            first["msg"], place=variable, next_step="See docs/settings.md for what it takes."
        ) from None
