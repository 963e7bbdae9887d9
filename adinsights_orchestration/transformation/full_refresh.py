"""What a full refresh may not do unasked: drop rows of a provider that the same build does not read.

Belongs here: that decision, over the project's graph and plain values. Does not belong here: building. An incremental
model keeps the rows of a provider that a build goes without; made from nothing it has none, and dashboards lack that
provider until a build with it. Where that is what somebody wants, they name the provider.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.command import Command
from adinsights_orchestration.transformation.project import Project


class FullRefreshError(AdinsightsError):
    """A full refresh would drop rows that nobody said may go."""


@dataclass(frozen=True, slots=True)
class Held:
    """Providers whose rows the marts may hold.

    Args:
        covered: Those that some build brought all the way.
        built: Nodes that some build built; one of a provider's own means that shared ones may have taken its rows.
    """

    covered: Collection[Provider] = ()
    built: Collection[str] = ()

    def providers(self, project: Project) -> frozenset[Provider]:
        """Returns the providers."""
        own = {project.only_provider(node) for node in self.built}
        return frozenset({*self.covered, *(provider for provider in own if provider is not None)})


def refuse_losses(
    project: Project,
    command: Command,
    held: Held,
    enabled: Collection[Provider],
    missing: Mapping[Provider, Collection[str]],
    let_go: Collection[Provider] = (),
) -> None:
    """Refuses a full refresh that would drop a provider's rows.

    Args:
        project: The dbt project.
        command: What dbt shall do.
        held: Whose rows the marts may hold.
        enabled: The providers that are switched on.
        missing: Those that lack raw tables, with what they lack.
        let_go: Those whose rows may go.

    Raises:
        FullRefreshError: It would; the message says whose and what to do.
    """
    if not command.full_refresh:
        return
    made_anew = _incremental(project) & _chosen(project, command)
    lost = {
        provider: why
        for provider in sorted(held.providers(project) - set(let_go))
        if (why := _left_out(provider, enabled, missing)) and made_anew & _fed_with_others(project, provider)
    }
    if not lost:
        return
    models = sorted(project.fqns[node].split(".")[-1] for node in made_anew)
    names = " ".join(f"--drop-rows-of {provider}" for provider in lost)
    raise FullRefreshError(
        "a full refresh may drop what the marts hold of "
        + "; ".join(f"{provider.label} ({why})" for provider, why in lost.items())
        + "; nothing was built",
        place=", ".join(models),
        next_step=(
            "Switch the provider on or sync it first; or build without a full refresh, which keeps its rows. If they"
            f" shall go: `adinsights dbt build --full-refresh {names}`, in the UI `drop_rows_of` in the run's config."
        ),
    )


def _incremental(project: Project) -> frozenset[str]:
    return frozenset(
        node
        for node, props in project.nodes.items()
        if (props.get("config") or {}).get("materialized") == "incremental"
    )


def _left_out(
    provider: Provider, enabled: Collection[Provider], missing: Mapping[Provider, Collection[str]]
) -> str | None:
    if provider not in enabled:
        return "it is not enabled"
    return f"{', '.join(missing[provider])} missing" if provider in missing else None


def _fed_with_others(project: Project, provider: Provider) -> frozenset[str]:
    """The nodes that may hold its rows beside others'; of one that is switched off the graph does not say which."""
    known = project.downstream_of((provider,)) or project.nodes.keys()
    return frozenset(node for node in known if project.only_provider(node) is not provider)


def _chosen(project: Project, command: Command) -> Set[str]:
    """The nodes that are selected: exactly, where each is named; where dbt's selection says more, it may be any."""
    named = [_named(project, text) for text in command.select]
    chosen = set(project.nodes) if not named or None in named else _joined(named)
    return chosen - _joined(_named(project, text) for text in command.exclude)


def _joined(found: Iterable[Set[str] | None]) -> set[str]:
    return {node for nodes in found for node in nodes or ()}


def _named(project: Project, text: str) -> Set[str] | None:
    """The node or test of that name, tests being no nodes; None for what is no such name."""
    if text not in project.known_names:
        return None
    return {uid for uid in project.nodes if text in (project.fqns[uid], project.nodes[uid]["name"])}
