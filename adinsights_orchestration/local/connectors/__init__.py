"""Connectors: low-code manifests run by the real Airbyte CDK, written to Postgres the way destination-postgres does.

Belongs here: our manifests for the six platforms, starting the CDK in processes of its own, and the writer. Does not
belong here: jobs, attempts and schedules (the Airbyte API's part of the local stack) or the ad platforms, which
connectors know by their base URL only. `sync.ConnectorRuntime` is the way in.
"""
