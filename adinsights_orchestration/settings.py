"""Every setting: name, unit, default, consequence; one frozen object, validated once.

Belongs here: what an operator may change, with its environment variable (`ADINSIGHTS_` plus the path, joined by
`__`). Does not belong here: constants of the product (they live beside the code they govern) and the local stack's
own settings (`local/settings.py`). `docs/settings.md` is generated from this module. Secrets are `SecretStr`: they
never print.
"""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.tenants.model import Provider

LOCAL_PASSWORD = "adinsights-local"  # noqa: S105  (of a database that exists on a laptop only)
_LOCAL_DATABASE = f"postgresql://adinsights:{LOCAL_PASSWORD}@127.0.0.1:15432"
_LOCAL_SERVICE = "http://127.0.0.1:18000"
PROJECT_ROOT = Path(__file__).resolve().parent.parent
LOCAL_DIR = PROJECT_ROOT / ".local"  # what the local stack writes


def _setting(default: Any, description: str, *, unit: str = "", consequence: str = "", **kwargs: Any) -> Any:
    extra: JsonDict = {"unit": unit, "consequence": consequence}
    return Field(default=default, description=description, json_schema_extra=extra, **kwargs)


def _comma_separated(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


CommaSeparated = BeforeValidator(_comma_separated)


def _timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a timezone; names are IANA's, as America/Jamaica") from None
    return name


def _postgres_url(address: SecretStr) -> SecretStr:
    from sqlalchemy.engine import make_url  # whoever keeps the default does without
    from sqlalchemy.exc import ArgumentError

    try:
        good = make_url(address.get_secret_value()).get_backend_name() in ("postgresql", "postgres")
    except (ArgumentError, ValueError):  # their texts quote the address, password included
        good = False
    if not good:
        raise ValueError("this is not a Postgres address: it should read postgresql://user:password@host:5432/name")
    return address


Timezone = Annotated[str, AfterValidator(_timezone)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url)]


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

    dsn: PostgresUrl = _setting(
        SecretStr(f"{_LOCAL_DATABASE}/dagster"),
        "Postgres address of the orchestrator's own database (never the backend's).",
        consequence="Without it nothing is driven or observed; Dagster's UI stays up.",
    )
    pool_size: int = _setting(
        4,
        "Connections for statements that each process may hold. It takes one more for each lock that it holds (a code "
        "location 1 to 16, a run 1 to 4), and a tick or run that writes to Dagster's storage keeps 2 to 10 there.",
        unit="connections",
        consequence="A code location and every run are processes of their own: what they may take together must stay "
        "below the server's `max_connections`.",
        ge=1,
        le=50,
    )
    connect_timeout_seconds: int = _setting(
        5,
        "How long a connection attempt may take.",
        unit="s",
        consequence="An unreachable server costs every tick this long.",
        ge=1,
        le=60,
    )
    statement_timeout_seconds: int = _setting(
        20,
        "How long one statement may run.",
        unit="s",
        consequence="The server ends it then; the tick fails and the next one tries again.",
        ge=1,
        le=600,
    )


class RegistrySettings(_Group):
    """Who is served."""

    source: RegistrySource = _setting(
        RegistrySource.BACKEND,
        "Read the backend's tables, or a YAML file.",
        consequence="With `yaml` a tenant that signs up is served once somebody adds it to the file.",
    )
    yaml_path: Path | None = _setting(
        None,
        "The registry file; needed when the source is `yaml`.",
        consequence="While it cannot be read, the last good registry stays in force.",
    )
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
        consequence="While it does not answer, the last good registry stays in force and audit rows wait.",
    )
    url: str = _setting(
        f"{_LOCAL_SERVICE}/backend",
        "Base URL of the backend, without a trailing slash.",
        consequence="Health probes and webhook posts go there.",
    )
    webhook_secret: SecretStr | None = _setting(
        None,
        "Value of X-Airbyte-Webhook-Secret.",
        consequence="Needed when the orchestrator posts finished jobs (`webhook.sender` orchestrator or reconcile).",
    )
    request_timeout_seconds: float = _setting(
        10.0,
        "Deadline of one request.",
        unit="s",
        consequence="A backend slower than this counts as not answering.",
        gt=0,
        le=60,
    )


