"""The whole local stack, as a person runs it, with kills at random points: `make soak`.

One stack lives through all of this, as on a laptop: each test leaves it down and takes it up as it finds it, so that
any of them also runs alone. A failure prints the seed of its random points; ADINSIGHTS_SOAK_SEED repeats them.
"""

from __future__ import annotations

import os
import random
import re
import secrets
import signal
import sys
import time
from collections.abc import Iterator

import psutil
import pytest

from adinsights_orchestration.local import seed
from adinsights_orchestration.tenants.model import Provider
from tests.local.stack_support import (
    SETTLED_DAYS,
    Site,
    assert_every_job_is_reported_once,
    assert_marts_show_what_the_platforms_know,
    assert_rows_are_the_platforms,
    new_site,
    wait_until,
)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus locationOrLoadError "
LOCATIONS += "{ __typename } } } } }"
SENSORS = "{ repositoriesOrError { ... on RepositoryConnection { nodes { location { name } sensors { name } } } } }"
# One by one: Dagster's answer for several at once holds the ticks of one of them only.
SENSOR = """query ($selector: SensorSelector!) { sensorOrError(sensorSelector: $selector) { ... on Sensor {
    sensorState { status ticks(limit: 1) { status error { message } } } } } }"""
DAEMONS = "{ instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }"
BUSY = "select 1 as busy from adinsights_ops.sync_intent where state in ('planned', 'starting', 'running') limit 1"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with new_site() as site:
        yield site


@pytest.fixture
def chance() -> random.Random:
    """Where to kill; printed, so that a failure can be repeated."""
    chosen = os.environ.get("ADINSIGHTS_SOAK_SEED") or str(secrets.randbelow(10**9))
    sys.stdout.write(f"ADINSIGHTS_SOAK_SEED={chosen}\n")
    return random.Random(chosen)


def assert_data_is_whole(site: Site) -> None:
    """With the data plane up: nothing lost, nothing doubled, in the raw tables and in the marts."""
    assert_rows_are_the_platforms(site)
    assert_marts_show_what_the_platforms_know(site)


def bring_up_to_date(site: Site) -> None:
    """With everything up: syncs every connection, the one that only runs by hand too, and builds all models."""
    site.run("sync", "--all")
    wait_until(lambda: not site.query("dagster", BUSY), 120, "syncs go on for ever")
    site.run("dbt", "build")


def assert_data_is_whole_while_down(site: Site) -> None:
    """The same, with the data plane started for it."""
    site.stack.start_data_plane()
    try:
        assert_data_is_whole(site)
    finally:
        site.stack.stop()


def assert_a_cycle_was_shown(said: str) -> None:
    """The table at the end of a demo: eight connections, every model, the place of the results."""
    assert re.search(r"registry: 3 tenants, 8 connections to sync", said)
    rows = re.findall(r"^ *(\S+/\S+) +(\S+) +succeeded +[\d,]+ +(?:<1|\d+) ", said, flags=re.MULTILINE)
    assert len({key for key, _ in rows}) == 8, said
    assert re.search(r"^ *\d+ +yes +[\d.]+ +\S+run_results\.json", said, flags=re.MULTILINE), said
    assert "one cycle, all well" in said


def test_a_demo_on_nothing_and_one_on_what_it_left_run_a_cycle_show_it_and_leave_no_process(site: Site) -> None:
    for _ in range(2):
        assert_a_cycle_was_shown(site.run("local", "demo"))
        site.assert_nothing_runs()
    assert_data_is_whole_while_down(site)


def test_a_demo_killed_at_any_moment_leaves_no_process_and_the_next_one_is_whole(
    site: Site, chance: random.Random
) -> None:
    for longest in (3, 8, 25, 40):
        site.start("local", "demo").kill_after(chance.uniform(0.2, longest))
        site.assert_nothing_runs()
    assert_a_cycle_was_shown(site.run("local", "demo"))
    site.assert_nothing_runs()
    assert_data_is_whole_while_down(site)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_stops_what_it_started(site: Site, chance: random.Random, number: signal.Signals) -> None:
    command = site.start("local", "demo")
    command.wait_for("connections to sync")
    time.sleep(chance.uniform(0, 25))
    command.process.send_signal(number)
    assert command.wait(90) == 130, command.said
    assert "stopped again: service, postgres" in command.said
    site.assert_nothing_runs()


def test_an_up_killed_while_it_starts_is_followed_by_one_that_works(site: Site, chance: random.Random) -> None:
    for longest in (2, 6, 20, 30):
        site.start("local", "up").kill_after(chance.uniform(0.2, longest))
    command = site.start("local", "up")
    assert command.wait() == 0, command.said
    site.assert_no_orphans()
    assert_the_ui_shows_a_running_automation(site)
    bring_up_to_date(site)
    assert_data_is_whole(site)
    assert_every_job_is_reported_once(site)
    assert "stopped: dagster, service, postgres" in site.run("local", "down")
    site.assert_nothing_runs()


