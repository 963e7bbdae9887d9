"""Whether a store keeps what the archive asks of it, found out by one small object; and what a bucket says of itself.

Belongs here: the probe and S3's answers about versions and object lock. Does not belong here: verdicts (`doctor`). The
probe is written, read back, written again with other bytes, which the store must refuse, and removed. Where removing is
forbidden, as in a locked bucket, it stays: a few bytes below the archive's root that no manifest names.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlsplit

import httpx

from adinsights_orchestration import tls
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.errors import ObjectExistsError, StoreError
from adinsights_orchestration.settings import AuditLogSettings

_FIRST, _SECOND = b"written by adinsights doctor\n", b"this must never be here\n"
_ENABLED = re.compile(r"<Status>(\w+)</Status>|<ObjectLockEnabled>(\w+)</ObjectLockEnabled>")
_RULE = re.compile(r"<Mode>(\w+)</Mode>|<(Days|Years)>(\d+)</")
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probe found.

    Attributes:
        same: What was read is what was written.
        overwrites: A second write replaced the first, or was taken for done.
        removed: The probe is gone again.
        kept_because: Why it is not.
    """

    same: bool
    overwrites: bool
    removed: bool
    kept_because: str = ""


def probe(store: Store) -> Probed:
    """Writes, reads, writes again and removes one object.

    Raises:
        StoreError: The store cannot be written to or read from.
    """
    key = f"doctor-{uuid.uuid4().hex}"
    store.create(key, _FIRST)
    same = store.get(key) == _FIRST
    try:
        store.create(key, _SECOND)
        overwrites = True
    except ObjectExistsError:
        overwrites = store.get(key) == _SECOND
    try:
        store.delete(key)
    except StoreError as error:
        return Probed(same, overwrites, False, error.problem)
    return Probed(same, overwrites, True)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a bucket says of itself.

    Attributes:
        versions: `Enabled`, `Suspended`, or nothing when it never kept any.
        lock: What its object lock says; nothing when it has none.
        unknown: Why it was not asked or did not say; nothing when it did.
    """

    versions: str = ""
    lock: str = ""
    unknown: str = ""

    @property
    def locks(self) -> bool:
        """Whether it locks what we write, and nobody may take that back: compliance mode with a default retention."""
        return self.lock.startswith("compliance, ")


def rules_of(
    settings: AuditLogSettings, environment: Mapping[str, str], now: datetime, timeout_seconds: float
) -> Rules:
    """Asks an S3 bucket for its versioning and its object lock, which obstore cannot.

    Needs the rights `s3:GetBucketVersioning` and `s3:GetBucketObjectLockConfiguration`, and credentials that stand in
    the settings or in the environment: a role's are obstore's alone.
    """
    known = _credentials(settings, environment)
    if known is None:
        return Rules(unknown="its settings are not asked for with a role's credentials")
    with httpx.Client(timeout=timeout_seconds, verify=tls.verifying()) as client:
        try:
            versions = client.send(signed(settings, known, "GET", "versioning", now))
            lock = client.send(signed(settings, known, "GET", "object-lock", now))
        except httpx.HTTPError as error:
            return Rules(unknown=f"its settings cannot be asked for ({type(error).__name__})")
    if versions.status_code != httpx.codes.OK:
        return Rules(unknown=f"it does not tell its settings (HTTP {versions.status_code})")
    return Rules(_word(versions.text), _lock(lock))


Credentials = tuple[str, str, str | None]


def _credentials(settings: AuditLogSettings, environment: Mapping[str, str]) -> Credentials | None:
    key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
    if key and secret:
        return key.get_secret_value(), secret.get_secret_value(), None
    own = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    return (own[0], own[1], environment.get("AWS_SESSION_TOKEN")) if own[0] and own[1] else None


def signed(
    settings: AuditLogSettings,
    credentials: Credentials,
    method: str,
    query: str,
    now: datetime,
    headers: Mapping[str, str] | None = None,
) -> httpx.Request:
    """A request about the bucket itself, without a body, signed as S3 wants it (Signature Version 4)."""
    key, secret, token = credentials
    bucket, region = urlsplit(settings.archive_url).netloc, settings.s3_region
    endpoint = (settings.s3_endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
    path, sent = f"/{quote(bucket)}", f"{query}=" if query else ""
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    own = {"host": urlsplit(endpoint).netloc, "x-amz-content-sha256": _EMPTY, "x-amz-date": stamp, **(headers or {})}
    own |= {"x-amz-security-token": token} if token else {}
    names = ";".join(sorted(own))
    lines = "".join(f"{name}:{own[name]}\n" for name in sorted(own))
    asked = "\n".join((method, path, sent, lines, names, _EMPTY))
    scope = f"{now:%Y%m%d}/{region}/s3/aws4_request"
    text = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(asked.encode()).hexdigest()))
    by = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        by = hmac.digest(by, part.encode(), "sha256")
    signature = hmac.digest(by, text.encode(), "sha256").hex()
    own["authorization"] = f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signature}"
    return httpx.Request(method, f"{endpoint}{path}" + (f"?{sent}" if sent else ""), headers=own)


def _word(text: str) -> str:
    found = _ENABLED.search(text)
    return next(filter(None, found.groups())) if found else ""


def _lock(answer: httpx.Response) -> str:
    if answer.status_code != httpx.codes.OK or _word(answer.text) != "Enabled":
        return ""
    mode, span = "", ""
    for found in _RULE.finditer(answer.text):
        mode, span = found[1] or mode, f"{found[3]} {found[2].lower()}" if found[2] else span
    return f"{mode.lower()}, {span}" if mode else "on, without a default retention"


def may_write(folder: str) -> bool:
    """Whether our user may write into a folder."""
    return os.access(folder, os.W_OK | os.X_OK)
