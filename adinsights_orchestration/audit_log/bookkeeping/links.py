"""A long chain in little memory: its links first, and then what it says, month by month.

Belongs here: following a chain of which only hashes are kept, and reading again what it says of one month. Does not
belong here: which steps are allowed (`standing`). A year of many tenants is too much to be held at once, and need not
be: an object holds rows of one tenant's day or month, so no manifest can make what it says of one month depend on
another, and one that names an object of another month is not in order. Each manifest is proven when it is followed, and
must have the same hash when it is read again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import ADVICE, Manifest, ManifestError, ManifestKind
from adinsights_orchestration.audit_log.bookkeeping.standing import (
    History,
    Removed,
    Standing,
    month_of,
    removed_by,
)
from adinsights_orchestration.audit_log.store.contract import Store


class Links:
    """A chain, as far as it has been followed.

    Args:
        store: Where it is.
        source: The table's name in the archive.
    """

    def __init__(self, store: Store, source: str) -> None:
        self._store, self._source = store, source
        self._hashes: list[str] = []
        self._about: dict[date, list[int]] = {}
        self.days: set[date] = set()
        self.removed: list[Removed] = []

    @property
    def number(self) -> int:
        """How many manifests hold."""
        return len(self._hashes)

    @property
    def head(self) -> str:
        """The hash of the last of them; empty before the first."""
        return self._hashes[-1] if self._hashes else ""

    @property
    def months(self) -> list[date]:
        """The months that they are about, each by its first day."""
        return sorted(self._about)

    def has(self, hash_: str) -> bool:
        """Whether the chain has come by a manifest of this hash."""
        return hash_ in self._hashes

    def hash_of(self, number: int) -> str:
        """The hash of a manifest; empty where the chain does not reach so far."""
        return self._hashes[number - 1] if 0 < number <= self.number else ""

    def follow(self) -> set[date]:
        """Goes on to the end; returns the months that something new is said of.

        Raises:
            ManifestError: One was changed, or does not follow on the one before; those before it are known.
        """
        new: set[date] = set()
        for manifest, hash_ in chain.follow_hashed(self._store, self._source, self.number, self.head):
            try:
                months = _months_of(manifest)
                removed = [removed_by(manifest, manifest.gone)] if manifest.gone is not None else []
            except (IndexError, ValueError):
                key = chain.manifest_key(self._source, manifest.sequence)
                problem = "it says of something that it is gone that is no object of the archive"
                raise ManifestError(problem, place=key, next_step=ADVICE) from None
            self._hashes.append(hash_)
            self.removed += removed
            if manifest.kind is ManifestKind.DAY:
                self.days.add(manifest.first_day)
            for month in months:
                self._about.setdefault(month, []).append(manifest.sequence)
                new.add(month)
        return new

    def standing(self, month: date) -> Standing:
        """What the chain says of a month, in its end.

        Raises:
            ManifestError: A manifest is not the one that was followed.
        """
        history = History()
        for number in self._about[month]:
            manifest = chain.load_known(self._store, self._source, number, self.hash_of(number))
            history.take(_of_month(manifest, month))
        return history.standing


def _months_of(manifest: Manifest) -> set[date]:
    """By everything that it says, and not by its own word alone."""
    chunks, files = list(manifest.chunks), manifest.gone.files if manifest.gone is not None else ()
    if manifest.gone is not None:
        chunks += manifest.gone.chunks
    days = {manifest.first_day, manifest.last_day, *(chunk.day for chunk in chunks)}
    return {month_of(day) for day in days} | {month_of(chain.day_of_key(file.key)) for file in files}


def _of_month(manifest: Manifest, month: date) -> Manifest:
    """A manifest without what it says of other months; where it describes an object does not matter."""
    if _months_of(manifest) == {month}:
        return manifest
    gone = manifest.gone
    if gone is not None:
        gone = replace(
            gone,
            chunks=tuple(chunk for chunk in gone.chunks if month_of(chunk.day) == month),
            files=tuple(file for file in gone.files if month_of(chain.day_of_key(file.key)) == month),
        )
    return replace(
        manifest, chunks=tuple(chunk for chunk in manifest.chunks if month_of(chunk.day) == month), gone=gone
    )
