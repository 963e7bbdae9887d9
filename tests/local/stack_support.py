"""A local stack of a test's own, from outside: its commands as processes, its processes, its UI, and its data.

What is compared here is read independently of the code under test: processes from the kernel, raw rows from a second,
undisturbed reading of the same ad platforms, jobs from Airbyte's own table.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from adinsights_orchestration.local import environment, seed
from adinsights_orchestration.local.ad_platforms.accounts import WorldSize
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.airbyte.model import ConfigType
from adinsights_orchestration.local.connectors.catalog import declared_streams, load_manifest
from adinsights_orchestration.local.connectors.sync import ConnectorRuntime, SyncRequest
from adinsights_orchestration.local.settings import LocalSettings
from adinsights_orchestration.local.stack import Stack
from adinsights_orchestration.settings import PROJECT_ROOT
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import free_port
from tests.local.raw_contract import RAW_TABLES, RawTable

# No figure of a day changes once it is this old: late conversions are over, and so is the day everywhere.
SETTLED_DAYS = 5
_AD_PLATFORMS = (Provider.META, Provider.GOOGLE_ADS, Provider.LINKEDIN_ADS, Provider.TIKTOK_ADS)
_DAY_COLUMNS = ("date_start", "date", "stat_time_day")


@dataclass
class Command:
    """A command that was started, with what it says."""

    process: subprocess.Popen[str]
    output: Path

    @property
    def said(self) -> str:
        """Everything that it has said so far, on both outputs."""
        return self.output.read_text()

    def wait(self, seconds: float = 400) -> int:
        """Waits for its end and returns the exit code; what it said must hold no traceback."""
        code = self.process.wait(seconds)
        assert "Traceback" not in self.said, self.said
        return code

    def wait_for(self, words: str, seconds: float = 300) -> None:
        """Waits until it says these words; an end without them is a failure."""
        wait_until(lambda: words in self.said or self.process.poll() is not None, seconds, f"{words!r} in {self.said}")
        assert words in self.said, self.said

    def kill_after(self, seconds: float) -> None:
        """Kills it that long from now, if it still runs."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Site:
    """A folder and three ports, where a stack can be.

    Attributes:
        local: The folder and the ports.
        settings: The product's settings that differ from what the stack would choose, as variables.
        commands: What was started there.
    """

    local: LocalSettings
    settings: Mapping[str, str] = field(default_factory=dict)
    commands: list[Command] = field(default_factory=list)

    @property
    def stack(self) -> Stack:
        """The stack there."""
        return Stack(self.local, lambda _: None)

    def start(self, *arguments: str, **others: str) -> Command:
        """Starts `adinsights` there, in a process group of its own as a shell does."""
        output = self.local.state_dir.parent / f"output-{len(self.commands)}.txt"
        with output.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "adinsights_orchestration.cli", *arguments],
                cwd=PROJECT_ROOT,
                env={**self._outside(), **self.variables, **self.settings, **others},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        command = Command(process, output)
        self.commands.append(command)
        return command

    def run(self, *arguments: str, code: int = 0) -> str:
        """Runs `adinsights` there to its end, and returns what it said."""
        command = self.start(*arguments)
        ended = command.wait()
        assert ended == code, f"{arguments} ended with {ended}: {command.said}"
        return command.said

    @property
    def variables(self) -> dict[str, str]:
        """What points a command at this place."""
        return self.stack.variables

    @staticmethod
    def _outside() -> dict[str, str]:
        return {n: value for n, value in os.environ.items() if not n.startswith(("ADINSIGHTS_", "DAGSTER_"))}

    def query(self, database: str, statement: str, *parameters: object) -> list[dict[str, Any]]:
        """Rows of one of the stack's databases."""
        with psycopg.connect(environment.database_url(self.local, database), row_factory=dict_row) as session:
            return session.execute(statement, parameters).fetchall()

    # ------------------------------------------------------------------------------------------------- processes

    def processes(self) -> list[psutil.Process]:
        """Every process of this stack, found by folder: in its environment, or on its command line."""
        commands = {command.process.pid for command in self.commands}
        return [process for process in psutil.process_iter() if process.pid not in commands and self._is_mine(process)]

    def _is_mine(self, process: psutil.Process) -> bool:
        folder = str(self.local.state_dir)
        try:
            words = process.cmdline()
            named = any(folder in word for word in words) or _ancestor_named(process, folder)
            return process.status() != psutil.STATUS_ZOMBIE and (named or _environment(process) == folder)
        except psutil.Error:
            return False

    def orphans(self) -> list[str]:
        """Processes that neither are one of the stack's three nor descend from one."""
        stack = self.stack
        roots = {p.pid for p in (stack.dagster.find(), stack.service.find(), stack.postgres.find()) if p is not None}
        mine = self.processes()
        return [_described(process) for process in mine if not _lineage(process) & roots]

    def assert_nothing_runs(self) -> None:
        """Nothing of this stack runs any more; what was told to end may take a moment."""
        wait_until(lambda: not self.processes(), 20, lambda: f"runs: {[_described(p) for p in self.processes()]}")

    def assert_no_orphans(self) -> None:
        """Everything that runs belongs to a part of the stack."""
        wait_until(lambda: not self.orphans(), 20, lambda: f"orphans: {self.orphans()}")

    # -------------------------------------------------------------------------------------------------------- UI

    def graphql(self, query: str, **variables: object) -> Any:
        """What Dagster's API answers."""
        url = environment.ui_url(self.local) + "/graphql"
        answer = httpx.post(url, json={"query": query, "variables": variables}, timeout=60).json()
        assert "errors" not in answer, answer
        return answer["data"]


