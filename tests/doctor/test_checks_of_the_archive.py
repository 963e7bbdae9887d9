"""What the doctor finds out about the archive's store: a folder, a real S3 server in several states, GCS's stand-in."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from werkzeug.wrappers import Response

from adinsights_orchestration.audit_log.bookkeeping.chain import manifest_key
from adinsights_orchestration.audit_log.bookkeeping.manifest import hash_of
from adinsights_orchestration.audit_log.journal import note
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.audit_log.store.probing import rules_of, signed
from adinsights_orchestration.doctor.catalog import CHECKS
from adinsights_orchestration.doctor.model import Result, Status
from adinsights_orchestration.doctor.runner import examine
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.ops_store.audit_tables import audit_manifest
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AuditLogSettings, OpsStoreSettings, Settings
from tests.audit_log.rows import FIRST
from tests.audit_log.stores import standing
from tests.objects_served.weed import KEY, READER, READER_SECRET, S3, SECRET
from tests.objects_served.wire import Answer, Seen, Wire, answering, forwarding, nobody_there, serving


def look(log: AuditLogSettings, environment: Environment = Environment.PRODUCTION, **variables: str) -> Result:
    world = World(Settings(environment=environment, audit_log=log), variables, datetime.now(UTC))
    (result,) = examine(world, [each for each in CHECKS if each.name == "audit archive"], deadline_seconds=60.0)
    return result


@pytest.fixture
def archive(s3: S3) -> AuditLogSettings:
    return s3.settings(f"doctor/{uuid.uuid4().hex[:8]}")


@pytest.fixture
def locked(s3: S3) -> AuditLogSettings:
    """An archive in a bucket of its own that was made with object lock."""
    settings = s3.settings("x", archive_url=f"s3://locked-{uuid.uuid4().hex[:8]}/archive")
    headers = {"x-amz-bucket-object-lock-enabled": "true"}
    request = signed(settings, (KEY, SECRET, None), "PUT", "", datetime.now(UTC), headers)
    with httpx.Client() as client:
        assert client.send(request).status_code == 200
    return settings


def left(log: AuditLogSettings) -> list[str]:
    return list(open_store(log).keys(""))


def test_a_folder_is_probed_and_left_as_it_was(tmp_path: Path) -> None:
    log = AuditLogSettings(archive_url=(tmp_path / "new").as_uri())
    assert look(log).detail.endswith("is made at the first write")
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    assert (look(log).status, list((tmp_path / "new").iterdir())) == (Status.OK, [])


def test_a_folder_that_lacks_what_was_archived_is_not_the_archive(tmp_path: Path, ops_store: OpsStore) -> None:
    def head() -> Result:
        log = AuditLogSettings(archive_url=(tmp_path / "archive").as_uri())
        settings = Settings(audit_log=log, ops_store=OpsStoreSettings(dsn=ops_store._settings.dsn))
        world = World(settings, {}, datetime.now(UTC))
        (result,) = examine(world, [each for each in CHECKS if each.name == "audit archive head"], deadline_seconds=60)
        return result

    assert (head().status, head().detail) == (Status.OK, "nothing has been archived yet")
    content = b"a manifest"
    with ops_store.begin() as connection:
        connection.execute(
            sa.insert(audit_manifest).values(
                source=AUDIT_LOG.name,
                sequence=1,
                kind="day",
                hash=hash_of(content),
                first_day=FIRST,
                last_day=FIRST,
                written_at=datetime.now(UTC),
            )
        )
    assert head().status is Status.FAIL
    assert head().next_step.startswith("Nothing was written. Mount the archive's disk")
    Folder(tmp_path / "archive").create(manifest_key(AUDIT_LOG.name, 1), content)
    assert head().status is Status.OK


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.PRODUCTION])
def test_the_local_stacks_folder_is_no_archive_elsewhere_and_nobody_is_told_to_give_it_away(
    environment: Environment,
) -> None:
    result = look(AuditLogSettings(), environment)
    assert result.status is Status.FAIL
    assert "ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL" in result.next_step


def test_a_bucket_is_probed_and_left_as_it_was(archive: AuditLogSettings) -> None:
    result = look(archive, Environment.LOCAL)
    assert result.status is Status.OK
    assert "writable, and never overwritten; versions: none; object lock: none" in result.detail
    assert left(archive) == []


def test_a_bucket_in_production_that_anybody_who_writes_may_empty_is_a_warning(archive: AuditLogSettings) -> None:
    result = look(archive)
    assert result.status is Status.WARN
    assert "object lock" in result.next_step


def test_object_lock_without_a_default_retention_locks_nothing_and_is_a_warning(locked: AuditLogSettings) -> None:
    result = look(locked)
    assert (result.status, "default retention in compliance mode" in result.next_step) == (Status.WARN, True)
    assert "versions: enabled; object lock: on, without a default retention" in result.detail


def test_a_store_that_overwrites_without_a_word_is_refused(archive: AuditLogSettings, s3: S3) -> None:
    forward = forwarding(s3.url)
    kept: dict[str, bytes] = {}

    def careless(seen: Seen) -> Response:
        """As several popular servers are."""
        if seen.method == "PUT":
            kept[seen.path] = seen.body
            return Response(headers={"ETag": '"1"'})
        if seen.method == "GET" and seen.path in kept:
            stored = Response(kept[seen.path], headers={"ETag": '"1"'})
            stored.last_modified = datetime.now(UTC)
            return stored
        return forward(seen)

    with serving(Wire(careless)) as wire:
        result = look(archive.model_copy(update={"s3_endpoint": wire.url}))
    assert result.status is Status.FAIL
    assert "overwrites objects without a word" in result.detail


def test_what_may_not_be_deleted_again_is_told_and_no_failure(archive: AuditLogSettings, s3: S3) -> None:
    with serving(Wire(forwarding(s3.url))) as wire:
        wire.fault = answering(lambda seen: seen.method == "POST", 403, "AccessDenied")
        result = look(archive.model_copy(update={"s3_endpoint": wire.url}))
    assert result.status is Status.OK
    assert "deleting is forbidden" in result.detail
    assert len(left(archive)) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"s3_endpoint": "nobody"}, "the connection was refused"),
        (
            {"s3_access_key_id": SecretStr(READER), "s3_secret_access_key": SecretStr(READER_SECRET)},
            "403, AccessDenied",
        ),
        ({"s3_secret_access_key": SecretStr("another-canary")}, "403, SignatureDoesNotMatch"),
    ],
)
def test_a_store_that_does_not_serve_us_is_a_failure_with_its_reason(
    archive: AuditLogSettings, changed: dict[str, Any], said: str
) -> None:
    if "s3_endpoint" in changed:
        changed = {"s3_endpoint": nobody_there()}
    result = look(archive.model_copy(update=changed))
    assert (result.status, said in result.detail) == (Status.FAIL, True), result
    assert "canary" not in repr(result)


def test_settings_of_the_bucket_are_asked_for_with_the_environments_credentials_too(archive: AuditLogSettings) -> None:
    own = archive.model_copy(update={"s3_access_key_id": None, "s3_secret_access_key": None})
    now = datetime.now(UTC)
    assert "role" in rules_of(own, {}, now, 5).unknown
    assert rules_of(own, {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}, now, 5).unknown == ""


def test_a_bucket_that_does_not_tell_its_settings_is_a_warning(archive: AuditLogSettings, s3: S3) -> None:
    with serving(Wire(forwarding(s3.url))) as wire:
        wire.fault = answering(lambda seen: "versioning" in seen.query, 403, "AccessDenied")
        result = look(archive.model_copy(update={"s3_endpoint": wire.url}))
    assert (result.status, "it does not tell its settings (HTTP 403)" in result.detail) == (Status.WARN, True), result
    assert "object lock" in result.next_step


@pytest.mark.parametrize(("mode", "status"), [("COMPLIANCE", Status.OK), ("GOVERNANCE", Status.WARN)])
def test_a_default_retention_is_told_and_enough_where_nobody_may_take_it_back(
    archive: AuditLogSettings, s3: S3, mode: str, status: Status
) -> None:
    text = (
        "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
        f"<Mode>{mode}</Mode><Years>7</Years></DefaultRetention></Rule></ObjectLockConfiguration>"
    )

    def fault(seen: Seen, answer: Answer) -> Response:
        return Response(text) if "object-lock" in seen.query else answer(seen)

    with serving(Wire(forwarding(s3.url))) as wire:
        wire.fault = fault
        result = look(archive.model_copy(update={"s3_endpoint": wire.url}))
    assert f"object lock: {mode.lower()}, 7 years" in result.detail
    assert result.status is status


@pytest.fixture
def gcs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditLogSettings]:
    with standing("gcs", request, tmp_path) as behind:
        yield behind.settings


def test_gcs_is_probed_and_what_is_not_asked_is_said(gcs: AuditLogSettings) -> None:
    result = look(gcs)
    assert result.status is Status.WARN
    assert "its settings are not asked for" in result.detail
    assert "object lock" in result.next_step
    assert left(gcs) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir(mode=0o500)
    assert look(AuditLogSettings(archive_url=(tmp_path / "theirs").as_uri())).status is Status.FAIL


def test_rows_that_no_day_has_are_told_with_the_setting_that_keeps_the_old_ones_out(ops_store: OpsStore) -> None:
    def days() -> Result:
        settings = Settings(ops_store=OpsStoreSettings(dsn=ops_store._settings.dsn))
        world = World(settings, {}, datetime.now(UTC))
        (result,) = examine(world, [each for each in CHECKS if each.name == "audit archive days"], deadline_seconds=60)
        return result

    def ran(odd_rows: int) -> None:
        note(
            ops_store, AUDIT_LOG.name, "archive", actor="a test", now=datetime.now(UTC), summary={"odd_rows": odd_rows}
        )

    assert days().status is Status.OK
    ran(0)
    ran(3)
    assert (days().status, "3 rows are older than 2024-01-01" in days().detail) == (Status.WARN, True)
    assert "ADINSIGHTS_AUDIT_LOG__FIRST_DAY" in days().next_step
    ran(0)
    assert days().status is Status.OK
