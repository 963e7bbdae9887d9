"""Who verified or read the archive is written down, beside the archive where the ops store does not answer."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.errors import RefusedError
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.ops_store.audit_tables import audit_run
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.rows import FIRST
from tests.cli.conftest import Answer

RANGE = ("--from", str(FIRST), "--to", str(LAST))
JOURNAL = "audit/v1/accounts_auditlog/journal/"


def test_reading_without_an_ops_store_is_journaled_beside_the_archive(
    place: Place, audit_command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.archive()
    assert audit_command("verify", *RANGE).code == 0
    assert list(place.store.keys(JOURNAL)) == [], "the ops store has it"
    monkeypatch.setenv("ADINSIGHTS_OPS_STORE__DSN", "postgresql://nobody@127.0.0.1:9/nothing")
    verified, read = audit_command("verify", *RANGE), audit_command("query", *RANGE)
    assert (verified.code, read.code) == (0, 0)
    kept = {key: json.loads(place.store.get(key)) for key in place.store.keys(JOURNAL)}
    assert sorted(entry["kind"] for entry in kept.values()) == ["query", "verify"]
    assert all(entry["actor"] for entry in kept.values())
    for key, entry in kept.items():
        said = verified if entry["kind"] == "verify" else read
        assert key in "".join(said.err.split())
    assert verify_range(place.store, AUDIT_LOG, FIRST, LAST).problems == [], "no part of the chain"


def test_where_the_archive_is_not_mounted_reading_makes_nothing(
    place: Place, audit_command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    mount_point = place.folder.parent / "unmounted"
    mount_point.mkdir()
    monkeypatch.setenv("ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL", (mount_point / "archive").as_uri())
    monkeypatch.setenv("ADINSIGHTS_OPS_STORE__DSN", "postgresql://nobody@127.0.0.1:9/nothing")
    for command in ("verify", "query"):
        answer = audit_command(command, *RANGE)
        assert (answer.code != 0, "this is in no journal" in " ".join(answer.err.split())) == (True, True)
    assert list(mount_point.iterdir()) == []


def test_a_verification_that_cannot_be_carried_out_is_journaled_too(
    place: Place, audit_command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    place.archive()
    monkeypatch.setattr(Folder, "get", _refused)
    assert audit_command("verify", *RANGE).code != 0
    with place.ops.begin() as connection:
        (said,) = connection.execute(sa.select(audit_run.c.summary).where(audit_run.c.kind == "verify")).scalars()
    assert said == {"first": RANGE[1], "last": RANGE[3], "failed": "RefusedError"}


def _refused(*_: object) -> bytes:
    raise RefusedError("the store refuses it", next_step="Check the rights.")


@pytest.mark.parametrize("command", ["verify", "mend", "archive"])
def test_a_range_without_a_day_is_refused_and_not_found_to_hold(
    place: Place, audit_command: Callable[..., Answer], command: str
) -> None:
    place.archive()
    answer = audit_command(command, "--from", RANGE[3], "--to", RANGE[1])
    assert (answer.code, "Give the first day first" in " ".join(answer.err.split())) == (2, True)


QUESTION = ("--tenant", "--action", "--resource-type", "--from", "--to", "--limit")
NOTHING = {
    "tenant": None,
    "action": None,
    "resource_type": None,
    "first": None,
    "last": None,
    "limit": None,
    "sql": None,
    "revisions": False,
}


def asked(place: Place) -> dict[str, object]:
    with place.ops.begin() as connection:
        (said,) = connection.execute(sa.select(audit_run.c.summary).where(audit_run.c.kind == "query")).scalars()
    return dict(said)


def test_a_query_that_fails_is_journaled_too(place: Place, audit_command: Callable[..., Answer]) -> None:
    place.archive()
    sql = "copy (select 42) to 'x'"
    assert audit_command("query", "--sql", sql).code != 0
    assert asked(place) == {**NOTHING, "sql": sql, "failed": "QueryError"}


def test_the_whole_question_is_journaled(place: Place, audit_command: Callable[..., Answer]) -> None:
    place.archive()
    values = (str(place.tenants[0]), "login", "user", str(FIRST), str(LAST), "7")
    answer = audit_command("query", *(each for pair in zip(QUESTION, values, strict=True) for each in pair), "--json")
    names = ("tenant", "action", "resource_type", "first", "last")
    about = {**NOTHING, **dict(zip(names, values, strict=False)), "limit": 7}
    assert asked(place) == {**about, "rows": len(answer.json)}


def test_sql_is_journaled_without_whom_it_looks_for_and_not_at_any_length(
    place: Place, audit_command: Callable[..., Answer]
) -> None:
    place.archive()
    who = "metadata like '%kim@acme.example%' or metadata like '%203.0.113.9%'"
    sql = f"select count(*) n from audit_log where {who}{' or true' * 400}"
    assert audit_command("query", "--sql", sql).code == 0
    said = str(asked(place)["sql"])
    assert said.startswith("select count(*) n from audit_log where metadata like")
    assert ("kim@acme" in said, "203.0.113.9" in said, len(said) < 2100) == (False, False, True)
    assert said.endswith(" characters)")
