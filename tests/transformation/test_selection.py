"""What dbt is told to select for what a run selected."""

from __future__ import annotations

from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.selection import Selected, selected

_STG = "model.fixture.stg_meta__ad_insights"
_FCT = "model.fixture.fct_spend"


def _tests(project: Project, *names: str) -> set[str]:
    return {uid for uid in project.tests if uid.split(".")[2] in names}


def test_everything_needs_no_names(project: Project) -> None:
    assert selected(project, set(project.nodes), set(project.tests)) == Selected()


def test_nodes_with_all_their_tests_are_named_alone_and_dbt_adds_the_tests(project: Project) -> None:
    what = selected(project, {_FCT}, set(project.tests_of({_FCT})))
    assert what == Selected(("fixture.marts.fct_spend",))


def test_the_tests_of_the_raw_tables_are_named_because_dbt_does_not_add_them(project: Project) -> None:
    what = selected(project, {_STG}, set(project.tests_of({_STG})))
    assert what.select == (
        "fixture.staging.meta.source_not_null_raw_meta_ad_insights_ad_id",
        "fixture.staging.meta.stg_meta__ad_insights",
    )
    assert not what.direct_tests_only


def test_a_test_that_a_run_leaves_out_is_excluded_by_name(project: Project) -> None:
    what = selected(project, {_FCT}, set(project.tests_of({_FCT}) - project.nightly_tests))
    assert what == Selected(("fixture.marts.fct_spend",), exclude=("fixture.marts.spend_was_always_positive",))


def test_nodes_without_their_tests_keep_dbt_from_adding_them(project: Project) -> None:
    assert selected(project, {_FCT}, set()) == Selected(("fixture.marts.fct_spend",), direct_tests_only=True)


def test_one_test_alone_is_named_alone(project: Project) -> None:
    tests = _tests(project, "not_null_fct_spend_entity_id")
    assert selected(project, set(), tests).select == ("fixture.marts.not_null_fct_spend_entity_id",)


def test_all_nodes_without_tests_are_not_everything(project: Project) -> None:
    what = selected(project, set(project.nodes), set())
    assert len(what.select) == len(project.nodes)
    assert what.direct_tests_only


def test_a_selection_of_thousands_of_nodes_fits_the_command_line(project: Project) -> None:
    assert max(len(name) for name in project.fqns.values()) * 5_000 < 2 * 1024 * 1024
