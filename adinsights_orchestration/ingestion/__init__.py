"""Ingestion: what makes Airbyte's syncs happen, and what makes them known.

Belongs here: the Airbyte client, when a connection is due, the ledger of intents and jobs, and the three engines over
it: trigger (start what is due), observe (see what finished), wait (follow what a person asked for). Does not belong
here: who is served (`tenants`), what becomes of the rows (`transformation`). None of the engines knows Dagster.
"""
