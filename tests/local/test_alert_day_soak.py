"""A day of an on-call engineer on the whole local stack, and everything that they were told in it.

A connector loses its token, another one breaks at a tenant that is silenced, Airbyte goes down, dbt fails while Slack
is down, and all of it recovers. What the channels and mailboxes hold in the end is compared, to the letter, with
`golden/alert_day_slack.txt` and `golden/alert_day_mail.txt`: read them as a person would who was on call that day.
Schedules and levels are those of a production in minutes instead of hours; every step waits for what it causes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from adinsights_orchestration.local import environment, seed
from adinsights_orchestration.tenants.model import Provider
from tests.local import told_support as told
from tests.local.stack_support import Site, new_site, wait_until

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200)]

GOLDEN = Path(__file__).with_name("golden")
REWRITE = "ADINSIGHTS_REWRITE_SNAPSHOT"
# Due every two minutes and late four after a slot: by then Airbyte's being down has become a page, which explains it.
# Errors are counted for syncs that come once an hour. Pages do not depend on the hour at which this is run.
SLA = """
thresholds:
  sync_age: {warn: 6, page: 60}
  sync_grace: {warn: 4, page: 4}
  sync_errors: {warn: 90, page: 150}
  dbt_failing: {warn: 1, page: 2}
local_times:
  paging_from: "00:00"
  paging_to: "23:59"
"""
ALERTS = """
timing: {group_interval: 1m, fallback_after: 1m}
"""
PACE_MINUTES, SLOW_MINUTES = 2, 24 * 60
PACED = (
    ("acme-jamaica", Provider.GOOGLE_ADS),
    ("initech-ny", Provider.GOOGLE_ADS),
    ("globex-london", Provider.LINKEDIN_ADS),
)
REVOKED = {"failureType": "config_error", "externalMessage": "The token was revoked."}
OPEN = """select rule, tenant, resource, state, severity, told, suppressed_by, finding->>'title' as title
    from adinsights_ops.alert_incident where state <> 'ok' or told order by fired_at"""
UNSENT = "select sink, op, last_error from adinsights_ops.alert_outbox where state in ('pending', 'attempting')"


@dataclass(frozen=True)
class Day:
    """The stack, and what a day does to it."""

    site: Site

    @property
    def url(self) -> str:
        """The loopback service."""
        return environment.service_url(self.site.local)

    def turn(self, area: str, knob: str, value: Any) -> None:
        """Makes something go wrong."""
        httpx.put(f"{self.url}/knobs/{area}/{knob}", json=value).raise_for_status()

    def restore(self, area: str, knob: str) -> None:
        """Makes it work again."""
        httpx.delete(f"{self.url}/knobs/{area}/{knob}").raise_for_status()

    def connection(self, tenant: str, provider: Provider) -> UUID:
        """Airbyte's connection."""
        (found,) = [one for one in seed.connections() if (one.tenant.slug, one.provider) == (tenant, provider)]
        return found.connection_id

    def set_pace(self) -> None:
        """Three connections are due every two minutes, all others are far from being due again."""
        slow = "update integrations_airbyteconnection set schedule_type = 'interval', cron_expression = '',"
        slow += " interval_minutes = %s where schedule_type <> 'manual' returning 1 as changed"
        assert len(self.site.query("backend", slow, SLOW_MINUTES)) == 7
        paced = "update integrations_airbyteconnection set interval_minutes = %s where connection_id = any(%s)"
        ids = [self.connection(*one) for one in PACED]
        assert len(self.site.query("backend", f"{paced} returning 1 as changed", PACE_MINUTES, ids)) == len(PACED)

    def synced_since(self, moment: datetime) -> bool:
        """Whether every paced connection has succeeded since."""
        statement = """select count(distinct connection_id) as number from adinsights_ops.sync_job
            where status = 'succeeded' and ended_at > %s and connection_id = any(%s)"""
        (row,) = self.site.query("dagster", statement, moment, [self.connection(*one) for one in PACED])
        return bool(row["number"] == len(PACED))

    # --------------------------------------------------------------------------------------------------- alerts

    def open(self) -> list[dict[str, Any]]:
        """Every alert that is open."""
        return self.site.query("dagster", OPEN)

    def wait_for(self, seconds: float, rule: str, tenant: str | None = None, **wanted: Any) -> None:
        """Waits for an alert that stands as wanted; `quiet` is why it is kept quiet, empty when it is told."""

        def is_so() -> bool:
            return any(self._is(each, rule, tenant, wanted) for each in self.open())

        wait_until(is_so, seconds, lambda: f"no {rule} of {tenant} with {wanted}: {self.open()}")
        self.log(f"{rule} of {tenant}: {wanted}")

    @staticmethod
    def _is(alert: dict[str, Any], rule: str, tenant: str | None, wanted: dict[str, Any]) -> bool:
        stands = {**alert, "quiet": alert["suppressed_by"].partition(":")[0]}
        return (alert["rule"], alert["tenant"]) == (rule, tenant) and all(stands[n] == v for n, v in wanted.items())

    def wait_until_all_is_well(self, seconds: float) -> None:
        """Waits until nothing is wrong any more, and everything was said."""
        wait_until(lambda: not self.open(), seconds, lambda: f"still open: {self.open()}")
        wait_until(lambda: not self.site.query("dagster", UNSENT), 60, lambda: f"{self.site.query('dagster', UNSENT)}")
        self.log("all is well")

    def slack(self) -> str:
        """What Slack's channels show."""
        return told.slack(f"{self.url}/slack")

    def wait_for_slack(self, words: str, seconds: float = 60) -> None:
        """Waits until Slack shows these words."""
        wait_until(lambda: words in self.slack(), seconds, lambda: f"{words!r} in {self.slack()}")

    def log(self, what: str) -> None:
        """A line for whoever watches this."""
        sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {what}\n")
        sys.stdout.flush()


