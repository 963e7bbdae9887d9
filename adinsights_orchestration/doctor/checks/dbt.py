"""The dbt project: its manifest.

Belongs here: whether the pipelines location finds what it needs to load. Does not belong here: the warehouse
(`databases`), what is published (`backend`).
"""

from __future__ import annotations

from adinsights_orchestration.doctor.model import Verdict, fail, ok, warn
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.transformation.manifest import manifest_path, staleness


def project(world: World) -> Verdict:
    """The project's folder is one."""
    folder = world.settings.dbt.project_dir
    missing = [name for name in ("dbt_project.yml", "profiles.yml") if not (folder / name).is_file()]
    if missing:
        return fail(f"{folder} has no {missing[0]}", "Correct ADINSIGHTS_DBT__PROJECT_DIR.")
    return ok(str(folder))


def manifest(world: World) -> Verdict:
    """The manifest was made from the files, providers and schema that are in force."""
    problem = staleness(world.settings)
    if problem is None:
        return ok(f"{manifest_path(world.settings)} is current")
    if world.settings.environment is Environment.LOCAL:
        return warn(problem, "The next load of the pipelines location makes it; `adinsights dbt prepare` does it now.")
    return fail(
        f"{problem}: the pipelines location does not load", "Run `adinsights dbt prepare` while the image is built."
    )
