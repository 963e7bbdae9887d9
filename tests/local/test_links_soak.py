"""The links of real messages, opened in a real browser: each leads to the page of what the message speaks of.

A whole stack runs; a connection loses its token while a person syncs it by hand, and Airbyte goes down. What the
channel then links is opened in Dagster's own UI, in the local Airbyte's and on the dashboards' pages. The runbook is
on GitHub: that its sections exist is checked without a network, in `tests/alerting/test_places.py`.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from adinsights_orchestration.local import environment, seed
from adinsights_orchestration.local.slack.world import TOKEN
from adinsights_orchestration.tenants.model import Provider
from tests.local.browser_support import chromium, words_of
from tests.local.stack_support import Site, new_site, wait_until
from tests.local.told_support import MAIN

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

REVOKED = {"failureType": "config_error", "externalMessage": "The token was revoked."}
TENANT, PROVIDER = "initech-ny", Provider.GOOGLE_ADS


@dataclass(frozen=True)
class Told:
    """The service of a stack, and what its Slack links."""

    url: str

    def turn(self, knob: str, value: object) -> None:
        """Makes something of Airbyte go wrong."""
        httpx.put(f"{self.url}/knobs/airbyte/{knob}", json=value).raise_for_status()

    def restore(self, knob: str) -> None:
        """Makes it work again."""
        httpx.delete(f"{self.url}/knobs/airbyte/{knob}").raise_for_status()

    def links(self) -> dict[str, str]:
        """Addresses by label, of every message in the main channel; of a label that is there twice the newest."""
        headers = {"authorization": f"Bearer {TOKEN}"}
        asked: dict[str, str | int] = {"channel": MAIN, "limit": 100}
        url = f"{self.url}/slack/api/conversations.history"
        shown = httpx.get(url, params=asked, headers=headers, timeout=30).raise_for_status().json()["messages"]
        texts = [block["text"]["text"] for each in reversed(shown) for block in each["blocks"] if "text" in block]
        found = re.findall(r"<(https?://[^|>]+)\|([^>]*)>", "\n".join(texts))
        return {html.unescape(label): html.unescape(address) for address, label in found}

    def wait_for(self, *labels: str) -> dict[str, str]:
        """Waits until messages link all of these, and returns all links."""
        wait_until(lambda: set(labels) <= set(self.links()), 900, lambda: f"{labels} in {self.links()}")
        return self.links()


@pytest.fixture
def site() -> Iterator[Site]:
    chromium()  # nothing is started in vain
    with new_site() as up:
        assert up.start("local", "up").wait(1200) == 0
        yield up
        up.run("local", "down")


def test_the_links_of_messages_open_what_they_name(site: Site, tmp_path: Path) -> None:
    told = Told(environment.service_url(site.local))
    (connection,) = [one for one in seed.connections() if (one.tenant.slug, one.provider) == (TENANT, PROVIDER)]
    told.turn("fail_connection", {str(connection.connection_id): REVOKED})
    site.run("sync", "--tenant", TENANT, "--provider", PROVIDER.value, code=1)
    links = told.wait_for("Partition", "Airbyte", "Run", "Campaign pacing")
    key = f"{TENANT}/google-ads-{str(connection.connection_id)[:8]}"

    # The UI opens the first partition of a provider for an address that names none: this is the second one's.
    opened = re.compile(rf"{re.escape(key)} (Materialized|Failed)\b")
    partition = words_of(links["Partition"], tmp_path, "partition")
    assert opened.search(partition), partition
    nowhere = words_of(links["Partition"].replace("google-ads", "google-adz"), tmp_path, "no_partition")
    assert not opened.search(nowhere), "another address would show it too, and prove nothing"

    run = words_of(links["Run"], tmp_path, "run")
    assert f"Runs / {links['Run'].rpartition('/')[2][:8]} Failure" in run, run

    job = words_of(links["Airbyte"], tmp_path, "airbyte")
    number = links["Airbyte"].rpartition("=")[2]
    assert re.search(rf"Job {number}: sync, failed, .* Attempt 1, failed: The token was revoked\.", job), job
    elsewhere = words_of(re.sub(r"/workspaces/[^/]+", "", links["Airbyte"]), tmp_path, "no_workspace")
    assert f"Job {number}" not in elsewhere, "another address would show it too, and prove nothing"

    assert "Campaign pacing Superset" in words_of(links["Campaign pacing"], tmp_path, "dashboard")

    told.restore("fail_connection")
    told.turn("down", True)
    health = words_of(told.wait_for("Health")["Health"], tmp_path, "health")
    assert health.startswith("Assets | health / airbyte "), health
    assert "HTTP 503: no healthy upstream" in health, health
    told.restore("down")