class AirbyteSettings(_Group):
    """Airbyte's two HTTP APIs."""

    public_api_url: str = _setting(
        f"{_LOCAL_SERVICE}/airbyte/api/public/v1",
        "Base URL of the public API.",
        consequence="While it does not answer, nothing is started or observed; running syncs go on.",
    )
    config_api_url: str = _setting(
        f"{_LOCAL_SERVICE}/airbyte/api/v1",
        "Base URL of the configuration API (failure reasons, catalog, statistics).",
        consequence="When it fails, syncs are still driven and observed, without reasons and per-stream rows.",
    )
    ui_url: str = _setting(
        f"{_LOCAL_SERVICE}/airbyte", "Base URL of Airbyte's UI, for links.", consequence="Links only."
    )
    workspace_ids: Annotated[tuple[UUID, ...], NoDecode, CommaSeparated] = _setting(
        (),
        "Workspaces to list jobs in, comma separated; empty: those the registry names, else all visible ones.",
        consequence="Syncs in a workspace that is left out are not observed.",
    )
    client_id: str | None = _setting(
        None,
        "Application client id; with it `client_secret` is needed.",
        consequence="Without application and user, requests go out unauthenticated.",
    )
    client_secret: SecretStr | None = _setting(
        None, "Application client secret.", consequence="A wrong one is an error 401 at the first request."
    )
    username: str | None = _setting(
        None, "Basic authentication user, where no application is used.", consequence="Ignored when a client id is set."
    )
    password: SecretStr | None = _setting(
        None, "Basic authentication password.", consequence="A wrong one is an error 401 at the first request."
    )
    request_timeout_seconds: float = _setting(
        15.0,
        "Deadline of one request, POST /jobs included.",
        unit="s",
        consequence="A POST that takes longer is not repeated: its job is looked for and adopted.",
        gt=0,
        le=60,
    )
    max_concurrent_requests: int = _setting(
        5,
        "Requests in flight at once.",
        unit="requests",
        consequence="A self-managed server has five public API threads; more only queue there.",
        ge=1,
        le=64,
    )
    page_size: int = _setting(
        100,
        "Rows per page of a listing; Airbyte's maximum is 100.",
        unit="rows",
        consequence="Smaller pages mean more requests per observation.",
        ge=2,  # a page of one row could not begin with the last row of the page before
        le=100,
    )


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
        consequence="Empty: the environment's own bound. Schedules and people are each sure of half of it while both "
        "have something to start; of one place they take turns.",
        ge=1,
    )
    tick_budget_seconds: float = _setting(
        40.0,
        "Work of one tick; Dagster ends a tick at 60 s.",
        unit="s",
        consequence="What does not fit is left to the next tick.",
        gt=0,
        le=50,
    )
    retry_max_attempts: int = _setting(
        5,
        "Attempts per due slot, the first included.",
        unit="attempts",
        consequence="After the last one the slot has failed; the next slot starts afresh.",
        ge=1,
        le=10,
    )
    retry_base_seconds: float = _setting(
        60.0,
        "Delay before the second attempt; it doubles from there, up to 16 min, and stays as it is where it is longer.",
        unit="s",
        consequence="Five attempts at 60 s are spread over a quarter of an hour.",
        gt=0,
        le=3600,
    )
    retry_jitter: float = _setting(
        0.2,
        "Share of the delay that is random, either way.",
        unit="share",
        consequence="At 0 all connections that failed together come back together.",
        ge=0,
        le=0.5,
    )
    observe_overlap_seconds: float = _setting(
        120.0,
        "How far each observation reads back before its cursor.",
        unit="s",
        consequence="Covers clock skew between Airbyte's servers and late commits.",
        ge=0,
        le=3600,
    )
    observe_max_jobs_per_tick: int = _setting(
        1000,
        "Finished jobs that one tick takes.",
        unit="jobs",
        consequence="A larger backlog takes several ticks, oldest first.",
        ge=1,
        le=10_000,
    )
    first_observation_hours: float = _setting(
        48.0,
        "How far back the very first observation reads.",
        unit="h",
        consequence="Older syncs never show in Dagster, and a sole webhook sender that is new does not tell them.",
        gt=0,
        le=24 * 90,
    )


