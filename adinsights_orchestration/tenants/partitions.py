"""Every provider's partitions in Dagster: one per connection, kept by the registry's sensor.

Belongs here: the definitions, which both code locations attach to assets and checks. Does not belong here: which
partitions there are (`automation`).
"""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg

from adinsights_orchestration.tenants.model import Provider

PARTITIONS: Mapping[Provider, dg.DynamicPartitionsDefinition] = {
    provider: dg.DynamicPartitionsDefinition(name=provider.partitions_name) for provider in Provider
}
