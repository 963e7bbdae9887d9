"""dbt's events as Dagster's: what was built becomes a materialization, what was tested a check result.

Belongs here: that translation. Does not belong here: running dbt (`builds`). Only results that the run selected become
check results: dbt also runs tests that touch a selected node from outside, and their verdict stays in the log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt.core.dbt_cli_event import DbtCoreCliEventMessage

from adinsights_orchestration.transformation.process import Event
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.translator import AdinsightsDbtTranslator

_TEST_RESULT = "LogTestResult"
_PASSED, _WARNED = "pass", "warn"
_FAILED = "error"


_NODE_RESULTS = ("LogModelResult", "LogSeedResult", "LogSnapshotResult")


def once_each(events: Iterable[Event]) -> Iterator[Event]:
    """Passes events on, but of each node and test only the first result that is one.

    A build of two passes says some things twice, and a step may say each thing once. A skipped node has not said
    anything yet; a test that failed has, and stays failed however the second pass goes without the rows it failed on.
    """
    said: set[str] = set()
    for event in events:
        node = event["data"].get("node_info") or {}
        name = event["info"]["name"]
        if name == _TEST_RESULT or (name in _NODE_RESULTS and node.get("node_status") != _FAILED):
            if node["unique_id"] in said:
                continue
            said.add(node["unique_id"])
        yield event


def materialized(
    event: Event, project: Project, translator: AdinsightsDbtTranslator, context: dg.AssetExecutionContext | None
) -> Iterator[dg.Output[None] | dg.AssetMaterialization]:
    """Yields the output (in an asset's step) or materialization (anywhere else) of a node that was built."""
    if (event["data"].get("node_info") or {}).get("unique_id") not in project.nodes:
        return
    message = DbtCoreCliEventMessage(raw_event=dict(event), event_history_metadata={})
    for found in message.to_default_asset_events(dict(project.manifest), translator, context):
        if isinstance(found, dg.Output | dg.AssetMaterialization):
            yield found


def check_result(event: Event, project: Project) -> dg.AssetCheckResult | None:
    """Returns the result of a test that ran; None for any other event."""
    unique_id = (event["data"].get("node_info") or {}).get("unique_id")
    if event["info"]["name"] != _TEST_RESULT or unique_id not in project.checked_nodes:
        return None
    status = str(event["data"]["node_info"]["node_status"])
    return dg.AssetCheckResult(
        asset_key=dg.AssetKey(project.key_path(project.checked_nodes[unique_id])),
        check_name=project.tests[unique_id]["name"],
        passed=status == _PASSED,
        severity=dg.AssetCheckSeverity.WARN if status == _WARNED else dg.AssetCheckSeverity.ERROR,
        description=None if status == _PASSED else str(event["info"]["msg"]).strip(),
        metadata=_metadata(event["data"], unique_id, status),
    )


def _metadata(data: Mapping[str, Any], unique_id: str, status: str) -> dict[str, Any]:
    failures = data.get("num_failures")
    found = {"unique_id": unique_id, "status": status, "Execution Duration": float(data.get("execution_time") or 0.0)}
    return found if failures is None else {**found, "dagster_dbt/failed_row_count": int(failures)}
