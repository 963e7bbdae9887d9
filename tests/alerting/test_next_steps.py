"""What alerts say to do next: every command in it can be typed as it stands."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from adinsights_orchestration.cli.app import application
from tests.alerting.trouble import KEY, everything

STEPS = {each.rule: each.next_step for each in everything()}
NEEDS_ONE_OF = {
    "sync": ("tenant", "provider", "connection", "everybody")
}  # checked by the command itself, once it runs


def commands(text: str) -> list[str]:
    return re.findall(r"`(adinsights [^`]*)`", text)


def parsed(command: str) -> Any:
    """What the command line makes of the words, up to where the command would begin."""
    program, *words = shlex.split(command)
    context = application().make_context(program, words)
    while hasattr(context.command, "resolve_command"):  # a group of commands
        words = [*context._protected_args, *context.args]
        name, found, rest = context.command.resolve_command(context, words)
        context = found.make_context(name, rest, parent=context)
    return context


@pytest.mark.parametrize("rule", sorted(STEPS))
def test_every_command_in_a_next_step_can_be_typed_as_it_stands(rule: str) -> None:
    assert re.sub(r"`[^`]*`", "", STEPS[rule]).count("adinsights ") == 0, "a command stands between backticks"
    for command in commands(STEPS[rule]):
        context = parsed(command)
        needed = NEEDS_ONE_OF.get(context.info_name or "", ())
        assert not needed or any(context.params[name] for name in needed), command


def test_a_connection_is_synced_by_its_tenant_and_provider() -> None:
    assert commands(STEPS["connection_stale"]) == ["adinsights sync --tenant acme --provider meta"]
    assert commands(STEPS["connection_no_recent_sync"]) == ["adinsights sync --tenant acme --provider meta"]
    assert commands(STEPS["sync_errors"]) == ["adinsights connections --tenant acme"]
    assert commands(STEPS["connection_disabled"]) == [f"adinsights schema show {KEY}"]
