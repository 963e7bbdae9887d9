"""Merging builds' results and laying them out: pure rules, for any order and any mixture of builds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
from dbt.artifacts.schemas.run import RunResultsArtifact
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.transformation.run_results import (
    NodeResult,
    PublishedBuild,
    document,
    merged,
    parse_artifact,
    read_artifact,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
FCT = "model.p.fct"


def result(unique_id: str, status: str = "success", **fields: Any) -> dict[str, Any]:
    """dbt's own result object."""
    return {
        "status": status,
        "timing": [{"name": "execute", "started_at": "2026-01-01T00:00:00Z", "completed_at": "2026-01-01T00:00:01Z"}],
        "thread_id": "Thread-1",
        "execution_time": 1.5,
        "adapter_response": {},
        "message": "SELECT 1",
        "failures": None,
        "unique_id": unique_id,
        "compiled": True,
        "compiled_code": "select 1",
        "relation_name": '"w"."analytics"."fct"',
        "batch_results": None,
        **fields,
    }


def artifact(*results: dict[str, Any], minute: int = 0, invocation: str = "i") -> dict[str, Any]:
    """dbt's own `run_results.json`."""
    at = (START + timedelta(minutes=minute)).isoformat().replace("+00:00", "Z")
    return {
        "metadata": {
            "dbt_schema_version": "https://schemas.getdbt.com/dbt/run-results/v6.json",
            "dbt_version": "1.11.16",
            "generated_at": at,
            "invocation_id": invocation,
            "invocation_started_at": at,
            "env": {"secret": "canary"},
        },
        "results": list(results),
        "elapsed_time": 12.5,
        "args": {"vars": {"secret": "canary"}},
    }


def _node(status: str, minute: int, unique_id: str = FCT) -> NodeResult:
    [node] = parse_artifact(artifact(result(unique_id, status), minute=minute)).nodes
    return node


def _build(minute: int = 0) -> PublishedBuild:
    parsed = parse_artifact(artifact(minute=minute))
    return PublishedBuild(parsed.metadata, parsed.elapsed_seconds)


def _statuses(nodes: list[NodeResult], project: set[str]) -> dict[str, str]:
    return {r["unique_id"]: r["status"] for r in document(_build(), nodes, project)["results"]}


def test_tests_never_become_results_because_their_pass_counts_as_a_failing_model() -> None:
    parsed = parse_artifact(artifact(result("test.p.t", "pass"), result("unit_test.p.u", "pass"), result(FCT)))
    assert [node.unique_id for node in parsed.nodes] == [FCT]


def test_failed_tests_are_known_by_name_and_warnings_are_not_failures() -> None:
    statuses = ("pass", "warn", "fail", "error", "skipped", "runtime error")
    parsed = parse_artifact(artifact(*(result(f"test.p.{n}", s) for n, s in enumerate(statuses))))
    assert parsed.failed_tests == ("test.p.2", "test.p.3", "test.p.5")


def test_only_models_are_published_though_seeds_and_snapshots_are_known() -> None:
    ids = {FCT, "seed.p.s", "snapshot.p.s"}
    parsed = parse_artifact(artifact(*(result(unique_id) for unique_id in ids)))
    assert {node.unique_id for node in parsed.nodes} == ids
    assert _statuses(list(parsed.nodes), ids) == {FCT: "success"}


@pytest.mark.parametrize("status", ["no-op", "reused"])
def test_a_model_that_dbt_had_nothing_to_do_for_is_not_failing(status: str) -> None:
    node = _node(status, 0)
    assert (node.failing, node.status) == (False, "skipped")
    assert _statuses([node], {FCT}) == {FCT: "skipped"}


@pytest.mark.parametrize("status", ["error", "partial success"])
def test_any_other_status_is_failing_as_the_backend_sees_it(status: str) -> None:
    assert _node(status, 0).failing


