"""The backend's HTTP API, and what it reads of ours.

Belongs here: whether it answers, and whether its dbt health endpoint reads the file that we publish. Does not belong
here: its database (`databases`), what its health endpoints say over time (health probes).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from adinsights_orchestration.doctor.checks.machine import host_of
from adinsights_orchestration.doctor.model import Verdict, fail, ok, skipped, warn
from adinsights_orchestration.doctor.world import CONNECT_SECONDS, World


def api(world: World) -> Verdict:
    """`GET /api/health/` answers as the backend does."""
    url = world.settings.backend.url
    reply = get(f"{url}/api/health/")
    if isinstance(reply, str):
        return fail(f"the backend at {host_of(url)} does not answer ({reply})", "Check ADINSIGHTS_BACKEND__URL.")
    if json_of(reply).get("status") != "ok":
        kind = reply.headers.get("content-type", "nothing").split(";")[0]
        return fail(
            f"something else than the backend answers at {host_of(url)} (HTTP {reply.status_code}, {kind})",
            "Check ADINSIGHTS_BACKEND__URL and the proxy before it.",
        )
    return ok(f"the backend answers at {host_of(url)}")


def run_results(world: World) -> Verdict:
    """Run results can be published where they should be."""
    path = world.settings.dbt.run_results_path.absolute()
    folder = next(parent for parent in path.parents if parent.exists())
    if not os.access(folder, os.W_OK | os.X_OK):
        return fail(
            f"{folder} is not writable for this user", "Correct ADINSIGHTS_DBT__RUN_RESULTS_PATH, or its owner."
        )
    if not path.exists():
        return ok(f"{path} will be made by the first build")
    if document(path) is None:
        return fail(f"{path} holds no run results", "Remove it and run `adinsights dbt build`.")
    return ok(f"{path} holds run results of {document(path) or 'nothing'}")


def run_results_read(world: World) -> Verdict:
    """The backend's dbt health endpoint reads the file that is published, not another one."""
    reply = get(f"{world.settings.backend.url}/api/health/dbt/")
    if isinstance(reply, str):
        return skipped("the backend does not answer")
    answer = json_of(reply)
    theirs = answer.get("run_results_path")
    if theirs is None:
        return warn("the backend's dbt health endpoint does not say which file it reads", "Look at its own settings.")
    ours = world.settings.dbt.run_results_path.absolute()
    if Path(theirs) == ours or _same_file(Path(theirs), ours):
        return ok("the backend reads the published file")
    published = document(ours)
    if published is not None and answer.get("generated_at") == published:
        return ok("the backend reads the published file, under another path")
    return warn(
        f"the backend reads {theirs}, run results are published to {ours}",
        "Make both one file: ADINSIGHTS_DBT__RUN_RESULTS_PATH here, or the backend's own setting.",
    )


def get(url: str) -> httpx.Response | str:
    """The reply, whatever its code, or why there is none."""
    try:
        return httpx.get(url, timeout=CONNECT_SECONDS, trust_env=False, follow_redirects=False)
    except httpx.HTTPError as error:
        return str(error) or type(error).__name__
    except httpx.InvalidURL:
        return "not an address"


def json_of(reply: httpx.Response) -> Mapping[str, Any]:
    """The reply's JSON object; an empty one when it is something else."""
    try:
        found = reply.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def document(path: Path) -> str | None:
    """The `generated_at` of the run results at `path`; None when there are none."""
    try:
        return str(json.loads(path.read_text())["metadata"]["generated_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