def test_whatever_is_killed_in_the_middle_of_a_cycle_up_again_mends_it(site: Site, chance: random.Random) -> None:
    site.run("local", "up", "--no-follow")
    for victim in chance.sample(["dagster", "everything of dagster", "service", "postgres", "all"], 5):
        launched = site.start("sync", "--all", "--detach")
        assert launched.wait() == 0, launched.said
        time.sleep(chance.uniform(0, 25))
        sys.stdout.write(f"killing {victim}\n")
        for process in _members(site, victim):
            process.kill()
        site.run("local", "up", "--no-follow")
        site.assert_no_orphans()
    bring_up_to_date(site)
    assert_the_ui_shows_a_running_automation(site)
    assert_data_is_whole(site)
    assert_every_job_is_reported_once(site)
    site.run("local", "down")
    site.assert_nothing_runs()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_stops_what_it_started(site: Site, chance: random.Random, number: signal.Signals) -> None:
    command = site.start("local", "up")
    command.wait_for("starting Dagster")
    time.sleep(chance.uniform(0, 25))
    if command.process.poll() is None:
        command.process.send_signal(number)
        assert command.wait(120) == 130, command.said
    else:
        site.run("local", "down")
    site.assert_nothing_runs()


def test_a_cleared_connection_s_rows_leave_the_marts_without_anybody_s_help_and_a_refresh_brings_them_back(
    site: Site,
) -> None:
    site.run("local", "up", "--no-follow")
    bring_up_to_date(site)
    before = _searches(site)
    (connection,) = (one for one in seed.connections() if one.provider is Provider.SEARCH_CONSOLE)  # runs by hand only
    whose = str(seed.tenant_id(connection.tenant))
    assert before[whose] > 0
    site.run("clear", str(connection.connection_id), "--yes")
    wait_until(lambda: whose not in _searches(site), 300, lambda: f"the marts still hold {_searches(site)}")
    site.run("refresh", str(connection.connection_id), "--yes")
    wait_until(lambda: _searches(site) == before, 300, lambda: f"{before} became {_searches(site)}")
    assert_data_is_whole(site)
    assert_every_job_is_reported_once(site)
    site.run("local", "down")


def _searches(site: Site) -> dict[str, int]:
    """Clicks of each tenant's searches in the dashboards' table."""
    table = f"{site.local.dbt_schema}.fct_search_performance_daily"
    settled = f"date_day < current_date - {SETTLED_DAYS}"  # what is younger may still change at the source
    query = f"select tenant_id::text, sum(clicks)::bigint as clicks from {table} where {settled} group by 1"
    rows = site.query("warehouse", query)
    return {row["tenant_id"]: row["clicks"] for row in rows}


def test_a_down_from_another_shell_ends_an_up_that_starts_and_one_that_shows_its_first_cycle(site: Site) -> None:
    for words in ("starting Dagster", "its first cycle"):
        command = site.start("local", "up")
        command.wait_for(words)
        site.run("local", "down")
        code = command.wait(60)
        # Where nothing was due the first cycle is over at once, and so it may be before the stack is down.
        assert code != 0 or "The local stack is up" in command.said, command.said
        site.assert_nothing_runs()
    assert "nothing was running" in site.run("local", "down")


def assert_the_ui_shows_a_running_automation(site: Site) -> None:
    """Both code locations are loaded, every daemon is healthy, every sensor runs and has ticked without an error."""
    entries = site.graphql(LOCATIONS)["workspaceOrError"]["locationEntries"]
    loaded = {entry["name"]: entry["locationOrLoadError"]["__typename"] for entry in entries}
    assert loaded == {"pipelines": "RepositoryLocation", "monitoring": "RepositoryLocation"}
    wait_until(lambda: not _unwell(site), 120, lambda: f"unwell: {_unwell(site)}")


def _unwell(site: Site) -> list[str]:
    daemons = site.graphql(DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
    unwell = [daemon["daemonType"] for daemon in daemons if daemon["required"] and not daemon["healthy"]]
    repositories = site.graphql(SENSORS)["repositoriesOrError"]["nodes"]
    sensors = [(each["location"]["name"], sensor["name"]) for each in repositories for sensor in each["sensors"]]
    assert {"registry_refresh", "ingestion_trigger", "ingestion_observe", "dbt_refresh"} <= {
        name for _, name in sensors
    }
    for location, name in sensors:
        selector = {"repositoryLocationName": location, "repositoryName": "__repository__", "sensorName": name}
        state = site.graphql(SENSOR, selector=selector)["sensorOrError"]["sensorState"]
        ticks = state["ticks"]
        if state["status"] != "RUNNING" or not ticks or ticks[0]["status"] == "FAILURE":
            unwell.append(f"{name}: {state['status']}, {ticks[0]['error'] if ticks else 'no tick'}")
    return unwell


def _members(site: Site, victim: str) -> list[psutil.Process]:
    """The processes of the stack that are to be killed at once."""
    stack = site.stack
    main = {"dagster": stack.dagster.find, "service": stack.service.find, "postgres": stack.postgres.find}
    if victim == "all":
        return site.processes()
    if victim == "everything of dagster":
        root = stack.dagster.find()
        return [] if root is None else [root, *root.children(recursive=True)]
    process = main[victim]()
    return [] if process is None else [process]
