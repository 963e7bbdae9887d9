"""From what a Dagster run selected to what dbt is told to select.

Belongs here: that translation, over plain names. Does not belong here: Dagster's contexts (`assets`). dagster-dbt's own
translation copies the whole project into a temporary folder, which it never deletes, when more than 200 nodes are
selected; names on the command line have room for thousands (the kernel takes 128 kB in one argument, 2 MB in all).
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from adinsights_orchestration.transformation.project import Project


@dataclass(frozen=True, slots=True)
class Selected:
    """What dbt is told.

    Args:
        select: Names for `--select`; none means everything.
        exclude: Names for `--exclude`.
        direct_tests_only: Whether dbt shall add no tests of selected nodes.
    """

    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    direct_tests_only: bool = False


def selected(project: Project, nodes: Set[str], tests: Set[str]) -> Selected:
    """Returns what selects exactly these nodes and tests.

    Args:
        project: The dbt project.
        nodes: Unique ids of the nodes to build.
        tests: Unique ids of the tests to run.
    """
    if nodes == project.nodes.keys() and tests >= project.checked_nodes.keys():
        return Selected()
    if not tests:
        return Selected(_names(project, nodes), direct_tests_only=True)
    # dbt adds the tests of selected nodes by itself, but not those of the raw tables that they read.
    implied = project.tests_of(nodes) - project.source_tests
    return Selected(_names(project, nodes | (tests - implied)), exclude=_names(project, implied - tests))


def _names(project: Project, unique_ids: Set[str]) -> tuple[str, ...]:
    return tuple(sorted(project.fqns[unique_id] for unique_id in unique_ids))
