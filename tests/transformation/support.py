"""A small dbt project, a warehouse for it, and what tests ask of both.

Here: copies of `fixture_project`, raw tables with a few rows, settings that lead to them. Not here: assertions. The
project has the shape of the real one (two providers, a shared fact, a seed, a snapshot, an exposure) and builds in a
second or two, so that tests can afford real dbt.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import DbtSettings, OpsStoreSettings, Settings, WarehouseSettings
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import HANG_SECONDS

FIXTURE_PROJECT = Path(__file__).parent / "fixture_project"
RAW_META = """
create schema raw_meta;
create table raw_meta.ad_insights (ad_id varchar, date_start date, spend numeric, _airbyte_extracted_at timestamptz);
create table raw_meta.ads (id varchar, name varchar, _airbyte_extracted_at timestamptz);
insert into raw_meta.ad_insights values ('a1', '2026-01-01', 10, now()), ('a2', '2026-01-01', 5, now());
insert into raw_meta.ads values ('a1', 'Spring', now()), ('a2', 'Summer', now());
"""
RAW_GOOGLE_ADS = """
create schema raw_google_ads;
create table raw_google_ads.campaign_daily
(campaign_id varchar, date date, cost_micros bigint, _airbyte_extracted_at timestamptz);
insert into raw_google_ads.campaign_daily values ('c1', '2026-01-01', 7000000, now());
"""
SCHEMAS = (
    *("analytics", "analytics_staging", "analytics_snapshots", "analytics_reference"),
    *("analytics_dbt_test__audit", "raw_meta", "raw_google_ads"),
)


@dataclass(frozen=True)
class Warehouse:
    """The database that the fixture project builds in."""

    settings: WarehouseSettings

    def execute(self, statements: str) -> None:
        """Runs SQL."""
        with self._connect() as connection:
            connection.execute(statements.encode())

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Returns the rows of a query."""
        with self._connect() as connection:
            return connection.execute(query.encode()).fetchall()

    def reset(self) -> None:
        """Back to raw tables with their first rows, and nothing built."""
        dropped = ";".join(f"drop schema if exists {schema} cascade" for schema in SCHEMAS)
        self.execute(f"{dropped};{RAW_META}{RAW_GOOGLE_ADS}")

    def add_meta_row(self, ad_id: str | None, spend: float = 1) -> None:
        """What a sync of Meta brings."""
        value = "null" if ad_id is None else f"'{ad_id}'"
        self.execute(f"insert into raw_meta.ad_insights values ({value}, '2026-01-02', {spend}, now())")

    def make_meta_slow(self, seconds: int) -> None:
        """Whatever reads Meta's ads takes this long, as a build of a large table would."""
        self.execute(
            "alter table raw_meta.ads rename to ads_rows;"
            f"create view raw_meta.ads as select rows.* from raw_meta.ads_rows as rows, pg_sleep({seconds})"
        )

    def running_dbt_queries(self) -> int:
        """Statements of dbt that the server is working on."""
        [(count,)] = self.rows(
            "select count(*) from pg_stat_activity where state = 'active' and application_name like 'adinsights dbt%'"
        )
        return int(count)

    @contextmanager
    def at_work(self, statements: str, application_name: str, *, commit: bool = False) -> Iterator[Callable[[], str]]:
        """A session of that name, at work on these statements inside the block; yields what tells its state."""
        with suppress(psycopg.Error), self._connect(application_name) as session:
            pid, worker = session.info.backend_pid, threading.Thread(target=self._work, args=(session, statements))

            def state() -> str:
                found = self.rows(f"select state from pg_stat_activity where pid = {pid}")
                return "terminated" if not found else "at work" if found[0][0] == "active" else str(found[0][0])

            worker.start()
            if commit:
                worker.join()
                session.commit()
            else:
                assert eventually(lambda: state() == "at work")
            try:
                yield state
            finally:
                self.execute(f"select pg_terminate_backend({pid})")
                worker.join()

    @staticmethod
    def _work(session: psycopg.Connection[Any], statements: str) -> None:
        with suppress(psycopg.Error):
            session.execute(statements.encode())

    def _connect(self, application_name: str = "test") -> psycopg.Connection[Any]:
        at = self.settings
        return psycopg.connect(
            host=at.host,
            port=at.port,
            user=at.user,
            password=at.password.get_secret_value(),
            dbname=at.dbname,
            application_name=application_name,
        )


def make_settings(
    project_dir: Path,
    warehouse: WarehouseSettings,
    ops_dsn: SecretStr,
    folder: Path,
    *,
    environment: Environment = Environment.LOCAL,
    **dbt: Any,
) -> Settings:
    """Settings of a process that works on this project and warehouse."""
    defaults: dict[str, Any] = {
        "project_dir": project_dir,
        "run_results_path": folder / "published" / "run_results.json",
        "enabled_providers": (Provider.META, Provider.GOOGLE_ADS),
    }
    return Settings(
        environment=environment,
        local_stack=True,
        warehouse=warehouse,
        ops_store=OpsStoreSettings(dsn=ops_dsn),
        dbt=DbtSettings(**{**defaults, **dbt}),
    )


def variables(settings: Settings) -> dict[str, str]:
    """The environment variables that lead a process of its own to the same places."""
    at, dbt = settings.warehouse, settings.dbt
    return {
        "ADINSIGHTS_DBT__PROJECT_DIR": str(dbt.project_dir),
        "ADINSIGHTS_DBT__ENABLED_PROVIDERS": ",".join(dbt.enabled_providers),
        "ADINSIGHTS_DBT__RUN_RESULTS_PATH": str(dbt.run_results_path),
        "ADINSIGHTS_OPS_STORE__DSN": settings.ops_store.dsn.get_secret_value(),
        "ADINSIGHTS_WAREHOUSE__HOST": at.host,
        "ADINSIGHTS_WAREHOUSE__PORT": str(at.port),
        "ADINSIGHTS_WAREHOUSE__USER": at.user,
        "ADINSIGHTS_WAREHOUSE__PASSWORD": at.password.get_secret_value(),
        "ADINSIGHTS_WAREHOUSE__DBNAME": at.dbname,
    }


def copy_project(source: Path, target: Path) -> Path:
    """A project of a test's own, prepared if the source is; what ran in the source is left behind."""
    return Path(shutil.copytree(source, target, ignore=shutil.ignore_patterns("runs", "logs")))


def in_another_process(code: str, **environment: str) -> subprocess.Popen[bytes]:
    """Starts Python on `code` with this checkout importable, to be killed."""
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(root), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def end_sessions(store: OpsStore) -> None:
    """Ends every session with the ops store but the one that says so, as a restarted server does.

    They are gone when it returns: one that is only told to end still shows the locks that it had.
    """
    with store.begin() as connection:
        connection.exec_driver_sql(
            f"select pg_terminate_backend(pid, {HANG_SECONDS * 1000:.0f}) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    """Whether the condition holds at some moment from now on; the time only bounds a failure."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
