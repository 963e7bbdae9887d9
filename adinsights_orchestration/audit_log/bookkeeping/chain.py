"""The chain of manifests in the store: following it, and adding to it.

Belongs here: keys of manifests and of data, reading a chain from its beginning, appending to its end. Does not belong
here: what a manifest says (`manifest`). The key of a manifest is its number, and it is only created: of two writers
that both believe to be at the end, the store lets one win.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from uuid import UUID

from adinsights_orchestration.audit_log.bookkeeping.manifest import (
    ADVICE,
    Manifest,
    ManifestError,
    hash_of,
    parse_manifest,
    read_manifest,
    require_follows,
)
from adinsights_orchestration.audit_log.source import NOBODY
from adinsights_orchestration.audit_log.store.contract import Store, create_same
from adinsights_orchestration.audit_log.store.errors import MissingObjectError, ObjectExistsError

_ROOT = "audit/v1"


class ChainForkedError(ManifestError):
    """Somebody else added another manifest at this place; read the chain again."""


class WrongArchiveError(ManifestError):
    """The store lacks the end of the chain that the ledger knows; nothing was written to it."""


def manifest_key(source: str, sequence: int) -> str:
    """Where a manifest lies."""
    return f"{_ROOT}/{source}/chain/{sequence:08d}.json"


def data_key(source: str, tenant: UUID, period: str, sha256: str) -> str:
    """Where an object of rows lies: the tenant first, so that one prefix is all of a tenant's.

    Args:
        source: The table's name in the archive.
        tenant: Whose rows.
        period: `2026-01-31`, or `2026-01` for a month in one.
        sha256: Of its bytes.
    """
    return f"{tenant_prefix(source, tenant)}dt={period}/{sha256[:32]}.parquet"


def tenant_prefix(source: str, tenant: UUID) -> str:
    """Below which all of a tenant's rows lie."""
    whose = "none" if tenant == NOBODY else str(tenant)
    return f"{_ROOT}/{source}/tenant_id={whose}/"


def tenant_of_key(key: str) -> UUID:
    """Whose rows an object holds, by its key."""
    whose = key.split("/tenant_id=", 1)[1].split("/", 1)[0]
    return NOBODY if whose == "none" else UUID(whose)


def day_of_key(key: str) -> date:
    """The day that an object is of, by its key; of one that holds a month, the first."""
    period = _period(key)
    return date.fromisoformat(f"{period}-01" if is_of_month(key) else period)


def is_of_month(key: str) -> bool:
    """Whether an object holds a month, by its key."""
    return len(_period(key)) == len("2026-01")


def _period(key: str) -> str:
    return key.split("/dt=", 1)[1].split("/", 1)[0]


def follow(store: Store, source: str, after: int = 0, previous: str = "") -> Iterator[Manifest]:
    """The manifests behind number `after`, whose hash is `previous`, to the end.

    Raises:
        ManifestError: One was changed, or does not follow on the one before.
    """
    for manifest, _ in follow_hashed(store, source, after, previous):
        yield manifest


def follow_hashed(store: Store, source: str, after: int = 0, previous: str = "") -> Iterator[tuple[Manifest, str]]:
    """The same, each with its hash."""
    sequence = after + 1
    while True:
        key = manifest_key(source, sequence)
        try:
            content = store.get(key)
        except MissingObjectError:
            return
        manifest = read_manifest(content, place=key)
        require_follows(manifest, source, sequence, previous, place=key)
        sequence, previous = sequence + 1, hash_of(content)
        yield manifest, previous


def load(store: Store, source: str, sequence: int) -> Manifest:
    """One manifest by its number."""
    key = manifest_key(source, sequence)
    return read_manifest(store.get(key), place=key)


def load_known(store: Store, source: str, sequence: int, hash_: str) -> Manifest:
    """One manifest by its number, which must have this hash: it was proven when it was added or followed.

    Raises:
        ManifestError: It is missing, or another one.
    """
    key = manifest_key(source, sequence)
    try:
        content = store.get(key)
    except MissingObjectError:
        raise ManifestError("the manifest is missing", place=key, next_step=ADVICE) from None
    if hash_of(content) != hash_:
        raise ManifestError("the manifest is not the one that was sealed", place=key, next_step=ADVICE)
    return parse_manifest(content, place=key)


def require_end(store: Store, source: str, sequence: int, hash_: str) -> None:
    """Refuses a store that does not hold the chain's last manifest, before anything is added to it.

    An archive whose disk is not mounted, or whose address is wrong, looks like one whose end has been reached: what is
    added there leaves a gap in the chain for good.

    Raises:
        WrongArchiveError: The manifest is not there.
        ManifestError: It is another one.
    """
    key = manifest_key(source, sequence)
    try:
        content = store.get(key)
    except MissingObjectError:
        raise WrongArchiveError(
            f"the archive lacks the last manifest that the ledger knows ({store.url})",
            place=key,
            next_step="Nothing was written. Mount the archive's disk or volume, or correct"
            ' ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL; docs/runbook.md says more: "The archive is not there".',
        ) from None
    if hash_of(content) != hash_:
        raise ManifestError("the manifest is not the one that was sealed", place=key, next_step=ADVICE)


def append(store: Store, manifest: Manifest) -> None:
    """Adds a manifest; the same one once more is no error.

    Raises:
        ChainForkedError: There is another one at its place.
    """
    key = manifest_key(manifest.source, manifest.sequence)
    try:
        create_same(store, key, manifest.to_bytes())
    except ObjectExistsError:
        raise ChainForkedError(
            "another manifest stands at this place of the chain",
            place=key,
            next_step="Another process archives the same table; the next run goes on behind it.",
        ) from None


def beyond_the_end(store: Store, source: str, last: int) -> list[str]:
    """Manifests behind the end of the chain: what shows that one between is missing."""
    end = manifest_key(source, last)
    return sorted(key for key in store.keys(f"{_ROOT}/{source}/chain/") if key > end)


def day_period(day: date) -> str:
    """How a day stands in a key."""
    return day.isoformat()


def month_period(day: date) -> str:
    """How the day's month stands in a key."""
    return f"{day:%Y-%m}"
