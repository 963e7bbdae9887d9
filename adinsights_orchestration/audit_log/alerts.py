"""Which alerts work on an asset of the audit log sets off itself, as the matchers of a maintenance window.

Belongs here: those matchers. Does not belong here: the rules (`alerting.rules.upkeep`), opening a window (`Quietly`).
"""

from __future__ import annotations


def set_off_by(asset: str) -> tuple[str, str]:
    """That the asset is late, or a check of it fails: the work is there to mend that, and what is left is told then."""
    return "rule=~audit_log_late|audit_log_failed", f"resource=~{asset}.*"
