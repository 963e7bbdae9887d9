"""The local stack's own settings: ports, folders, and how much of everything the demo has.

Belongs here: what a person at a laptop may change, as environment variables `ADINSIGHTS_LOCAL_<NAME>`. Does not belong
here: the product's settings (`adinsights_orchestration.settings`), which the stack sets for its processes itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import PROJECT_ROOT

PREFIX = "ADINSIGHTS_LOCAL_"
_ONCE = "Written down when a state folder is new, so it takes a new one."


def _setting(default: Any, description: str, *, unit: str = "", consequence: str = "", **kwargs: Any) -> Any:
    extra: dict[str, Any] = {"unit": unit, "consequence": consequence}
    return Field(default=default, description=description, json_schema_extra=extra, **kwargs)


class LocalSettings(BaseSettings):
    """All settings of the local stack, frozen."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    postgres_port: int = _setting(
        15432,
        "Port of the embedded Postgres on 127.0.0.1.",
        unit="port",
        consequence="A taken one stops the command before anything is started.",
        ge=1,
        le=65535,
    )
    service_port: int = _setting(
        18000,
        "Port of the loopback service: ad platforms, Airbyte, backend, knobs.",
        unit="port",
        consequence="A taken one stops the command before anything is started.",
        ge=1,
        le=65535,
    )
    smtp_port: int | None = _setting(
        None,
        "Port at which the loopback service takes mail; empty: 25 above the service's.",
        unit="port",
        consequence="With a taken one no mail arrives, and the other channels say what it would have said.",
        ge=1,
        le=65535,
    )
    ui_port: int = _setting(
        3000,
        "Port of the Dagster UI.",
        unit="port",
        consequence="A taken one stops `up`; `demo` has no use for it.",
        ge=1,
        le=65535,
    )
    state_dir: Path = _setting(
        PROJECT_ROOT / ".local",
        "Where databases, logs and the run results file live.",
        consequence="Removing it resets the stack. A relative path is taken from the project's folder.",
    )
    seed: int = _setting(
        20260115,
        "Chooses the ad platforms' world.",
        unit="number",
        consequence="The same seed shows the same numbers everywhere.",
        ge=0,
    )
    days: int = _setting(
        30,
        "History that a first sync reads.",
        unit="days",
        consequence=f"A first cycle takes longer. {_ONCE}",
        ge=1,
        le=730,
    )
    accounts: int = _setting(
        1,
        "Ad accounts per tenant and platform.",
        unit="accounts",
        consequence=f"Rows grow with it. {_ONCE}",
        ge=1,
        le=20,
    )
    campaigns: int = _setting(
        4, "Campaigns per ad account.", unit="campaigns", consequence="Rows grow with it.", ge=1, le=200
    )
    groups: int = _setting(
        2, "Ad sets or ad groups per campaign.", unit="groups", consequence="Rows grow with it.", ge=1, le=50
    )
    ads: int = _setting(2, "Ads per ad set or ad group.", unit="ads", consequence="Rows grow with it.", ge=1, le=50)
    audit_history_days: int = _setting(
        395,
        "Days of generated audit log before the day on which a state folder is new.",
        unit="days",
        consequence="Some forty rows per tenant and day, made at the first start; 0: none. A year and a month gives"
        f" the archive and retention something to do. {_ONCE}",
        ge=0,
        le=1000,
    )
    sync_slots: int = _setting(
        2,
        "Syncs that the local Airbyte runs at once.",
        unit="syncs",
        consequence="Each is a process of its own; more than the machine has cores makes all slower.",
        ge=1,
        le=32,
    )
    sync_retry_seconds: float = _setting(
        3.0,
        "How long a job stays `incomplete` between two attempts.",
        unit="s",
        consequence="A sync that fails takes longer to say so.",
        gt=0,
        le=3600,
    )
    connectors_python: Path = _setting(
        PROJECT_ROOT / ".venv-connectors" / "bin" / "python",
        "Interpreter that has the Airbyte CDK.",
        consequence="Without the CDK in it no sync runs.",
    )
    airbyte_schedules: bool = _setting(
        False,
        "Whether the local Airbyte starts connections by its own schedules.",
        consequence="Then the orchestrator's driver must be `external`, or two would drive.",
    )
    airbyte_posts_webhook: bool = _setting(
        True,
        "Whether the local Airbyte posts finished jobs to the backend.",
        consequence="Off, the backend only learns of syncs from the orchestrator (`webhook.sender`).",
    )
    dbt_schema: str = _setting(
        "analytics",
        "Schema of the marts that the backend's metrics are read from.",
        consequence="Must be the one that dbt writes to.",
        pattern="^[a-z_][a-z0-9_]*$",
    )

    @property
    def mail_port(self) -> int:
        """Where mail is taken."""
        return self.smtp_port or self.service_port + 25

    @field_validator("state_dir", "connectors_python")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        # Not resolved: a virtual environment's interpreter is a link, and through it the environment would be lost.
        return path if path.is_absolute() else PROJECT_ROOT / path

    @model_validator(mode="after")
    def _three_ports(self) -> Self:
        if len({self.postgres_port, self.service_port, self.ui_port}) < 3:
            raise ValueError("two of POSTGRES_PORT, SERVICE_PORT and UI_PORT are the same port")
        return self


def load_local_settings() -> LocalSettings:
    """Reads and validates the environment; a wrong value is a `ConfigurationError` that names the variable."""
    try:
        return LocalSettings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        variable = PREFIX + ("_".join(str(part).upper() for part in first["loc"]) or "*")
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(problem, place=variable, next_step="See docs/local-settings.md.") from None
