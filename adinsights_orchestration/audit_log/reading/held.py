"""Whether the archive still holds what was sealed, asked right before rows are deleted.

Belongs here: taking back the objects of tenants' days that may go, and naming those that are missing or changed. Does
not belong here: proving a range with the independent reader (`verify`). What was sealed has been decoded and compared
once; an object of the same bytes is the same rows, so here a hash is enough. The manifest that names the hash is held
against the ledger, so whoever changed both objects and manifests in the bucket is noticed too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
from adinsights_orchestration.audit_log.bookkeeping.manifest import Manifest, ManifestError, newest
from adinsights_orchestration.audit_log.model import At, DataFile
from adinsights_orchestration.audit_log.reading.reader import ContentError, unreadable
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.errors import AwayError, StoreError
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

_NOT_NAMED = "no manifest names it"


def not_held(settings: Settings, ops: OpsStore, source: Source, wanted: Sequence[At]) -> Mapping[At, str]:
    """Of these tenants' days, those that the store does not give back as they were sealed, and why.

    Args:
        settings: Where the archive is.
        ops: The ops store, with the ledger.
        source: The table.
        wanted: What is about to be deleted; all of it where the store is away, which is waited for once.
    """
    try:
        return _looked_at(settings, ops, source, wanted)
    except AwayError as error:
        return dict.fromkeys(wanted, f"the store did not answer: {error}")


def _looked_at(settings: Settings, ops: OpsStore, source: Source, wanted: Sequence[At]) -> Mapping[At, str]:
    store, ledger = open_store(settings.audit_log), ArchiveLedger(ops, source.name)
    problems: dict[At, str] = {}
    files: dict[str, DataFile] = {}
    of: dict[At, tuple[str, ...]] = {}
    by_day: dict[date, list[At]] = {}
    for at in wanted:
        by_day.setdefault(at[1], []).append(at)
    for day, here in sorted(by_day.items()):
        try:
            in_force = newest(_manifests(store, ledger, source, day))
        except AwayError:
            raise
        except (StoreError, ManifestError) as error:
            problems |= dict.fromkeys(here, str(error))
            continue
        for at in here:
            if at not in in_force:
                problems[at] = _NOT_NAMED
                continue
            chunk, manifest = in_force[at]
            of[at] = chunk.files
            files |= {file.key: file for file in manifest.files if file.key in chunk.files}
    wrong = unreadable(store, list(files.values()), settings.audit_log.at_once, (StoreError, ContentError))
    problems |= {at: next(wrong[key] for key in keys if key in wrong) for at, keys in of.items() if wrong.keys() & keys}
    return problems


def _manifests(store: Store, ledger: ArchiveLedger, source: Source, day: date) -> Iterator[Manifest]:
    for number, hash_ in ledger.about(day, day).manifests:
        yield chain.load_known(store, source.name, number, hash_)
