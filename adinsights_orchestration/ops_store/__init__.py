"""The ops store: the orchestrator's own Postgres schema, in which the domains meet."""
