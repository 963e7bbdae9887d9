"""Everything that uses Dagster beyond its public interface, in one place.

Belongs here: writing and reading the event log in ways that the public interface is too slow for or does not offer, and
pruning history. Does not belong here: any knowledge of ADinsights. `dagster` is pinned to one release, and
`tests/dagster_internals` holds each function against what Dagster itself writes, so that an upgrade shows what moved.
"""
