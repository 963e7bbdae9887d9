"""What on-call types: who is served, what is due, what to sync, and what to do when it is refused."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.cli import registry
from adinsights_orchestration.cli.settings_page import setting_rows
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.findings import open_finding
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.redaction import is_secret_name
from adinsights_orchestration.settings import OpsStoreSettings
from adinsights_orchestration.tenants.refresh import LOCK
from tests.cli.conftest import TENANT_ID, Answer, Served
from tests.conftest import PostgresServer
from tests.ops_store.test_revisions import of_a_newer_release

Command = Callable[..., Answer]
# Those without a default are told by their names: their default is None.
SECRETS = [row for row in setting_rows() if isinstance(row.default, SecretStr) or is_secret_name(row.variable)]


@pytest.fixture(scope="module", autouse=True)
def _migrated(served: Served) -> None:
    assert served.as_process("migrate").code == 0
    assert served.as_process("registry", "refresh").code == 0


def test_an_unmigrated_store_is_two_lines_with_the_command_to_run(
    served: Served, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = served.as_process("connections", ADINSIGHTS_OPS_STORE__DSN=served.dsn.rsplit("/", 1)[0] + "/postgres")
    assert fresh.code == 2
    assert fresh.err.splitlines() == ["the ops store is not migrated", "  Run `adinsights migrate`."]
    assert (
        "Traceback"
        in served.as_process(
            "--debug", "connections", ADINSIGHTS_OPS_STORE__DSN=served.dsn.rsplit("/", 1)[0] + "/postgres"
        ).err
    )


def test_migrating_what_a_newer_release_has_migrated_succeeds_and_says_so(
    served: Served, postgres_server: PostgresServer
) -> None:
    dsn = postgres_server.create_database("newer")
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(dsn)))
    store.migrate()
    of_a_newer_release(store)
    store.dispose()
    answer = served.as_process("migrate", ADINSIGHTS_OPS_STORE__DSN=dsn)
    assert (answer.code, answer.out) == (0, "")
    assert "Nothing was changed: the ops store's schema is newer (revision 9999, of release 9.9.0)" in answer.err


def test_dagster_s_own_storage_is_migrated_by_the_same_command_where_there_is_one(served: Served) -> None:
    done = served.as_process("migrate", "--dagster")
    assert (done.code, done.err.splitlines()[-2:]) == (
        0,
        ["Dagster's storage is at the newest schema.", "The ops store is at the newest schema."],
    )
    nowhere = served.as_process("migrate", "--dagster", DAGSTER_HOME="")
    assert nowhere.code == 2
    assert "DAGSTER_HOME: is not set, so there is no Dagster storage to migrate" in nowhere.err


def test_connections_show_standing_schedule_and_the_next_time_they_are_due(command: Command) -> None:
    rows = {row["provider"]: row for row in command("connections", "--json").json}
    assert {name: row["standing"] for name, row in rows.items()} == {
        "meta": "active",
        "google_ads": "active",
        "ga4": "manual",
        "tiktok_ads": "paused",
    }
    assert rows["meta"]["schedule"] == "every 60 min"
    assert rows["google_ads"]["schedule"] == "cron 0 6-22 * * *"
    assert rows["meta"]["next_due_at"] <= utc_now().isoformat(), "it never synced: its newest slot waits"
    assert (rows["ga4"]["next_due_at"], rows["tiktok_ads"]["next_due_at"]) == (None, None)


def test_a_connection_that_synced_for_its_slot_is_due_at_the_next_one(command: Command, served: Served) -> None:
    now = utc_now()
    job = {"job_id": 1, "provider": "meta", "tenant_id": TENANT_ID, "job_type": "sync", "status": "succeeded"}
    job |= {"connection_id": served.connections["meta"].id, "started_by": "external", "report_state": "reported"}
    job |= dict.fromkeys(("started_at", "ended_at", "first_observed_at", "observed_at"), now)
    with served.store() as store:
        with store.begin() as connection:
            connection.execute(sa.insert(sync_job).values({**job, "partition_key": "meta"}))
        due = {row["provider"]: row["next_due_at"] for row in command("connections", "--json").json}
        with store.begin() as connection:
            connection.execute(sa.delete(sync_job).where(sync_job.c.job_id == 1))
    assert due["meta"] > now.isoformat()


def test_what_others_start_is_never_due_here(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADINSIGHTS_INGESTION__DRIVER", "external")
    assert {row["next_due_at"] for row in command("connections", "--json").json} == {None}


def test_in_staging_connections_are_due_by_night_whatever_their_own_schedules_say(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADINSIGHTS_ENVIRONMENT", "staging")
    due = {row["provider"]: row["next_due_at"] for row in command("connections", "--json").json}
    assert due["meta"] == due["google_ads"]
    assert due["meta"].endswith("T06:00:00+00:00"), "one in the morning in Jamaica"
    assert (due["ga4"], due["tiktok_ads"]) == (None, None)


def test_connections_can_be_narrowed_by_tenant_and_provider(command: Command) -> None:
    assert len(command("connections", "--tenant", "acme-jamaica-ltd", "--provider", "META", "--json").json) == 1
    table = command("connections", "--provider", "ga4").out
    assert re.search(r"acme-jamaica-ltd +ga4 ", table)
    assert "google_ads" not in table


def test_a_tenant_that_is_nobody_is_named_with_those_there_are(command: Command) -> None:
    answer = command("sync", "--tenant", "acme")
    assert answer.code == 2
    assert answer.err.splitlines() == ["no tenant is 'acme'.", "  Known: acme-jamaica-ltd."]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("sync",), "--all"),
        (("sync", "--provider", "myspace"), "unknown provider 'myspace'"),
        (("sync", "--connection", "nothing"), "no connection is 'nothing'."),
        (("sync", "--tenant", "Acme Jamaica Ltd", "--provider", "linkedin_ads"), "no connection is all of that."),
        (("refresh", "nothing"), "no connection is 'nothing'."),
        (("nonsense",), "No such command"),
    ],
)
def test_wrong_use_is_explained_with_exit_code_2(command: Command, arguments: tuple[str, ...], said: str) -> None:
    answer = command(*arguments)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err


def test_a_dry_run_shows_what_would_be_synced_and_what_is_left_out(command: Command) -> None:
    answer = command("sync", "--all", "--dry-run", "--json")
    assert answer.code == 0
    assert sorted(row["provider"] for row in answer.json) == ["ga4", "google_ads", "meta"]
    assert re.search(r"left out: acme-jamaica-ltd/tiktok\S* is paused", answer.err)


def test_only_a_paused_connection_is_nothing_to_sync(command: Command) -> None:
    answer = command("sync", "--provider", "tiktok_ads")
    assert answer.code == 1
    assert "none of them can be synced" in answer.out


def test_detaching_without_a_ui_is_refused(command: Command) -> None:
    answer = command("sync", "--all", "--detach")
    assert answer.code == 2
    assert "only it can run something detached" in answer.err


def test_the_registry_is_shown_with_its_tenants(command: Command) -> None:
    document = command("registry", "show", "--json").json
    (tenant,) = document["tenants"]
    assert (tenant["tenant"], tenant["connections"]) == ("acme-jamaica-ltd", "2 active, 1 manual, 1 paused")
    assert document["health"]["error"] is None
    assert "acme-jamaica-ltd" in command("registry", "show").out


def test_a_registry_that_cannot_be_read_is_exit_code_1_with_the_reason(
    served: Served, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADINSIGHTS_REGISTRY__YAML_PATH", str(served.folder / "gone.yaml"))
    answer = command("registry", "refresh", "--json")
    assert answer.code == 1
    assert "gone.yaml cannot be read" in answer.json["error"]
    monkeypatch.undo()


def _cut(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry's source lacks all but one connection."""
    whole = (served.folder / "registry.yaml").read_text()
    cut = served.folder / "cut.yaml"
    cut.write_text("\n".join(line for line in whole.splitlines() if "provider" not in line or "TikTok" in line))
    monkeypatch.setenv("ADINSIGHTS_REGISTRY__YAML_PATH", str(cut))


