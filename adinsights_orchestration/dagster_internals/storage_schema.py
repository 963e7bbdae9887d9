"""The schema of Dagster's own storage, brought to the newest revision, or found to be newer already.

Belongs here: what `dagster instance migrate` does, without its failure on a schema that a newer Dagster has left. Does
not belong here: the ops store (`ops_store.revisions`).
"""

from __future__ import annotations

import dagster as dg
from alembic.util import CommandError

_UNKNOWN = "Can't locate revision"  # Alembic's words for a stored revision that it has no script of


def upgraded(instance: dg.DagsterInstance) -> bool:
    """Brings the storage to this Dagster's newest schema; False, without a change, where its schema is newer."""
    try:
        instance.upgrade()
    except CommandError as error:
        if _UNKNOWN not in str(error):
            raise
        return False
    return True
