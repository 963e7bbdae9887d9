"""A run and a tick that fail on purpose with canaries in everything they say; prints what Dagster kept of them.

Run by test_dagster_logs in a process of its own. Log lines go to standard error, one JSON document to standard output.
"""

import json
import logging
import sys
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEventType
from dagster._core.test_utils import instance_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import EmptyWorkspaceTarget
from dagster._utils.error import serializable_error_info_from_exc_info
from dagster_graphql.test.utils import execute_dagster_graphql

from adinsights_orchestration.dagster_internals.process_logs import redact_errors
from adinsights_orchestration.logs import configure_dagster_logging, get_logger
from adinsights_orchestration.redaction import redact
from adinsights_orchestration.settings import load_settings

SECRET = "canary-warehouse-password"
PERSON = "jane.doe@agency.example from 203.0.113.77"


@dg.op
def leaky(context: dg.OpExecutionContext) -> None:
    context.log.info("from the context %s %s", SECRET, PERSON)
    logging.getLogger("dbt").info("1 of 1 OK with %s", SECRET)
    get_logger("adinsights_orchestration.sample").info(
        f"structured {SECRET}", job=17, connection="acme/meta-1f0c2a9b", api_key="canary-token"
    )
    logging.getLogger("a.library").warning("from a library: password=%s, %s", "canary-pg-password", PERSON)
    try:
        raise KeyError(SECRET)
    except KeyError as error:
        raise RuntimeError(f"connecting with postgresql://role:{SECRET}@db/warehouse for {PERSON}") from error


@dg.job(tags={"adinsights/correlation_id": "c0ffee"})
def canaries() -> None:
    leaky()


@dg.sensor(job=canaries)
def leaky_sensor(context: dg.SensorEvaluationContext) -> None:
    context.log.info("in a tick %s", SECRET)
    try:
        raise KeyError(SECRET)
    except KeyError:
        context.log.exception("caught in a tick")
    raise LookupError(f"access_token=canary-token {PERSON} canary-pg-password")


def _tick_error(instance: dg.DagsterInstance) -> str:
    try:
        with dg.build_sensor_context(instance=instance) as context:
            leaky_sensor(context)
    except Exception:  # noqa: BLE001
        return serializable_error_info_from_exc_info(sys.exc_info()).to_string()
    return ""


def _compute_log(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the UI shows as the step's standard error."""
    captured = [
        entry for entry in instance.all_logs(run_id) if entry.dagster_event_type == DagsterEventType.LOGS_CAPTURED
    ]
    key = [run_id, "compute_logs", captured[0].get_dagster_event().logs_captured_data.file_key]
    return (instance.compute_log_manager.get_log_data(key).stderr or b"").decode()


def _graphql(instance: dg.DagsterInstance, run_id: str) -> dict[str, Any]:
    """The run's log as the UI asks for it."""
    query = """query ($id: ID!) { logsForRun(runId: $id) { ... on EventConnection { events {
        __typename ... on MessageEvent { message }
        ... on ExecutionStepFailureEvent { error { message stack causes { message } } }
        ... on RunFailureEvent { error { message } } } } } }"""
    with WorkspaceProcessContext(instance, EmptyWorkspaceTarget()) as process:
        answer = execute_dagster_graphql(process.create_request_context(), query, variables={"id": run_id})
    return dict(answer.data)


def main() -> None:
    configure_dagster_logging(load_settings(), "pipelines")
    redact_errors(redact)  # a second code location in one process must not wrap the first one's wrapping
    overrides = {"python_logs": {"python_log_level": "INFO", "managed_python_loggers": ["adinsights_orchestration"]}}
    with instance_for_test(overrides=overrides) as instance:
        result = canaries.execute_in_process(instance=instance, raise_on_error=False)
        kept = {
            "run_id": result.run_id,
            "events": [str(entry) + entry.user_message for entry in instance.all_logs(result.run_id)],
            "graphql": _graphql(instance, result.run_id),
            "ticks": _tick_error(instance),
            "compute_log": _compute_log(instance, result.run_id),
        }
    sys.stdout.write(json.dumps(kept))


if __name__ == "__main__":
    main()
