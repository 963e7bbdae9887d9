"""The manifests that a range of days needs: by the ledger where it is known, and else all of the chain.

Belongs here: which manifests to read, and the objects of every revision, for which all of them are read. Does not
belong here: what they say (`bookkeeping`), which objects in force are asked for (`query`, `restore.plan`). The ledger
knows every manifest by its hash, so each that is read is the one that was sealed, and no other needs to be read. What
the chain has and the ledger lacks, because its writer died in between, is followed from the ledger's end on. Where the
two disagree, the chain alone is asked, from its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import date
from typing import TypeVar

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import Known
from adinsights_orchestration.audit_log.bookkeeping.links import Links
from adinsights_orchestration.audit_log.bookkeeping.manifest import ADVICE, Manifest, ManifestError
from adinsights_orchestration.audit_log.bookkeeping.standing import month_of
from adinsights_orchestration.audit_log.model import At, DataFile
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store

EVER = (date.min, date.max)
Knowing = Callable[[date, date], Known | None]
_Found = TypeVar("_Found")


def choose(store: Store, source: Source, known: Known | None, fold: Callable[[Iterable[Manifest]], _Found]) -> _Found:
    """What a fold finds in the manifests that are about a range, and perhaps others, in the chain's order.

    Args:
        store: Where they are.
        source: The table.
        known: What the ledger knows of the range; None where it cannot be asked.
        fold: Takes them one by one; called a second time when the ledger is no help.

    Raises:
        ManifestError: The chain is broken.
    """
    if known is not None:
        try:
            return fold(_as_known(store, source, known))
        except ManifestError:
            pass  # of the chain itself it is told below
    return fold(chain.follow(store, source.name))


def every_revision(
    store: Store, source: Source, first: date, last: date, wanted: Callable[[At], bool]
) -> dict[DataFile, dict[date, bool]]:
    """The objects that hold rows of some tenants' days, now or in an earlier revision; by day whether it is in force.

    Args:
        store: Where they are.
        source: The table.
        first: No earlier day is wanted.
        last: Nor a later one.
        wanted: The tenants' days.

    Raises:
        ManifestError: The chain is broken, or a step of it is not allowed.
    """
    links = Links(store, source.name)
    links.follow()
    found: dict[DataFile, dict[date, bool]] = {}
    for month in links.months:
        if not month_of(first) <= month <= last:
            continue
        standing = links.standing(month)
        if standing.problems:
            raise ManifestError(standing.problems[0], next_step=ADVICE)
        for key, ats in standing.holders().items():
            days = {at[1]: key in standing.in_force[at].files for at in ats if wanted(at)}
            if days:
                found[standing.files[key]] = days
    return found


def _as_known(store: Store, source: Source, known: Known) -> Iterator[Manifest]:
    for number, hash_ in known.manifests:
        yield chain.load_known(store, source.name, number, hash_)
    yield from chain.follow(store, source.name, known.number, known.head)
