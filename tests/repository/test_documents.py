"""Pages that are made from code, or that list what is elsewhere, agree with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from packaging.utils import canonicalize_name

from adinsights_orchestration.cli.app import COMMANDS, load
from adinsights_orchestration.cli.settings_page import settings_page
from adinsights_orchestration.ops_store import alert_tables, audit_tables, tables
from tests.repository.checkout import ROOT, declared, tracked_files
from tests.repository.container import setting_names

DECISIONS = ROOT / "docs" / "adr"


def _table_names(page: str) -> set[str]:
    return {canonicalize_name(name) for name in re.findall(r"^\| ([\w-]+)(?: \([\w-]+\))? \|", page, re.MULTILINE)}


def test_the_settings_reference_is_what_make_docs_writes() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == settings_page(), "run `make docs`"


def test_the_settings_reference_names_every_setting() -> None:
    assert {name for name in setting_names() if f"`{name}`" not in settings_page()} == set()


def test_the_page_of_the_command_line_has_every_command() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    assert {name for name in _commands() if f"adinsights {name}" not in page} == set()


def test_the_page_of_alerts_names_only_settings_and_commands_that_there_are() -> None:
    page = " ".join((ROOT / "docs" / "alerts.md").read_text().split())
    named = set(re.findall(r"ADINSIGHTS_\w+", page))
    assert named - set(setting_names()) == {"ADINSIGHTS_REWRITE_SNAPSHOT"}
    commands = {*_commands(), *COMMANDS}
    typed = re.findall(r"`adinsights ([a-z]+)(?: ([a-z]+))?", page)
    assert len(typed) > 10
    assert [words for words in typed if not {words[0], " ".join(words)} & commands] == []
    groups = {name.partition(" ")[0] for name in commands if " " in name}
    assert [words for words in typed if words[0] in groups and words[1] and " ".join(words) not in commands] == []


def _commands() -> Iterator[str]:
    for name in COMMANDS:
        command = load(name)
        for path in _paths(command):
            yield " ".join((name, *path))


def _paths(command: Any) -> Iterator[tuple[str, ...]]:
    """The ways from a group of commands to each of them; one empty way where it is a command itself."""
    below = getattr(command, "commands", None)
    if below is None:
        yield ()
        return
    for name, each in below.items():
        yield from ((name, *path) for path in _paths(each))


def test_the_page_of_the_architecture_has_every_table_of_the_ops_store() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    found = {
        each.name
        for module in (tables, alert_tables, audit_tables)
        for each in vars(module).values()
        if isinstance(each, sa.Table)
    }
    assert len(found) > 30
    assert {name for name in found if f"`{name}`" not in page} == set()


def test_every_decision_is_in_the_index_with_its_own_title() -> None:
    index = (DECISIONS / "README.md").read_text()
    titles = {file.name: file.read_text().splitlines()[0].removeprefix("# ")[5:] for file in DECISIONS.glob("0*.md")}
    assert titles
    assert {name for name, title in titles.items() if f"]({name}) | {title} |" not in index} == set()


def test_a_decision_has_its_three_parts() -> None:
    texts = {file.name: file.read_text() for file in DECISIONS.glob("0*.md") if not file.name.startswith("0009")}
    parts = ("## Context\n", "## Decision\n", "## Consequences\n")
    assert {name for name, text in texts.items() if not all(part in text for part in parts)} == set()


def test_every_dependency_has_its_reason_and_every_reason_its_dependency() -> None:
    page, _, left_out = (DECISIONS / "0009-dependencies.md").read_text().partition("## Looked at and left out")
    everything = {*declared(), *(name for extra in ("local", "test", "dev") for name in declared(extra))}
    given = _table_names(page) - {"package", "-"}
    assert given == everything | {"airbyte-cdk"}
    assert _table_names(left_out) & everything == set()


def test_links_between_documents_lead_somewhere() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "dbt_project").glob("*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


def test_every_section_of_the_runbook_that_an_error_names_is_there() -> None:
    sections = set(re.findall(r"^#+ (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.MULTILINE))
    code = [path.read_text() for path in (ROOT / "adinsights_orchestration").rglob("*.py")]
    named = {section for text in code for section in re.findall(r'docs/runbook\.md says \w+(?: to do)?: "(.+?)"', text)}
    assert named >= {"The archive is not there", "The chain is broken, or a day does not verify"}
    assert named <= sections


def test_every_module_that_a_page_names_is_there() -> None:
    files = [f"/{file.relative_to(ROOT)}" for file in tracked_files()]
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    named = {(page.name, name) for page in pages for name in re.findall(r"`([\w./-]+\.py)`", page.read_text())}
    assert named
    assert {(page, name) for page, name in named if not any(file.endswith(f"/{name}") for file in files)} == set()


def test_the_licence_is_the_one_that_the_package_declares() -> None:
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
