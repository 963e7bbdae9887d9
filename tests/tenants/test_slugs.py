"""Slugs: ascii, unique, and the same tomorrow."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.tenants.slugs import LONGEST_SLUG, SLUG, slug_of, tenant_slugs

NAMES = st.text(max_size=60) | st.sampled_from(["Globex", "globex ", "GLOBEX!", "", "東京"])
IDS = st.integers(0, 8).map(lambda number: UUID(int=(0xFEEDFACE << 96) + number))


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Acme Jamaica Ltd", "acme-jamaica-ltd"),
        ("  Café -- Ünïted, Ltd. ", "cafe-united-ltd"),
        ("Macy's / Søren & Groß", "macys-soren-gross"),
        ("東京", "fallback"),
        ("", "fallback"),
        ("a" * 39 + " b", "a" * 39),
    ],
)
def test_a_name_becomes_a_plain_slug(name: str, slug: str) -> None:
    assert slug_of(name, "fallback") == slug


@given(NAMES)
def test_every_name_becomes_a_valid_slug(name: str) -> None:
    slug = slug_of(name, "tenant")
    assert SLUG.fullmatch(slug)
    assert len(slug) <= LONGEST_SLUG


@given(st.dictionaries(IDS, NAMES), st.dictionaries(IDS, NAMES))
def test_slugs_are_unique_and_survive_new_tenants_renames_and_departures(
    first: dict[UUID, str], second: dict[UUID, str]
) -> None:
    known = tenant_slugs(list(first.items()), {}, {})
    later = tenant_slugs(list(second.items()), {}, known)
    for slugs, names in ((known, first), (later, second)):
        assert slugs.keys() == names.keys()
        assert len(set(slugs.values())) == len(slugs)
    assert all(later[tenant_id] == known[tenant_id] for tenant_id in first.keys() & second.keys())


@given(st.dictionaries(IDS, NAMES, min_size=2))
def test_a_slug_that_a_person_chose_wins_and_whoever_had_it_gets_another(names: dict[UUID, str]) -> None:
    known = tenant_slugs(list(names.items()), {}, {})
    chooser, holder, *_ = names
    slugs = tenant_slugs(list(names.items()), {chooser: known[holder]}, known)
    assert slugs[chooser] == known[holder]
    assert len(set(slugs.values())) == len(slugs)


def test_of_two_new_tenants_with_one_name_the_first_gets_the_plain_slug() -> None:
    older, newer = UUID("11111111-0000-4000-8000-000000000000"), UUID("22222222-0000-4000-8000-000000000000")
    slugs = tenant_slugs([(older, "Globex"), (newer, "Globex")], {}, {})
    assert slugs == {older: "globex", newer: "globex-22222222"}
