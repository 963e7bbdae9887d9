"""The audit log's archive: whether it is the one that was written to, takes objects, and never overwrites them.

Belongs here: verdicts. Does not belong here: the probe (`audit_log.store.probing`).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
from adinsights_orchestration.audit_log.bookkeeping.manifest import ManifestError
from adinsights_orchestration.audit_log.journal import last_summary
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.audit_log.store.probing import Probed, Rules, may_write, probe, rules_of
from adinsights_orchestration.doctor.checks.machine import existing
from adinsights_orchestration.doctor.model import Verdict, fail, ok, warn
from adinsights_orchestration.doctor.world import CONNECT_SECONDS, World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import AuditLogSettings

_DOCS, _RUNBOOK = "docs/audit-archive.md", "docs/runbook.md (the audit log's retention)"


def store(world: World) -> Verdict:
    """The store takes an object, gives it back, refuses to overwrite it; what the bucket says of itself is told."""
    settings = world.hasty.audit_log
    parts = urlsplit(settings.archive_url)
    outside = world.settings.environment is not Environment.LOCAL
    if outside and settings.archive_url == AuditLogSettings().archive_url:
        return fail("it is the local stack's folder", f"Set ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL: {_DOCS} says to what.")
    if parts.scheme == "file" and not Path(unquote(parts.path)).is_dir():
        return _no_folder(Path(unquote(parts.path)))
    found = probe(open_store(settings))
    if not found.same:
        return fail("what is written is not what is read", "The archive cannot be proven there: use another store.")
    if found.overwrites:
        return fail(
            "it overwrites objects without a word (conditional writes are ignored)",
            f"Use a store that honours If-None-Match: {_DOCS} lists some.",
        )
    if parts.scheme == "file":
        return _of_folder(found)
    rules = Rules(unknown="its settings are not asked for")
    if parts.scheme == "s3":
        rules = rules_of(settings, world.environment, world.now, CONNECT_SECONDS)
    return _of_bucket(found, rules, world.settings.environment)


def head(world: World) -> Verdict:
    """The store holds the last manifest that the ledger knows: it is the archive that has been written to."""
    number, hash_ = ArchiveLedger(world.ops_store.get(), AUDIT_LOG.name).head()
    if not number:
        return ok("nothing has been archived yet")
    try:
        chain.require_end(open_store(world.hasty.audit_log), AUDIT_LOG.name, number, hash_)
    except ManifestError as error:
        return fail(f"{error.problem} ({error.place})", error.next_step)
    return ok(f"manifest {number} is the one that was sealed")


def days(world: World) -> Verdict:
    """Every row is of a day that is archived: one of no such day stays in the table for ever."""
    rows = last_summary(world.ops_store.get(), AUDIT_LOG.name, "archive").get("odd_rows", 0)
    begins = world.settings.audit_log.first_day
    if rows:
        return warn(
            f"{rows:,} rows are older than {begins}, in the future or without a time: they are neither archived nor"
            " deleted",
            f"Where they are older, set ADINSIGHTS_AUDIT_LOG__FIRST_DAY to their first day and run"
            f" `adinsights audit archive`: {_RUNBOOK} has more.",
        )
    return ok(f"the last run met no row before {begins} and none of no day")


def _no_folder(folder: Path) -> Verdict:
    above = existing(folder)
    if not may_write(str(above)):
        return fail(f"{folder} cannot be made: {above} is not ours to write", "Give it to the orchestrator's user.")
    return ok(f"{folder} is made at the first write")


def _of_folder(found: Probed) -> Verdict:
    if not found.removed:
        return warn(f"writable, and never overwritten; {found.kept_because}", "Look at the folder's rights.")
    return ok("a folder: writable, and never overwritten")


def _of_bucket(found: Probed, rules: Rules, environment: Environment) -> Verdict:
    said = "writable, and never overwritten"
    said += "" if found.removed else f"; deleting is forbidden ({found.kept_because})"
    if rules.unknown:
        return warn(
            f"{said}; {rules.unknown}",
            f"Nobody has looked whether it keeps what is deleted: look at its versions and its object lock ({_DOCS}).",
        )
    said += f"; versions: {rules.versions.lower() or 'none'}; object lock: {rules.lock or 'none'}"
    if environment is Environment.LOCAL or rules.locks or not found.removed:
        return ok(said)
    switch = "give object lock a default retention in compliance mode" if rules.lock else "switch object lock on"
    return warn(said, f"Whoever may write may also delete: {switch} ({_DOCS}).")
