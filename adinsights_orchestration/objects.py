"""Object stores as this project uses them beside the archive: one object that is replaced, and whether a store answers.

Belongs here: opening S3 and GCS by address, two requests, and what their failures mean in one word. Does not belong
here: what is written, and the archive, whose objects are never replaced. Credentials are the process' own: variables
`AWS_*` and `GOOGLE_*`, or the role of the machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from adinsights_orchestration.errors import AdinsightsError

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


def replace_object(url: str, content: bytes, *, timeout_seconds: float, place: str) -> None:
    """Replaces a JSON object as a whole, by one request; no cache between it and its readers may keep it.

    Args:
        url: `s3://bucket/key` or `gs://bucket/key`.
        content: All of it.
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
        store = _open(address.store, timeout_seconds, retries=2)
        obstore.put(store, address.key, content, attributes=attributes, use_multipart=False)
    except (BaseError, OSError, ValueError) as error:
        raise _told(error, place) from None


def ask_store(url: str, *, timeout_seconds: float, place: str) -> None:
    """Asks a store for a listing of what is never there: address, credentials and bucket are right when it answers.

    Raises:
        ObjectError: It does not serve us.
    """
    import obstore
    from obstore.exceptions import BaseError

    address = Address.of(url)
    try:
        store = _open(address.store, timeout_seconds, retries=0)
        for _ in obstore.list(store, "/".join(part for part in (address.key, _EMPTY_FOLDER) if part)):
            break
    except (BaseError, OSError, ValueError) as error:
        raise _told(error, place) from None


def _open(store: str, timeout_seconds: float, *, retries: int) -> ObjectStore:
    from obstore.store import from_url

    timeout = timedelta(seconds=timeout_seconds)
    return from_url(
        store,
        # Stores speak HTTPS unless the deployment names an endpoint of its own (AWS_ENDPOINT_URL) that does not.
        client_options={"timeout": timeout, "connect_timeout": timeout, "allow_http": True},
        retry_config={"max_retries": retries, "retry_timeout": timeout},
    )


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
        next_step="Check the address, the credentials (AWS_*, GOOGLE_* or the machine's role) and the bucket.",
    )
