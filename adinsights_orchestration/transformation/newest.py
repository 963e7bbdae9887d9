"""How far each provider's raw data has come: a number that moves whenever rows came in or were taken out.

Belongs here: that one question, to Dagster's event log and to the ops store. Does not belong here: what follows from it
(`refresh`). The number is the storage id of the asset's newest materialization, and the id of the job that last cleared
a connection's rows added to it. Storage ids are given in the order in which syncs are reported, and a sync is reported
after its rows are committed: whoever reads the number and then the raw tables sees at least that sync's rows. One
statement to each, however many partitions the assets have.
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.taken_out import taken_out
from adinsights_orchestration.tenants.model import Provider


def newest_states(instance: dg.DagsterInstance, store: OpsStore, providers: Iterable[Provider]) -> dict[Provider, int]:
    """Returns how far each provider's data has come, of those that have a materialization."""
    by_key = {dg.AssetKey(provider.asset_path): provider for provider in providers}
    with store.begin() as connection:
        cleared = taken_out(connection)
    found = {}
    for record in instance.get_asset_records(list(by_key)):
        newest = record.asset_entry.last_materialization_record
        if newest is not None:
            provider = by_key[record.asset_entry.asset_key]
            found[provider] = newest.storage_id + cleared.get(provider, 0)
    return found
