"""Archiving: closed days of a table become sealed days in the store.

Belongs here: one run from the scan to the seal, and its asset in Dagster. Does not belong here: proving it later
(`reading`), and what leaves the archive (`leaving`). Read `run` first, then `sealing`, which strings the others
together in the order of the work: `export`, `ordering`, `intake` (with `keeping` and `parquet`), `writing`.
"""
