"""Slugs: short ascii names for tenants and connections, made of names that people type.

Belongs here: turning one name into a slug, and telling equal ones apart for good. Does not belong here: partition keys
(`keys`). Names are not unique and change; a slug, once a tenant has it, changes only when a person says so in the
overlay.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from uuid import UUID

SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
LONGEST_SLUG = 40
_OTHERS = re.compile(r"[^a-z0-9]+")
# Letters that Unicode does not take apart into an ascii one and a mark, and apostrophes, which join.
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "'": "", "\u2019": ""})


def slug_of(name: str, fallback: str) -> str:
    """Returns the name as a slug: `Café Ünïted, Ltd.` is `cafe-united-ltd`; `fallback` where nothing ascii is left."""
    plain = unicodedata.normalize("NFKD", name.lower().translate(_LETTERS)).encode("ascii", "ignore").decode()
    return _OTHERS.sub("-", plain).strip("-")[:LONGEST_SLUG].strip("-") or fallback


def tenant_slugs(
    names: Sequence[tuple[UUID, str]], wanted: Mapping[UUID, str], known: Mapping[UUID, str]
) -> dict[UUID, str]:
    """Gives every tenant a slug that no other has.

    Args:
        names: Tenants by id with their names, oldest first: of two that are new and share a name, the first gets the
            plain slug.
        wanted: Slugs that a person chose; they are unique and win.
        known: Slugs of earlier reads; a tenant keeps its own unless another tenant's was chosen to be the same.
    """
    present = [tenant_id for tenant_id, _ in names]
    slugs = {tenant_id: wanted[tenant_id] for tenant_id in present if tenant_id in wanted}
    taken = set(slugs.values())
    for tenant_id in present:
        if tenant_id not in slugs and tenant_id in known and known[tenant_id] not in taken:
            slugs[tenant_id] = known[tenant_id]
            taken.add(known[tenant_id])
    for tenant_id, name in names:
        if tenant_id not in slugs:
            slugs[tenant_id] = _free_slug(slug_of(name, "tenant"), tenant_id, taken)
            taken.add(slugs[tenant_id])
    return slugs


def _free_slug(base: str, tenant_id: UUID, taken: set[str]) -> str:
    candidates = [base, *(f"{base}-{tenant_id.hex[:length]}" for length in (8, 12, 16, 20, 24, 28, 32))]
    return next(slug for slug in candidates if slug not in taken)