class WebhookSettings(_Group):
    """Who tells the backend about finished jobs."""

    sender: WebhookSender = _setting(
        WebhookSender.AIRBYTE,
        "`airbyte` posts itself; `orchestrator` posts every job; `reconcile` posts only what the backend missed.",
        consequence="A doubled post writes a second audit row and hides the webhook-silence alert.",
    )
    reconcile_after_minutes: float = _setting(
        10.0,
        "How long the backend may be behind a finished job before it is posted.",
        unit="min",
        consequence="Too short, and Airbyte's own post may still be on its way: the backend gets it twice.",
        gt=0,
        le=24 * 60,
    )


class WarehouseSettings(_Group):
    """The Postgres warehouse that Airbyte writes and dbt models; also read by `dbt_project/profiles.yml`."""

    host: str = _setting(
        "127.0.0.1", "Host name.", consequence="Where dbt builds; Airbyte's destination must write to the same."
    )
    port: int = _setting(15432, "Port.", unit="TCP port", consequence="As for the host name.", ge=1, le=65535)
    user: str = _setting("adinsights", "Role.", consequence="It needs to read raw_* and to create the models' schemas.")
    password: SecretStr = _setting(
        SecretStr(LOCAL_PASSWORD), "The role's password.", consequence="A wrong one fails every build."
    )
    dbname: str = _setting("warehouse", "Database name.", consequence="Raw and modelled data share it.")


class DbtSettings(_Group):
    """The dbt project and what is published of it."""

    project_dir: Path = _setting(
        PROJECT_ROOT / "dbt_project",
        "The dbt project's folder.",
        consequence="Without its manifest the pipelines location does not load.",
    )
    schema_: str = _setting(
        "analytics",
        "Schema prefix of the models.",
        consequence="Dashboards read it: a change leaves the old schemas behind and the dashboards stale.",
        alias="schema",
    )
    threads: int = _setting(
        4,
        "Models that dbt builds at once.",
        unit="threads",
        consequence="Each holds one connection to the warehouse.",
        ge=1,
        le=64,
    )
    enabled_providers: Annotated[tuple[Provider, ...], NoDecode, CommaSeparated] = _setting(
        tuple(Provider),
        "Providers whose models exist, comma separated.",
        consequence="Data of the others is synced and not modelled.",
    )
    run_results_path: Path = _setting(
        LOCAL_DIR / "run_results.json",
        "Where the backend's dbt health endpoint reads run results; replaced atomically after every build.",
        consequence="Another path than the backend's makes it report `missing_run_results` or `stale`.",
    )
    keep_target_hours: float = _setting(
        24.0,
        "How long dbt's per-run target folders are kept.",
        unit="h",
        consequence="Each is about a megabyte and holds the compiled SQL of one run.",
        gt=0,
        le=24 * 90,
    )

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class DagsterSettings(_Group):
    """Dagster itself."""

    ui_url: str = _setting(
        "http://127.0.0.1:3000",
        "Base URL of the Dagster UI as people open it, for links.",
        consequence="Every link of an alert, a mail and `adinsights status` leads there.",
    )
    api_url: str | None = _setting(
        None,
        "Base URL under which the orchestrator itself asks Dagster's webserver, past any login. Default: `ui_url`.",
        consequence="While it does not answer, commands run in their own process and code locations are `unknown`.",
    )
    keep_runs_days: int = _setting(
        30,
        "How long finished runs and their events are kept.",
        unit="days",
        consequence="Older ones leave the UI; ledger and findings stay.",
        ge=1,
        le=3650,
    )
    keep_runless_events_days: int = _setting(
        30,
        "How long events without a run are kept.",
        unit="days",
        consequence="The newest materialization, check evaluation and freshness state of everything always stay.",
        ge=1,
        le=3650,
    )

    @property
    def asked_url(self) -> str:
        """Base URL of Dagster's API, without a slash at its end."""
        return (self.api_url or self.ui_url).rstrip("/")


