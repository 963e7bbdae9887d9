"""How dbt is called: its arguments and its environment, made of settings.

Belongs here: everything that decides what a dbt command does and where it connects. Does not belong here: running it
(`process`). Two calls that should share a parse must agree on variables and connection, so both come from here alone:
dbt throws its saved parse away when `--vars` or the profile differ (about four seconds each time).
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider

PROVIDERS_VARIABLE = "enabled_providers"
_OURS = "ADINSIGHTS_"
_LONGEST_NAME = 63  # Postgres cuts an application's name there


@dataclass(frozen=True, slots=True)
class Command:
    """One dbt command.

    Args:
        name: dbt's subcommand, in words: `("build",)`, `("source", "freshness")`.
        select: What `--select` takes, one criterion each; empty means everything.
        exclude: What `--exclude` takes.
        full_refresh: Rebuild incremental models and seeds from nothing.
        unit_tests: Run the project's unit tests too; they judge code, not data, and belong to its tests.
        direct_tests_only: Run only tests that are selected themselves, not those of selected models.
        providers: Providers that take part; None leaves it to the project's own default.
    """

    name: tuple[str, ...]
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    full_refresh: bool = False
    unit_tests: bool = False
    direct_tests_only: bool = False
    providers: tuple[Provider, ...] | None = None

    def arguments(self) -> list[str]:
        """The arguments after the program's name."""
        found = list(self.name)
        if self.select:
            found += ["--select", *self.select]
        if self.exclude:
            found += ["--exclude", *self.exclude]
        if self.direct_tests_only:
            found += ["--indirect-selection", "empty"]
        if self.name == ("build",):
            found += ["--exclude-resource-type", "exposure"]
            found += [] if self.unit_tests else ["--exclude-resource-type", "unit_test"]
        if self.full_refresh:
            found.append("--full-refresh")
        if self.providers is not None:
            found += ["--vars", json.dumps({PROVIDERS_VARIABLE: [str(provider) for provider in self.providers]})]
        return found

    def __str__(self) -> str:
        """The command line, for people."""
        return shlex.join(("dbt", *self.arguments()))


def application_name(settings: Settings, command: Command) -> str:
    """What the warehouse knows a command's sessions by: a build's, of which one goes on at a time, from all others.

    A parse connects to nothing, and has a build's name so that builds can use what it saved.
    """
    kind = "freshness" if command.name == ("source", "freshness") else "build"
    return f"adinsights dbt {kind} {settings.dbt.schema_}"[:_LONGEST_NAME]


def environment(settings: Settings, command: Command, target: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a dbt process that writes into the folder `target`.

    Of `inherited`, our own variables are left out: they hold secrets of other systems that dbt has no use for.
    """
    warehouse = settings.warehouse
    return {
        **{name: value for name, value in inherited.items() if not name.startswith(_OURS)},
        "ADINSIGHTS_WAREHOUSE__HOST": warehouse.host,
        "ADINSIGHTS_WAREHOUSE__PORT": str(warehouse.port),
        "ADINSIGHTS_WAREHOUSE__USER": warehouse.user,
        "ADINSIGHTS_WAREHOUSE__PASSWORD": warehouse.password.get_secret_value(),
        "ADINSIGHTS_WAREHOUSE__DBNAME": warehouse.dbname,
        "ADINSIGHTS_DBT__SCHEMA": settings.dbt.schema_,
        "ADINSIGHTS_DBT__THREADS": str(settings.dbt.threads),
        "ADINSIGHTS_DBT_APPLICATION_NAME": application_name(settings, command),
        "DBT_PROJECT_DIR": str(settings.dbt.project_dir),
        "DBT_PROFILES_DIR": str(settings.dbt.project_dir),
        "DBT_TARGET_PATH": str(target),
        "DBT_LOG_PATH": str(target),
        "DBT_LOG_FORMAT": "json",
        "DBT_USE_COLORS": "false",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def providers_argument(default: Collection[Provider], wanted: Iterable[Provider]) -> tuple[Provider, ...] | None:
    """Returns what to pass as enabled providers, or None when the project's own default says the same."""
    chosen = set(wanted)
    return None if chosen == set(default) else tuple(provider for provider in Provider if provider in chosen)


def default_providers(project_dir: Path) -> tuple[Provider, ...]:
    """Reads the project's own `enabled_providers`; a name that is no provider is a `ConfigurationError`."""
    path = project_dir / "dbt_project.yml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        names = content["vars"][PROVIDERS_VARIABLE]
        return tuple(Provider(name) for name in names)
    except FileNotFoundError:
        raise ConfigurationError(
            "there is no dbt project here", place=str(project_dir), next_step="Set ADINSIGHTS_DBT__PROJECT_DIR."
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"`vars.{PROVIDERS_VARIABLE}` is not a list of known providers ({error})", place=str(path)
        ) from error


def parse_key(settings: Settings, command: Command) -> str:
    """Names the saved parse that a command can use: what dbt compares before it trusts one."""
    warehouse, chosen = settings.warehouse, None if command.providers is None else sorted(command.providers)
    parts = [version("dbt-core"), chosen, warehouse.host, warehouse.port, warehouse.user, warehouse.dbname]
    parts += [settings.dbt.schema_, application_name(settings, command)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
