"""How freshness looks in Dagster: asset and check specs, and the texts and metadata of events.

Belongs here: from a value to what the UI shows. Does not belong here: when something is written (`showing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import dagster as dg

from adinsights_orchestration.dagster_internals.events import CheckResult, Materialized
from adinsights_orchestration.freshness.model import ConnectionState, Freshness
from adinsights_orchestration.freshness.policies import native_policy
from adinsights_orchestration.freshness.sla import Sla, SlaTable
from adinsights_orchestration.freshness.watermark import Watermark
from adinsights_orchestration.owners import DATA_ENG
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.tenants.partitions import PARTITIONS

CHECK = "freshness"
GROUP = "freshness"
CONNECTIONS = dg.AssetKey(["freshness", "connections"])
TABLE_ROWS = 100
_RUNBOOK = "a-connection-is-stale"


def watermark_key(provider: Provider) -> dg.AssetKey:
    """The provider's watermark, `watermark/<provider>`."""
    return dg.AssetKey(["watermark", provider.value])


def specs(settings: Settings, sla: SlaTable) -> list[dg.AssetSpec]:
    """Returns the watermark of every provider, and the asset that holds the table of all connections."""
    return [*(_watermark_spec(provider, settings, sla) for provider in Provider), _connections_spec(settings)]


def check_spec(provider: Provider) -> dg.AssetCheckSpec:
    """The check that shows whether each connection's data is as young as its schedule lets expect."""
    return dg.AssetCheckSpec(
        CHECK,
        asset=dg.AssetKey(provider.asset_path),
        partitions_def=PARTITIONS[provider],
        description="Is the connection's last success as young as its schedule and SLA let expect? The check `sync` "
        "speaks of the last attempt, this one of the age.",
    )


def check_result(state: ConnectionState) -> CheckResult:
    """A connection's freshness for its check: red when late, a warning when the last attempts failed."""
    facts, verdict = state.facts, state.verdict
    metadata: dict[str, dg.MetadataValue[Any]] = {
        "state": dg.MetadataValue.text(verdict.state.value),
        "since": dg.MetadataValue.timestamp(state.since),
    }
    if facts.last_success_at is not None:
        metadata["last success"] = dg.MetadataValue.timestamp(facts.last_success_at)
    if verdict.deadline is not None:
        metadata["deadline"] = dg.MetadataValue.timestamp(verdict.deadline)
    return CheckResult(facts.partition_key, verdict.state.passes, f"{verdict.state.value}: {verdict.detail}", metadata)


def check_of_all(judged: Mapping[Freshness, int]) -> CheckResult:
    """A provider's check as a whole, of no partition: red while any of its connections is; counts by state."""
    failing = sum(count for state, count in judged.items() if not state.passes)
    said = _counted(judged) or "It has no connections."
    return CheckResult(None, not failing, said, {state.value: count for state, count in judged.items()})


def watermark(mark: Watermark) -> Materialized:
    """A watermark as a materialization at the moment that it stands for; without active connections it says so."""
    worst = {"worst connection": dg.MetadataValue.text(mark.worst)} if mark.worst else {}
    counts = {"active connections": mark.active, "late connections": mark.late}
    return Materialized(None, mark.at, {**counts, **worst, "evaluated": dg.MetadataValue.timestamp(mark.reported_at)})


def table(counts: Mapping[Freshness, int], stalest: Sequence[ConnectionState], now: datetime) -> dg.AssetObservation:
    """All connections as one observation: exact counts by state, and the stalest ones in a table.

    Args:
        counts: How many are in each state; Postgres counts them.
        stalest: The first so many of all, the stalest first.
        now: The moment of the evaluation.
    """
    counts = Counter(counts)
    return dg.AssetObservation(
        asset_key=CONNECTIONS,
        description=_counted(counts) or "none",
        metadata={
            "stalest": _rows(stalest),
            "shown": f"{len(stalest)} of {counts.total()}",
            **{state.value: counts[state] for state in Freshness},
            "evaluated": dg.MetadataValue.timestamp(now),
        },
    )


def _counted(counts: Mapping[Freshness, int]) -> str:
    return ", ".join(f"{counts[state]} {state.value}" for state in Freshness if counts.get(state))


def _rows(states: Sequence[ConnectionState]) -> dg.TableMetadataValue:
    def when(moment: datetime | None) -> str:
        return f"{moment:%Y-%m-%d %H:%M}" if moment else ""

    records = [
        dg.TableRecord(
            {
                "connection": state.facts.partition_key,
                "provider": state.facts.provider.value,
                "state": state.verdict.state.value,
                "since (UTC)": when(state.since),
                "last success (UTC)": when(state.facts.last_success_at),
                "deadline (UTC)": when(state.verdict.deadline),
                "detail": state.verdict.detail,
            }
        )
        for state in states
    ]
    columns = ("connection", "provider", "state", "since (UTC)", "last success (UTC)", "deadline (UTC)", "detail")
    return dg.MetadataValue.table(records, schema=dg.TableSchema([dg.TableColumn(name) for name in columns]))


def _watermark_spec(provider: Provider, settings: Settings, sla: SlaTable) -> dg.AssetSpec:
    entry = sla[Sla.SYNC_AGE]
    return dg.AssetSpec(
        watermark_key(provider),
        deps=[dg.AssetKey(provider.asset_path)],
        group_name=GROUP,
        owners=[DATA_ENG],
        kinds={"airbyte"},
        freshness_policy=native_policy(entry),
        description=(
            f"Up to when every active {provider.label} connection has delivered what was due: its freshness is the "
            f"worst tenant's. While connections are late it stands at the oldest last success among them. "
            f"Limits: {entry.describe()}.\n\n**When it is late:** that tenant's dashboards show old figures; the check "
            f"`{CHECK}` of `airbyte/{provider.value}` names the partitions."
        ),
        metadata={"runbook": _runbook(settings)},
    )


def _connections_spec(settings: Settings) -> dg.AssetSpec:
    return dg.AssetSpec(
        CONNECTIONS,
        deps=[watermark_key(provider) for provider in Provider],
        group_name=GROUP,
        owners=[DATA_ENG],
        kinds={"airbyte"},
        description=(
            "Every connection's freshness, the stalest first, in its newest observation: written when a state changes, "
            "at most every five minutes.\n\n**When it stands still:** nothing changed, or `freshness_evaluate` does "
            "not tick."
        ),
        metadata={"runbook": _runbook(settings)},
    )


def _runbook(settings: Settings) -> dg.MetadataValue[str]:
    return dg.MetadataValue.url(f"{settings.runbook_url}#{_RUNBOOK}")
