"""Which connections a command means.

Belongs here: from tenant, provider and key to connections of the served registry, with an error that lists what there
is. Does not belong here: what is done to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.by_hand import parted, refusal
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Standing, Tenant
from adinsights_orchestration.tenants.store import load_registry


class SelectionError(AdinsightsError):
    """No connection is what was asked for."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Connections that can be synced, and those that were meant and cannot."""

    chosen: tuple[Connection, ...]
    skipped: tuple[Connection, ...]


def served(store: OpsStore) -> Registry:
    """The registry that is served; one that was never read is an error."""
    registry = load_registry(store)
    if not registry.tenants and not registry.connections:
        raise SelectionError("nobody is served yet.", next_step="Run `adinsights registry refresh`.")
    return registry


def select(registry: Registry, tenants: Sequence[str], providers: Sequence[str], keys: Sequence[str]) -> Selection:
    """Finds the connections of any of the tenants, of any of the providers, or with any of the keys.

    Args:
        registry: The served registry.
        tenants: Slugs, names or ids; empty means any.
        providers: Our names or the backend's codes; empty means any.
        keys: Partition keys, connection names or Airbyte ids; empty means any.

    Raises:
        SelectionError: A name that is nobody's, or nothing left.
    """
    wanted_tenants = {tenant.id for name in tenants for tenant in tenants_called(registry, name)}
    wanted_providers = {_provider(name) for name in providers}
    wanted = [
        each
        for each in registry.connections
        if each.standing is not Standing.RETIRED
        and (not tenants or each.tenant_id in wanted_tenants)
        and (not providers or each.provider in wanted_providers)
    ]
    if keys:
        wanted = list(dict.fromkeys(each for key in keys for each in _connections(wanted, key)))
    if not wanted:
        raise SelectionError("no connection is all of that.", next_step="`adinsights connections` lists them.")
    return Selection(*parted(wanted))


def one(registry: Registry, partition: str) -> Connection:
    """The one connection that a key means, for somebody who wants to do something with it.

    Raises:
        SelectionError: None or several are called so, or it is one that nobody repairs.
    """
    named = _connections(registry.connections, partition)
    found = [each for each in named if not each.retired] or named
    if len(found) > 1:
        keys = ", ".join(each.partition_key for each in found)
        raise SelectionError(
            f"{partition!r} means {len(found)} connections: {keys}.", next_step="Give one of these keys."
        )
    reason = refusal(found[0])
    if reason is not None:
        raise SelectionError(f"{found[0].partition_key}: {reason}.")
    return found[0]


def tenants_called(registry: Registry, name: str) -> list[Tenant]:
    """The served tenants with this slug, name or id; names are not unique. Nobody is an error that lists who is."""
    found = [each for each in registry.tenants if name in (each.slug, each.name, str(each.id)) and not each.retired]
    if not found:
        known = ", ".join(sorted(each.slug for each in registry.tenants if not each.retired))
        raise SelectionError(f"no tenant is {name!r}.", next_step=f"Known: {known}.")
    return found


def tenant_id(settings: Settings, text: str) -> UUID:
    """The one tenant that `--tenant` means, those who have left included.

    An id is taken as it is and asks nobody: an archive outlives its ops store, and a tenant the registry.

    Args:
        settings: Where the registry is.
        text: A slug, name or id.

    Raises:
        SelectionError: Nobody is called so, or more than one is.
        OpsStoreError: It is no id, and the ops store does not answer.
    """
    with suppress(ValueError):
        return UUID(text)
    tenants = load_registry(OpsStore(settings.ops_store)).tenants
    found = sorted(str(each.id) for each in tenants if text in (each.slug, each.name))
    if len(found) > 1:
        raise SelectionError(f"{text!r} is what {len(found)} tenants are called.", next_step=f"Give an id: {found}.")
    if not found:
        known = ", ".join(sorted(each.slug for each in tenants)) or "nobody, `adinsights registry refresh` reads them"
        raise SelectionError(f"no tenant is {text!r}.", next_step=f"Give a slug, a name or an id. Known: {known}.")
    return UUID(found[0])


def _provider(name: str) -> Provider:
    try:
        return Provider.from_code(name)
    except ValueError as error:
        raise SelectionError(f"{error}.", next_step="Give one of these.") from None


def _connections(among: Iterable[Connection], key: str) -> list[Connection]:
    found = [each for each in among if key in (each.partition_key, each.name, str(each.connection_id))]
    if not found:
        raise SelectionError(f"no connection is {key!r}.", next_step="`adinsights connections` lists them.")
    return found
