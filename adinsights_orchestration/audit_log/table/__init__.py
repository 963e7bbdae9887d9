"""A declared table in Postgres: reaching it, what it looks like, what our role may do there, and the SQL over it.

Belongs here: what archiving, deleting and restoring all ask of a table. Does not belong here: its declaration
(`audit_log.source`), and transactions. Read `reaching` first, then `access`, which says how row level security fails.
"""
