"""The audit log: archived day by day, proven from the archive alone, and only then deleted.

Belongs here: what is archived (`source`), what proves it (`digest`, `manifest`), the ledger, the store of objects,
archiving, verifying, deleting, restoring, and the Dagster shell around them. Does not belong here: rows that the
orchestrator writes into the backend's audit log (`backend.audit`).
"""
