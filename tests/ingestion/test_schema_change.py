"""What changed in a source's schema, what breaks, and what follows the source by itself."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.ingestion.schema_change import (
    Kind,
    adapted,
    difference,
    digest,
    selected_streams,
)


def stream(
    name: str,
    fields: dict[str, Any],
    *,
    cursor: str | None = None,
    key: str | None = None,
    selected: bool = True,
    namespace: str | None = None,
) -> dict[str, Any]:
    """A stream whose cursor and key the source itself defines."""
    offered: dict[str, Any] = {"name": name, "jsonSchema": {"properties": fields}}
    offered |= {"defaultCursorField": [cursor] if cursor else [], "sourceDefinedPrimaryKey": [[key]] if key else []}
    if namespace:
        offered["namespace"] = namespace
    config = {
        "selected": selected,
        "syncMode": "incremental" if cursor else "full_refresh",
        "cursorField": [cursor] if cursor else [],
        "primaryKey": [[key]] if key else [],
    }
    return {"stream": offered, "config": config}


def catalog(*streams: dict[str, Any]) -> dict[str, Any]:
    return {"streams": list(streams)}


STRING, NUMBER, DATE = {"type": "string"}, {"type": "number"}, {"type": "string", "format": "date"}
INSIGHTS = stream("ad_insights", {"id": STRING, "date": DATE, "spend": NUMBER}, cursor="date", key="id")


def changed(**fields: Any) -> dict[str, Any]:
    """The insights stream with other fields; None removes one."""
    after = copy.deepcopy(INSIGHTS)
    properties = after["stream"]["jsonSchema"]["properties"]
    for name, schema in fields.items():
        properties.pop(name, None)
        if schema is not None:
            properties[name] = schema
    return after


def test_nothing_changed_is_no_difference() -> None:
    diff = difference(catalog(INSIGHTS), catalog(copy.deepcopy(INSIGHTS)))
    assert diff.empty
    assert not diff.breaking
    assert "no difference" in diff.describe()


def test_fields_that_come_go_and_change_are_named_with_their_types() -> None:
    after = changed(spend={"type": ["null", "string"]}, clicks={"type": "integer"})
    after["stream"]["jsonSchema"]["properties"].pop("id")
    diff = difference(catalog(INSIGHTS), catalog(after))
    assert diff.describe().splitlines() == [
        "ad_insights.clicks: added (integer)",
        "ad_insights.id: removed (string), read by it: breaking",
        "ad_insights.spend: changed from number to null or string",
    ]


def test_losing_the_cursor_or_the_key_breaks_and_losing_another_field_does_not() -> None:
    assert difference(catalog(INSIGHTS), catalog(changed(date=None))).breaking
    assert difference(catalog(INSIGHTS), catalog(changed(id=None))).breaking
    assert not difference(catalog(INSIGHTS), catalog(changed(spend=None))).breaking


def test_a_stream_that_is_not_read_breaks_nothing_by_going_or_changing() -> None:
    aside = stream("campaigns", {"id": STRING}, key="id", selected=False)
    diff = difference(catalog(INSIGHTS, aside), catalog(INSIGHTS))
    assert not diff.breaking
    assert [(c.stream, c.kind, c.read) for c in diff.streams] == [("campaigns", Kind.REMOVED, False)]


def test_a_stream_that_is_read_and_goes_breaks() -> None:
    diff = difference(catalog(INSIGHTS, stream("campaigns", {"id": STRING})), catalog(INSIGHTS))
    assert diff.breaking
    assert diff.describe() == "campaigns: removed, read until now: breaking"


def test_a_new_stream_is_not_read_until_somebody_selects_it() -> None:
    fresh = stream("ads", {"id": STRING})
    diff = difference(catalog(INSIGHTS), catalog(INSIGHTS, fresh))
    assert "not read until somebody selects it" in diff.describe()
    applied = adapted(catalog(INSIGHTS), catalog(INSIGHTS, fresh))
    assert selected_streams(applied.catalog) == ("ad_insights",)


def test_namespaces_tell_streams_of_one_name_apart() -> None:
    one, other = stream("ads", {"id": STRING}, namespace="a"), stream("ads", {"id": STRING}, namespace="b")
    assert [c.stream for c in difference(catalog(one), catalog(other)).streams] == ["b.ads", "a.ads"]


def renamed_cursor() -> dict[str, Any]:
    """The source offers `day` as its cursor now; the connection's choice still says `date`."""
    after = changed(date=None, day=DATE)
    after["stream"]["defaultCursorField"] = ["day"]
    return after


def test_a_cursor_that_the_source_defines_follows_the_source() -> None:
    applied = adapted(catalog(INSIGHTS), catalog(renamed_cursor()))
    assert applied.catalog["streams"][0]["config"]["cursorField"] == ["day"]
    assert applied.choices == ("ad_insights is read by day instead of date",)
    assert applied.problems == ()


def test_a_key_that_the_source_defines_follows_the_source() -> None:
    after = changed(id=None, uid=STRING)
    after["stream"]["sourceDefinedPrimaryKey"] = [["uid"], ["date"]]
    applied = adapted(catalog(INSIGHTS), catalog(after))
    assert applied.catalog["streams"][0]["config"]["primaryKey"] == [["uid"], ["date"]]
    assert applied.choices == ("ad_insights is deduplicated by (uid, date) instead of (id)",)


@pytest.mark.parametrize("lost", ["date", "id"])
def test_what_a_person_chose_and_is_gone_only_a_person_can_choose_again(lost: str) -> None:
    after = changed(**{lost: None})
    after["stream"] |= {"defaultCursorField": [], "sourceDefinedPrimaryKey": []}
    applied = adapted(catalog(INSIGHTS), catalog(after))
    assert len(applied.problems) == 1
    assert "choose another in Airbyte" in applied.problems[0]


def test_adapting_leaves_the_given_catalogs_alone() -> None:
    before, after = catalog(INSIGHTS), catalog(renamed_cursor())
    kept = copy.deepcopy((before, after))
    adapted(before, after)
    assert (before, after) == kept


FIELDS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from([STRING, NUMBER, DATE]), max_size=6)


@given(FIELDS, FIELDS)
def test_a_difference_names_exactly_the_fields_that_differ(old: dict[str, Any], new: dict[str, Any]) -> None:
    diff = difference(catalog(stream("s", old)), catalog(stream("s", new)))
    assert {c.field for c in diff.fields if c.kind is Kind.ADDED} == new.keys() - old.keys()
    assert {c.field for c in diff.fields if c.kind is Kind.REMOVED} == old.keys() - new.keys()
    assert {c.field for c in diff.fields if c.kind is Kind.CHANGED} == {f for f in old if f in new and old[f] != new[f]}
    assert not diff.breaking


@given(FIELDS, FIELDS)
def test_what_was_applied_differs_no_more(old: dict[str, Any], new: dict[str, Any]) -> None:
    offered = catalog(stream("s", new))
    applied = adapted(catalog(stream("s", old)), offered)
    assert difference(applied.catalog, offered).empty


@given(st.permutations(["ads", "adsets", "campaigns"]))
def test_a_digest_names_the_content_and_not_its_order(names: list[str]) -> None:
    one = catalog(*(stream(name, {"id": STRING}) for name in names))
    other = catalog(*(stream(name, {"id": STRING}) for name in sorted(names)))
    assert digest(one) == digest(other)
    assert digest(one) != digest(catalog(*(stream(name, {"id": NUMBER}) for name in names)))
