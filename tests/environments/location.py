"""The location `pipelines` of each environment, for a workspace within a test's own process.

The product's own module also takes over the process's logging, which a test's process must keep.
"""

import dagster as dg

from adinsights_orchestration.build import build_pipelines
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import Settings


@dg.definitions
def local() -> dg.Definitions:
    """As on a laptop."""
    return build_pipelines(Settings(environment=Environment.LOCAL))


@dg.definitions
def staging() -> dg.Definitions:
    """As in staging."""
    return build_pipelines(Settings(environment=Environment.STAGING))


@dg.definitions
def production() -> dg.Definitions:
    """As in production."""
    return build_pipelines(Settings(environment=Environment.PRODUCTION))
