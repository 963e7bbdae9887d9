"""Both code locations merged, for `dg` and `dagster dev -m`, which want one; deployments load `workspace.yaml`."""

import dagster as dg

from adinsights_orchestration.build import build_monitoring, build_pipelines
from adinsights_orchestration.logs import configure_dagster_logging
from adinsights_orchestration.settings import load_settings


@dg.definitions
def defs() -> dg.Definitions:
    """Builds both locations from the environment."""
    settings = load_settings()
    configure_dagster_logging(settings, "dagster")
    return dg.Definitions.merge(build_pipelines(settings), build_monitoring(settings))