class FreshnessSettings(_Group):
    """What counts as fresh, and from when on it is late."""

    sla_path: Path | None = _setting(
        None,
        "Optional file in the shape of `freshness/sla.yaml` that changes single thresholds.",
        consequence="Without it the shipped thresholds hold, each with its source; a wrong file stops the start.",
    )


class HealthSettings(_Group):
    """What is watched, and who is told."""

    frontend_url: str | None = _setting(
        None, "Address of the frontend.", consequence="Without it the frontend is not watched."
    )
    frontend_expects: str = _setting(
        "ADinsights",
        "Text that the frontend's page must hold.",
        consequence="A page without it counts as down: a proxy's or a hosting provider's own page, an empty build.",
        min_length=1,
    )
    superset_url: str | None = _setting(
        None, "Base URL of Superset, without a trailing slash.", consequence="Without it Superset is not watched."
    )
    backend_api_key: SecretStr | None = _setting(
        None,
        "Service key for the backend's `X-API-Key`.",
        consequence="Without it the age of the dashboards' data is not watched.",
    )
    metrics_urls: Annotated[tuple[str, ...], NoDecode, CommaSeparated] = _setting(
        (),
        "Where the backend's counters are read, comma separated; empty: `/metrics/app/` of the backend.",
        consequence="Behind a load balancer name every process: what is not read is not counted.",
    )
    prometheus_url: str | None = _setting(
        None,
        "Base URL of a Prometheus server that scrapes the backend.",
        consequence="With it the API's error rate is asked there; without it the counters are read.",
        pattern="^https?://",
    )
    requests_metric: str = _setting(
        "django_http_responses_total_by_status_total",
        "Name of the counter of API responses.",
        consequence="Under another name the error rate is unknown.",
        pattern="^[a-zA-Z_:][a-zA-Z0-9_:]*$",
    )
    status_label: str = _setting(
        "status",
        "Its label that holds the HTTP status.",
        consequence="Under another name the error rate is unknown.",
        pattern="^[a-zA-Z_][a-zA-Z0-9_]*$",
    )
    error_statuses: str = _setting(
        "5..",
        "Pattern of statuses that are errors, as a whole.",
        consequence="The error rate counts what it matches.",
        pattern=r"^[0-9.|\[\]()-]+$",
    )
    metrics_filter: Annotated[tuple[str, ...], NoDecode, CommaSeparated] = _setting(
        (),
        "Labels that a series must carry, `name=value`, comma separated.",
        consequence="Without it all series of that name count, other services' on a shared Prometheus too.",
    )
    own_requests_counted: bool | None = _setting(
        None,
        "Whether the counter of API responses counts our own probes of the backend too. Without it: only the default "
        "counter without a filter does.",
        consequence="Where it does, they are taken out of the error rate. Said wrongly, customers' errors are hidden, "
        "or a health endpoint that answers 503 because a sync is late counts as a failing API.",
    )
    object_store_url: str | None = _setting(
        None,
        "The object store: `s3://bucket/prefix`, `gs://bucket/prefix`, `file:///folder`, or an `http(s)://` address "
        "that answers HEAD.",
        consequence="Without it the object store is not watched. For S3 and GCS listing must be allowed.",
        pattern="^(file|https?|s3|gs)://",
    )
    scheduler_heartbeat: str | None = _setting(
        None,
        "The old scheduler's heartbeat while it still exists: a file that it touches, or an address that it answers.",
        consequence="Without it only Dagster's own daemons are watched.",
    )
    probe_timeout_seconds: float = _setting(
        10.0,
        "How long one probe may take as a whole.",
        unit="s",
        consequence="A component slower than this counts as not answering.",
        gt=0,
        le=20,
    )
    keep_minute_samples_days: int = _setting(
        14,
        "How long samples by the minute are kept.",
        unit="days",
        consequence="Older times can be told by the hour only; about 23,000 rows a day.",
        ge=1,
        le=400,
    )
    keep_hour_samples_days: int = _setting(
        180,
        "How long samples by the hour are kept.",
        unit="days",
        consequence="Older times can be told by the day only.",
        ge=1,
        le=4000,
    )
    keep_day_samples_days: int = _setting(
        1100,
        "How long samples by the day are kept.",
        unit="days",
        consequence="Error budgets cannot look back further.",
        ge=31,
        le=10_000,
    )
    status_path: Path | None = _setting(
        None,
        "Where `adinsights status --json` is kept as a file, for a load balancer or dashboard; replaced as a whole.",
        consequence="Without it nothing is written; with it, a reader must look at `as_of` as well.",
    )
    status_url: str | None = _setting(
        None,
        "Where the same is kept as an object: `s3://bucket/key`, `gs://bucket/key` or `file:///folder/file`.",
        consequence="As for the file. It is written twice a minute, which an object store counts as requests.",
        pattern="^(s3|gs|file)://.*/.*[^/]$",
    )