# -------------------------------------------------------------------------------------------------------------- data


def assert_rows_are_the_platforms(site: Site) -> None:
    """Every raw table holds what the ad platforms have, each row once; a second reading of them says what that is."""
    today = datetime.now(UTC).date()
    control = environment.database_url(site.local, "postgres").rsplit("/", 1)[0] + "/" + _read_again(site)
    for name, table in RAW_TABLES.items():
        day = next((column for column in _DAY_COLUMNS if column in table.key), None)
        keys = sql.SQL("where {} < {}").format(sql.Identifier(day), today) if day else sql.SQL("")
        found, expected = (_rows(dsn, name, table.key, keys) for dsn in (_warehouse(site), control))
        assert Counter(found) == Counter(expected), f"{name}: {_difference(found, expected)}"
        if day:
            settled = sql.SQL("where {} <= {}").format(sql.Identifier(day), today - timedelta(days=SETTLED_DAYS))
            columns = tuple(table.columns)
            found, expected = (_rows(dsn, name, columns, settled) for dsn in (_warehouse(site), control))
            assert Counter(found) == Counter(expected), f"{name}: {_difference(found, expected)}"
        assert_each_once(site, name, table)


def assert_each_once(site: Site, name: str, table: RawTable) -> None:
    """No key of a raw table is there twice, of whatever day."""
    rows = _rows(_warehouse(site), name, table.key, sql.SQL(""))
    assert rows, f"{name} is empty"
    assert [key for key, number in Counter(rows).items() if number > 1] == [], name


def assert_marts_show_what_the_platforms_know(site: Site) -> None:
    """Spend by tenant, platform and day in the dashboards' table is the platforms' own, for days that are settled."""
    local, until = site.local, datetime.now(UTC).date() - timedelta(days=SETTLED_DAYS)
    size = WorldSize(local.accounts, local.campaigns, local.groups, local.ads, local.days)
    world, now, known = World(local.seed, size=size), datetime.now(UTC), Counter[tuple[str, str, str]]()
    for each in seed.connections():
        if each.provider not in _AD_PLATFORMS:
            continue
        start = datetime.fromisoformat(_source(site, each)["start_date"]).date()
        for account in world.accounts(each.tenant, each.provider):
            for day in world.days(account, start, until):
                micros = sum(world.ad_day(ad, day, now).spend_micros for ad in world.ads(account))
                if micros:
                    known[str(seed.tenant_id(each.tenant)), each.provider.value, day.isoformat()] += micros
    rows = site.query(
        "warehouse",
        f"select tenant_id::text, source_platform, date_day::text, sum(spend) as spend from {local.dbt_schema}."
        "agg_campaign_daily where date_day <= %s group by 1, 2, 3 having sum(spend) <> 0",
        until,
    )
    shown = {
        (row["tenant_id"], row["source_platform"], row["date_day"]): round(Decimal(row["spend"]) * 10**6)
        for row in rows
    }
    assert shown == dict(known)


def assert_every_job_is_reported_once(site: Site) -> None:
    """Every sync that Airbyte finished is in the ledger, and each that brought data is one materialization."""
    finished = "select id from airbyte_internal.job where document->>'status' = 'succeeded'"
    finished += " and document->>'config_type' <> all(%s)"  # a clear brings nothing
    clears = [ConfigType.CLEAR.value, ConfigType.RESET_CONNECTION.value]
    jobs = {row["id"] for row in site.query("warehouse", finished, clears)}
    reported = "select job_id from adinsights_ops.sync_job where report_state = 'reported' and status = 'succeeded'"

    def missing() -> set[int]:
        return jobs - {row["job_id"] for row in site.query("dagster", reported)}

    assert jobs
    wait_until(lambda: not missing(), 120, lambda: f"never reported: {sorted(missing())}")
    times = {row["job"]: row["times"] for row in site.query("dagster", _TOLD, '["airbyte", %')}
    assert {job: number for job, number in times.items() if number != 1} == {}, "materialized more than once"
    assert jobs - set(times) == set(), "in the ledger as reported, but never materialized"


