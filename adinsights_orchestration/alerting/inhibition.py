"""Which incidents are explained by others, so that one cause is told once.

Belongs here: edges between what fires, pure. Does not belong here: the asset graph itself (`topology`). An incident
explains symptoms downstream of its asset, on the assets that it names itself, and, where it belongs to a tenant, only
that tenant's. Nothing explains what is more urgent than itself. As with Alertmanager, a cause that is silenced or
explained itself goes on explaining. Two incidents that explain each other and nothing else would both be kept from
people for ever: then neither is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from adinsights_orchestration.alerting.matching import Matcher, all_match
from adinsights_orchestration.alerting.model import Incident
from adinsights_orchestration.topology.model import Topology


@dataclass(frozen=True)
class Inhibition:
    """Alertmanager's rule: what matches `source` explains what matches `target` where they agree on `equal`."""

    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()


@dataclass(frozen=True)
class Graph:
    """What depends on what: the assets' edges, and further ones between things that are no assets of the pipelines."""

    topology: Topology | None = None
    further: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by child: its parents

    @cached_property
    def _parents(self) -> dict[str, set[str]]:
        parents: dict[str, set[str]] = defaultdict(set)
        for asset in self.topology.assets if self.topology else ():
            parents[asset.key] |= set(asset.upstream)
        for child, found in self.further.items():
            parents[child] |= set(found)
        return parents

    @cached_property
    def _known(self) -> dict[str, frozenset[str]]:
        return {}

    def upstream_of(self, key: str) -> frozenset[str]:
        """Everything that the thing depends on, however far; itself is not among it."""
        if key not in self._known:
            seen, waiting = {key}, [key]
            while waiting:
                new = self._parents.get(waiting.pop(), set()) - seen
                seen |= new
                waiting += new
            self._known[key] = frozenset(seen - {key})
        return self._known[key]


def inhibited(incidents: Iterable[Incident], graph: Graph, rules: Iterable[Inhibition] = ()) -> dict[str, str]:
    """Returns what explains what: of each explained incident's fingerprint, that of a cause.

    Args:
        incidents: Every incident that fires, and those whose end is yet to be told: as with Alertmanager, an end that
            comes while its cause fires is not told either.
        graph: What depends on what.
        rules: Further explanations by labels.
    """
    found = sorted(incidents, key=lambda each: each.fingerprint)
    causes: dict[str, list[str]] = defaultdict(list)
    _by_graph(found, graph, causes)
    for rule in rules:
        _by_rule(found, rule, causes)
    rank = {each.fingerprint: each.severity.rank for each in found}
    believed = {fp: [cause for cause in of if rank[cause] >= rank[fp]] for fp, of in causes.items()}
    return _without_circles(believed)


def _by_graph(incidents: list[Incident], graph: Graph, causes: dict[str, list[str]]) -> None:
    by_asset: dict[tuple[str, str | None], list[str]] = defaultdict(list)  # what is downstream of it
    named: dict[tuple[str, str | None], list[str]] = defaultdict(list)  # what is on it
    for each in (one for one in incidents if one.is_firing):
        tenant = each.finding.tenant
        for asset in (*((each.finding.asset,) if each.finding.asset else ()), *each.finding.explains):
            by_asset[asset, tenant].append(each.fingerprint)
        for asset in each.finding.explains:
            named[asset, tenant].append(each.fingerprint)
    explaining: dict[tuple[str, str | None], list[str]] = {}
    for each in incidents:
        asset = each.finding.asset
        if asset is None or not each.finding.is_symptom:
            continue
        for place in dict.fromkeys(((asset, None), (asset, each.finding.tenant))):
            if place not in explaining:
                upstream = (fp for parent in graph.upstream_of(asset) for fp in by_asset.get((parent, place[1]), ()))
                explaining[place] = [*upstream, *named.get(place, ())]
            causes[each.fingerprint] += [fp for fp in explaining[place] if fp != each.fingerprint]


def _by_rule(incidents: list[Incident], rule: Inhibition, causes: dict[str, list[str]]) -> None:
    sources: dict[tuple[str, ...], list[str]] = defaultdict(list)
    of_source, of_target = _names(rule.source, incidents), _names(rule.target, incidents)
    for each in (one for one in incidents if one.finding.rule in of_source and one.is_firing):
        labels = each.all_labels
        # What is source and target at once is not explained by its like.
        if all_match(rule.source, labels) and not all_match(rule.target, labels):
            sources[tuple(labels.get(name, "") for name in rule.equal)].append(each.fingerprint)
    for each in (one for one in incidents if one.finding.rule in of_target) if sources else ():
        labels = each.all_labels
        if all_match(rule.target, labels):
            explaining = sources.get(tuple(labels.get(name, "") for name in rule.equal), ())
            causes[each.fingerprint] += [fp for fp in explaining if fp != each.fingerprint]


def _names(matchers: Iterable[Matcher], incidents: Iterable[Incident]) -> set[str]:
    """Those rules' names among the incidents that the matchers do not rule out."""
    asked = [matcher for matcher in matchers if matcher.name == "rule"]
    return {name for name in {each.finding.rule for each in incidents} if all_match(asked, {"rule": name})}


def _without_circles(causes: Mapping[str, list[str]]) -> dict[str, str]:
    """Keeps those explanations that begin at something that nothing explains."""
    explained = {fp: cause for fp, cause in causes.items() if cause}
    effects: dict[str, list[str]] = defaultdict(list)
    for fp, found in explained.items():
        for cause in dict.fromkeys(found):
            effects[cause].append(fp)
    valid: dict[str, str] = {}
    waiting = sorted(cause for cause in effects if cause not in explained)
    while waiting:
        cause = waiting.pop(0)
        for fp in effects.get(cause, ()):
            if fp not in valid:
                valid[fp] = cause
                waiting.append(fp)
    return valid
