"""Rows in order, whoever sorts: what is put in order here is row for row what the server's own sort returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from uuid import UUID

import pyarrow as pa
import pytest

from adinsights_orchestration.audit_log.archive import export, ordering
from adinsights_orchestration.audit_log.archive.export import Extent, Piece, Scan, connected, pieces
from adinsights_orchestration.audit_log.archive.ordering import in_order, most_waiting
from adinsights_orchestration.audit_log.model import Digest
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.catalog import columns_of
from adinsights_orchestration.backend.database import BackendDatabase
from tests.audit_log.conftest import LAST, NOW, Place
from tests.audit_log.rows import FIRST, Row, connect, moment

Whole = dict[tuple[UUID, date], tuple[Digest, list[pa.RecordBatch]]]


def scan_of(place: Place) -> Scan:
    with BackendDatabase(place.settings.backend).session() as session, session.snapshot() as cursor:
        columns = columns_of(cursor, AUDIT_LOG)
    return Scan(AUDIT_LOG, columns, FIRST, LAST, NOW + timedelta(days=1), FIRST)


def together(found: Iterator[Piece]) -> tuple[Whole, int]:
    """Pieces by tenant's day, which must not be taken up again once another has begun; and rows of no day."""
    whole: Whole = {}
    odd = 0
    for piece in found:
        if piece.day is None:
            odd += piece.content.rows
            continue
        at = (piece.tenant, piece.day)
        if at in whole:
            assert list(whole)[-1] == at
        content, parts = whole.get(at, (Digest(), []))
        whole[at] = (content + piece.content, [*parts, piece.rows])
    assert list(whole) == sorted(whole, key=lambda at: (at[1], at[0]))
    return whole, odd


def tables(whole: Whole) -> dict[tuple[UUID, date], tuple[Digest, pa.Table]]:
    return {at: (content, pa.Table.from_batches(parts).combine_chunks()) for at, (content, parts) in whole.items()}


def same_as_the_server(place: Place, room: int) -> int:
    """Holds both ways against each other; returns how often the server had to sort for ours."""
    scan = scan_of(place)
    with connected(place.backend.dsn) as connection, counted() as sorts:
        ours, odd = together(in_order(connection, scan, room))
    with connected(place.backend.dsn) as connection:
        servers, odd_there = together(pieces(connection, scan))
    assert odd == odd_there
    assert list(ours) == list(servers)
    assert tables(ours) == tables(servers)
    assert sum(content.rows for content, _ in ours.values()) + odd == len(place.rows)
    return len(sorts)


@contextmanager
def counted() -> Iterator[list[Scan]]:
    """The scans that were left to the server."""
    sorts: list[Scan] = []

    def spied(connection: Any, scan: Scan) -> Iterator[Piece]:
        sorts.append(scan)
        return pieces(connection, scan)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "pieces", spied)
        yield sorts


def guess_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is believed to wait, and rows come few at a time."""
    monkeypatch.setattr(ordering, "most_waiting", lambda _: 0)
    monkeypatch.setattr(export, "_BATCH_BYTES", 2000)


def shuffled(place: Place) -> None:
    with connect(place.backend.dsn) as connection:
        connection.execute("create temporary table old as select * from accounts_auditlog order by md5(id::text)")
        connection.execute("truncate accounts_auditlog")
        connection.execute("insert into accounts_auditlog select * from old order by md5(id::text)")


def straggling(place: Place) -> None:
    place.add([Row(place.tenants[0], moment(FIRST, 5)), Row(place.tenants[1], moment(LAST, 5))])


def at_one_moment(place: Place) -> None:
    place.add([Row(place.tenants[2], moment(FIRST + timedelta(days=2), 7)) for _ in range(30)])


def with_a_day_without_rows(place: Place) -> None:
    gone = FIRST + timedelta(days=3)
    with connect(place.backend.dsn) as connection:
        connection.execute("delete from accounts_auditlog where created_at::date = %s", (gone,))
    place.rows = [row for row in place.rows if row.day != gone]


@pytest.mark.parametrize("change", [lambda _: None, shuffled, straggling, at_one_moment, with_a_day_without_rows])
def test_rows_that_are_put_in_order_here_are_those_of_the_servers_own_sort(
    place: Place, change: Callable[[Place], None]
) -> None:
    change(place)
    assert same_as_the_server(place, room=1 << 20) == 0


@pytest.mark.parametrize("change", [lambda _: None, shuffled, straggling])
def test_the_server_sorts_where_too_many_rows_would_wait(place: Place, change: Callable[[Place], None]) -> None:
    change(place)
    assert same_as_the_server(place, room=1000) == 1


def test_the_server_sorts_what_is_left_when_more_rows_wait_than_was_guessed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    straggling(place)
    guess_wrongly(monkeypatch)
    assert same_as_the_server(place, room=1000) == 1


def test_rows_without_a_day_are_counted_once_whoever_sorts(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    far: list[datetime] = [moment(date(2039, 1, 1)), moment(date(1999, 1, 1))]
    place.add([Row(place.tenants[0], at) for at in far])
    assert same_as_the_server(place, room=1 << 20) == 0
    guess_wrongly(monkeypatch)
    assert same_as_the_server(place, room=1000) == 1


def test_no_row_waits_in_a_table_in_order_and_all_of_a_table_whose_first_day_ends_last() -> None:
    days = [FIRST + timedelta(days=number) for number in range(4)]
    ordered = {day: Extent(100, 10 * number, 10 * number + 9) for number, day in enumerate(days)}
    one_day = most_waiting(ordered)
    assert one_day == 10 * 8192
    assert most_waiting({**ordered, days[0]: Extent(100, 0, 39)}) == 4 * one_day
    assert most_waiting({}) == 0
    assert most_waiting(dict(sorted(ordered.items(), reverse=True))) == one_day


def test_a_few_days_are_left_to_the_server_without_a_look_at_the_whole_table(place: Place) -> None:
    scan = replace(scan_of(place), last=FIRST + timedelta(days=4))
    with connected(place.backend.dsn) as connection, counted() as sorts:
        ours, _ = together(in_order(connection, scan))
    assert len(sorts) == 1
    assert {day for _, day in ours} == {FIRST + timedelta(days=number) for number in range(5)}
