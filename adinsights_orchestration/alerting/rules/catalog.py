"""All rules, and the explanations between them that the asset graph does not know.

Belongs here: the list. Does not belong here: any rule.
"""

from __future__ import annotations

from adinsights_orchestration.alerting.inhibition import Inhibition
from adinsights_orchestration.alerting.matching import Matcher
from adinsights_orchestration.alerting.rules import budget, components, connections, data, others, upkeep

RULES = (
    *connections.RULES,
    *data.RULES,
    *components.RULES,
    *budget.RULES,
    *upkeep.RULES,
    *others.RULES,
)


def _explains(source: str, target: str, *equal: str) -> Inhibition:
    return Inhibition((Matcher.parse(source),), (Matcher.parse(target),), equal)


# A connection that fails is late because of that; a tenant whose syncs fail often is told of once.
INHIBITIONS = (
    _explains("rule=connection_failing", "rule=~connection_stale|connection_no_recent_sync", "resource"),
    _explains("rule=connection_running_long", "rule=~connection_stale|connection_no_recent_sync", "resource"),
    _explains(
        "rule=connection_disabled", "rule=~connection_stale|connection_no_recent_sync|connection_failing", "resource"
    ),
    _explains("rule=~connection_(failing|stale|no_recent_sync)", "component=backend_airbyte"),
    # It may go down between two requests of one reading, and be found down a minute later.
    _explains("component=airbyte", "kind=airbyte_config_api"),
    _explains("rule=no_fresh_rows", "rule=nightly_late"),
    # Of several connections, the many errors are the matter; those of one alone are its failing once more.
    Inhibition(
        (Matcher.parse("rule=sync_errors"), Matcher("connection", "=", "")),
        (Matcher.parse("rule=connection_failing"),),
        ("tenant", "provider"),
    ),
    _explains("rule=connection_failing", "rule=sync_errors", "connection"),
    _explains("rule=health_not_probed", "rule=freshness_not_evaluated"),
    # Where nothing ticks, and where the code is not there. The watching location is: this is evaluated in it.
    _explains("rule=daemon_silent", "rule=~automation_(stopped|failing)"),
    Inhibition(
        (Matcher.parse("rule=code_location_not_loaded"),),
        (Matcher.parse("rule=~automation_(stopped|failing)"), Matcher("location", "!=", "monitoring")),
    ),
    # What fails and by that looks at nothing is told by what it does not look at any more.
    _explains("rule=~health_not_probed|freshness_not_evaluated", "rule=automation_failing", "resource"),
    Inhibition((Matcher.parse("rule=dbt_failing"),), (Matcher.parse("rule=run_failed"), Matcher.parse("job=~dbt_.*"))),
)
