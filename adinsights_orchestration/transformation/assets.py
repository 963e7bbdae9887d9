"""The dbt project as assets with checks, and the job that builds any part of it on demand.

Belongs here: the Dagster shell around `builds`. Does not belong here: when it runs (`automation`). All nodes are one
op, so that a build is one dbt process however many assets it has. The jobs' tag `adinsights/dbt` keeps builds apart in
the run queue; of runs that the UI makes of assets the pool `dbt` lets four begin, and those wait for each other's turn.
"""

# No postponed annotations: Dagster reads the config class off the functions' parameters.
import shlex
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext

import dagster as dg
from pydantic import Field

from adinsights_orchestration.dagster_internals.checks import evaluations
from adinsights_orchestration.dagster_internals.connections import keep_connections
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.builds import Build, Outcome, Request
from adinsights_orchestration.transformation.command import Command
from adinsights_orchestration.transformation.events import check_result, materialized, once_each
from adinsights_orchestration.transformation.newest import newest_states
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.selection import selected
from adinsights_orchestration.transformation.translator import AdinsightsDbtTranslator
from adinsights_orchestration.unattended import Quietly, as_ever

POOL = "dbt"
_DROP = "Providers that are left out and whose rows a full refresh may drop; it is refused otherwise."
_SET_OFF = "rule=~nightly_late|no_fresh_rows|dbt_stale"


class DbtAssetsConfig(dg.Config):
    """How to build the selected assets."""

    full_refresh: bool = False
    drop_rows_of: list[str] = Field(default_factory=list, description=_DROP)


def build_dbt_assets(
    settings: Settings,
    store: OpsStore,
    project: Project,
    translator: AdinsightsDbtTranslator,
    quietly: Quietly = as_ever,
) -> dg.AssetsDefinition:
    """Returns the assets of all of the project's nodes, with its tests as their checks.

    dagster-dbt's own decorator asks dbt which nodes "everything" selects, and imports its graph library for that: more
    than a third of what a load would cost beyond its libraries.
    """
    manifest = dict(project.manifest)

    @dg.multi_asset(
        name="dbt",
        specs=[translator.get_asset_spec(manifest, unique_id, None) for unique_id in project.nodes],
        check_specs=translator.check_specs(),
        can_subset=True,
        pool=POOL,
    )
    def dbt(context: dg.AssetExecutionContext, config: DbtAssetsConfig) -> Iterator[object]:
        chosen = _selected_tests(context, project)
        command = _command(context, project, chosen, config.full_refresh)
        build = _build(context, settings, store, project, command, config.drop_rows_of)
        with proof_of_life(context.op_execution_context, store), _at_work(quietly, context, config.full_refresh):
            for event in once_each(build.events()):
                yield from materialized(event, project, translator, context)
                result = check_result(event, project)
                if result is not None and event["data"]["node_info"]["unique_id"] in chosen:
                    yield result
            _conclude(context, build.outcome)

    return dbt


class DbtBuildConfig(dg.Config):
    """What to build, in dbt's own selection syntax; empty means everything."""

    select: str = ""
    exclude: str = ""
    full_refresh: bool = False
    drop_rows_of: list[str] = Field(default_factory=list, description=_DROP)