def test_a_newer_result_replaces_an_older_one() -> None:
    assert merged(_node("error", 1), _node("success", 2)).status == "success"
    assert merged(_node("success", 1), _node("error", 2)).status == "error"


def test_a_result_that_arrives_late_does_not_replace_a_newer_one() -> None:
    assert merged(_node("success", 2), _node("error", 1)).status == "success"


def test_a_skipped_model_keeps_its_own_earlier_failure() -> None:
    assert merged(_node("error", 1), _node("skipped", 2)).status == "error"
    assert merged(_node("success", 1), _node("skipped", 2)).status == "skipped"


_BUILDS = st.lists(
    st.dictionaries(st.sampled_from(["model.p.a", "model.p.b", "model.p.c"]), st.sampled_from(["success", "error"])),
    max_size=8,
)


@given(_BUILDS, st.randoms(use_true_random=False))
def test_in_any_order_of_recording_each_model_shows_its_newest_result(
    builds: list[dict[str, str]], random: Any
) -> None:
    results = [_node(status, minute, uid) for minute, build in enumerate(builds) for uid, status in build.items()]
    expected = {uid: status for build in builds for uid, status in build.items()}
    random.shuffle(results)
    known: dict[str, NodeResult] = {}
    for new in results:
        known[new.unique_id] = merged(known.get(new.unique_id), new)
    assert {uid: node.status for uid, node in known.items()} == expected


@given(st.lists(st.sampled_from(["success", "error", "skipped"]), min_size=1))
def test_a_model_is_failing_exactly_when_its_last_attempt_failed(statuses: list[str]) -> None:
    nodes = [_node(status, minute) for minute, status in enumerate(statuses)]
    attempts = [status for status in statuses if status != "skipped"]
    final = reduce(merged, nodes[1:], nodes[0])
    assert final.failing == (bool(attempts) and attempts[-1] == "error")


def test_a_partial_build_does_not_hide_another_model_s_failure() -> None:
    nodes = [_node("error", 1, "model.p.a"), _node("success", 2, "model.p.b")]
    assert _statuses(nodes, {"model.p.a", "model.p.b"}) == {"model.p.a": "error", "model.p.b": "success"}


def test_a_model_that_left_the_project_is_dropped_or_it_would_fail_for_ever() -> None:
    assert _statuses([_node("error", 1, "model.p.gone"), _node("success", 1)], {FCT}) == {FCT: "success"}


def test_each_model_keeps_its_own_times_and_the_file_the_last_build_s(tmp_path: Path) -> None:
    content = document(_build(minute=7), [_node("success", 1)], {FCT})
    assert content["metadata"]["generated_at"] == "2026-01-01T00:07:00Z"
    assert content["results"][0]["timing"][0]["started_at"] == "2026-01-01T00:00:00Z"


def test_the_file_is_what_dbt_itself_reads_as_run_results(tmp_path: Path) -> None:
    path = tmp_path / "run_results.json"
    path.write_text(json.dumps(document(_build(), [_node("success", 1), _node("error", 1, "model.p.b")], {FCT})))
    read = RunResultsArtifact.read_and_check_versions(str(path))
    assert [r.unique_id for r in read.results] == [FCT]


def test_neither_variables_nor_environment_nor_sql_are_published() -> None:
    text = json.dumps(document(_build(), [_node("success", 1)], {FCT}))
    assert "canary" not in text
    assert "select 1" not in text


def test_results_that_are_missing_or_cut_off_are_none(tmp_path: Path) -> None:
    assert read_artifact(tmp_path) is None
    (tmp_path / "run_results.json").write_text('{"metadata": {')
    assert read_artifact(tmp_path) is None


def test_a_build_that_only_skipped_ran_no_model() -> None:
    parsed = parse_artifact(artifact(result(FCT, "skipped"), result("seed.p.s"), result("model.p.b", "error")))
    assert parsed.models_run == 1
    assert parsed.built == {"seed.p.s"}
    assert parsed.failed_nodes == ("model.p.b",)
