"""Dagster: its storage, its daemons, its UI, the code locations.

Belongs here: whether the control room itself is in order. Does not belong here: any run or asset.
"""

from __future__ import annotations

from pathlib import Path

import httpx

from adinsights_orchestration.dagster_storage import VARIABLES, storage_problem
from adinsights_orchestration.doctor.checks.backend import get, json_of
from adinsights_orchestration.doctor.checks.machine import host_of
from adinsights_orchestration.doctor.model import Verdict, fail, ok, skipped, some, warn
from adinsights_orchestration.doctor.world import CONNECT_SECONDS, World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.health.code_locations import EXPECTED_LOCATIONS, LOCATIONS_QUERY, locations_of
from adinsights_orchestration.health.web import Trouble

_CONFIGURATION = "dagster.yaml"


def home(world: World) -> Verdict:
    """DAGSTER_HOME holds dagster.yaml, and the variables that it names are set."""
    folder = world.environment.get("DAGSTER_HOME")
    if not folder:
        return warn(
            "DAGSTER_HOME is not set: runs would vanish with their process", "Set it to the folder of dagster.yaml."
        )
    configuration = Path(folder) / _CONFIGURATION
    if not configuration.is_file():
        return fail(f"there is no {configuration}", f"Put the project's {_CONFIGURATION} there.")
    text = configuration.read_text()
    missing = [
        name for name in (*VARIABLES, "DAGSTER_COMPUTE_LOG_DIR") if name in text and not world.environment.get(name)
    ]
    if missing:
        return fail(f"{_CONFIGURATION} needs {some(missing)}", "Set them; deploy/*.env.example shows how.")
    return ok(f"{configuration}")


def storage(world: World) -> Verdict:
    """Dagster's instance loads, and its storage answers."""
    if not world.environment.get("DAGSTER_HOME"):
        return skipped("DAGSTER_HOME is not set")
    problem = storage_problem(world.environment, CONNECT_SECONDS)
    if problem:
        return fail(f"Dagster's storage does not answer ({problem})", "Check the DAGSTER_PG_* variables.")
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        kind = type(instance.event_log_storage).__name__
        runs = instance.get_runs_count()
    if "Sqlite" in kind and world.settings.environment is not Environment.LOCAL:
        return warn(
            "Dagster's storage is SQLite", f"Use the project's {_CONFIGURATION}: several processes need Postgres."
        )
    return ok(f"{runs} runs in {kind}")


def daemons(world: World) -> Verdict:
    """Dagster's daemons beat: without them nothing is scheduled, observed or queued."""
    if not world.environment.get("DAGSTER_HOME") or storage_problem(world.environment, CONNECT_SECONDS):
        return skipped("Dagster's storage does not answer")
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        statuses = instance.get_daemon_statuses()
    silent = sorted(name for name, status in statuses.items() if status.required and not status.healthy)
    if silent:
        return fail(f"no heartbeat from {some(silent)}", "Start `dagster-daemon run` (one process), or see its log.")
    return ok(f"{sum(status.required for status in statuses.values())} daemons beat")


def ui(world: World) -> Verdict:
    """The UI's address leads to Dagster's webserver."""
    url = world.settings.dagster.asked_url
    reply = get(f"{url}/server_info")
    if isinstance(reply, str):
        return fail(
            f"nothing answers at {host_of(url)} ({reply})",
            f"Start `dagster-webserver`, or correct {_address(world)}.",
        )
    version = json_of(reply).get("dagster_version")
    if version is None:
        return fail(
            f"something else than Dagster answers at {host_of(url)}",
            "Set ADINSIGHTS_DAGSTER__API_URL to the webserver itself, past any login, or free the port.",
        )
    return ok(f"Dagster {version} at {host_of(url)}")


def locations(world: World) -> Verdict:
    """Both code locations are loaded."""
    entries = _location_entries(world.settings.dagster.asked_url)
    if entries is None:
        return skipped("the UI does not answer")
    failed = [f"{name}: {error or 'no message'}" for name, (status, error) in entries.items() if status == "error"]
    if failed:
        return fail(f"not loaded: {some(failed)}", "Mend it and reload the location in the UI (Deployment).")
    missing = sorted(set(EXPECTED_LOCATIONS) - set(entries))
    if missing:
        return warn(f"the workspace does not name {some(missing)}", "Load workspace.yaml, which has both.")
    loading = [name for name, (status, _) in entries.items() if status == "loading"]
    if loading:
        return warn(f"still loading: {some(loading)}", "Ask again in a minute.")
    return ok(f"{some(entries)} are loaded")


def _address(world: World) -> str:
    return f"ADINSIGHTS_DAGSTER__{'API' if world.settings.dagster.api_url else 'UI'}_URL"


def _location_entries(url: str) -> dict[str, tuple[str, str]] | None:
    try:
        body = {"query": LOCATIONS_QUERY}
        found = locations_of(httpx.post(f"{url}/graphql", json=body, timeout=CONNECT_SECONDS, trust_env=False).json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
    return None if isinstance(found, Trouble) else found
