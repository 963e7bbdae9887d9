"""Check results that an op reports for assets which are not its own.

Belongs here: pointing such a result at the materialization it judges, which Dagster only does for asset steps. Does not
belong here: what is checked. Without that pointer the UI takes the result for one of an older materialization and shows
the check as not evaluated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import dagster as dg
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluation,
    AssetCheckEvaluationTargetMaterializationData,
)


def evaluations(instance: dg.DagsterInstance, results: Sequence[dg.AssetCheckResult]) -> Iterator[AssetCheckEvaluation]:
    """Yields the results as evaluations of their assets' newest materializations; one statement for all of them.

    Args:
        instance: Where the materializations are; those that the results judge are stored by now.
        results: Each with its asset key and check name, of assets without partitions.
    """
    targets = _targets(instance, {result.asset_key for result in results if result.asset_key is not None})
    for result in results:
        assert result.asset_key is not None
        assert result.check_name is not None
        yield AssetCheckEvaluation(
            asset_key=result.asset_key,
            check_name=result.check_name,
            passed=result.passed,
            metadata=result.metadata,
            severity=result.severity,
            description=result.description,
            target_materialization_data=targets.get(result.asset_key),
        )


def _targets(
    instance: dg.DagsterInstance, keys: set[dg.AssetKey]
) -> dict[dg.AssetKey, AssetCheckEvaluationTargetMaterializationData]:
    found = {}
    for record in instance.get_asset_records(list(keys)):
        newest = record.asset_entry.last_materialization_record
        if newest is not None:
            found[record.asset_entry.asset_key] = AssetCheckEvaluationTargetMaterializationData(
                storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp
            )
    return found