class AlertingSettings(_Group):
    """Who is told, and what watches alerting itself."""

    alerts_path: Path | None = _setting(
        None,
        "Optional file in the shape of `alerting/alerts.yaml`; each of its sections replaces the shipped one.",
        consequence="Without it the shipped routes and contacts hold; a wrong file stops the start, with its line.",
    )
    ping_url: SecretStr | None = _setting(
        None,
        "Address that is asked after every evaluation of alerts; its owner tells people when no request comes.",
        consequence="Without it nobody notices that the orchestrator is gone as a whole.",
    )
    ping_timeout_seconds: float = _setting(
        5.0,
        "How long that request may take. It is made beside the evaluation and never delays it.",
        unit="s",
        consequence="A receiver that is slower counts as not reached, which is logged.",
        gt=0,
        le=60,
    )
    backend_alerts_key: SecretStr | None = _setting(
        None,
        "Key for the backend's `POST /alerts/run`, sent as `X-API-Key`.",
        consequence="Without it job `run_alert_evaluation` evaluates our own rules only, and says so.",
    )


class SlackSettings(_Group):
    """The Slack workspace that takes alerts."""

    token: SecretStr | None = _setting(
        None,
        "The bot's token, `xoxb-...`, of an app made from `deploy/slack-app-manifest.yaml`.",
        consequence="Without it no alert reaches Slack; the log and other channels say it.",
    )
    channel: str = _setting(
        "#adinsights-alerts",
        "Where alerts go that the alert file sends to `slack:#adinsights-alerts`: a name with its `#`, or an id.",
        consequence="The bot must be a member (`/invite`), else every message is refused and the fallback says it.",
        pattern=r"^(#[a-z0-9_-]{1,80}|[CG][A-Z0-9]{8,20})$",
    )
    api_url: str = _setting(
        "https://slack.com/api",
        "Base address of Slack's Web API.",
        consequence="For a workspace behind a proxy of one's own; anything else gets no answer.",
    )
    timeout_seconds: int = _setting(
        4,
        "Deadline of one request.",
        unit="s",
        consequence="A message that was not answered by then is searched for in the channel before it is sent again.",
        gt=0,
        le=8,
    )


class RetentionArchive(StrEnum):
    """Whether audit rows may be deleted without having been archived."""

    REQUIRED = "required"
    OFF = "off"


class RetentionSettings(_Group):
    """How old audit rows are deleted."""

    archive: RetentionArchive = _setting(
        RetentionArchive.REQUIRED,
        "`required`: only rows whose archived day still equals the table go; `off`: age alone decides.",
        consequence="With `off` what is deleted is gone for ever; the asset says so at each run.",
    )
    dsn: SecretStr | None = _setting(
        None,
        "Postgres address of the backend's database with the role that archives and deletes; empty: the backend's.",
        consequence="The orchestrator's usual role may not delete, and should not: docs/audit-log.md has the grants.",
    )
    transaction_seconds: float = _setting(
        0.2,
        "How long one transaction should take.",
        unit="s",
        consequence="Longer ones are fewer, and hold their locks for longer.",
        gt=0,
        le=5,
    )
    lock_timeout_seconds: float = _setting(
        2.0,
        "How long a transaction waits for somebody else's lock.",
        unit="s",
        consequence="After that it gives way, and the rows go another time.",
        gt=0,
        le=60,
    )
    statement_timeout_seconds: float = _setting(
        30.0,
        "How long one statement may run.",
        unit="s",
        consequence="A tenant's day that takes longer to read stays in the table, and its check fails.",
        gt=0,
        le=600,
    )
    budget_minutes: float = _setting(
        60.0,
        "How long one run may take.",
        unit="min",
        consequence="What is left is deleted the next night.",
        gt=0,
        le=24 * 60,
    )
    replica_lag_seconds: float = _setting(
        30.0,
        "Deletion pauses while a replica is further behind than this, and while sessions wait for locks.",
        unit="s",
        consequence="Seen only by a role that may read `pg_stat_replication` (pg_monitor).",
        gt=0,
        le=3600,
    )
    # As long as a run may take by default: a run that goes by what it read when it began knows no more at its end.
    registry_age_minutes: int = _setting(
        60,
        "How old the registry may be when audit rows are deleted, or leave the archive.",
        unit="min",
        consequence="A legal hold that was written down since is not known; an older registry is refused.",
        ge=1,
        le=24 * 60,
    )


