"""What Dagster's webserver says of its code locations: the question, and what an answer means.

Belongs here: both, for the probe and for the doctor. Does not belong here: asking, and what follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from adinsights_orchestration.health.web import Trouble, one_line

EXPECTED_LOCATIONS = ("pipelines", "monitoring")
LOCATIONS_QUERY = """{ workspaceOrError { __typename ... on PythonError { message } ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename ... on PythonError { message causes { message } } } } } } }"""


def locations_of(body: Mapping[str, Any]) -> dict[str, tuple[str, str]] | Trouble:
    """Each location's status (`loaded`, `loading`, `error`) and error, of an answer to the query."""
    try:
        workspace = body["data"]["workspaceOrError"]
        if workspace["__typename"] != "Workspace":
            return Trouble("workspace_error", one_line(workspace.get("message", "no workspace"), 160), 0.0)
        return {str(entry["name"]): _entry(entry) for entry in workspace["locationEntries"]}
    except (KeyError, TypeError, AttributeError):
        return Trouble("not_dagster", "something else than Dagster answers", 0.0)


def _entry(entry: Mapping[str, Any]) -> tuple[str, str]:
    loaded = entry.get("locationOrLoadError") or {}
    if loaded.get("__typename") == "PythonError":
        # Dagster's own message says only that loading failed; the innermost cause says why.
        messages = [loaded.get("message"), *(cause.get("message") for cause in loaded.get("causes") or ())]
        lines = str(messages[-1] or "").strip().splitlines()
        return "error", one_line(lines[0] if lines else "", 160)
    return ("loading", "") if entry.get("loadStatus") == "LOADING" or not loaded else ("loaded", "")
