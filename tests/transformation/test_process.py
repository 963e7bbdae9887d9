"""The dbt process: its events, its end, and that it never outlives whoever started it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.command import Command, parse_key
from adinsights_orchestration.transformation.process import DbtProcess
from adinsights_orchestration.transformation.targets import Targets
from tests.transformation.support import Warehouse, eventually, in_another_process


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def _snapshot_command() -> Command:
    return Command(("build",), select=("stg_meta__ads", "ads_history"))


def test_stopping_to_read_cancels_dbt_s_queries_and_ends_it(settings: Settings, warehouse: Warehouse) -> None:
    warehouse.make_meta_slow(300)
    with Targets(settings.dbt.project_dir).fresh("stopped", parse_key(settings, _snapshot_command())) as folder:
        process = DbtProcess(settings, _snapshot_command(), folder)
        events = process.events()
        for event in events:
            if event["info"]["name"] == "LogStartLine" and "unique_stg_meta__ads_ad_id" in event["info"]["msg"]:
                break
        assert eventually(lambda: warehouse.running_dbt_queries() > 0)
        events.close()
        assert process.exit_code not in (0, 1)
        assert not _alive(process.pid)
        assert eventually(lambda: warehouse.running_dbt_queries() == 0)


def test_dbt_ends_when_its_parent_is_killed_even_in_the_middle_of_a_query(
    settings: Settings, warehouse: Warehouse, tmp_path: Path
) -> None:
    warehouse.make_meta_slow(300)
    code = f"""
import pathlib, signal
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as for a process that a script started in the background
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.command import Command
from adinsights_orchestration.transformation.process import DbtProcess
settings = Settings()
command = Command(("build",), select=("stg_meta__ads", "ads_history"))
process = DbtProcess(settings, command, pathlib.Path({str(tmp_path)!r}))
print(process.pid, flush=True)
process.run()
"""
    at = settings.warehouse
    parent = in_another_process(
        code,
        ADINSIGHTS_DBT__PROJECT_DIR=str(settings.dbt.project_dir),
        ADINSIGHTS_WAREHOUSE__HOST=at.host,
        ADINSIGHTS_WAREHOUSE__PORT=str(at.port),
        ADINSIGHTS_WAREHOUSE__USER=at.user,
        ADINSIGHTS_WAREHOUSE__PASSWORD=at.password.get_secret_value(),
        ADINSIGHTS_WAREHOUSE__DBNAME=at.dbname,
    )
    assert parent.stdout is not None
    dbt = int(parent.stdout.readline())
    assert eventually(lambda: warehouse.running_dbt_queries() > 0, 120)
    os.kill(parent.pid, signal.SIGKILL)
    parent.communicate()
    assert eventually(lambda: not _alive(dbt))
    assert eventually(lambda: warehouse.running_dbt_queries() == 0)


def test_what_dbt_cannot_do_is_an_exit_code_and_an_error_in_its_words(settings: Settings, tmp_path: Path) -> None:
    process = DbtProcess(settings, Command(("build",), select=("state:nonsense",)), tmp_path)
    assert process.run() == 2
    assert any("nonsense" in error or "state" in error for error in process.errors)


def test_the_exit_code_of_a_process_that_runs_is_not_known_yet(settings: Settings, tmp_path: Path) -> None:
    process = DbtProcess(settings, Command(("parse",)), tmp_path)
    with pytest.raises(ValueError, match="not ended"):
        _ = process.exit_code
    process.stop()
    assert isinstance(process.exit_code, int)
