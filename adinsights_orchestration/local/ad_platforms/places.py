"""Where people see ads: regions as platforms spell them.

Belongs here: the regions of each home market and their spellings. Does not belong here: mapping spellings to parishes,
which is the warehouse's work. Every Jamaican parish appears under several spellings, and a home market always
has foreign and unknown regions in it, because a lookup that has never met them is the one that fails in production.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

PARISHES = (
    "Kingston",
    "Saint Andrew",
    "Saint Catherine",
    "Saint James",
    "Manchester",
    "Saint Ann",
    "Clarendon",
    "Westmoreland",
    "Saint Elizabeth",
    "Saint Mary",
    "Trelawny",
    "Portland",
    "Hanover",
    "Saint Thomas",
)
UNKNOWN_REGION = "Unknown"


@dataclass(frozen=True, slots=True)
class Place:
    """A region in which an audience lives.

    Args:
        name: The region's canonical name.
        country: ISO 3166-1 alpha-2 code; `ZZ` where the platform does not know.
        spellings: The ways in which platforms write the name.
        weight: Share of the audience relative to the market's other places.
    """

    name: str
    country: str
    spellings: tuple[str, ...]
    weight: float


def spellings_of_parish(parish: str) -> tuple[str, ...]:
    """Returns the spellings of a parish that platforms use, the canonical one first."""
    plain = (parish, f"{parish} Parish", f"{parish}, Jamaica")
    if not parish.startswith("Saint "):
        return (*plain, f"Parish of {parish}", parish.upper())
    rest = parish.removeprefix("Saint ")
    return (*plain, f"St. {rest}", f"St {rest}", f"St. {rest} Parish", f"ST. {rest.upper()}")


def _parishes() -> tuple[Place, ...]:
    return tuple(
        Place(parish, "JM", spellings_of_parish(parish), weight=1.0 / (rank + 1.5))
        for rank, parish in enumerate(PARISHES)
    )


def _abroad(country: str, *names: str, weight: float) -> tuple[Place, ...]:
    return tuple(Place(name, country, (name,), weight) for name in names)


_NOWHERE = Place(UNKNOWN_REGION, "ZZ", (UNKNOWN_REGION, "unknown", "(not set)"), weight=0.04)

MARKETS: Mapping[str, tuple[Place, ...]] = {
    "jamaica": (
        *_parishes(),
        *_abroad("US", "Florida", "New York", weight=0.12),
        *_abroad("CA", "Ontario", weight=0.08),
        *_abroad("GB", "England", weight=0.06),
        *_abroad("CW", "Curaçao", weight=0.02),
        _NOWHERE,
    ),
    "britain": (
        *_abroad("GB", "England", weight=1.0),
        *_abroad("GB", "Scotland", "Wales", "Northern Ireland", weight=0.2),
        *_abroad("IE", "Leinster", weight=0.08),
        *_abroad("FR", "Île-de-France", weight=0.05),
        Place("Saint Andrew", "JM", ("Saint Andrew Parish", "St. Andrew"), weight=0.05),
        _NOWHERE,
    ),
    "america": (
        *_abroad("US", "New York", "New Jersey", weight=0.6),
        *_abroad("US", "California", "Texas", "Florida", weight=0.3),
        *_abroad("CA", "Québec", weight=0.06),
        *_abroad("MX", "Nuevo León", weight=0.05),
        Place("Kingston", "JM", ("Kingston Parish", "Kingston"), weight=0.05),
        _NOWHERE,
    ),
}