def test_a_registry_that_lacks_most_is_taken_only_when_a_person_accepts_the_loss(
    served: Served, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cut(served, monkeypatch)
    held = command("registry", "refresh", "--json")
    assert (held.code, held.json["retired"]) == (1, [])
    assert "suddenly lacks 3 of 3 active connections" in held.json["error"]
    (finding,) = command("findings", "--kind", "registry_shrunk", "--json").json
    assert "registry refresh --accept-loss" in finding["detail"]["next_step"]
    taken = command("registry", "refresh", "--accept-loss", "--json")
    assert (taken.code, len(taken.json["retired"])) == (0, 3)
    assert command("findings", "--kind", "registry_shrunk", "--json").json == []
    monkeypatch.setenv("ADINSIGHTS_REGISTRY__YAML_PATH", str(served.folder / "registry.yaml"))
    assert len(command("registry", "refresh", "--json").json["returned"]) == 3


def test_a_refresh_that_found_another_at_work_did_nothing_and_says_so_with_its_exit_code(
    served: Served, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_PATIENCE_SECONDS", 0.0)
    with served.store() as store, store.exclusive(LOCK) as mine:
        assert mine
        busy = command("registry", "refresh", "--accept-loss", "--json")
        assert (busy.code, busy.json["busy"], busy.json["error"]) == (1, True, None)
        assert "The loss is not accepted. Try again." in " ".join(busy.err.split())
        assert command("registry", "refresh").code == 1
    done = command("registry", "refresh", "--json")
    assert (done.code, done.json["busy"]) == (0, False)


def test_a_loss_that_is_accepted_while_a_tick_refreshes_is_accepted_after_it(
    served: Served, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cut(served, monkeypatch)
    with served.store() as store, ExitStack() as tick:
        tick.enter_context(store.exclusive(LOCK))
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: tick.close())
        monkeypatch.setattr(registry, "time", clock)
        taken = command("registry", "refresh", "--accept-loss", "--json")
    assert (taken.code, taken.json["busy"], len(taken.json["retired"])) == (0, False, 3)
    monkeypatch.setenv("ADINSIGHTS_REGISTRY__YAML_PATH", str(served.folder / "registry.yaml"))
    assert len(command("registry", "refresh", "--json").json["returned"]) == 3


def test_findings_are_listed_without_personal_data(served: Served, command: Command) -> None:
    assert command("findings", "--kind", "canary").out.strip() == "no open findings"
    with served.store() as store, store.begin() as connection:
        detail = {"reason": "jane.doe@agency.example has access_token=canary-token", "next_step": "Ask her."}
        open_finding(connection, "canary", "acme/meta", detail, utc_now())
    table, document = command("findings", "--kind", "canary"), command("findings", "--kind", "canary", "--json")
    assert "Ask her." in table.out
    assert document.json[0]["subject"] == "acme/meta"
    assert not [each for each in ("jane", "canary-token") if each in table.out + document.out]


def test_settings_are_shown_with_secrets_hidden(served: Served, command: Command) -> None:
    rows = {row["variable"]: row["value"] for row in command("settings", "--json").json}
    assert rows["ADINSIGHTS_REGISTRY__SOURCE"] == "yaml"
    assert rows["ADINSIGHTS_OPS_STORE__DSN"] == "hidden"
    assert "# Settings" in command("settings", "--markdown").out


def test_a_wrong_setting_is_named_without_its_value(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADINSIGHTS_INGESTION__RETRY_MAX_ATTEMPTS", "canary-value")
    answer = command("connections")
    assert answer.code == 2
    assert "ADINSIGHTS_INGESTION__RETRY_MAX_ATTEMPTS" in answer.err
    assert "canary" not in answer.err
    monkeypatch.undo()


def test_doctor_reports_everything_and_its_exit_code_is_the_worst(command: Command) -> None:
    answer = command("doctor", "--json")
    checks = {check["name"]: check["status"] for check in answer.json["checks"]}
    assert checks["ops store"] == "ok"
    assert checks["airbyte public api"] == "ok"
    assert checks["dagster ui"] == "fail"
    assert answer.code == answer.json["exit_code"] == 2


def test_doctor_names_a_setting_that_keeps_everything_from_starting(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADINSIGHTS_ENVIRONMENT", "moon")
    answer = command("doctor")
    assert answer.code == 2
    assert "ADINSIGHTS_ENVIRONMENT" in answer.out
    monkeypatch.undo()


@pytest.mark.parametrize(
    "arguments",
    [
        ("doctor",),
        ("doctor", "--json"),
        ("connections",),
        ("registry", "refresh"),
        ("findings",),
        ("migrate",),
        ("settings",),
        ("sync", "--all"),
        ("refresh", "Meta Ads"),
        ("--debug", "connections"),
        ("--debug", "migrate"),
    ],
)
def test_no_command_shows_any_secret_when_everything_fails(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    for number, row in enumerate(SECRETS):
        address = row.variable.endswith("__DSN")
        canary = f"canary{number}-Pa55/word%"
        monkeypatch.setenv(
            row.variable, f"postgresql://role:{quote(canary, safe='')}@127.0.0.1:9/x" if address else canary
        )
    answer = command(*arguments)
    shown = answer.out + answer.err
    assert shown
    assert re.findall(r"canary\d", shown) == []


@pytest.mark.parametrize(
    "arguments", [("doctor", "--json"), ("--debug", "connections"), ("--debug", "registry", "refresh")]
)
def test_an_address_that_cannot_even_be_read_is_not_quoted(
    command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("ADINSIGHTS_OPS_STORE__DSN", "canary0 is no address")
    monkeypatch.setenv("ADINSIGHTS_BACKEND__DSN", "canary1 is no address")
    answer = command(*arguments)
    assert answer.code in (1, 2, 70)
    assert re.findall(r"canary\d", answer.out + answer.err) == []
