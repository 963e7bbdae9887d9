"""`adinsights audit expire`, `compact`, `mend`, `offboard`, `erase` and `holds`, as somebody types them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest

from adinsights_orchestration.audit_log import holds
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.errors import RefusedError
from adinsights_orchestration.audit_log.windows import Hold, HoldKind
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.dagster_internals import outcomes
from tests.audit_log.conftest import LAST, Place
from tests.audit_log.living import leave_the_table, objects, register, rows_by_day, verified
from tests.audit_log.restoring import audit_rows
from tests.audit_log.rows import FIRST
from tests.cli.conftest import Answer

Command = Callable[..., Answer]
RANGE = ("--from", str(FIRST), "--to", str(LAST))


@pytest.fixture
def old(place: Place) -> Place:
    place.archive()
    leave_the_table(place)
    register(place, now=utc_now(), retired=True)
    return place


@pytest.fixture
def command(old: Place, audit_command: Command) -> Command:
    """`adinsights audit`, where the rows are in the archive alone."""
    return audit_command


def test_the_plan_prints_the_command_that_carries_out_exactly_it(old: Place, command: Command, tmp_path: Path) -> None:
    tenant, folder = str(old.tenants[0]), tmp_path / "hand over"
    told = command("offboard", "--tenant", tenant, "--export", str(folder), "--reason", "it left", "--json")
    mine = sum(rows_by_day(old, old.tenants[0]).values())
    assert (told.code, told.json["executed"], told.json["rows"]) == (0, False, mine)
    assert not folder.exists()
    words = shlex.split(told.json["command"])[2:]
    wrong = command(*[word if word != told.json["plan"] else "0" * 12 for word in words])
    assert (wrong.code, "the plan changed" in " ".join(wrong.err.split())) == (2, True)
    done = command(*words, "--json")
    assert (done.code, done.json["executed"], done.json["rows"], done.json["handed_over"]) == (0, True, mine, mine)
    assert json.loads((folder / "contents.json").read_text())["rows"] == mine
    said = command("verify", *RANGE)
    assert said.code == 0
    assert f"offboarded, {mine} rows of tenant {tenant}" in " ".join((said.out + said.err).split())


def test_an_erasure_is_read_first_and_names_nobody(old: Place, command: Command) -> None:
    tenant = str(old.tenants[1])
    subject = ("erase", "--tenant", tenant, "--resource-type", "airbyte_connection", "--reason", "request 1")
    told = command(*subject)
    assert (told.code, "Nothing was changed" in " ".join(told.out.split())) == (0, True)
    done = command(*subject, "--yes", "--json")
    assert (done.code, done.json["rows"]) == (0, sum(rows_by_day(old, old.tenants[1]).values()))
    assert [row.detail["reason"] for row in audit_rows(old, "audit_log_archive_erased")] == ["request 1"]
    no_reason = command(*subject[:-2], "--yes")
    assert (no_reason.code, "no reason" in no_reason.err) == (2, True)


def test_what_is_in_the_way_is_said_with_exit_code_one(old: Place, command: Command) -> None:
    register(old, now=utc_now())
    answer = command("offboard", "--tenant", str(old.tenants[0]))
    assert (answer.code, "in the way: the backend still serves" in " ".join(answer.err.split())) == (1, True)


def _refuse(_: object, key: str) -> None:
    raise RefusedError("it is locked", place=key)


def test_expiry_tells_and_then_removes(old: Place, command: Command) -> None:
    before = objects(old)
    told = command("expire", "--json")
    assert (told.code, told.json["dry_run"], told.json["rows"]) == (0, True, len(old.rows))
    assert objects(old) == before
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("adinsights_orchestration.audit_log.store.folder.Folder.delete", _refuse)
        kept = command("expire", "--apply", "--json")
    assert (kept.code, len(kept.json["refused"])) == (0, len(before))
    assert command("status", "--json").json["objects_to_remove"] == len(before)
    assert command("expire", "--apply").code == 0
    assert command("status", "--json").json["objects_to_remove"] == 0
    assert (objects(old), verified(old).problems) == (set(), [])


def test_what_was_done_by_hand_counts_in_dagster_and_what_was_only_told_does_not(
    old: Place, command: Command, postgres_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", postgres_instance.root_directory)
    commands = {"expire": "audit_log/expiry", "compact": "audit_log/compaction", "retention": "audit_log/retention"}
    for name in commands:
        assert command(name).code == 0
    assert outcomes.last_materialized(postgres_instance, commands.values()) == {}
    for name, key in commands.items():
        answer = command(name, "--apply")
        assert (answer.code, "not told" in answer.err) == (0, False)
        event = postgres_instance.get_latest_materialization_event(dg.AssetKey.from_user_string(key))
        assert event is not None
        assert event.asset_materialization is not None
        assert str(event.asset_materialization.metadata["dry run"].value).lower() == "false"
    assert len(outcomes.last_materialized(postgres_instance, commands.values())) == len(commands)


def test_compaction_and_mending_say_when_there_is_nothing_to_do(old: Place, command: Command) -> None:
    assert command("compact", "--json").json["months"] == []
    refused = command("compact", "--month", "2024-1")
    assert (refused.code, "2026-01" in refused.err) == (2, True)
    assert (command("mend", *RANGE).code, command("mend", *RANGE, "--json").json["damaged"]) == (0, [])
    old.store.delete(min(objects(old)))
    broken = command("mend", *RANGE, "--apply", "--json")
    assert (broken.code, len(broken.json["damaged"]), broken.json["mended"]) == (1, 1, [])


def test_a_hold_is_listed_and_ended_early(old: Place, command: Command) -> None:
    now = utc_now()
    hold = Hold(
        HoldKind.RESTORE, "case 1", old.tenants[0], first_day=FIRST, last_day=LAST, until=now + timedelta(days=9)
    )
    with old.ops.begin() as connection:
        holds.add_hold(connection, AUDIT_LOG.name, hold, "somebody", now)
    (listed,) = json.loads(command("holds", "list", "--json").out)
    assert (listed["tenant"], listed["reason"], listed["author"]) == (str(old.tenants[0]), "case 1", "somebody")
    assert command("holds", "end", str(listed["id"])).code == 0
    assert len(json.loads(command("holds", "list", "--json").out)) == 1
    assert command("holds", "end", str(listed["id"]), "--yes").code == 0
    assert json.loads(command("holds", "list", "--json").out) == []
    (row,) = audit_rows(old, "audit_log_hold_ended")
    assert (row.tenant_id, row.detail["hold"]) == (old.tenants[0], listed["id"])
    assert command("holds", "end", str(listed["id"]), "--yes").code == 2