def build_dbt_job(
    settings: Settings,
    store: OpsStore,
    project: Project,
    translator: AdinsightsDbtTranslator,
    quietly: Quietly = as_ever,
) -> dg.JobDefinition:
    """Returns the job `dbt_build`.

    It is not an asset job: the assets of a run are planned before dbt's selection is known, and all that it then did
    not touch would show as failed when any of it fails. Its results are reported as they come instead.
    """

    @dg.op(
        name="build",  # Dagster wants the names of ops and jobs apart
        pool=POOL,
        out=dg.Out(dg.Nothing, is_required=False),  # a result would be stored, a file for each run
        description="`dbt build` with any selection. Reports what was built and tested on the assets themselves.",
    )
    def build_selected(context: dg.OpExecutionContext, config: DbtBuildConfig) -> Iterator[object]:
        select, exclude = tuple(shlex.split(config.select)), tuple(shlex.split(config.exclude))
        command = Command(("build",), select=select, exclude=exclude, full_refresh=config.full_refresh)
        build = _build(context, settings, store, project, command, config.drop_rows_of)
        results = []
        with proof_of_life(context, store), _at_work(quietly, context, config.full_refresh):
            for event in once_each(build.events()):
                yield from materialized(event, project, translator, None)
                result = check_result(event, project)
                results += [] if result is None else [result]
            yield from evaluations(context.instance, results)
            _conclude(context, build.outcome)

    @dg.job(
        name="dbt_build",
        description=(
            "Builds any part of the dbt project now. Config: `select` and `exclude` as for dbt, `full_refresh` to"
            " rebuild incremental models from the raw tables."
        ),
        tags={"adinsights/dbt": "build", "adinsights/kind": "dbt"},
        executor_def=dg.in_process_executor,
    )
    def dbt_build() -> None:
        build_selected()

    return dbt_build


def _selected_tests(context: dg.AssetExecutionContext, project: Project) -> frozenset[str]:
    checks = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
    return frozenset(
        test
        for test, node in project.checked_nodes.items()
        if (dg.AssetKey(project.key_path(node)), project.tests[test]["name"]) in checks
    )


def _command(context: dg.AssetExecutionContext, project: Project, tests: frozenset[str], full_refresh: bool) -> Command:
    keys = {dg.AssetKey(project.key_path(unique_id)): unique_id for unique_id in project.nodes}
    what = selected(project, {keys[key] for key in context.selected_asset_keys}, tests)
    return Command(
        ("build",),
        select=what.select,
        exclude=what.exclude,
        direct_tests_only=what.direct_tests_only,
        full_refresh=full_refresh,
    )


def _at_work(
    quietly: Quietly, context: dg.AssetExecutionContext | dg.OpExecutionContext, full_refresh: bool
) -> AbstractContextManager[object]:
    """Keeps quiet what a full refresh sets off: for hours no other build gets its turn, the nightly one included."""
    if not full_refresh:
        return nullcontext()
    return quietly(_SET_OFF, author=context.run.tags.get("user", context.job_name), reason="a full refresh is at work")


def _build(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    settings: Settings,
    store: OpsStore,
    project: Project,
    command: Command,
    let_go: Iterable[str],
) -> Build:
    keep_connections(context.instance)
    request = Request(
        name=context.job_name.strip("_").lower(),
        run_id=context.run.run_id,
        command=command,
        newest=lambda: newest_states(context.instance, store, project.providers),
        let_go=_providers(let_go),
    )
    return Build(settings, store, project, request)


def _providers(names: Iterable[str]) -> frozenset[Provider]:
    try:
        return frozenset(map(Provider.from_code, names))
    except ValueError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def _conclude(context: dg.AssetExecutionContext | dg.OpExecutionContext, outcome: Outcome | None) -> None:
    """Says in the run what was left out, and fails the step when anything failed."""
    assert outcome is not None
    for provider, tables in outcome.missing.items():
        context.log.warning("%s was left out: Airbyte has not created %s yet", provider.label, ", ".join(tables))
    error = outcome.error()
    if error is not None:
        raise dg.Failure(
            str(error),
            metadata={
                "failed models": dg.MetadataValue.json(list(outcome.failed_nodes)),
                "failed tests": dg.MetadataValue.json(list(outcome.failed_tests)),
                "errors": dg.MetadataValue.md("\n\n".join(f"```\n{text.strip()}\n```" for text in outcome.errors[:10])),
                "target folder": dg.MetadataValue.path(str(outcome.target)),
            },
            allow_retries=False,  # the same data would fail again; the sensor decides what is tried again, and when
        )
