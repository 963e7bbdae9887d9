"""Alerting at work: its sensors and its job in Dagster, and whether it is alive.

Belongs here: the shell. Does not belong here: anything that it would decide. Read `alerter` first, which is one turn.
"""
