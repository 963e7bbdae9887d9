"""YAML that remembers its lines, so that every error in a hand-written file says where it is.

Belongs here: reading YAML text into nodes, and the checks on one value. Does not belong here: what a file's keys mean
(`tenants.overlay`, `freshness.sla`, `alerting.configuration`). PyYAML's plain loader forgets lines and lets a repeated
key win silently; this one composes the node tree, which keeps both.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import isfinite, nan
from uuid import UUID

import yaml

from adinsights_orchestration.errors import ConfigurationError

_NULL, _BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float"))


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a YAML file, with the place it stands at."""

    file: str
    inner: yaml.Node

    @property
    def place(self) -> str:
        """File and line: `tenants.yaml:12`."""
        return f"{self.file}:{self.inner.start_mark.line + 1}"

    @property
    def is_mapping(self) -> bool:
        """Whether this is a mapping."""
        return isinstance(self.inner, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether this is a list."""
        return isinstance(self.inner, yaml.SequenceNode)

    @property
    def is_null(self) -> bool:
        """Whether this is empty."""
        return self.inner.tag == _NULL

    def mapping(self, known: Collection[str], required: Collection[str] = ()) -> dict[str, Node]:
        """Returns the entries; an unknown, repeated or missing key is an error. Empty ones are left out."""
        if not isinstance(self.inner, yaml.MappingNode):
            raise self.error("this should be a mapping", f"Known keys: {', '.join(known)}.")
        entries: dict[str, Node] = {}
        for key_node, value_node in self.inner.value:
            key = Node(self.file, key_node)
            if (name := str(key_node.value)) not in known:
                raise key.error(f"unknown key {name!r}", f"Known keys: {', '.join(known)}.")
            if name in entries:
                raise key.error(f"the key {name!r} is there twice", f"It first stands in {entries[name].place}.")
            entries[name] = Node(self.file, value_node)
        filled = {name: node for name, node in entries.items() if not node.is_null}
        for name in required:
            if name not in filled:
                raise self.error(f"the key {name!r} is missing")
        return filled

    def pairs(self) -> list[tuple[Node, Node]]:
        """Returns the entries of a mapping with keys of the writer's own, empty ones too; a repeated one is wrong."""
        if not isinstance(self.inner, yaml.MappingNode):
            raise self.error("this should be a mapping")
        found = [(Node(self.file, key), Node(self.file, value)) for key, value in self.inner.value]
        seen: dict[str, Node] = {}
        for key, _ in found:
            if (name := key.text()) in seen:
                raise key.error(f"the key {name!r} is there twice", f"It first stands in {seen[name].place}.")
            seen[name] = key
        return found

    def items(self) -> list[Node]:
        """Returns the items of a list."""
        if not isinstance(self.inner, yaml.SequenceNode):
            raise self.error("this should be a list")
        return [Node(self.file, item) for item in self.inner.value]

    def text(self) -> str:
        """Returns a non-empty text; numbers count as their text."""
        if not isinstance(self.inner, yaml.ScalarNode) or self.is_null or not str(self.inner.value).strip():
            raise self.error("this should be a text")
        return str(self.inner.value).strip()

    def uuid(self) -> UUID:
        """Returns a UUID."""
        try:
            return UUID(self.text())
        except ValueError:
            raise self.error(f"{self.text()!r} is not a UUID") from None

    def boolean(self) -> bool:
        """Returns true or false."""
        if self.inner.tag != _BOOL:
            raise self.error("this should be true or false")
        return str(self.inner.value).lower() in ("yes", "true", "on")

    def integer(self) -> int:
        """Returns a whole number, written in decimal digits."""
        value = self.text()
        if self.inner.tag != _INT or not value.removeprefix("-").isdecimal():
            raise self.error("this should be a whole number")
        return int(value)

    def number(self) -> float:
        """Returns a finite number."""
        try:
            value = float(self.text())
        except ValueError:
            value = nan
        if self.inner.tag not in (_INT, _FLOAT) or not isfinite(value):
            raise self.error("this should be a number")
        return value

    def error(self, problem: str, next_step: str = "") -> ConfigurationError:
        """A `ConfigurationError` at this place."""
        return ConfigurationError(problem, place=self.place, next_step=next_step)


def parse_yaml(text: str, file: str) -> Node | None:
    """Returns the document's root, or None for an empty one; malformed YAML is an error with its line.

    Args:
        text: The file's text.
        file: What errors call it: its name.
    """
    try:
        root = yaml.compose(text, Loader=yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        # What is never closed is noticed at the end of the file; a person wants the line where it was opened.
        unclosed = "end of stream" in (error.problem or "")
        mark = (unclosed and error.context_mark) or error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark else file
        raise ConfigurationError(f"malformed YAML: {error.problem or error.context}", place=place) from None
    except yaml.YAMLError as error:
        raise ConfigurationError(f"malformed YAML: {str(error).splitlines()[0]}", place=file) from None
    return None if root is None or root.tag == _NULL else Node(file, root)