class Encryption(StrEnum):
    """What an object store encrypts the archive's objects with, where it is asked to at each write."""

    BUCKET = "bucket"
    AES256 = "AES256"
    KMS = "aws:kms"


class AuditLogSettings(_Group):
    """The archive of the audit log: where it lies and how it is written."""

    archive_url: str = _setting(
        (LOCAL_DIR / "audit_archive").as_uri(),
        "The archive's root: `file:///folder`, `s3://bucket/prefix` or `gs://bucket/prefix`.",
        consequence="Moving it means copying all of it: manifests name keys below the root.",
        pattern=r"^(file:///|s3://[^/]|gs://[^/])",
    )
    first_day: date = _setting(
        date(2024, 1, 1),
        "The oldest day (UTC) that may hold rows.",
        consequence="Older rows are counted in every run and neither archived nor deleted.",
    )
    settle_minutes: int = _setting(
        120,
        "How long after its end (midnight UTC) a day is archived.",
        unit="min",
        consequence="A row that is committed later is found before the day is deleted, and archived then.",
        ge=0,
        le=24 * 60,
    )
    object_megabytes: int = _setting(
        64,
        "What an archiving process may hold of rows in memory; an object of a day holds an eighth of it, uncompressed.",
        unit="MiB",
        consequence="A tenant's larger day (of more than 8 MiB with 64) is several objects.",
        ge=1,
        le=256,
    )
    restore_dsn: SecretStr | None = _setting(
        None,
        "Postgres address of the backend's database with the role that restores; empty: retention's.",
        consequence="A role that restores needs no right to delete: docs/audit-restore.md has the grants.",
    )
    s3_endpoint: str | None = _setting(
        None,
        "Address of an S3-compatible server; empty: AWS's own.",
        consequence="It must refuse to overwrite (If-None-Match); `adinsights doctor` proves it.",
        pattern="^https?://",
    )
    s3_region: str = _setting("us-east-1", "The bucket's region.", consequence="A wrong one is refused by S3.")
    s3_access_key_id: SecretStr | None = _setting(
        None,
        "Access key; empty: the process's own credentials (AWS_* variables, instance or pod role).",
        consequence="Keys do not expire by themselves; a role's do, and are renewed without a restart.",
    )
    s3_secret_access_key: SecretStr | None = _setting(
        None, "Secret of the access key.", consequence="A wrong one fails the first write."
    )
    encryption: Encryption = _setting(
        Encryption.BUCKET,
        "`bucket`: as the bucket's default says; `AES256`, `aws:kms`: asked for at each write (S3).",
        consequence="With `aws:kms` the role needs the key too, for reading as well.",
    )
    kms_key_id: str | None = _setting(
        None, "The KMS key for `aws:kms`; empty: the account's own.", consequence="Without its rights nothing is read."
    )
    gcs_service_account_path: Path | None = _setting(
        None,
        "Key file of a Google service account; empty: the process's own credentials (GOOGLE_APPLICATION_CREDENTIALS,"
        " the machine's or pod's account).",
        consequence="Keys do not expire by themselves; an account of the machine needs no file, and is safer.",
    )
    gcs_endpoint: str | None = _setting(
        None, "Address of a GCS-compatible server; empty: Google's own.", consequence="For tests.", pattern="^https?://"
    )
    request_timeout_seconds: float = _setting(
        60.0,
        "Deadline of one request to the object store.",
        unit="s",
        consequence="An upload that takes longer is tried again.",
        gt=0,
        le=600,
    )
    retry_seconds: float = _setting(
        180.0,
        "How long a request is tried again that failed for the store's own reasons.",
        unit="s",
        consequence="After that the run fails; the next one takes up where it stopped.",
        ge=0,
        le=3600,
    )
    at_once: int = _setting(
        8,
        "Objects that are written or read at once.",
        unit="objects",
        consequence="More hide the distance to a far store, and hold more in memory.",
        ge=1,
        le=64,
    )