@pytest.fixture
def day(tmp_path: Path) -> Iterator[Day]:
    sla, alerts = tmp_path / "sla.yaml", tmp_path / "alerts.yaml"
    sla.write_text(SLA)
    alerts.write_text(ALERTS)
    paths = {"ADINSIGHTS_FRESHNESS__SLA_PATH": str(sla), "ADINSIGHTS_ALERTING__ALERTS_PATH": str(alerts)}
    with new_site(**paths) as site:
        assert site.start("local", "up").wait() == 0
        yield Day(site)
        site.run("local", "down")


def test_a_day_of_breakdowns_ends_with_the_messages_that_a_person_would_want(day: Day, tmp_path: Path) -> None:
    morning(day)
    try:
        connectors_lose_their_tokens_and_one_tenant_is_silenced(day)
        airbyte_goes_down(day)
        dbt_fails_while_slack_is_down(day)
        day.wait_until_all_is_well(900)
    finally:
        day.restore("slack", "down")  # what it shows cannot be read otherwise
        page = tmp_path / "slack.html"
        page.write_text(httpx.get(f"{day.url}/slack/").text)
        day.log(f"the page as it stands: {page}")
        found = {"alert_day_slack.txt": day.slack(), "alert_day_mail.txt": told.mails(f"{day.url}/mail")}
        for name, text in found.items():
            (tmp_path / name).write_text(text)
    for name, text in found.items():
        if os.environ.get(REWRITE):
            (GOLDEN / name).write_text(text)
        assert text == (GOLDEN / name).read_text(), f"{name}: if you mean it, {REWRITE}=1 writes it anew"


def morning(day: Day) -> None:
    """All is well, and nobody is told anything."""
    day.set_pace()
    paced = datetime.now(UTC)
    wait_until(lambda: day.synced_since(paced), 900, "the paced connections never synced")
    day.wait_until_all_is_well(900)
    assert day.slack().count("Nothing has been said here.") == 2, day.slack()


