"""The dbt project as this package sees it: a graph of nodes, and which provider each depends on.

Belongs here: questions that the manifest answers by itself. Does not belong here: reading or making the manifest
(`manifest`) and Dagster's classes (`translator`). A *node* is something dbt builds (model, snapshot, seed); a
*source* is a raw table; a provider is *upstream* of a node when the node reads one of its raw tables, directly or
not.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from adinsights_orchestration.tenants.model import Provider

Props = Mapping[str, Any]
NODE_TYPES = ("model", "snapshot", "seed")
NIGHTLY_TAG = "whole_history"
_FOLDERS = {"snapshot": "snapshots", "seed": "seeds"}


@dataclass(frozen=True)
class Project:
    """A parsed dbt project.

    Args:
        manifest: dbt's `manifest.json`, as parsed JSON.
    """

    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The project's name, which is also its package's."""
        return str(self.manifest["metadata"]["project_name"])

    @cached_property
    def nodes(self) -> dict[str, Props]:
        """What dbt builds, by unique id."""
        return {
            unique_id: props
            for unique_id, props in self.manifest["nodes"].items()
            if props["resource_type"] in NODE_TYPES and not _is_ephemeral(props)
        }

    @cached_property
    def sources(self) -> dict[str, Props]:
        """Raw tables, by unique id."""
        return dict(self.manifest["sources"])

    @cached_property
    def exposures(self) -> dict[str, Props]:
        """What people look at, by unique id."""
        return dict(self.manifest["exposures"])

    @cached_property
    def providers(self) -> dict[Provider, tuple[str, ...]]:
        """Each provider with its sources' unique ids; only providers that the project has sources of."""
        found: dict[Provider, list[str]] = {}
        for unique_id, props in sorted(self.sources.items()):
            provider = provider_of(props)
            if provider is not None:
                found.setdefault(provider, []).append(unique_id)
        return {provider: tuple(ids) for provider, ids in found.items()}

    @cached_property
    def upstream_providers(self) -> dict[str, frozenset[Provider]]:
        """The providers upstream of each node."""
        found: dict[str, set[Provider]] = {unique_id: set() for unique_id in self.nodes}
        for provider in self.providers:
            for unique_id in self.downstream_of((provider,)):
                found[unique_id].add(provider)
        return {unique_id: frozenset(providers) for unique_id, providers in found.items()}

    def only_provider(self, unique_id: str) -> Provider | None:
        """Returns the provider whose own part of the graph a node is in; None for one that several or none feed."""
        providers = self.upstream_providers.get(unique_id, frozenset())
        return next(iter(providers)) if len(providers) == 1 else None

    def downstream_of(self, providers: Iterable[Provider]) -> frozenset[str]:
        """Returns the nodes that read any of these providers' raw tables, directly or not."""
        sources = [source for provider in providers for source in self.providers.get(provider, ())]
        return frozenset(self._descendants(sources) & self.nodes.keys())

    def dashboards_of(self, unique_id: str) -> list[Props]:
        """Returns the exposures that show what this node holds, directly or not, by name."""
        shown = self._descendants([unique_id]) & self.exposures.keys()
        return sorted((self.exposures[exposure] for exposure in shown), key=lambda props: str(props["name"]))

    @cached_property
    def tests(self) -> dict[str, Props]:
        """Data tests, by unique id; unit tests are not among them."""
        return {uid: props for uid, props in self.manifest["nodes"].items() if props["resource_type"] == "test"}

    @cached_property
    def checked_nodes(self) -> dict[str, str]:
        """The node that each test's check stands on; a test that no node has to do with is left out.

        A test of a raw table stands on the first node that reads it: that node is what dbt does not build when the
        test fails. A test of several nodes stands on the one that is furthest downstream, unless `meta.dagster.ref`
        says which.
        """
        found = {unique_id: self._checked_node(props) for unique_id, props in self.tests.items()}
        return {unique_id: node for unique_id, node in found.items() if node is not None}

    def tests_of(self, nodes: Collection[str]) -> frozenset[str]:
        """Returns the tests whose checks stand on any of these nodes."""
        return frozenset(test for test, node in self.checked_nodes.items() if node in nodes)

    @cached_property
    def nightly_tests(self) -> frozenset[str]:
        """Tests that read whole tables (tag `whole_history`): too long for a refresh, run by the nightly build."""
        return frozenset(unique_id for unique_id, props in self.tests.items() if NIGHTLY_TAG in props.get("tags", ()))

    @cached_property
    def source_tests(self) -> frozenset[str]:
        """Tests that look at raw tables only."""
        return frozenset(
            unique_id
            for unique_id, props in self.tests.items()
            if props["depends_on"]["nodes"] and self.sources.keys() >= set(props["depends_on"]["nodes"])
        )

    def readers_of(self, source_id: str) -> tuple[str, ...]:
        """Returns the nodes that read a source directly, staging before anything else, then by name."""
        readers = [uid for uid in self.manifest["child_map"].get(source_id, ()) if uid in self.nodes]
        return tuple(sorted(readers, key=lambda uid: (self.key_path(uid)[0] != "staging", uid)))

    def key_path(self, unique_id: str) -> tuple[str, ...]:
        """The path of the Dagster asset key of a node or source.

        `meta.dagster.asset_key` where it is set; else the layer (the first folder: `staging`, `marts`; `snapshots` and
        `seeds` for those) and the name, as a person would look for it in the project.
        """
        props = self.nodes.get(unique_id) or self.sources[unique_id]
        return key_path(props)

    @cached_property
    def fqns(self) -> dict[str, str]:
        """What `--select` takes for each node and test."""
        return {uid: ".".join(props["fqn"]) for uid, props in {**self.nodes, **self.tests}.items()}

    @cached_property
    def known_names(self) -> frozenset[str]:
        """What `--select` takes for exactly one node or test: its name, alone or with its folders."""
        names = {str(props["name"]) for props in (*self.nodes.values(), *self.tests.values())}
        return frozenset(names | set(self.fqns.values()))

    def _checked_node(self, test: Props) -> str | None:
        parents: list[str] = test["depends_on"]["nodes"]
        named = (dagster_meta(test).get("ref") or {}).get("name")
        named_node = next((uid for uid in self.nodes if self.nodes[uid]["name"] == named), None)
        for candidate in (named_node, test.get("attached_node")):
            if candidate in self.nodes:
                return candidate
        tested = [parent for parent in parents if parent in self.nodes]
        if tested:
            return max(tested, key=lambda uid: (len(self._descendants([uid]) & set(tested)) * -1, uid))
        readers = [reader for parent in parents for reader in self.readers_of(parent)]
        return readers[0] if readers else None

    def _descendants(self, starts: Iterable[str]) -> set[str]:
        children: Mapping[str, list[str]] = self.manifest["child_map"]
        seen: set[str] = set()
        waiting = list(starts)
        while waiting:
            for child in children.get(waiting.pop(), ()):
                if child not in seen:
                    seen.add(child)
                    waiting.append(child)
        return seen


def dagster_meta(props: Props) -> Mapping[str, Any]:
    """What the project says to Dagster about a node or source: `meta.dagster` (see dbt_project/README.md)."""
    meta = (props.get("config") or {}).get("meta") or props.get("meta") or {}
    return meta.get("dagster") or {}


def key_path(props: Props) -> tuple[str, ...]:
    """The path of the Dagster asset key of a node's or source's properties; see `Project.key_path`."""
    configured = dagster_meta(props).get("asset_key")
    if configured:
        return tuple(configured)
    if props["resource_type"] == "source":
        return (str(props["source_name"]), str(props["name"]))
    folder = _FOLDERS.get(props["resource_type"])
    fqn = props["fqn"]
    return (folder or (fqn[1] if len(fqn) > 2 else "models"), str(props["name"]))


def provider_of(source: Props) -> Provider | None:
    """The provider whose asset a source maps to (`meta.dagster.asset_key` of `airbyte/<provider>`), or None."""
    path = key_path(source)
    return next((provider for provider in Provider if provider.asset_path == path), None)


def _is_ephemeral(props: Props) -> bool:
    return bool((props.get("config") or {}).get("materialized") == "ephemeral")
