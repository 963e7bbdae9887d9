"""Object stores as this project uses them beside the archive: one object that is replaced, and whether a store answers.

Belongs here: opening S3 and GCS by address, two requests, and what their failures mean in one word. Does not belong
here: what is written, and the archive, whose objects are never replaced. Both are reached in the same way: as the
settings of the archive say, else with the process' own credentials.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.settings import AuditLogSettings

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs")
_EMPTY_FOLDER = ".adinsights-health/"  # nothing is ever written there: listing it is one small answer
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_BUCKET = "no_bucket"
_BY_STATUS = {401: "refuses", 403: "refuses", 404: _NO_BUCKET}
_BY_WORDS = (
    ("kind: Timeout", "timeout", "no answer in time"),
    ("TimedOut", "timeout", "no answer in time"),
    ("lookup address", "dns", "the host name is not known"),
    ("ConnectionRefused", "refused", "the connection was refused"),
    ("certificate", "wrong_certificate", "the certificate is not valid"),
)


class ObjectError(AdinsightsError):
    """An object store does not do what it was asked.

    Attributes:
        state: Why, in one word: `timeout`, `dns`, `refused`, `wrong_certificate`, `refuses`, `no_bucket`, `http_...`,
            `unreachable`.
    """

    def __init__(self, state: str, problem: str, *, place: str, next_step: str) -> None:
        super().__init__(problem, place=place, next_step=next_step)
        self.state = state


@dataclass(frozen=True, slots=True)
class Access:
    """How stores are reached; what is None, the process' own environment says.

    Attributes:
        s3: obstore's configuration of an S3 store.
        gcs_endpoint: Address of a GCS-compatible server.
    """

    s3: Mapping[str, str] = field(repr=False)
    gcs_endpoint: str | None = None

    @classmethod
    def of(cls, settings: AuditLogSettings) -> Access:
        """The archive's access."""
        key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
        s3 = {"region": settings.s3_region}
        s3 |= {"endpoint": settings.s3_endpoint} if settings.s3_endpoint else {}
        if key and secret:
            s3 |= {"access_key_id": key.get_secret_value(), "secret_access_key": secret.get_secret_value()}
        return cls(s3, settings.gcs_endpoint)


@dataclass(frozen=True, slots=True)
class Address:
    """An address of an object store, taken apart.

    Attributes:
        store: Its bucket, as a URL.
        key: What stands behind the bucket.
    """

    store: str
    key: str

    @classmethod
    def of(cls, url: str) -> Address:
        """The parts of `s3://bucket/some/key`."""
        parts = urlsplit(url)
        return cls(f"{parts.scheme}://{parts.netloc}", parts.path.strip("/"))


def replace_object(url: str, content: bytes, access: Access, *, timeout_seconds: float, place: str) -> None:
    """Replaces a JSON object as a whole, by one request; no cache between it and its readers may keep it.

    Args:
        url: `s3://bucket/key` or `gs://bucket/key`.
        content: All of it.
        access: How stores are reached.
        timeout_seconds: How long that may take, with what is tried again.
        place: The setting that names it, for the error.

    Raises:
        ObjectError: It was not written, or nobody knows.
    """
    import obstore
    from obstore.exceptions import BaseError

    address = Address.of(url)
    attributes: Any = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    try:
        store = _open(address.store, access, timeout_seconds, retries=2)
        obstore.put(store, address.key, content, attributes=attributes, use_multipart=False)
    except (BaseError, OSError, ValueError) as error:
        raise _told(error, place) from None


def ask_store(url: str, access: Access, *, timeout_seconds: float, place: str) -> None:
    """Asks a store for a listing of what is never there: address, credentials and bucket are right when it answers.

    Raises:
        ObjectError: It does not serve us.
    """
    import obstore
    from obstore.exceptions import BaseError

    address = Address.of(url)
    try:
        store = _open(address.store, access, timeout_seconds, retries=0)
        for _ in obstore.list(store, "/".join(part for part in (address.key, _EMPTY_FOLDER) if part)):
            break
    except (BaseError, OSError, ValueError) as error:
        raise _told(error, place) from None


def _open(store: str, access: Access, timeout_seconds: float, *, retries: int) -> ObjectStore:
    from obstore.store import GCSStore, S3Store

    timeout, parts = timedelta(seconds=timeout_seconds), urlsplit(store)
    # Stores speak HTTPS unless the deployment names an endpoint of its own that does not.
    client: Any = {"timeout": timeout, "connect_timeout": timeout, "allow_http": True}
    retry: Any = {"max_retries": retries, "retry_timeout": timeout}
    if parts.scheme == "s3":
        return S3Store(parts.netloc, config=dict(access.s3), client_options=client, retry_config=retry)  # type: ignore[arg-type]
    options: dict[str, Any] = {}
    if access.gcs_endpoint:
        options = {"url": access.gcs_endpoint, "skip_signature": True}
    return GCSStore(parts.netloc, client_options=client, retry_config=retry, **options)


def _told(error: Exception, place: str) -> ObjectError:
    """A failure by its kind; its text holds addresses, headers and bodies, of which only codes are told."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    named = f", {code[1]}" if code else ""
    if status:
        number = int(status[1])
        state, said = _BY_STATUS.get(number, f"http_{number}"), f"it answers HTTP {number}{named}"
    elif "NoSuchBucket" in text or type(error).__name__ == "NotFoundError":
        state, said = _NO_BUCKET, "there is no such bucket"
    elif type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError"):
        state, said = "refuses", f"it refuses us{named}"
    else:
        found = ((state, said) for words, state, said in _BY_WORDS if words in text)
        state, said = next(found, ("unreachable", f"no answer could be had ({type(error).__name__})"))
    return ObjectError(
        state,
        f"the object store does not serve us: {said}",
        place=place,
        next_step="Check address, bucket and access: ADINSIGHTS_AUDIT_LOG__S3_*, else the process' own.",
    )
