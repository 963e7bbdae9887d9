"""Code location `pipelines`: ingestion, transformation, BI. Everything is put together in `build.py`."""

import dagster as dg

from adinsights_orchestration.build import build_pipelines
from adinsights_orchestration.locations.process import start


@dg.definitions
def defs() -> dg.Definitions:
    """Builds the location from the environment."""
    return build_pipelines(start("pipelines"))
