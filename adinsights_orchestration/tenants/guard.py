"""Whether a read that lacks most of what is served may be believed.

Belongs here: the rule, as a function of two registries, and its words for people. Does not belong here: what is done
about a loss (`refresh`). A policy that hides rows, a database that is half restored and a file that was cut off all
look like customers who left; believing one retires their partitions and stops their syncs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from adinsights_orchestration.tenants.model import Connection, Registry

# Where anything is left, more than half must be gone, and at least so many. Whoever takes one of two tenants off a
# laptop, or two connections out of three, sees at a glance that it was meant; and what so small a misreading retires
# comes back whole, keys and history, with the next good read.
_FEWEST_TENANTS = 3
_FEWEST_CONNECTIONS = 3  # of tenants that are still there: nobody left, and yet most of the rows are gone
_FEWEST_OF_ALL = 10  # of all tenants: one that leaves takes so many along only where a person should look
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Loss:
    """What a read lacks of what is served.

    Attributes:
        what: Of what kind: tenants, connections.
        had: How many are served.
        lost: Those that the read lacks: tenants by slug, connections by partition key.
        everything: Nothing of the kind is left at all.
    """

    what: str
    had: int
    lost: tuple[str, ...]
    everything: bool

    def describe(self) -> str:
        """How much, and of whom the first few are."""
        if self.everything:
            return f"suddenly has no {self.what}, where {self.had} were"
        named = ", ".join(self.lost[:_NAMED]) + (", ..." if len(self.lost) > _NAMED else "")
        return f"suddenly lacks {len(self.lost)} of {self.had} {self.what} ({named})"


def unbelievable_loss(served: Registry, found: Registry) -> Loss | None:
    """Returns the loss for which a person must vouch before `found` may take the place of `served`.

    Paused connections count only where nothing is left: they are not driven, and clearing them out is housekeeping.

    Args:
        served: The last good registry.
        found: What a read made of the source, with partition keys.
    """
    tenants = {tenant.id: tenant.slug for tenant in served.tenants if not tenant.retired}
    here = {tenant.id for tenant in found.tenants if not tenant.retired}
    still = {tenants.get(each, str(each)) for each in here}
    connections = [connection for connection in served.connections if not connection.retired]
    left = _keys(connection for connection in found.connections if not connection.retired)
    active = [connection for connection in connections if connection.is_active]
    of_those_here = [connection for connection in active if connection.tenant_id in here]
    losses = (
        _loss("tenants", set(tenants.values()), still, _FEWEST_TENANTS),
        _loss("connections", _keys(connections), left, len(connections) + 1),  # only where none is left
        _loss("active connections", _keys(active), left, _FEWEST_OF_ALL),
        _loss("active connections of tenants that are still there", _keys(of_those_here), left, _FEWEST_CONNECTIONS),
    )
    return next((loss for loss in losses if loss is not None), None)


def _loss(what: str, had: set[str], left: set[str], fewest: int) -> Loss | None:
    lost = had - left
    most = 2 * len(lost) > len(had) and len(lost) >= fewest
    everything = bool(had) and not left
    return Loss(what, len(had), tuple(sorted(lost)), everything) if most or everything else None


def _keys(connections: Iterable[Connection]) -> set[str]:
    return {connection.partition_key for connection in connections}
