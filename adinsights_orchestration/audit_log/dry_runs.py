"""What a run leaves in Dagster that may have been a dry one.

Belongs here: that choice. Does not belong here: what the metadata says. An asset that is to be made every day is late
when its newest materialization is old, whatever that one did. A dry run must not make it look fresh, so it leaves an
observation, which the UI shows with the same metadata and which counts for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg


def outcome(
    key: dg.AssetKey, metadata: Mapping[str, Any], *, dry_run: bool
) -> dg.MaterializeResult[None] | dg.AssetObservation:
    """The event of a run: a materialization where it did something, an observation where it only told."""
    if dry_run:
        return dg.AssetObservation(
            key,
            metadata=metadata,
            description="A dry run: only told. What was done is in the materializations.",
        )
    return dg.MaterializeResult(asset_key=key, metadata=metadata)
