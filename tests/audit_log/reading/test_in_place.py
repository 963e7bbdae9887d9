"""What lies in a folder is hashed and read where it lies: nothing is copied, and nothing that changed passes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import newest
from adinsights_orchestration.audit_log.model import DataFile
from adinsights_orchestration.audit_log.reading.query import QueryError, Question, ask
from adinsights_orchestration.audit_log.reading.reader import ContentError, fetched
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.folder import Folder
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.rows import FIRST

EVERYTHING = Question(sql="select count(*) from audit_log")


@pytest.fixture
def full(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """An archive, and a temporary folder of the test's own."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    place.archive()
    return place


def files(place: Place) -> list[DataFile]:
    found = newest(chain.follow(place.store, AUDIT_LOG.name)).values()
    return [file for chunk, manifest in found for file in manifest.files if file.key in chunk.files]


def rewritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replaced(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)


def test_objects_of_a_folder_are_proven_and_asked_without_a_copy(
    full: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = Folder.get

    def manifests_only(self: Folder, key: str) -> bytes:
        assert key.endswith(".json"), "an object was fetched"
        return get(self, key)

    monkeypatch.setattr(Folder, "get", manifests_only)
    assert verify_range(full.store, AUDIT_LOG, FIRST, LAST).rows == len(full.rows)
    assert ask(full.store, AUDIT_LOG, EVERYTHING).rows == [(len(full.rows),)]
    with fetched(full.store, files(full), 2) as paths:
        assert {path.relative_to(full.folder).as_posix() for path in paths.values()} == set(paths)
        assert [each for each in (tmp_path / "temporary").rglob("*") if each.is_file()] == []


def test_a_byte_that_changed_before_is_seen_before_anything_is_decoded(full: Place) -> None:
    one = files(full)[0]
    rewritten(full.store.path(one.key))
    with pytest.raises(ContentError, match="bytes have changed") as told:
        ask(full.store, AUDIT_LOG, EVERYTHING)
    assert told.value.place == one.key


@pytest.mark.parametrize(
    ("change", "problem"),
    [(rewritten, "bytes have changed"), (replaced, "bytes have changed"), (Path.unlink, "the object is missing")],
)
def test_what_changes_while_it_is_read_is_not_believed(
    full: Place, change: Callable[[Path], None], problem: str
) -> None:
    one = files(full)[0]
    with pytest.raises(ContentError, match=problem) as told, fetched(full.store, files(full), 2) as paths:
        change(paths[one.key])
    assert told.value.place == one.key


def test_an_object_that_cannot_be_read_because_it_was_removed_is_told_as_that(full: Place) -> None:
    one = files(full)[0]

    def remove_and_read() -> None:
        with fetched(full.store, [one], 1) as paths:
            paths[one.key].unlink()
            duckdb.read_parquet(str(paths[one.key])).fetchall()

    with pytest.raises(ContentError, match="the object is missing"):
        remove_and_read()


def test_sql_reaches_no_other_object_of_the_same_folder(full: Place) -> None:
    mine = full.tenants[0]
    other = next(file for file in files(full) if chain.tenant_of_key(file.key) != mine)
    for place in (str(full.store.path(other.key)), str(full.folder / "**" / "*.parquet")):
        with pytest.raises(QueryError, match="DuckDB refuses"):
            ask(full.store, AUDIT_LOG, Question(tenant=mine, sql=f"select * from read_parquet('{place}')"))


@pytest.mark.parametrize(
    "sql",
    [
        "copy (select 42) to '{}' (format csv, use_tmp_file false)",
        "select 1; copy (select 42) to '{}' (format csv, use_tmp_file false)",
        "explain analyze copy (select 42) to '{}' (format csv, use_tmp_file false)",
        "with x as materialized (copy (select 42) to '{}' (format csv, use_tmp_file false)) select * from x",
    ],
)
def test_sql_cannot_write_over_the_objects_that_it_reads(full: Place, sql: str) -> None:
    before = {file.key: full.store.get(file.key) for file in files(full)}
    with pytest.raises(QueryError, match="DuckDB refuses"):
        ask(full.store, AUDIT_LOG, Question(sql=sql.format(full.store.path(files(full)[0].key))))
    assert {key: full.store.get(key) for key in before} == before


@pytest.mark.parametrize(
    "sql",
    [
        "from audit_log order by created_at; -- newest last",
        "describe audit_log",
        "summarize audit_log",
        "with x as (select tenant_id from audit_log) select count(*), 'o''ne' from x",
        "pivot audit_log on action in ('login') using count(*)",
    ],
)
def test_every_kind_of_query_is_answered(full: Place, sql: str) -> None:
    assert ask(full.store, AUDIT_LOG, Question(sql=sql)).rows


@pytest.mark.parametrize("besides", [{"action": "login"}, {"resource_type": "user"}, {"limit": 5}])
def test_a_filter_that_sql_would_not_heed_is_refused(full: Place, besides: dict[str, Any]) -> None:
    with pytest.raises(QueryError, match="in place of filters"):
        ask(full.store, AUDIT_LOG, Question(sql="from audit_log", **besides))


@pytest.mark.parametrize("name", ["o'ne", "a[1]?*"])
def test_a_folder_may_have_any_name(full: Place, tmp_path: Path, name: str) -> None:
    moved = Folder(full.folder.rename(tmp_path / name))
    assert ask(moved, AUDIT_LOG, EVERYTHING).rows == [(len(full.rows),)]
    assert verify_range(moved, AUDIT_LOG, FIRST, LAST).rows == len(full.rows)