class SmtpSecurity(StrEnum):
    """How the connection to the mail server is protected."""

    STARTTLS = "starttls"
    TLS = "tls"
    NONE = "none"


class SmtpSettings(_Group):
    """The mail server that takes alerts."""

    host: str | None = _setting(
        None, "Host name of the mail server.", consequence="Without it no alert is mailed; other channels say it."
    )
    port: int = _setting(
        587,
        "Port: 587 with `starttls`, 465 with `tls`.",
        unit="TCP port",
        consequence="On a wrong one nothing answers: the fallback channel takes over and says so.",
        ge=1,
        le=65535,
    )
    security: SmtpSecurity = _setting(
        SmtpSecurity.STARTTLS,
        "`starttls`, `tls` from the first byte, or `none`.",
        consequence="With the first two a certificate that is not valid for the host refuses every mail.",
    )
    ca_path: Path | None = _setting(
        None,
        "Certificate authorities to trust instead of the system's, as PEM.",
        consequence="Needed where the mail server's certificate is of an authority of one's own.",
    )
    user: str | None = _setting(None, "User to log in as.", consequence="Without it nobody logs in.")
    password: SecretStr | None = _setting(
        None, "The user's password.", consequence="A wrong one refuses every mail; the fallback channel says so."
    )
    sender: str = _setting(
        "adinsights-alerts@localhost",
        "Address that alerts are sent from; its domain is in every Message-ID.",
        consequence="One that the server does not let this user send from is refused, or lands in the spam folder.",
        pattern=r"^[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*$",
    )
    timeout_seconds: float = _setting(
        15.0,
        "Deadline of one mail, from connecting to the server's last word.",
        unit="s",
        consequence="A mail whose text was sent by then and not answered is sent again under the same Message-ID.",
        gt=0,
        le=19,
    )

    @model_validator(mode="after")
    def _passwords_are_encrypted(self) -> Self:
        if self.security is SmtpSecurity.NONE and self.user and self.host not in ("localhost", "127.0.0.1", "::1"):
            raise ValueError("a password is not sent in the clear: set SECURITY to starttls or tls")
        return self


class LogSettings(_Group):
    """Logs: one JSON object a line."""

    level: str = _setting(
        "INFO",
        "Least severe level that is written.",
        consequence="DEBUG holds every step event of every run.",
        pattern="^(DEBUG|INFO|WARNING|ERROR)$",
    )
    json_lines: bool = _setting(True, "JSON lines; off prints for people.", consequence="Log collectors need them on.")


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
    home_timezone: Timezone = _setting(
        "America/Jamaica",
        "Timezone of nightly schedules, and of tenants without one of their own.",
        consequence="A wrong one moves every nightly run, and what counts as due.",
    )
    runbook_url: str = _setting(
        "https://github.com/adinsights/adinsights-orchestration/blob/main/docs/runbook.md",
        "Runbook, for links.",
        consequence="Every asset and alert links it; a wrong one leaves on-call without instructions.",
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
    freshness: FreshnessSettings = FreshnessSettings()
    health: HealthSettings = HealthSettings()
    alerting: AlertingSettings = AlertingSettings()
    slack: SlackSettings = SlackSettings()
    retention: RetentionSettings = RetentionSettings()
    audit_log: AuditLogSettings = AuditLogSettings()
    smtp: SmtpSettings = SmtpSettings()
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
