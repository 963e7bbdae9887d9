"""The container files as data: a Dockerfile's instructions, the Compose services, the environments' variables."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from adinsights_orchestration.settings import Settings
from tests.repository.checkout import ROOT

DEPLOY = ROOT / "deploy"


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile, its continued lines joined."""

    keyword: str
    value: str

    def words(self) -> list[str]:
        """The value's words, without flags."""
        return [word for word in self.value.split() if not word.startswith("--")]

    def flags(self) -> dict[str, str]:
        """The leading `--name=value` flags."""
        return dict(re.findall(r"--([a-z-]+)=(\S+)", self.value))

    def exec_form(self) -> list[str]:
        """The JSON array of an exec-form ENTRYPOINT, CMD or VOLUME; anything else is a ValueError."""
        parsed: list[str] = json.loads(self.value)
        return parsed


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions in order, build arguments filled in."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found = [Instruction(*line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]
    arguments = dict(one.value.split("=", 1) for one in found if one.keyword == "ARG")
    filled = re.compile(r"\$\{(\w+)\}")
    return [Instruction(one.keyword, filled.sub(lambda match: arguments[match[1]], one.value)) for one in found]


def last_stage() -> list[Instruction]:
    """The instructions of the stage that becomes the image."""
    found = instructions()
    start = max(place for place, one in enumerate(found) if one.keyword == "FROM")
    return found[start:]


def compose() -> dict[str, Any]:
    """The Compose file, anchors merged."""
    parsed: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    return parsed


def mounts(service: str) -> dict[str, tuple[str, bool]]:
    """A service's mounts: by the path inside, what is mounted (by default), and whether it may be written."""
    found = {}
    for line in compose()["services"][service]["volumes"]:
        source, target, *options = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", line).split(":")
        found[target] = (source, "ro" not in options)
    return found


def compose_variables() -> dict[str, str | None]:
    """What Compose itself takes from the environment file: each variable's default, None where it must be given."""
    text = re.sub(r"^\s*#.*$", "", (DEPLOY / "compose.yaml").read_text(), flags=re.MULTILINE)
    found = re.findall(r"(?<!\$)\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}", text)
    return {name: default or None for name, default in found}


def environment_file(name: str) -> dict[str, str]:
    """The variables of one `*.env.example`."""
    lines = (DEPLOY / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def setting_names(model: type[BaseModel] = Settings, prefix: str = "ADINSIGHTS_") -> set[str]:
    """The environment variable of every setting."""
    names: set[str] = set()
    for name, field in model.model_fields.items():
        variable = prefix + (field.alias or name).upper()
        group = field.annotation
        if isinstance(group, type) and issubclass(group, BaseModel):
            names |= setting_names(group, f"{variable}__")
        else:
            names.add(variable)
    return names
