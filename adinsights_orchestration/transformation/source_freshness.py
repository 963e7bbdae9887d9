"""How old the newest raw row of each table is: dbt's source freshness, as checks.

Belongs here: running `dbt source freshness` and reporting its verdicts. Does not belong here: per-tenant freshness
(the newest row of all tenants says nothing about one of them). The checks stand on `raw/<provider>`, an asset of its
own that nothing materializes: a check without partitions on the provider's partitioned asset would be planned in
every sync of any partition and, not being evaluated there, show as failed; on a staging model every build would run
dbt once more for it.
"""

# No postponed annotations: Dagster reads the type of an op's context.
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from adinsights_orchestration.dagster_internals.types import AssetJob
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.freshness.evaluate import CLOCK_SKEW
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.owners import DATA_ENG
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider, Registry
from adinsights_orchestration.tenants.nights import nightly
from adinsights_orchestration.tenants.slots import first_planned
from adinsights_orchestration.tenants.store import load_registry
from adinsights_orchestration.transformation.command import Command, default_providers, parse_key, providers_argument
from adinsights_orchestration.transformation.process import DbtError, DbtProcess, Event
from adinsights_orchestration.transformation.project import Project, Props, dagster_meta
from adinsights_orchestration.transformation.targets import MAKE_ROOM, Targets
from adinsights_orchestration.unattended import declared, queue_tags, schedule_status

JOB = "dbt_source_freshness"
_ARTIFACT = "sources.json"
_PASS, _WARN, _ERROR = "pass", "warn", "error"
_NEVER = "0001-01-01"  # what dbt calls the newest row of an empty table
_UNPLANNED = ", counted from the next planned sync where that is further off"


def build_source_freshness(settings: Settings, store: OpsStore, project: Project) -> dg.Definitions:
    """Returns the assets `raw/<provider>`, a check for each of their tables, the job that evaluates them."""
    watched = {uid: props for uid, props in project.sources.items() if _is_watched(project, uid, props)}
    if not watched:
        return dg.Definitions()
    checks = _checks(settings, store, project, watched)
    job = dg.define_asset_job(
        JOB,
        selection=dg.AssetSelection.checks(checks),
        description="Looks how old the newest raw row of each table is. Cheap: one query per table.",
        tags={"adinsights/kind": "dbt", **queue_tags(settings, Automation.DBT_FRESHNESS)},
        executor_def=dg.in_process_executor,
    )
    return dg.Definitions(
        assets=[_asset(settings, project, provider) for provider in project.providers],
        asset_checks=[checks],
        jobs=[job],
        schedules=_schedules(settings, job),
    )


def _is_watched(project: Project, unique_id: str, props: Props) -> bool:
    freshness = props.get("freshness") or {}
    has_limit = any((freshness.get(limit) or {}).get("count") for limit in ("warn_after", "error_after"))
    return has_limit and any(unique_id in sources for sources in project.providers.values())


