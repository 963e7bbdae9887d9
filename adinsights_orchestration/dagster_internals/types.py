"""Names of Dagster's types that its public functions return but its public interface does not name.

Belongs here: aliases for annotations. Does not belong here: anything that runs.
"""

from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

AssetJob = UnresolvedAssetJobDefinition
