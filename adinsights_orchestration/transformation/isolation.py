"""Keeping one provider's failure from holding up the others: what to build again without it.

Belongs here: that decision, over one build's results. Does not belong here: building. dbt skips everything downstream
of a failure, and the shared models are downstream of every provider: one renamed column in one raw table would stop
all dashboards. What fails in a provider's own part of the graph is therefore left out, and what was skipped is built
once more: without it the shared models keep its older rows and take everybody else's new ones.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.run_results import Artifact


@dataclass(frozen=True, slots=True)
class SecondPass:
    """What is left out, and the nodes to build again without it."""

    without: frozenset[Provider]
    nodes: frozenset[str]


def second_pass(project: Project, artifact: Artifact, left_out: Set[Provider]) -> SecondPass | None:
    """Returns what to build again; None when nothing failed, or nothing that is one provider's alone.

    Args:
        project: The dbt project.
        artifact: The results of the first pass.
        left_out: Providers that the first pass went without.
    """
    failed = {*artifact.failed_nodes, *(project.checked_nodes[t] for t in artifact.failed_tests if t in project.tests)}
    blamed = {provider for node in failed if (provider := project.only_provider(node)) is not None}
    # What failed and is shared is tried again too: nothing may be built on it unless it succeeds.
    again = {
        node
        for node in failed | artifact.skipped
        if project.upstream_providers.get(node, frozenset()) - blamed - left_out
    }
    if not blamed or not again & artifact.skipped:
        return None
    return SecondPass(frozenset(blamed | left_out), frozenset(again))
