"""Where the archive lies: objects that are created once and never overwritten.

Belongs here: what the archive asks of a store, and object stores behind it (S3, GCS) through obstore. Does not belong
here: the folder on a disk (`folder`), and what stands in an object. Every object is written whole, by one request that
the store refuses when the key exists: there is no conditional multipart upload, so objects stay far below what one
request takes. A refused object that holds the same bytes counts as written, which makes every write repeatable: after a
lost answer it is simply made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from adinsights_orchestration.audit_log.folder import Folder
from adinsights_orchestration.audit_log.store_errors import MissingObjectError, ObjectExistsError, StoreError
from adinsights_orchestration.settings import AuditLogSettings, Encryption

_PLACE = "ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL"
_SHORT = 300


class Store(Protocol):
    """Objects below one root."""

    url: str

    def create(self, key: str, content: bytes) -> None:
        """Writes a new object, durably.

        Raises:
            ObjectExistsError: The key exists; it is as it was.
            StoreError: It could not be written, or nobody knows.
        """

    def get(self, key: str) -> bytes:
        """The bytes of an object; `MissingObjectError` when there is none."""

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys below a prefix that ends with a slash, in no order."""


def open_store(settings: AuditLogSettings) -> Store:
    """The store that the settings name; nothing is connected yet."""
    parts = urlsplit(settings.archive_url)
    if parts.scheme == "file":
        return Folder(Path(unquote(parts.path)))
    return ObjectStore(settings)


def create_same(store: Store, key: str, content: bytes) -> bool:
    """Writes an object, or finds it there with the same bytes; returns whether it was new.

    Raises:
        ObjectExistsError: It is there with other bytes.
    """
    try:
        store.create(key, content)
    except ObjectExistsError:
        if store.get(key) == content:
            return False
        raise
    return True


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

        with _translated(key):
            obstore.put(self._store(), key, content, mode="create", use_multipart=False)

    def get(self, key: str) -> bytes:
        """As `Store`."""
        import obstore

        with _translated(key):
            return bytes(obstore.get(self._store(), key).bytes())

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
    from obstore.store import GCSStore, S3Store

    parts = urlsplit(settings.archive_url)
    prefix = parts.path.strip("/") or None
    client: Any = {"timeout": timedelta(seconds=settings.request_timeout_seconds)}
    retry: Any = {"max_retries": 10, "retry_timeout": timedelta(seconds=settings.retry_seconds)}
    if parts.scheme == "gs":
        client["allow_http"] = (settings.gcs_endpoint or "").startswith("http:")
        options: dict[str, Any] = {}
        if settings.gcs_endpoint:
            options = {"url": settings.gcs_endpoint, "skip_signature": True}
        return GCSStore(parts.netloc, prefix=prefix, client_options=client, retry_config=retry, **options)
    config: Any = {"region": settings.s3_region, "checksum_algorithm": "SHA256"}
    if settings.s3_endpoint:
        config["endpoint"] = settings.s3_endpoint
        client["allow_http"] = settings.s3_endpoint.startswith("http:")
    if settings.s3_access_key_id and settings.s3_secret_access_key:
        config["access_key_id"] = settings.s3_access_key_id.get_secret_value()
        config["secret_access_key"] = settings.s3_secret_access_key.get_secret_value()
    if settings.encryption is not Encryption.BUCKET:
        config["server_side_encryption"] = settings.encryption.value
        if settings.kms_key_id:
            config["sse_kms_key_id"] = settings.kms_key_id
    return S3Store(parts.netloc, prefix=prefix, config=config, client_options=client, retry_config=retry)


@contextmanager
def _translated(key: str) -> Iterator[None]:
    import obstore.exceptions as known

    try:
        yield
    except (known.AlreadyExistsError, known.PreconditionError):
        raise ObjectExistsError("the object exists already, and is not overwritten", place=key) from None
    except (known.NotFoundError, FileNotFoundError):
        raise MissingObjectError("there is no such object", place=key) from None
    except (known.PermissionDeniedError, known.UnauthenticatedError) as error:
        raise StoreError(
            f"the object store refuses us ({type(error).__name__})",
            place=_PLACE,
            next_step="Check the credentials, whether they have expired, and the rights on the bucket and its key.",
        ) from None
    except (known.BaseError, OSError) as error:
        raise StoreError(
            f"the object store does not serve us ({_said(error)})",
            place=_PLACE,
            next_step="Check the address and that it is up; what was begun is taken up by the next run.",
        ) from None


def _said(error: Exception) -> str:
    """Its kind, and the end of what it said; a signed address or a body is cut off with the first lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = next((line for line in lines if "status" in line.lower() or "error" in line.lower()), "")
    return f"{type(error).__name__}: {said.split('?', maxsplit=1)[0][:_SHORT]}"
