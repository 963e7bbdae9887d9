"""What the archive asks of a store, asked of each kind: a folder, a real S3 server, a stand-in of GCS.

Of GCS this proves what we ask and what we make of Google's documented answers; that Google answers so, it does not.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from werkzeug.wrappers import Response

from adinsights_orchestration.audit_log.store.bucket import ObjectStore
from adinsights_orchestration.audit_log.store.contract import Store, create_same
from adinsights_orchestration.audit_log.store.errors import MissingObjectError, ObjectExistsError, StoreError
from adinsights_orchestration.settings import AuditLogSettings, Encryption
from tests.audit_log.stores import KINDS, Behind, standing
from tests.conftest import HANG_SECONDS
from tests.objects_served import wire as wires
from tests.objects_served.gcs import BUCKET, Gcs, key_file, new_key
from tests.objects_served.weed import READER, READER_SECRET, S3
from tests.objects_served.wire import Seen, Wire, answering, nobody_there, serving, writes_answer

KEY = "audit/v1/table/tenant_id=4e3c/dt=2026-01-31/0a b.parquet"
WRITERS = 12
REMOTE = ("s3", "gcs")


@pytest.fixture(params=KINDS)
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Behind]:
    with standing(request.param, request, tmp_path / "archive") as made:
        yield made


@pytest.fixture(params=REMOTE)
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Behind, Wire]]:
    with standing(request.param, request, tmp_path) as made:
        assert made.wire is not None
        yield made, made.wire


@pytest.fixture
def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Behind, Wire]]:
    with standing("s3", request, tmp_path) as made:
        assert made.wire is not None
        yield made, made.wire


# ---------------------------------------------------------------------------------------------- the contract


def test_what_is_written_is_read_back(behind: Behind) -> None:
    store, content = behind.open(), os.urandom(300_000)
    store.create(KEY, content)
    store.create("empty", b"")
    assert (store.get(KEY), store.get("empty")) == (content, b"")
    assert behind.open().get(KEY) == content


def test_what_lies_on_this_machine_is_hashed_where_it_lies(behind: Behind) -> None:
    store, content = behind.open(), os.urandom(300_000)
    store.create(KEY, content)
    found = store.in_place(KEY)
    if behind.folder is None:
        assert found is None
        return
    assert found is not None
    assert (found.path, found.size) == (behind.folder / KEY, len(content))
    assert found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.untouched()
    found.path.write_bytes(content)
    assert not found.untouched()
    store.delete(KEY)
    assert not found.untouched()
    with pytest.raises(MissingObjectError):
        store.in_place(KEY)


def test_what_is_there_is_never_overwritten(behind: Behind) -> None:
    store = behind.open()
    store.create(KEY, b"first")
    for content in (b"second", b"first"):
        with pytest.raises(ObjectExistsError, match="is not overwritten"):
            store.create(KEY, content)
    assert store.get(KEY) == b"first"


def test_the_same_content_once_more_counts_as_written_and_another_does_not(behind: Behind) -> None:
    store = behind.open()
    assert create_same(store, KEY, b"first")
    assert not create_same(store, KEY, b"first")
    with pytest.raises(ObjectExistsError):
        create_same(store, KEY, b"other")


def test_of_many_writers_at_once_one_wins_and_the_others_are_told(behind: Behind) -> None:
    store, start = behind.open(), threading.Barrier(WRITERS)

    def write(number: int) -> bytes | None:
        content = b"%d" % number * 1000
        start.wait()
        try:
            store.create(KEY, content)
        except ObjectExistsError:
            return None
        return content

    with ThreadPoolExecutor(WRITERS) as pool:
        won = [content for content in pool.map(write, range(WRITERS)) if content is not None]
    assert won == [store.get(KEY)]


def test_keys_below_a_prefix_are_listed_and_no_others(behind: Behind) -> None:
    store = behind.open()
    names = [f"chain/{number:03d}.json" for number in range(17)]  # more than one page of GCS's stand-in
    for name in [*names, "chain-of-another/1.json", "data/deep/er/x.parquet"]:
        store.create(name, b"x")
    assert sorted(store.keys("chain/")) == names
    assert list(store.keys("data/")) == ["data/deep/er/x.parquet"]
    assert list(store.keys("nothing/")) == []


def test_what_is_missing_is_told_and_may_be_deleted(behind: Behind) -> None:
    store = behind.open()
    with pytest.raises(MissingObjectError):
        store.get(KEY)
    store.delete(KEY)
    store.create(KEY, b"x")
    store.delete(KEY)
    assert list(store.keys("audit/")) == []
    store.create(KEY, b"again")


def test_archives_below_two_prefixes_of_a_bucket_do_not_see_each_other(behind: Behind) -> None:
    one = behind.open()
    other = behind.open(archive_url=behind.settings.archive_url + "-2")
    one.create(KEY, b"one")
    other.create(KEY, b"other")
    assert (one.get(KEY), other.get(KEY)) == (b"one", b"other")
    assert list(other.keys("audit/")) == [KEY]


# ---------------------------------------------------------------------------------------------- what is asked of S3


def test_a_write_is_one_request_on_condition_with_the_hash_of_its_content(bucket: tuple[Behind, Wire]) -> None:
    behind, wire = bucket
    behind.open().create(KEY, b"content")
    (seen,) = wire.of("PUT")
    assert seen.headers["If-None-Match"] == "*"
    assert seen.headers["X-Amz-Checksum-Sha256"] == base64.b64encode(hashlib.sha256(b"content").digest()).decode()
    assert "X-Amz-Server-Side-Encryption" not in seen.headers  # the bucket's own default holds


def test_a_content_that_changed_on_its_way_is_refused_by_the_server(bucket: tuple[Behind, Wire]) -> None:
    behind, wire = bucket

    def flip(seen: Seen, answer: wires.Answer) -> Response:
        return answer(replace(seen, body=b"consent") if seen.method == "PUT" else seen)

    wire.fault = flip
    with pytest.raises(StoreError, match="it answers HTTP 4"):
        behind.open().create(KEY, b"content")
    wire.fault = None
    with pytest.raises(MissingObjectError):
        behind.open().get(KEY)


def test_encryption_by_the_servers_key_is_asked_for_and_read_back(bucket: tuple[Behind, Wire]) -> None:
    behind, wire = bucket
    store = behind.open(encryption=Encryption.AES256)
    store.create(KEY, b"content" * 1000)
    assert wire.of("PUT")[0].headers["X-Amz-Server-Side-Encryption"] == "AES256"
    assert store.get(KEY) == b"content" * 1000


@pytest.mark.parametrize("key", [None, "alias/audit"])
def test_encryption_by_a_key_of_kms_is_asked_for(s3: S3, key: str | None) -> None:
    with serving(Wire(lambda _: Response(headers={"ETag": '"1"'}))) as wire:  # SeaweedFS has no KMS here
        settings = s3.settings("kms", s3_endpoint=wire.url, encryption=Encryption.KMS, kms_key_id=key)
        ObjectStore(settings).create(KEY, b"content")
    headers = wire.of("PUT")[0].headers
    assert headers["X-Amz-Server-Side-Encryption"] == "aws:kms"
    assert headers.get("X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id") == key


def test_variables_of_the_environment_neither_divert_nor_weaken_what_is_set(
    bucket: tuple[Behind, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, nobody_there())
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-canary")
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    behind, wire = bucket
    behind.open().create(KEY, b"content")
    (seen,) = wire.of("PUT")
    assert "X-Amz-Security-Token" not in seen.headers
    assert "/us-east-1/s3/" in seen.headers["Authorization"]
    assert seen.headers["If-None-Match"] == "*"


def test_the_processs_own_credentials_go_with_their_session_token(
    bucket: tuple[Behind, Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACCESS_KEY_ID", "a-role"), ("SECRET_ACCESS_KEY", "canary"), ("SESSION_TOKEN", "of-it")):
        monkeypatch.setenv(f"AWS_{name}", value)
    behind, wire = bucket
    wire.fault = answering(lambda _: True, 403, "AccessDenied")
    with pytest.raises(StoreError):
        behind.open(s3_access_key_id=None, s3_secret_access_key=None).create(KEY, b"content")
    headers = wire.of("PUT")[0].headers
    assert headers["X-Amz-Security-Token"] == "of-it"
    assert "Credential=a-role/" in headers["Authorization"]


# ---------------------------------------------------------------------------------------------- what is asked of GCS


def test_a_write_to_gcs_is_on_condition_that_no_generation_is_there(request: pytest.FixtureRequest) -> None:
    with standing("gcs", request, Path("/")) as behind:
        behind.open().create(KEY, b"content")
        assert behind.wire is not None
        assert [seen.headers["x-goog-if-generation-match"] for seen in behind.wire.of("PUT")] == ["0"]
        assert behind.gcs is not None
        assert list(behind.gcs.objects) == [f"archive/{KEY}"]


def test_a_service_accounts_key_signs_what_gcs_gets(tmp_path: Path) -> None:
    key, other = new_key(), new_key()
    for name, each in (("key", key), ("other", other)):
        (tmp_path / name).write_text(key_file(each))
    with serving(Wire(Gcs(key=key))) as wire:

        def opened(name: str) -> Store:
            return ObjectStore(
                AuditLogSettings(
                    archive_url=f"gs://{BUCKET}/archive",
                    gcs_endpoint=wire.url,
                    gcs_service_account_path=tmp_path / name,
                    retry_seconds=0,
                )
            )

        store = opened("key")
        store.create(KEY, b"content")
        assert (store.get(KEY), list(store.keys("audit/"))) == (b"content", [KEY])
        store.delete(KEY)
        with pytest.raises(StoreError, match="401") as raised:
            opened("other").create(KEY, b"content")
        assert "PRIVATE KEY" not in repr(raised.value)
        with pytest.raises(StoreError):
            opened("no-such-file").create(KEY, b"content")


#  --------------------------------------------------------------------------------------------- what goes wrong


def test_an_upload_that_is_refused_for_a_moment_is_made_again(remote: tuple[Behind, Wire]) -> None:
    behind, wire = remote
    wire.fault = writes_answer(503, "SlowDown", times=2)
    behind.open(retry_seconds=20).create(KEY, b"content")
    assert (behind.open().get(KEY), len(wire.of("PUT"))) == (b"content", 3)


def test_an_upload_whose_answer_was_lost_is_found_there(remote: tuple[Behind, Wire]) -> None:
    behind, wire = remote
    wire.fault = wires.answers_are_lost(lambda seen: seen.method == "PUT", 1)
    assert not create_same(behind.open(retry_seconds=20), KEY, b"content")
    assert behind.open().get(KEY) == b"content"


def test_an_upload_that_takes_too_long_is_made_again(remote: tuple[Behind, Wire]) -> None:
    behind, wire = remote
    hanging = threading.Event()

    def hang_once(seen: Seen, answer: wires.Answer) -> Response:
        if seen.method == "PUT" and len(wire.of("PUT")) == 1:
            hanging.wait(HANG_SECONDS)
        return answer(seen)

    wire.fault = hang_once
    try:
        assert create_same(behind.open(request_timeout_seconds=3.0, retry_seconds=60), KEY, b"content")
    finally:
        hanging.set()
    assert len(wire.of("PUT")) == 2


def test_a_writer_that_is_in_anothers_way_writes_when_that_one_failed(bucket: tuple[Behind, Wire]) -> None:
    behind, wire = bucket
    wire.fault = writes_answer(409, "ConditionalRequestConflict", times=1)
    assert create_same(behind.open(retry_seconds=20), KEY, b"content")
    wire.fault = writes_answer(409, "ConditionalRequestConflict")
    with pytest.raises(StoreError, match="again and again"):
        create_same(behind.open(), "another", b"content")


def test_a_reading_that_breaks_off_goes_on_where_it_stopped(remote: tuple[Behind, Wire]) -> None:
    behind, wire = remote
    content = os.urandom(1_000_000)
    behind.open().create("data/big", content)
    wire.fault = wires.cut_short("big")
    assert behind.open(retry_seconds=20).get("data/big") == content
    first, second = wire.of("GET", "big")
    assert "Range" not in first.headers
    assert second.headers["Range"] == "bytes=500000-999999"


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (403, "AccessDenied", "HTTP 403, AccessDenied. Check the credentials and the rights"),
        (400, "ExpiredToken", "have expired (ExpiredToken). Renew them"),
        (403, "ExpiredToken", "have expired (ExpiredToken). Renew them"),
        (404, "NoSuchBucket", "no such bucket. Create it or correct its name"),
        (503, "SlowDown", "HTTP 503, SlowDown. Check the address and that it is up"),
    ],
)
def test_each_failure_says_what_to_do_next_and_no_secret(
    remote: tuple[Behind, Wire], status: int, code: str, said: str
) -> None:
    behind, wire = remote
    wire.fault = answering(lambda _: True, status, code)
    store = behind.open(retry_seconds=0)
    asked: list[Any] = [lambda: store.create(KEY, b"x"), lambda: store.get(KEY), lambda: list(store.keys("audit/"))]
    for ask in asked:
        with pytest.raises(StoreError) as raised:
            ask()
        assert said in str(raised.value)
        assert not isinstance(raised.value, MissingObjectError | ObjectExistsError)
        assert "canary" not in f"{raised.value!r}{raised.value.__cause__!r}"


def test_a_store_that_is_away_is_told_so(s3: S3) -> None:
    for settings in (
        s3.settings("away", s3_endpoint=nobody_there(), retry_seconds=0),
        AuditLogSettings(archive_url="gs://adinsights/away", gcs_endpoint=nobody_there(), retry_seconds=0),
    ):
        with pytest.raises(StoreError, match="the connection was refused"):
            ObjectStore(settings).create(KEY, b"x")


def test_whoever_may_only_read_reads_and_is_refused_to_write_or_delete(bucket: tuple[Behind, Wire]) -> None:
    behind, _ = bucket
    behind.open().create(KEY, b"content")
    reader = behind.open(s3_access_key_id=SecretStr(READER), s3_secret_access_key=SecretStr(READER_SECRET))
    assert (reader.get(KEY), list(reader.keys("audit/"))) == (b"content", [KEY])
    with pytest.raises(StoreError, match="403, AccessDenied"):
        reader.create("another", b"content")
    with pytest.raises(StoreError, match="refuses us, AccessDenied"):
        reader.delete(KEY)
    assert reader.get(KEY) == b"content"


def test_a_bucket_that_is_not_there_is_no_empty_archive(s3: S3) -> None:
    store = ObjectStore(s3.settings("x", archive_url="s3://nobody-made-this/x", retry_seconds=0))
    with pytest.raises(StoreError, match="no such bucket") as raised:
        store.get(KEY)
    assert not isinstance(raised.value, MissingObjectError)
