"""Object stores as this project uses them beside the archive: one object that is replaced, and whether a store answers.

Belongs here: opening S3 and GCS by address, two requests, and what their failures mean in one word. Does not belong
here: what is written, and the archive, whose objects are never replaced. Both are reached in the same way: as the
settings of the archive say, else with the process' own credentials.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
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
_STATUS = re.compile(r"(?:status code|status): (\d{3})")
_CODE = re.compile(r"(?:<Code>|\(code: )(\w{1,60})(?:</Code>|\))")  # the second is of deleting, which S3 does by a list
NO_BUCKET, REFUSES, EXPIRED, TIMEOUT = "no_bucket", "refuses", "expired", "timeout"
_DENIED = "AccessDenied"
_EXPIRED = ("ExpiredToken", "TokenRefreshRequired", "RequestExpired")  # S3 answers the first with 400, others with 403
_BY_STATUS = {401: REFUSES, 403: REFUSES, 404: NO_BUCKET}
_BY_WORDS = (
    ("kind: Timeout", TIMEOUT, "no answer in time"),
    ("TimedOut", TIMEOUT, "no answer in time"),
    ("lookup address", "dns", "the host name is not known"),
    ("ConnectionRefused", "refused", "the connection was refused"),
    ("certificate", "wrong_certificate", "the certificate is not valid"),
)


class ObjectError(AdinsightsError):
    """An object store does not do what it was asked.

    Attributes:
        state: Why, in one word: `timeout`, `dns`, `refused`, `wrong_certificate`, `refuses`, `expired`, `no_bucket`,
            `http_...`, `unreachable`.
    """

    def __init__(self, state: str, problem: str, *, place: str, next_step: str) -> None:
        super().__init__(problem, place=place, next_step=next_step)
        self.state = state


@dataclass(frozen=True, slots=True)
class Access:
    """How stores are reached; what is None, the process' own environment says.

    Attributes:
        s3: obstore's configuration of an S3 store.
        s3_key: Access key and its secret.
        gcs: obstore's configuration of a GCS store.
    """

    s3: Mapping[str, Any] = field(repr=False)
    s3_key: tuple[str, str] | None = field(default=None, repr=False)
    gcs: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: AuditLogSettings) -> Access:
        """The archive's access."""
        s3: dict[str, Any] = {"region": settings.s3_region}
        if settings.s3_endpoint:
            # obstore lets a variable of the environment, AWS_ENDPOINT_URL_S3, go before `endpoint`.
            s3 |= {"endpoint": settings.s3_endpoint, "aws_endpoint_url_s3": settings.s3_endpoint}
        key, secret = settings.s3_access_key_id, settings.s3_secret_access_key
        pair = (key.get_secret_value(), secret.get_secret_value()) if key and secret else None
        gcs: dict[str, Any] = {}
        if settings.gcs_service_account_path:
            gcs["service_account"] = str(settings.gcs_service_account_path)
        if settings.gcs_endpoint:
            gcs["base_url"] = settings.gcs_endpoint
        return cls(s3, pair, gcs)

    def gcs_provider(self) -> Callable[[], Any] | None:
        """Anybody's token for a server of one's own that asks for none: obstore's `skip_signature` covers no writes."""
        if "base_url" not in self.gcs or "service_account" in self.gcs:
            return None
        return lambda: {"token": "anybody", "expires_at": None}

    def s3_provider(self) -> Callable[[], Any] | None:
        """The access key for obstore: given as configuration, a session token of the environment would go with it."""
        if self.s3_key is None:
            return None
        key, secret = self.s3_key
        return lambda: {"access_key_id": key, "secret_access_key": secret, "token": None, "expires_at": None}


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


def open_bucket(url: str, access: Access, *, client: Any, retry: Any, **s3: Any) -> ObjectStore:
    """A bucket, or what lies in it below a prefix; nothing is connected yet.

    Args:
        url: `s3://bucket/prefix` or `gs://bucket/prefix`.
        access: How stores are reached.
        client: obstore's configuration of its HTTP client.
        retry: obstore's configuration of trying again.
        s3: More of obstore's configuration, for S3 alone.
    """
    from obstore.store import GCSStore, S3Store

    parts = urlsplit(url)
    prefix = parts.path.strip("/") or None
    if parts.scheme == "gs":
        gcs: Any = dict(access.gcs)
        provider = access.gcs_provider()
        return GCSStore(
            parts.netloc,
            prefix=prefix,
            config=gcs,
            client_options=client,
            retry_config=retry,
            credential_provider=provider,
        )
    config: Any = {**access.s3, **s3}
    return S3Store(
        parts.netloc,
        prefix=prefix,
        config=config,
        client_options=client,
        retry_config=retry,
        credential_provider=access.s3_provider(),
    )


def _open(store: str, access: Access, timeout_seconds: float, *, retries: int) -> ObjectStore:
    timeout = timedelta(seconds=timeout_seconds)
    # Stores speak HTTPS unless the deployment names an endpoint of its own that does not.
    client = {"timeout": timeout, "connect_timeout": timeout, "allow_http": True}
    return open_bucket(store, access, client=client, retry={"max_retries": retries, "retry_timeout": timeout})


def why(error: Exception) -> tuple[str, str]:
    """A failure in one word and in a few; of its text, which may hold headers and bodies, only codes are told."""
    text = str(error)
    status, code = _STATUS.search(text), _CODE.search(text)
    named = f", {code[1]}" if code else ""
    if code and code[1] in _EXPIRED:
        return EXPIRED, f"the credentials have expired ({code[1]})"
    if "NoSuchBucket" in text:
        return NO_BUCKET, "there is no such bucket"
    if status:
        number = int(status[1])
        return _BY_STATUS.get(number, f"http_{number}"), f"it answers HTTP {number}{named}"
    if type(error).__name__ == "NotFoundError":
        return NO_BUCKET, "there is no such bucket"
    if type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError") or (code and code[1] == _DENIED):
        return REFUSES, f"it refuses us{named}"
    found = ((state, said) for words, state, said in _BY_WORDS if words in text)
    return next(found, ("unreachable", f"no answer could be had ({type(error).__name__})"))


def _told(error: Exception, place: str) -> ObjectError:
    state, said = why(error)
    return ObjectError(
        state,
        f"the object store does not serve us: {said}",
        place=place,
        next_step="Check address, bucket and access: ADINSIGHTS_AUDIT_LOG__S3_*, else the process' own.",
    )