def connectors_lose_their_tokens_and_one_tenant_is_silenced(day: Day) -> None:
    """One is told, it is told that it got worse, somebody takes it on; of the silenced one nobody hears."""
    why = ("--reason", "moving accounts", "--by", "ann")
    day.site.run("alerts", "silence", "tenant=globex-london", "--for", "6h", *why)
    ids = [day.connection("acme-jamaica", Provider.GOOGLE_ADS), day.connection("globex-london", Provider.LINKEDIN_ADS)]
    day.turn("airbyte", "fail_connection", {str(one): REVOKED for one in ids})
    day.wait_for(900, "connection_failing", "acme-jamaica", severity="warn", told=True)
    day.wait_for_slack(":large_yellow_circle:")
    day.wait_for(900, "connection_failing", "acme-jamaica", severity="page", told=True)
    day.wait_for_slack("Worse, now a page")
    (ts,) = told.roots(f"{day.url}/slack")
    assert httpx.post(f"{day.url}/slack/react/{told.MAIN}/{ts}").is_redirect  # back to the page
    day.wait_for(60, "connection_failing", "acme-jamaica", state="acknowledged")
    day.wait_for_slack("Acknowledged by")
    day.wait_for(900, "connection_failing", "globex-london", severity="page", told=False, quiet="silenced")
    day.wait_for(900, "connection_stale", "acme-jamaica", told=False, quiet="explained")
    day.restore("airbyte", "fail_connection")
    day.wait_until_all_is_well(900)
    day.site.run("alerts", "unsilence", "1", "--by", "ann")


def airbyte_goes_down(day: Day) -> None:
    """One message; that connections turn late is explained by it, and what recovers with it is not told."""
    up = datetime.now(UTC)
    wait_until(lambda: day.synced_since(up), 900, "the paced connections never synced")
    day.turn("airbyte", "down", True)
    day.wait_for(900, "component_down", severity="warn", told=True)
    day.wait_for(900, "component_down", severity="page", told=True)
    for tenant, _ in PACED:
        day.wait_for(600, "connection_stale", tenant, told=False, quiet="explained")
    day.wait_for_slack("Explains")
    day.restore("airbyte", "down")
    day.wait_until_all_is_well(1800)


def dbt_fails_while_slack_is_down(day: Day) -> None:
    """A platform reports nonsense, and Slack cannot say it; what is said by mail meanwhile, Slack says afterwards."""
    day.turn("slack", "down", True)
    report_nonsense(day, "9e28")
    day.wait_for(900, "dbt_failing", severity="warn", told=True)
    wait_until(lambda: "Here because slack" in told.mails(f"{day.url}/mail"), 300, "the fallback never took over")
    day.wait_for(1800, "dbt_failing", severity="page", told=True)
    wait_until(lambda: "Worse, now a page" in told.mails(f"{day.url}/mail"), 300, "the fallback never said the page")
    day.restore("slack", "down")
    day.wait_for_slack("dbt is down", 400)
    report_nonsense(day, "12.5")
    day.wait_until_all_is_well(1800)


def report_nonsense(day: Day, value: str) -> None:
    """A campaign's conversions of one old day are worth this much, for a millionth of a dollar spent."""
    statement = """insert into raw_google_ads.campaign_daily
        select (jsonb_populate_record(null::raw_google_ads.campaign_daily, to_jsonb(one) || jsonb_build_object(
            '_airbyte_raw_id', gen_random_uuid(), '_airbyte_extracted_at', now(), 'date', current_date - 60,
            'cost_micros', 1, 'conversions_value', %s::numeric))).*
        from (select * from raw_google_ads.campaign_daily where tenant_id = %s order by date, campaign_id limit 1) one
        on conflict (tenant_id, customer_id, campaign_id, date) do update
        set conversions_value = excluded.conversions_value, _airbyte_extracted_at = excluded._airbyte_extracted_at
        returning 1 as written"""
    (tenant,) = {one.tenant for one in seed.connections() if one.tenant.slug == "acme-jamaica"}
    assert day.site.query("warehouse", statement, value, str(seed.tenant_id(tenant)))