_TOLD = """
select job::bigint as job, count(*) as times from (
    select jsonb_path_query(
        event::jsonb,
        '$.dagster_event.event_specific_data.materialization.metadata_entries[*]
            ? (@.label == "airbyte/job_id").entry_data.value'
    ) as job
    from event_logs where dagster_event_type = 'ASSET_MATERIALIZATION' and asset_key like %s
) as jobs group by 1
"""


def _warehouse(site: Site) -> str:
    return environment.database_url(site.local, "warehouse")


def _rows(dsn: str, name: str, columns: tuple[str, ...], where: sql.Composable) -> list[tuple[Any, ...]]:
    texts = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(column)) for column in columns)
    statement = sql.SQL("select {} from {} {}").format(texts, sql.Identifier(*name.split(".")), where)
    with psycopg.connect(dsn) as session:
        return session.execute(statement).fetchall()


def _difference(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> str:
    lost, extra = Counter(expected) - Counter(found), Counter(found) - Counter(expected)
    return f"lost {lost.total()}: {list(lost)[:3]}; too many {extra.total()}: {list(extra)[:3]}"


def _source(site: Site, connection: seed.SeedConnection) -> Mapping[str, Any]:
    """The configuration that the stack's own connector has."""
    statement = "select document from airbyte_internal.resource where kind = 'actor' and id = %s"
    (row,) = site.query("warehouse", statement, connection.source_id)
    configuration: Mapping[str, Any] = row["document"]["configuration"]
    return configuration


def _read_again(site: Site) -> str:
    """Reads all ad platforms into a new database, undisturbed, and returns its name."""
    name = f"control_{int(time.time() * 1000)}"
    dsn = site.stack.postgres.create_database(name)
    with tempfile.TemporaryDirectory(prefix="adinsights-control-") as folder:
        runtime = ConnectorRuntime(site.local.connectors_python, dsn, Path(folder))

        async def work() -> None:
            for number, each in enumerate(seed.connections(), start=1):
                result = await runtime.sync(_request(site, each, number))
                assert result.succeeded, result.failure
            runtime.close()

        asyncio.run(work())
    return name


def _request(site: Site, connection: seed.SeedConnection, number: int) -> SyncRequest:
    streams = declared_streams(connection.provider, load_manifest(connection.provider))
    return SyncRequest(
        job_id=number,
        attempt=1,
        connection_id=connection.connection_id,
        tenant_id=seed.tenant_id(connection.tenant),
        provider=connection.provider,
        config=_source(site, connection),
        streams=tuple(stream.name for stream in streams),
        generation_id=0,
    )


# ------------------------------------------------------------------------------------------------------------- tools


@contextmanager
def new_site(**settings: str) -> Iterator[Site]:
    """A place of its own, with further settings of the product; whatever still runs there at the end is ended."""
    with tempfile.TemporaryDirectory(prefix="adinsights-soak-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # root's Postgres runs as another user
        ports = {"postgres_port": free_port(), "service_port": free_port(), "ui_port": free_port()}
        site = Site(LocalSettings.model_validate({**ports, "state_dir": Path(folder) / "state"}), settings)
        try:
            yield site
        finally:
            for command in site.commands:
                if command.process.poll() is None:
                    command.process.kill()
                    command.process.wait()
            site.stack.stop()
            for process in site.processes():
                with suppress(psutil.NoSuchProcess):
                    process.kill()


def wait_until(ready: Callable[[], bool], seconds: float, what: str | Callable[[], str]) -> None:
    """Waits for a condition; says what was waited for when it does not come true."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.2)


def _environment(process: psutil.Process) -> str:
    home = process.environ().get("DAGSTER_HOME", "")
    return str(Path(home).parent) if home else ""


def _ancestor_named(process: psutil.Process, folder: str) -> bool:
    """Whether it is a child of the stack's Postgres, whose children have other command lines."""
    parent = process.parent()
    return parent is not None and any(folder in word for word in parent.cmdline()) and "postgres" in parent.name()


def _lineage(process: psutil.Process) -> set[int]:
    with suppress(psutil.NoSuchProcess):
        return {process.pid, *(parent.pid for parent in process.parents())}
    return set()


def _described(process: psutil.Process) -> str:
    with suppress(psutil.Error):
        return f"{process.pid} of {process.ppid()}: {' '.join(process.cmdline())[:120]}"
    return f"{process.pid}, gone"
