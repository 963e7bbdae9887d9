"""Why builds are not started by automation conditions on the models (ADR 0010), shown on Dagster's own evaluation.

If one of these fails after an upgrade, the reason has gone and the decision may be looked at again.
"""

from __future__ import annotations

import dagster as dg

# The condition that loses the least: it remembers an update that arrives while a run is in progress.
CONDITION = (
    dg.AutomationCondition.any_deps_updated().since(
        dg.AutomationCondition.newly_requested() | dg.AutomationCondition.initial_evaluation()
    )
    & ~dg.AutomationCondition.in_progress()
)
META, GOOGLE = dg.AssetKey(["airbyte", "meta"]), dg.AssetKey(["airbyte", "google_ads"])


@dg.asset(deps=[META], automation_condition=CONDITION)
def stg_meta() -> None:
    """Staging of one provider."""


@dg.asset(deps=[GOOGLE], automation_condition=CONDITION)
def stg_google() -> None:
    """Staging of another."""


@dg.asset(deps=[stg_meta, stg_google], automation_condition=CONDITION)
def fct() -> None:
    """What reads both."""


DEFS = dg.Definitions([dg.AssetSpec(META), dg.AssetSpec(GOOGLE), stg_meta, stg_google, fct])


class _Daemon:
    def __init__(self, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self.cursor = None
        self.tick()

    def tick(self) -> set[str]:
        """One evaluation; what it asks for is not materialized, as if the run had failed."""
        evaluated = dg.evaluate_automation_conditions(DEFS, self.instance, cursor=self.cursor)
        self.cursor = evaluated.cursor  # type: ignore[assignment]
        assets = {stg_meta.key, stg_google.key, fct.key}
        return {key.path[-1] for key in assets if evaluated.get_num_requested(key)}

    def sync(self, key: dg.AssetKey) -> None:
        self.instance.report_runless_asset_event(dg.AssetMaterialization(key))


def test_an_update_whose_build_failed_is_forgotten_until_the_provider_has_new_data() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        daemon = _Daemon(instance)
        daemon.sync(META)
        assert daemon.tick() == {"stg_meta", "fct"}
        assert [daemon.tick() for _ in range(5)] == [set()] * 5
        daemon.sync(GOOGLE)
        assert daemon.tick() == {"stg_google", "fct"}


def test_an_update_between_a_request_and_the_next_evaluation_is_forgotten() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        daemon = _Daemon(instance)
        daemon.sync(META)
        assert daemon.tick() == {"stg_meta", "fct"}
        daemon.sync(META)
        assert [daemon.tick() for _ in range(5)] == [set()] * 5
