"""For a question about a few days only their manifests are read, where the ledger knows which, and never fewer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger
from adinsights_orchestration.audit_log.reading.query import Question, ask
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.ops_store.audit_tables import audit_manifest
from tests.audit_log.conftest import DAYS, Place
from tests.audit_log.restoring import empty, restore, whole_days
from tests.audit_log.rows import FIRST, Row, moment
from tests.cli.conftest import Answer

THIRD = FIRST + timedelta(days=2)
OF_THE_THIRD = Question(first=THIRD, last=THIRD, limit=100_000)


@pytest.fixture
def full(place: Place) -> Place:
    place.archive()
    return place


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the manifests that are asked for."""
    numbers: list[int] = []
    get = Folder.get

    def noted(self: Folder, key: str) -> bytes:
        if "/chain/" in key:
            numbers.append(int(Path(key).stem))
        return get(self, key)

    monkeypatch.setattr(Folder, "get", noted)
    return numbers


def found(place: Place, question: Question = OF_THE_THIRD) -> int:
    ledger = ArchiveLedger(place.ops, AUDIT_LOG.name)
    return len(ask(place.store, AUDIT_LOG, question, knowing=ledger.about).rows)


def rows_of_the_third(place: Place) -> int:
    return sum(row.day == THIRD for row in place.rows)


def test_only_the_day_s_manifest_is_read_and_whether_there_is_one_that_the_ledger_lacks(
    full: Place, read: list[int]
) -> None:
    assert found(full) == rows_of_the_third(full)
    assert read == [3, DAYS + 1]


def test_without_a_ledger_all_of_the_chain_is_read(full: Place, read: list[int]) -> None:
    assert len(ask(full.store, AUDIT_LOG, OF_THE_THIRD).rows) == rows_of_the_third(full)
    assert read == list(range(1, DAYS + 2))


def test_a_question_about_every_day_reads_every_manifest_once(full: Place, read: list[int]) -> None:
    assert found(full, Question(limit=100_000)) == len(full.rows)
    assert read == list(range(1, DAYS + 2))


def test_what_the_ledger_lacks_because_its_writer_died_counts(full: Place) -> None:
    full.add([Row(full.tenants[0], moment(THIRD, 7))])
    full.archive()
    with full.ops.begin() as connection:
        connection.execute(sa.delete(audit_manifest).where(audit_manifest.c.sequence == DAYS + 1))
    assert found(full) == rows_of_the_third(full)


@pytest.mark.parametrize("sequence", [3, DAYS])
def test_of_a_ledger_that_knows_another_chain_nothing_is_believed(full: Place, read: list[int], sequence: int) -> None:
    with full.ops.begin() as connection:
        other = sa.update(audit_manifest).where(audit_manifest.c.sequence == sequence).values(hash="0" * 64)
        connection.execute(other)
    full.store.create(chain.manifest_key(AUDIT_LOG.name, DAYS + 2), b"behind a gap, and nobody's")
    assert found(full) == rows_of_the_third(full)
    assert set(read) >= ({*range(1, DAYS + 1)} if sequence == 3 else {3})


def test_a_restore_of_a_day_reads_its_manifest_and_the_head(full: Place, read: list[int]) -> None:
    empty(full)
    report = restore(full, whole_days(THIRD, THIRD))
    assert (report.total.came, report.problems, report.missing) == (rows_of_the_third(full), [], [])
    assert read == [3, DAYS + 1, DAYS]


def test_the_command_asks_the_ledger_where_it_answers(
    full: Place, read: list[int], audit_command: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    of_a_day = ("query", "--from", str(THIRD), "--to", str(THIRD), "--limit", "100000", "--json")
    by_ledger = audit_command(*of_a_day)
    assert (by_ledger.code, read) == (0, [3, DAYS + 1])
    read.clear()
    monkeypatch.setenv("ADINSIGHTS_OPS_STORE__DSN", "postgresql://nobody@127.0.0.1:9/nothing")
    alone = audit_command(*of_a_day)
    assert (alone.code, read) == (0, list(range(1, DAYS + 2)))
    assert alone.out == by_ledger.out
