"""Both code locations merged, for `dg` and `dagster dev -m`, which want one; deployments load `workspace.yaml`."""

import dagster as dg

from adinsights_orchestration.build import build_monitoring, build_pipelines
from adinsights_orchestration.locations.process import start


@dg.definitions
def defs() -> dg.Definitions:
    """Builds both locations from the environment."""
    settings = start("dagster")
    return dg.Definitions.merge(build_pipelines(settings), build_monitoring(settings))
