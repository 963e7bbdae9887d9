"""Retention: rows that are past their window and proven to be archived are deleted.

Belongs here: choosing, deleting, counting what is left, and the asset in Dagster. Does not belong here: for how long
rows are kept (`audit_log.windows`). Read `run` first, then `deletion`, which is the one transaction that deletes.
"""
