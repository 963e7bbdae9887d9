"""A stand-in of Google Cloud Storage's XML interface, as far as obstore speaks it.

Belongs here: the requests that obstore was seen to make, answered as Google documents them: writing with a
precondition on the generation, reading whole or by range, listing in pages, deleting, and a token's signature. It
proves that our requests are what Google documents, and what we make of the answers; that Google answers so, only
Google can prove.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from werkzeug.datastructures import Headers
from werkzeug.http import parse_range_header
from werkzeug.wrappers import Response

from tests.objects_served.wire import Seen, error

BUCKET = "adinsights"
ACCOUNT = "archive@adinsights.iam.gserviceaccount.com"
_PAGE = 7  # small, so that listing in pages is what every test does


@dataclass
class Gcs:
    """One bucket.

    Attributes:
        objects: Content and generation, by key.
        key: Whose signature tokens must bear; None: anybody may come.
    """

    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)
    key: rsa.RSAPrivateKey | None = None
    _generation: int = 1_700_000_000_000_000
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, seen: Seen) -> Response:
        if self.key is not None and not signed(seen, self.key):
            return error(401, "AuthenticationRequired")
        _, bucket, *rest = seen.path.split("/", 2)
        if bucket != BUCKET:
            return error(404, "NoSuchBucket")
        key = unquote(rest[0]) if rest else ""
        with self._lock:
            if not key:
                return self._list(seen)
            return {"PUT": self._put, "GET": self._get, "HEAD": self._get, "DELETE": self._delete}[seen.method](
                key, seen
            )

    def _put(self, key: str, seen: Seen) -> Response:
        wanted = seen.headers.get("x-goog-if-generation-match")
        present = self.objects[key][1] if key in self.objects else 0
        if wanted is not None and int(wanted) != present:
            return error(412, "PreconditionFailed")
        self._generation += 1
        self.objects[key] = (seen.body, self._generation)
        return Response(status=200, headers=_about(seen.body, self._generation))

    def _get(self, key: str, seen: Seen) -> Response:
        if key not in self.objects:
            return error(404, "NoSuchKey")
        content, generation = self.objects[key]
        headers = _about(content, generation)
        headers["Last-Modified"] = "Sat, 28 Nov 2026 07:00:00 GMT"
        headers["Content-Type"] = "application/octet-stream"
        wanted = parse_range_header(seen.headers.get("Range"))
        if wanted is None:
            response = Response(content, status=200, headers=headers)
        else:
            span = wanted.range_for_length(len(content))
            if span is None:
                return error(416, "InvalidRange")
            headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{len(content)}"
            response = Response(content[span[0] : span[1]], status=206, headers=headers)
        return response

    def _delete(self, key: str, _seen: Seen) -> Response:
        if self.objects.pop(key, None) is None:
            return error(404, "NoSuchKey")
        return Response(status=204)

    def _list(self, seen: Seen) -> Response:
        asked = {name: values[0] for name, values in parse_qs(seen.query).items()}
        after = asked.get("continuation-token", "")
        prefix = asked.get("prefix", "")
        found = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        root = ET.Element("ListBucketResult", xmlns="http://doc.s3.amazonaws.com/2006-03-01")
        ET.SubElement(root, "Name").text = BUCKET
        ET.SubElement(root, "Prefix").text = prefix
        ET.SubElement(root, "IsTruncated").text = str(len(found) > _PAGE).lower()
        if len(found) > _PAGE:
            ET.SubElement(root, "NextContinuationToken").text = found[_PAGE - 1]
        for key in found[:_PAGE]:
            content, generation = self.objects[key]
            about = ET.SubElement(root, "Contents")
            ET.SubElement(about, "Key").text = key
            ET.SubElement(about, "Generation").text = str(generation)
            ET.SubElement(about, "LastModified").text = "2026-11-28T07:00:00.000Z"
            ET.SubElement(about, "ETag").text = _tag(content)
            ET.SubElement(about, "Size").text = str(len(content))
        return Response(ET.tostring(root, "utf-8"), content_type="application/xml")


def _tag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _about(content: bytes, generation: int) -> Headers:
    return Headers({"ETag": _tag(content), "x-goog-generation": str(generation)})


def new_key() -> rsa.RSAPrivateKey:
    """A service account's private key."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def key_file(key: rsa.RSAPrivateKey) -> str:
    """The file that Google hands out for a service account."""
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    known = {"type": "service_account", "client_email": ACCOUNT, "private_key": pem, "private_key_id": "1"}
    return json.dumps(known)


def signed(seen: Seen, key: rsa.RSAPrivateKey) -> bool:
    """Whether a request bears a token that this key signed, for this account."""
    kind, _, token = seen.headers.get("Authorization", "").partition(" ")
    if kind != "Bearer" or token.count(".") != 2:
        return False
    head, claims, signature = token.split(".")
    try:
        key.public_key().verify(_plain(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return bool(json.loads(_plain(claims))["iss"] == ACCOUNT)


def _plain(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
