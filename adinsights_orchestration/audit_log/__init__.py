"""The audit log: archived day by day, proven from the archive alone, and only then deleted.

Belongs here: what every part shares: the table that is archived and deleted (`source`), what the archive is made of
(`model`), what proves that rows are the same (`digest`), for how long they are kept (`windows`, `holds`), and the
journal of what was done (`journal`). Does not belong here: rows that the orchestrator writes into the backend's audit
log (`backend.audit`). Read `source`, `model` and `windows` first, then the folder in question. A folder imports only
what stands above it:

1. these modules
2. `table/`, the table in Postgres; `store/`, the objects of the archive
3. `bookkeeping/`, what is archived: the chain of manifests, and the ledger
4. `reading/`, objects taken back and held against that
5. `archive/`, from the table into the archive
6. `retention/`, out of the table
7. `restore/`, back into a table; `leaving/`, out of the archive
"""
