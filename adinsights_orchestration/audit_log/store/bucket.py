"""The archive in a bucket of S3 or GCS, through obstore.

Belongs here: creating, reading, listing and removing objects, with the settings' deadlines and encryption. Does not
belong here: the folder on a disk (`folder`). Every object is written whole, by one request that the store refuses when
the key exists: there is no conditional multipart upload, so objects stay far below what one request takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from adinsights_orchestration.audit_log.store.contract import InPlace
from adinsights_orchestration.audit_log.store.errors import (
    AwayError,
    MissingObjectError,
    ObjectExistsError,
    RefusedError,
    StoreError,
)
from adinsights_orchestration.clock import elapsed_seconds
from adinsights_orchestration.objects import EXPIRED, NO_BUCKET, REFUSES, TIMEOUT, Access, open_bucket, why
from adinsights_orchestration.settings import AuditLogSettings, Encryption

_PLACE = "ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL"
_RETRIES = 10
_CONNECT_SECONDS = 10.0


class ObjectStore:
    """A bucket of S3 or GCS.

    Args:
        settings: Its address, encryption, deadlines.
    """

    def __init__(self, settings: AuditLogSettings) -> None:
        self.url = settings.archive_url
        self._settings = settings
        self._opened: Any = None

    def create(self, key: str, content: bytes) -> None:
        """As `Store`."""
        import obstore

        began = elapsed_seconds()
        while True:
            with _translated(key):
                try:
                    obstore.put(self._store(), key, content, mode="create", use_multipart=False)
                except obstore.exceptions.GenericError as error:
                    # Of what takes too long, obstore tries again only reading. This may be tried again as well: what is
                    # there already is either this very content, or refused.
                    if why(error)[0] == TIMEOUT and elapsed_seconds() - began < self._settings.retry_seconds:
                        continue
                    raise
                return

    def get(self, key: str) -> bytes:
        """As `Store`."""
        import obstore

        with _translated(key):
            return bytes(obstore.get(self._store(), key).bytes())

    def in_place(self, key: str) -> InPlace | None:  # noqa: ARG002  (none of them lies on this machine)
        """As `Store`."""
        return None

    def delete(self, key: str) -> None:
        """As `Store`."""
        import obstore

        try:
            with _translated(key):
                obstore.delete(self._store(), key)
        except MissingObjectError:
            pass

    def keys(self, prefix: str) -> Iterator[str]:
        """As `Store`."""
        import obstore

        with _translated(prefix):
            for page in obstore.list(self._store(), prefix):
                yield from (each["path"] for each in page)

    def _store(self) -> Any:
        if self._opened is None:
            with _translated(""):
                self._opened = _open(self._settings)
        return self._opened


def _open(settings: AuditLogSettings) -> Any:
    endpoint = settings.s3_endpoint if settings.archive_url.startswith("s3:") else settings.gcs_endpoint
    client = {
        "timeout": timedelta(seconds=settings.request_timeout_seconds),
        "connect_timeout": timedelta(seconds=min(settings.request_timeout_seconds, _CONNECT_SECONDS)),
        "allow_http": (endpoint or "").startswith("http:"),
    }
    retry = {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=settings.retry_seconds)}
    config = {"checksum_algorithm": "SHA256", "conditional_put": "etag"}  # whatever the environment's variables say
    if settings.encryption is not Encryption.BUCKET:
        config["server_side_encryption"] = settings.encryption.value
        if settings.kms_key_id:
            config["sse_kms_key_id"] = settings.kms_key_id
    return open_bucket(settings.archive_url, Access.of(settings), client=client, retry=retry, **config)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    import obstore.exceptions as known

    try:
        yield
    except (known.AlreadyExistsError, known.PreconditionError):
        raise ObjectExistsError("the object exists already, and is not overwritten", place=key) from None
    except (known.NotFoundError, FileNotFoundError) as error:
        if "NoSuchBucket" in str(error):
            raise _told(error) from None  # and not an archive in which nothing lies
        raise MissingObjectError("there is no such object", place=key) from None
    except (known.BaseError, OSError, ValueError) as error:
        raise _told(error) from None


_RIGHTS = "Check the credentials and the rights on the bucket and its key: docs/audit-archive.md lists them."
_AGAIN = "what was begun is taken up by the next run."
_ADVICE = {
    REFUSES: f"{_RIGHTS} Nothing is lost; {_AGAIN}",
    EXPIRED: f"Renew them, or let the process take a role whose credentials renew themselves; {_AGAIN}",
    NO_BUCKET: f"Create it or correct its name; {_AGAIN}",
}


def _told(error: Exception) -> StoreError:
    state, said = why(error)
    kind = RefusedError if state == REFUSES else StoreError if state.startswith("http_4") else AwayError
    return kind(
        f"the object store does not serve us: {said}",
        place=_PLACE,
        next_step=_ADVICE.get(state, f"Check the address and that it is up; {_AGAIN}"),
    )
