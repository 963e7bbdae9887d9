"""A connector that stops, on the whole local stack: its partition turns late at its deadline, and nothing else does.

The stack runs as on a laptop, with an SLA of minutes. What is true is taken from Airbyte's own table of jobs; Dagster's
UI and `adinsights status` are asked again and again whether they say the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from adinsights_orchestration.local import environment, seed
from adinsights_orchestration.tenants.model import Provider
from tests.local.stack_support import Site, new_site, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]

SLA = """
thresholds:
  sync_age: {warn: 3, page: 7}
  sync_grace: {warn: 2, page: 2}
"""
# Due every two minutes, late two minutes (the grace) after a slot that came after the last success: so long after it.
# Airbyte's API tells moments in whole seconds.
EARLIEST, LATEST = timedelta(minutes=4) - timedelta(seconds=2), timedelta(minutes=5)
PAGE = timedelta(minutes=7)
# A status speaks of its last evaluation, which comes every 15 seconds, and of what was observed by then, every 10.
BEHIND = timedelta(seconds=75)
WATCHED, SLOW = timedelta(minutes=2), timedelta(days=1)
ASSET = """query ($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) { ... on AssetNode {
    freshnessStatusInfo { freshnessStatus }
    assetChecksOrError { ... on AssetChecks { checks { name partitionStatuses {
        ... on AssetCheckDefaultPartitionStatuses { succeededPartitions failedPartitions } } } } } } } }"""


@dataclass(frozen=True)
class Seen:
    """What `adinsights status --json` said once."""

    code: int
    status: dict[str, Any]

    @property
    def as_of(self) -> datetime:
        """For which moment it speaks."""
        return datetime.fromisoformat(self.status["as_of"])

    @property
    def late(self) -> list[str]:
        """The connections that it calls late, by partition."""
        rows = self.status["freshness"]["stalest"]
        return sorted(row["partition"] for row in rows if row["state"] in ("stale", "no_recent_sync"))

    def connection(self, partition: str) -> dict[str, Any]:
        """What it says of one connection."""
        (row,) = [row for row in self.status["freshness"]["stalest"] if row["partition"] == partition]
        return dict(row)


class Stage:
    """The stack with its connections at a pace that a test can wait for."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.seen: list[Seen] = []
        of = [one for one in seed.connections() if one.provider is Provider.GOOGLE_ADS]
        self.broken, self.twin = (one.connection_id for one in of)

    def set_pace(self) -> None:
        """Both connections of one provider are due every two minutes, all others are far from being due again."""
        statement = "update integrations_airbyteconnection set schedule_type = 'interval', cron_expression = '', "
        statement += (
            "interval_minutes = case provider when 'GOOGLE' then %s else %s end where schedule_type <> 'manual'"
        )
        statement += " returning 1 as changed"
        minutes = [int(pace.total_seconds() // 60) for pace in (WATCHED, SLOW)]
        assert len(self.site.query("backend", statement, *minutes)) == 7

    def partition(self, connection_id: UUID) -> str:
        """A connection's partition."""
        statement = "select key from adinsights_ops.partition_connection where connection_id = %s"
        (row,) = self.site.query("dagster", statement, connection_id)
        return str(row["key"])

    def last_success(self, connection_id: UUID, until: datetime) -> datetime | None:
        """When its last sync that succeeded ended by that moment, as Airbyte itself has it."""
        statement = """select max((document->>'updated_at')::timestamptz) as ended from airbyte_internal.job
            where document->>'connection_id' = %s and document->>'status' = 'succeeded'
              and (document->>'updated_at')::timestamptz <= %s"""
        (row,) = self.site.query("warehouse", statement, str(connection_id), until)
        ended: datetime | None = row["ended"]
        return ended

    def both_succeeded_since(self, moment: datetime, seen: Seen) -> bool:
        """Whether both fast connections have succeeded since: what is expected of them began before that."""
        successes = [self.last_success(one, seen.as_of) for one in (self.broken, self.twin)]
        return all(success is not None and success > moment for success in successes)

    def stop_connector(self, connection_id: UUID) -> None:
        """From now on its syncs fail, as with a token that was revoked."""
        failure = {"failureType": "config_error", "externalMessage": "The token was revoked."}
        knob = f"{environment.service_url(self.site.local)}/knobs/airbyte/fail_connection"
        httpx.put(knob, json={str(connection_id): failure}).raise_for_status()

    def mend_connector(self) -> None:
        """Its syncs work again."""
        httpx.delete(f"{environment.service_url(self.site.local)}/knobs/airbyte/fail_connection").raise_for_status()

    # --------------------------------------------------------------------------------------------------- asking

    def look(self) -> Seen:
        """Runs `adinsights status --json`, holds it against what is true, and remembers it."""
        command = self.site.start("status", "--json")
        code = command.wait()
        seen = Seen(code, json.loads(command.said))
        self.seen.append(seen)
        self._assert_true(seen)
        return seen

    def _assert_true(self, seen: Seen) -> None:
        """It agrees with itself, and of both fast connections it says what Airbyte's own jobs say."""
        status, freshness = seen.status, seen.status["freshness"]
        assert seen.code == ["ok", "degraded", "down"].index(status["overall"])
        assert freshness["late"] == len(seen.late)
        assert sum(freshness["by_state"].values()) == freshness["connections"] == len(seed.connections())
        for connection_id in (self.broken, self.twin):
            success, partition = self.last_success(connection_id, seen.as_of), self.partition(connection_id)
            if success is None:
                continue
            age, said = seen.as_of - success, seen.connection(partition)
            if age < EARLIEST:
                recovering = said["state"] == "stale" and age < BEHIND
                assert said["state"] in ("ok", "failing") or recovering, (age, said)
            elif age > LATEST + BEHIND:
                assert said["state"] == "stale", (age, said)
        assert not seen.late or (status["overall"] != "ok" and "stale" in " ".join(status["reasons"]))

    def watch_until(self, wanted: str, seconds: float, ready: Any) -> Seen:
        """Looks again and again until a look is as wanted; every look on the way must be true too."""
        deadline = time.monotonic() + seconds
        while not ready(seen := self.look()):
            assert time.monotonic() < deadline, f"{wanted}: {json.dumps(seen.status)}"
            time.sleep(5)
        return seen

    def wait_for_checks(self, name: str, wanted: dict[str, list[str]]) -> None:
        """Waits for a check of the provider's partitions: a materialization clears it until it is written again."""
        shown: dict[str, list[str]] = {}

        def is_as_wanted() -> bool:
            shown.update(self._checks(name))
            return shown == wanted

        wait_until(is_as_wanted, 90, lambda: f"{name} shows {shown}, not {wanted}")

    def _checks(self, name: str) -> dict[str, list[str]]:
        """Which partitions of the provider's check are green and red in Dagster's UI."""
        node = self.site.graphql(ASSET, key={"path": list(Provider.GOOGLE_ADS.asset_path)})["assetNodeOrError"]
        (found,) = [each for each in node["assetChecksOrError"]["checks"] if each["name"] == name]
        statuses = found["partitionStatuses"]
        return {"green": sorted(statuses["succeededPartitions"]), "red": sorted(statuses["failedPartitions"])}

    def watermark(self, provider: Provider) -> str:
        """The colour of a provider's watermark in Dagster's UI."""
        node = self.site.graphql(ASSET, key={"path": ["watermark", provider.value]})["assetNodeOrError"]
        return str(node["freshnessStatusInfo"]["freshnessStatus"])

    def failed_evaluations(self) -> dict[str, datetime]:
        """The first moment at which each partition's `freshness` was written as failed."""
        statement = """select event::jsonb->'dagster_event'->'event_specific_data'->>'partition' as partition,
                min(timestamp) as at from event_logs
            where dagster_event_type = 'ASSET_CHECK_EVALUATION'
              and event::jsonb->'dagster_event'->'event_specific_data'->>'check_name' = 'freshness'
              and (event::jsonb->'dagster_event'->'event_specific_data'->>'success')::boolean is false group by 1"""
        return {row["partition"]: row["at"].replace(tzinfo=UTC) for row in self.site.query("dagster", statement)}

    def watermarks_that_were_late(self) -> set[str]:
        """Every watermark that Dagster's own daemon ever called late."""
        statement = """select distinct asset_key from event_logs
            where dagster_event_type = 'FRESHNESS_STATE_CHANGE' and asset_key like '["watermark"%%'
              and event::jsonb->'dagster_event'->'event_specific_data'->'new_state'->>'__enum__'
                  in ('FreshnessState.WARN', 'FreshnessState.FAIL')"""
        return {json.loads(row["asset_key"])[1] for row in self.site.query("dagster", statement)}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    table = tmp_path / "sla.yaml"
    table.write_text(SLA)
    with new_site(ADINSIGHTS_FRESHNESS__SLA_PATH=str(table)) as site:
        assert site.start("local", "up").wait() == 0
        yield Stage(site)
        site.run("local", "down")


def test_a_stopped_connector_turns_its_own_partition_and_the_watermark_late_at_its_deadline_and_back(
    stage: Stage,
) -> None:
    stage.set_pace()
    broken, twin = stage.partition(stage.broken), stage.partition(stage.twin)
    google = Provider.GOOGLE_ADS
    others = [one for one in Provider if one not in (google, Provider.SEARCH_CONSOLE)]  # the last runs by hand only

    paced = stage.watch_until("the new schedules are in force", 300, lambda seen: _is_paced(seen, broken, twin)).as_of
    stage.watch_until("all is well", 420, lambda seen: seen.code == 0 and stage.both_succeeded_since(paced, seen))
    stage.wait_for_checks("freshness", {"green": sorted([broken, twin]), "red": []})
    assert [stage.watermark(one) for one in (google, *others)] == ["HEALTHY"] * (1 + len(others))

    stage.stop_connector(stage.broken)
    seen = stage.watch_until("late", 420, lambda seen: seen.late == [broken])
    last = stage.last_success(stage.broken, seen.as_of)
    assert last is not None
    said = seen.connection(broken)
    assert EARLIEST <= datetime.fromisoformat(said["deadline"]) - last <= LATEST
    assert "The token was revoked." in said["reason"]
    stage.wait_for_checks("freshness", {"green": [twin], "red": [broken]})
    stage.wait_for_checks("sync", {"green": [twin], "red": [broken]})
    assert stage.failed_evaluations()[broken] >= datetime.fromisoformat(said["deadline"])
    wait_until(lambda: stage.watermark(google) in ("WARNING", "DEGRADED"), 120, "the watermark never turned yellow")
    wait_until(lambda: datetime.now(UTC) > last + PAGE, PAGE.total_seconds(), "time stands still")
    wait_until(lambda: stage.watermark(google) == "DEGRADED", 120, "the watermark never turned red")
    stage.look()

    stage.mend_connector()
    stage.watch_until("recovered", 420, lambda seen: seen.code == 0)
    for name in ("freshness", "sync"):
        stage.wait_for_checks(name, {"green": sorted([broken, twin]), "red": []})
    wait_until(lambda: stage.watermark(google) == "HEALTHY", 120, "the watermark never turned green")

    assert set(stage.failed_evaluations()) == {broken}
    assert stage.watermarks_that_were_late() == {google.value}
    assert {tuple(seen.late) for seen in stage.seen} == {(), (broken,)}


def _is_paced(seen: Seen, *partitions: str) -> bool:
    """Whether these connections are judged by the fast schedule already."""
    deadlines = [datetime.fromisoformat(seen.connection(one)["deadline"]) for one in partitions]
    return all(deadline - seen.as_of <= LATEST + BEHIND for deadline in deadlines)