def _checks(
    settings: Settings, store: OpsStore, project: Project, watched: Mapping[str, Props]
) -> dg.AssetChecksDefinition:
    # An hourly limit is for tables that are synced hourly; where that is once a night, each is a day longer.
    allowed = timedelta(days=1) if nightly(settings) is not None else timedelta()
    specs = {unique_id: _spec(project, unique_id, props, allowed) for unique_id, props in watched.items()}

    @dg.multi_asset_check(
        name="source_freshness",  # Dagster wants the names of ops and jobs apart
        specs=list(specs.values()),
        can_subset=True,
        description="Runs `dbt source freshness`.",
    )
    def dbt_source_freshness(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        wanted = {uid: spec for uid, spec in specs.items() if spec.key in context.selected_asset_check_keys}
        with proof_of_life(context.op_execution_context, store):
            verdicts = _run(settings, [_selector(watched[unique_id]) for unique_id in wanted])
        registry = load_registry(store)
        for unique_id, spec in wanted.items():
            verdict = verdicts.get(unique_id, {"error": "dbt did not look at it"})
            limits = watched[unique_id]["freshness"]
            provider = Provider(spec.asset_key.path[-1])
            yield _result(spec, verdict, limits, allowed or _without_a_plan(registry, provider, verdict, limits))

    return dbt_source_freshness


def _spec(project: Project, unique_id: str, props: Props, allowed: timedelta) -> dg.AssetCheckSpec:
    [provider] = [provider for provider, sources in project.providers.items() if unique_id in sources]
    return dg.AssetCheckSpec(
        name=f"freshness_{props['name']}",
        asset=_key(provider),
        description=f"The newest row of {props['source_name']}.{props['name']} {_limits(props['freshness'])}"
        + (", each a day later here: connections sync once a night." if allowed else f"{_UNPLANNED}."),
    )


def _limits(freshness: Mapping[str, Any]) -> str:
    words = {"warn_after": "warns", "error_after": "fails"}
    set_limits = [(verb, freshness.get(limit) or {}) for limit, verb in words.items()]
    return ", ".join(
        f"{verb} after {limit['count']} {limit['period']}s" for verb, limit in set_limits if limit.get("count")
    )


def _asset(settings: Settings, project: Project, provider: Provider) -> dg.AssetSpec:
    props = project.sources[project.providers[provider][0]]
    tables = ", ".join(f"`{project.sources[uid]['name']}`" for uid in project.providers[provider])
    return dg.AssetSpec(
        key=_key(provider),
        deps=[dg.AssetKey(provider.asset_path)],
        description=(
            f"{provider.label}'s raw tables, all tenants together: {tables}. Holds dbt's source freshness."
            "\n\n**When it is late:** no tenant's data arrives; see the partitions of the asset before it."
        ),
        group_name="raw",
        kinds={"postgres"},
        owners=list(dagster_meta(props).get("owners") or (DATA_ENG,)),  # some sources name nobody
        metadata={"runbook": dg.MetadataValue.url(f"{settings.runbook_url}#a-connection-does-not-sync")},
    )


def _key(provider: Provider) -> dg.AssetKey:
    return dg.AssetKey(["raw", str(provider)])


def _selector(props: Props) -> str:
    return f"source:{props['source_name']}.{props['name']}"


def _run(settings: Settings, selectors: list[str]) -> dict[str, Props]:
    """Returns dbt's verdict on each table, by unique id; `error` instead of an age where it could not look."""
    providers = providers_argument(default_providers(settings.dbt.project_dir), settings.dbt.enabled_providers)
    command = Command(("source", "freshness"), select=tuple(selectors), providers=providers)
    with Targets(settings.dbt.project_dir).fresh(JOB, parse_key(settings, command)) as folder:
        process = DbtProcess(settings, command, folder)
        # Tables that dbt could not look at are in its events only.
        failures = dict(found for event in process.events() if (found := _failure(event)))
        return {**failures, **_verdicts(folder, process)}


def _failure(event: Event) -> tuple[str, Props] | None:
    if event["info"]["name"] != "RunResultError":
        return None
    return event["data"]["node_info"]["unique_id"], {"error": str(event["data"]["msg"]).strip()}


def _verdicts(folder: Path, process: DbtProcess) -> dict[str, Props]:
    try:
        content = json.loads((folder / _ARTIFACT).read_bytes())
    except (FileNotFoundError, ValueError):
        if process.unwritable is not None:
            problem = (
                f"source freshness was not carried out: dbt could not write into its folder ({process.unwritable})"
            )
            raise DbtError(problem, place=str(folder), next_step=MAKE_ROOM) from None
        reason = process.errors[-1].strip() if process.errors else f"dbt ended with code {process.exit_code}"
        raise DbtError(
            f"source freshness was not carried out: {reason}", next_step=f"dbt's own log is {folder / 'dbt.log'}."
        ) from None
    return {verdict["unique_id"]: verdict for verdict in content["results"] if "max_loaded_at" in verdict}


def _without_a_plan(registry: Registry, provider: Provider, verdict: Props, limits: Props) -> timedelta:
    """Returns how long after its newest row no sync was to bring a table another; zero where its limits allow for that.

    Limits are meant for the hours in which syncs are planned: connections that rest from 22:00 to 06:00 are no reason
    to call a table of two hours late at midnight. With a registry that was never read the limits hold as they are.
    """
    if not registry.connections or not _has_rows(verdict):
        return timedelta()
    newest = datetime.fromisoformat(str(verdict["max_loaded_at"]))
    newest = newest if newest.tzinfo else newest.replace(tzinfo=UTC)
    planned = first_planned(registry, provider, newest + CLOCK_SKEW)
    resting = _age(verdict) if planned is None else planned - newest
    return timedelta() if _status(resting, limits) == _PASS else resting


def _has_rows(verdict: Props) -> bool:
    return "max_loaded_at" in verdict and not str(verdict["max_loaded_at"]).startswith(_NEVER)


def _age(verdict: Props) -> timedelta:
    return timedelta(seconds=round(float(verdict["max_loaded_at_time_ago_in_s"])))


def _result(spec: dg.AssetCheckSpec, verdict: Props, limits: Props, allowed: timedelta) -> dg.AssetCheckResult:
    if not _has_rows(verdict):
        # A table that Airbyte has not created yet, or one without rows: nothing arrived, but nothing is late either.
        reason = str(verdict.get("error") or "There is no row yet.")
        return _verdict(spec, passed=False, severity=dg.AssetCheckSeverity.WARN, description=reason)
    age = _age(verdict)
    status = _status(age - allowed, limits) if allowed else verdict["status"]
    return _verdict(
        spec,
        passed=status == _PASS,
        severity=dg.AssetCheckSeverity.ERROR if status == _ERROR else dg.AssetCheckSeverity.WARN,
        description=f"The newest row is {age} old.",
        metadata={
            "newest row": dg.MetadataValue.text(str(verdict["max_loaded_at"])),
            "age in hours": age.total_seconds() / 3600,
        },
    )


def _status(age: timedelta, limits: Props) -> str:
    """Dbt's verdict on another age than the table's own."""
    for limit, status in (("error_after", _ERROR), ("warn_after", _WARN)):
        said = limits.get(limit) or {}
        if said.get("count") and age > timedelta(**{f"{said['period']}s": said["count"]}):
            return status
    return _PASS


def _verdict(spec: dg.AssetCheckSpec, **fields: Any) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(asset_key=spec.asset_key, check_name=spec.name, **fields)


def _schedules(settings: Settings, job: AssetJob) -> list[dg.ScheduleDefinition]:
    unattended = declared(settings, Automation.DBT_FRESHNESS)
    if unattended is None:
        return []
    assert unattended.cron is not None
    return [
        dg.ScheduleDefinition(
            name=Automation.DBT_FRESHNESS.schedule,
            job=job,
            cron_schedule=unattended.cron,
            execution_timezone=settings.home_timezone,
            default_status=schedule_status(settings, unattended),
            description="Keeps the ages of the raw tables current, also while nothing arrives.",
        )
    ]
