"""The topology as a value: its edges, its shape as JSON, and what changes its digest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.topology.model import (
    Asset,
    Dashboard,
    Topology,
    UnreadableTopologyError,
    digest_of,
    from_payload,
    to_payload,
)

LINEAGE = Topology(
    location="pipelines",
    assets=(
        Asset("airbyte/meta"),
        Asset("airbyte/ga4"),
        Asset("staging/ads", upstream=("airbyte/meta",)),
        Asset("marts/spend", upstream=("staging/ads",)),
        Asset("marts/web", upstream=("airbyte/ga4",)),
        Asset("superset/spend", upstream=("marts/spend",)),
        Asset("superset/web", upstream=("marts/web",)),
    ),
    dashboards=(Dashboard("superset/spend", "Spend"), Dashboard("superset/web", "Web")),
)


def test_a_late_provider_names_the_dashboards_at_the_end_of_its_lineage_only() -> None:
    assert [one.title for one in LINEAGE.dashboards_of(["airbyte/meta"])] == ["Spend"]
    assert [one.title for one in LINEAGE.dashboards_of(["airbyte/meta", "airbyte/ga4"])] == ["Spend", "Web"]
    assert [one.title for one in LINEAGE.dashboards_of(["superset/web"])] == ["Web"]
    assert LINEAGE.dashboards_of(["nothing/known"]) == ()


def test_upstream_is_everything_before_an_asset_however_far() -> None:
    assert LINEAGE.upstream_of("superset/spend") == {"marts/spend", "staging/ads", "airbyte/meta"}
    assert LINEAGE.downstream_of("airbyte/ga4") == {"marts/web", "superset/web"}


def test_edges_that_form_a_circle_end() -> None:
    circle = Topology("pipelines", (Asset("a", upstream=("b",)), Asset("b", upstream=("a",))))
    assert circle.upstream_of("a") == {"b"}


keys = st.text(min_size=1, max_size=8)
assets = st.builds(
    Asset,
    key=keys,
    summary=st.text(max_size=20),
    owners=st.tuples(keys),
    upstream=st.lists(keys, max_size=3).map(tuple),
    runbook=st.none() | st.text(max_size=10),
    external=st.booleans(),
)


@given(st.builds(Topology, location=keys, assets=st.lists(assets, max_size=4).map(tuple)))
def test_what_went_through_json_is_the_same_topology_with_the_same_digest(topology: Topology) -> None:
    back = from_payload(json.loads(json.dumps(to_payload(topology))))
    assert back == topology
    assert digest_of(back) == digest_of(topology)


def test_every_change_of_the_content_changes_the_digest() -> None:
    changed = replace(LINEAGE, assets=(replace(LINEAGE.assets[0], owners=("somebody@example.com",)),))
    assert digest_of(changed) != digest_of(LINEAGE)
    assert digest_of(replace(LINEAGE, location="other")) != digest_of(LINEAGE)


def test_a_field_that_a_later_release_adds_is_ignored() -> None:
    payload = to_payload(LINEAGE)
    payload["novelty"] = 1
    payload["assets"][0]["novelty"] = {"more": True}
    assert from_payload(payload) == LINEAGE


@pytest.mark.parametrize(
    ("payload", "said"),
    [({}, "location"), (None, "payload"), ({"location": "p", "assets": [{"key": 7}]}, "assets.0.key")],
)
def test_a_payload_that_is_not_one_names_the_place_and_not_the_value(payload: object, said: str) -> None:
    with pytest.raises(UnreadableTopologyError, match=rf"^{said}: "):
        from_payload(payload)
