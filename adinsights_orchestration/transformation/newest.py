"""How far each provider's data has come: the storage id of its asset's newest materialization.

Belongs here: that one question to Dagster's event log. Does not belong here: what follows from it (`refresh`). Ids are
given in the order in which syncs are reported, and a sync is reported after its rows are committed: whoever reads an id
and then the raw tables sees at least that sync's rows. One statement, however many partitions the assets have.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from adinsights_orchestration.tenants.model import Provider


def newest_materializations(instance: dg.DagsterInstance, providers: Iterable[Provider]) -> dict[Provider, int]:
    """Returns the newest materialization's storage id of each provider that has any."""
    by_key = {dg.AssetKey(provider.asset_path): provider for provider in providers}
    found = {}
    for record in instance.get_asset_records(list(by_key)):
        newest = record.asset_entry.last_materialization_record
        if newest is not None:
            found[by_key[record.asset_entry.asset_key]] = newest.storage_id
    return found
