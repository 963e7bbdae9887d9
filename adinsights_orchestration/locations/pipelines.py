"""Code location `pipelines`: ingestion, transformation, BI. Everything is put together in `build.py`."""

import dagster as dg

from adinsights_orchestration.build import build_pipelines
from adinsights_orchestration.logs import configure_dagster_logging
from adinsights_orchestration.settings import load_settings


@dg.definitions
def defs() -> dg.Definitions:
    """Builds the location from the environment."""
    settings = load_settings()
    configure_dagster_logging(settings, "pipelines")
    return build_pipelines(settings)
