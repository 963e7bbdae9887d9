"""Restoring: archived rows are brought back into a table, proven on the way.

Belongs here: choosing what, reading it, writing it, and the job in Dagster. Does not belong here: holds, which keep
what came back from being deleted again (`audit_log.holds`). Read `run` first, then `plan`, `rows` and `writing`.
"""
