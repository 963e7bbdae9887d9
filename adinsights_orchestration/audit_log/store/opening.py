"""Which store the settings name.

Belongs here: choosing it by its address. Does not belong here: the kinds of stores (`bucket`, `folder`).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from adinsights_orchestration.audit_log.store.bucket import ObjectStore
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.settings import AuditLogSettings


def open_store(settings: AuditLogSettings) -> Store:
    """The store that the settings name; nothing is connected yet."""
    parts = urlsplit(settings.archive_url)
    if parts.scheme == "file":
        return Folder(Path(unquote(parts.path)))
    return ObjectStore(settings)
