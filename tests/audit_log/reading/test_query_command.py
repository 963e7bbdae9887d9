"""`adinsights audit query`, as somebody types it: nothing of an answer is left out without a word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.audit_log.conftest import Place
from tests.audit_log.leaving.test_mending import mended
from tests.audit_log.living import objects
from tests.audit_log.rows import TABLE
from tests.cli.conftest import Answer

Command = Callable[..., Answer]


@pytest.fixture
def ask(place: Place, audit_command: Command) -> Command:
    place.archive()
    return lambda *arguments: audit_command("query", *arguments)


@pytest.mark.parametrize(("form", "limit"), [((), 100), (("--json",), 100), (("--json", "--limit", "7"), 7)])
def test_an_answer_that_is_cut_says_so_and_how_to_see_all(
    place: Place, ask: Command, form: tuple[str, ...], limit: int
) -> None:
    answer, total = ask(*form), len(place.rows)
    said = " ".join(answer.err.split())
    assert answer.code == 0
    assert f"{total - limit:,} older rows of {total:,} are not shown: --limit {total} shows all" in said
    assert "--limit 0" in said
    if form:
        newest = sorted((row.at for row in place.rows), reverse=True)[:limit]
        assert [row["created_at"] for row in answer.json] == [at.isoformat() for at in newest]
    else:
        assert f"{limit} of {total} rows of 18 objects" in answer.out


@pytest.mark.parametrize("limit", ["240", "241", "0"])
def test_a_whole_answer_says_nothing_of_a_limit(place: Place, ask: Command, limit: str) -> None:
    answer = ask("--json", "--limit", limit)
    assert (len(answer.json), answer.err) == (len(place.rows), "")


def test_sql_is_answered_whole(place: Place, ask: Command) -> None:
    answer = ask("--json", "--sql", "select id from audit_log")
    assert (len(answer.json), answer.err) == (len(place.rows), "")


def test_json_has_nulls_numbers_and_nested_values_and_never_loses_digits(ask: Command) -> None:
    sql = (
        "select null as nothing, '' as empty, count(*) as n, avg(1) as mean, true as yes, 1.5 as short,"
        " 12345678901234567890.12345678 as long, date '2024-01-02' as day, [1, null] as list, 'nan'::double as none,"
        " {'ip': ['203.0.113.9'], 'password': 'x'} as nested, timestamptz '2024-01-02 03:04:05-05' as at from audit_log"
    )
    assert ask("--json", "--sql", sql).json == [
        {
            "nothing": None,
            "empty": "",
            "n": 240,
            "mean": 1.0,
            "yes": True,
            "short": 1.5,
            "long": "12345678901234567890.12345678",
            "day": "2024-01-02",
            "list": [1, None],
            "none": "nan",
            "nested": {"ip": ["203.0.113.9"], "password": "x"},
            "at": "2024-01-02T08:04:05+00:00",
        }
    ]


def test_columns_of_one_name_keep_their_values(ask: Command) -> None:
    sql = 'select 1 as id, 2 as id_2, 3 as id, 4 as id, 5 as "ID" from audit_log limit 1'
    assert ask("--json", "--sql", sql).json == [{"id": 1, "id_2": 2, "id_3": 3, "id_4": 4, "ID": 5}]
    assert {"id 3", "id 4"} <= {each.strip() for each in ask("--sql", sql).out.replace("  ", "\n").splitlines()}


def test_a_user_that_a_row_does_not_have_is_null(place: Place, ask: Command) -> None:
    assert place.backend.execute(f"select count(*) from {TABLE} where user_id is not null") == [(0,)]
    assert {row["user_id"] for row in ask("--json").json} == {None}


def test_what_earlier_revisions_cannot_show_any_more_is_told(place: Place, ask: Command) -> None:
    damaged = min(objects(place))
    place.store.path(damaged).write_bytes(b"not what was sealed")
    mended(place)
    assert ask("--limit", "0").err == ""
    answer = ask("--revisions", "--limit", "0")
    said = " ".join(answer.err.split())
    assert answer.code == 0
    assert "1 objects of earlier revisions are damaged or missing, and what they held is not shown" in said
    assert f"{len(place.rows)} rows" in answer.out
