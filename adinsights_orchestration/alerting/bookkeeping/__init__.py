"""What alerting remembers: the rows of incidents, groups, events and silences, and the outbox.

Belongs here: SQL. Does not belong here: deciding anything.
"""
