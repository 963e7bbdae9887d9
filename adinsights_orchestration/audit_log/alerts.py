"""The audit log's assets as alerts know them, and which alerts work on them sets off itself.

Belongs here: an archive's asset by its name, the matchers of a maintenance window. Does not belong here: the rules
(`alerting.rules.upkeep`), opening a window (`Quietly`).
"""

from __future__ import annotations

from adinsights_orchestration.audit_log.source import AUDIT_LOG, Source


def archive_asset(source: Source) -> str:
    """The asset of a table's archive: of a declared table beside the audit log's."""
    return "audit_log/archive" if source is AUDIT_LOG else f"audit_log/{source.name}/archive"


def set_off_by(*assets: str) -> tuple[str, str]:
    """That an asset is late, or a check of it fails: the work is there to mend that, and what is left is told then."""
    return "rule=~audit_log_late|audit_log_failed", f"resource=~{'|'.join(f'{asset}.*' for asset in assets)}"
