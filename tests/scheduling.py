"""Which tests a worker takes together, and which come first.

A file's tests share fixtures, all of the dbt project's share one build of it, and all that run dbt on the small project
one parse and one warm dbt: each goes to one worker as a whole.
Long ones begin first, so that no worker is left with one of them in the end.
"""

from __future__ import annotations

from xdist.scheduler import LoadFileScheduling

DBT_PROJECT, TRANSFORMATION = "tests/dbt_project/", "tests/transformation/"
# By what one test of a folder takes, longest first; the rest is short and fills the gaps.
_LONG = (
    "tests/repository/test_installing.py",
    DBT_PROJECT,
    TRANSFORMATION,
    "tests/alerting/test_faults.py",
    "tests/ingestion/test_kills.py",
    "tests/audit_log/",
    "tests/local/",
    "tests/cli/",
    "tests/ingestion/",
)


def rank(nodeid: str) -> int:
    """The place of a test among the long ones, or behind all of them."""
    return next((place for place, start in enumerate(_LONG) if nodeid.startswith(start)), len(_LONG))


class Together(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """As `--dist loadfile`, with what shares a build as one."""

    def _split_scope(self, nodeid: str) -> str:
        shared = next((folder for folder in (DBT_PROJECT, TRANSFORMATION) if nodeid.startswith(folder)), None)
        return shared or str(super()._split_scope(nodeid))
