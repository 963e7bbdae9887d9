"""The alert file: who is told of what, when, and what is kept quiet; read once, refused with file and line.

Belongs here: the file's shape, its sections of channels, and what a deployment's own file changes. Does not belong
here: its sections of time (`times`), making sinks (`opening`). The shipped `alerts.yaml` is complete; each
section of a file of one's own takes the place of the shipped one. Nothing in it is needed for alerting to work.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from adinsights_orchestration.alerting.audience import CUSTOMERS
from adinsights_orchestration.alerting.channels.sinks import FALLBACK_AFTER
from adinsights_orchestration.alerting.configuration import times
from adinsights_orchestration.alerting.contacts import MAIL, OWNER_ITSELF, Contact, is_address, read_contacts
from adinsights_orchestration.alerting.matching import Hours, Matcher, Route, Routes
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Flap, Policy
from adinsights_orchestration.alerting.rules.catalog import INHIBITIONS, RULES
from adinsights_orchestration.alerting.rules.rule import RULE_FAILED
from adinsights_orchestration.alerting.telling.digest import Digest
from adinsights_orchestration.alerting.telling.grouping import Escalation, Options, Storm, Timing
from adinsights_orchestration.alerting.windows import Window
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.yaml_lines import Node, parse_yaml

SHIPPED = Path(__file__).parents[1] / "alerts.yaml"
LOG, SLACK = "log", "slack"
KNOWN_RULES = frozenset({name for rule in RULES for name in rule.speaks_of} | {RULE_FAILED})
_SECTIONS = (
    *("contacts", "routes", "fallback", "timing", "storm", "hours", "escalation"),
    *("flapping", "rules", "digests", "maintenance", "silences"),
)
_SLACK_NAME = re.compile(r"#[a-z0-9_-]{1,80}|[CG][A-Z0-9]{8,20}")
_TIMES, _FALLBACK_AFTER = ("group_wait", "group_interval", "repeat_interval"), "fallback_after"
_FEWEST_MINUTES = timedelta(minutes=1)


@dataclass(frozen=True)
class AlertConfig:
    """What the file says; channels are names of sinks.

    Attributes:
        contacts: By the owner's name.
        routes: In their order.
        fallback: By a kind of channel or a channel: who says it instead.
        fallback_after: How long a channel may not have taken a message before that.
        timing: When groups speak.
        storm: How many messages may be opened at once.
        hours: Office hours of severities.
        escalation: The next contacts for pages.
        believed: How soon rules are believed, by name.
        digests: Daily summaries.
        windows: Maintenance windows and silences.
    """

    contacts: Mapping[str, Contact] = field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    fallback: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fallback_after: timedelta = FALLBACK_AFTER
    timing: Timing = field(default_factory=Timing)
    storm: Storm | None = field(default_factory=Storm)
    hours: Mapping[Severity, Hours] = field(default_factory=dict)
    escalation: tuple[Escalation, ...] = ()
    believed: Mapping[str, Policy] = field(default_factory=dict)
    digests: tuple[Digest, ...] = ()
    windows: tuple[Window, ...] = ()

    @property
    def channels(self) -> tuple[str, ...]:
        """Every channel that it names, in order."""
        named = [sink for route in self.routes for sink in route.sinks]
        named += [sink for step in self.escalation for route in step.to.routes for sink in route.sinks]
        named += [sink for sinks in self.fallback.values() for sink in sinks]
        named += [digest.sink for digest in self.digests]
        return tuple(dict.fromkeys(named))

    def contact_at(self, address: str) -> Contact | None:
        """The contact that has a mail address."""
        return next((each for each in self.contacts.values() if address in each.addresses), None)

    def options(self, available: Mapping[str, str], default: tuple[str, ...]) -> Options:
        """How to tell, with the channels that there are.

        Args:
            available: By channel: itself, or what says it instead where this deployment cannot reach it.
            default: Where goes what is left without one.
        """
        steps = [Escalation(step.after, _reachable(step.to.routes, available, ())) for step in self.escalation]
        return Options(
            _reachable(self.routes, available, default),
            self.timing,
            self.storm,
            self.hours,
            tuple(steps),
            INHIBITIONS,
        )


def _reachable(routes: tuple[Route, ...], available: Mapping[str, str], default: tuple[str, ...]) -> Routes:
    kept = [Route(each.matchers, _there(each.sinks, available), each.goes_on) for each in routes]
    return Routes(default, tuple(kept))


def _there(sinks: Iterable[str], available: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(available[sink] for sink in sinks if sink in available))


def load_alerts(path: Path | None = None, timezone: str = "UTC") -> AlertConfig:
    """Returns what the shipped file says, with the sections of a file of one's own in the place of its own.

    Args:
        path: The deployment's own file, or None. It is read once a process: a change takes a restart.
        timezone: In which times are meant that name none.

    Raises:
        ConfigurationError: A file cannot be read, or something in it is wrong; with file and line.
    """
    texts = [(_read(each), each.name) for each in (SHIPPED, path) if each is not None]
    return build_config(texts, timezone)


def build_config(texts: list[tuple[str, str]], timezone: str = "UTC") -> AlertConfig:
    """Returns what the texts of files say, each replacing whole sections of those before it.

    Args:
        texts: Text and name of each file.
        timezone: In which times are meant that name none.

    Raises:
        ConfigurationError: Something is wrong; with file and line.
    """
    sections: dict[str, Node] = {}
    for text, file in texts:
        root = parse_yaml(text, file)
        if root is not None:
            sections |= root.mapping(_SECTIONS)
    return _Reader(sections, timezone).config()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(
            f"the alert file cannot be read: {reason}",
            place=str(path),
            next_step="Check ADINSIGHTS_ALERTING__ALERTS_PATH.",
        ) from None


class _Reader:
    """Sections becoming a configuration; contacts come first, since channels and matchers name them."""

    def __init__(self, sections: Mapping[str, Node], timezone: str) -> None:
        self._sections, self._zone = sections, timezone
        self._contacts: dict[str, Contact] = {}

    def config(self) -> AlertConfig:
        """The whole."""
        if "contacts" in self._sections:
            self._contacts = read_contacts(self._sections["contacts"])
        return AlertConfig(
            contacts=self._contacts,
            routes=tuple(route for node in self._items("routes") for route in self._route(node)),
            fallback=self._fallback(),
            fallback_after=self._fallback_after(),
            timing=self._timing(),
            storm=self._storm(),
            hours=self._hours(),
            escalation=self._escalation(),
            believed=self._believed(),
            digests=self._digests(),
            windows=self._windows(),
        )

    def _items(self, section: str) -> list[Node]:
        return self._sections[section].items() if section in self._sections else []

    def _matchers(self, node: Node) -> tuple[Matcher, ...]:
        found = tuple(self._matcher(each) for each in node.items())
        if not found:
            raise node.error("this matches nothing", 'Write ["tenant=acme"]; to match everything leave `match` out.')
        return found

    def _matcher(self, node: Node) -> Matcher:
        try:
            matcher = Matcher.parse(node.text())
        except ConfigurationError as error:
            raise node.error(error.problem, error.next_step) from None
        known = {
            "rule": ("rule", KNOWN_RULES),
            "severity": ("severity", frozenset(Severity)),
            "owner": ("owner", frozenset(self._contacts)),
            "audience": ("audience", frozenset((CUSTOMERS,))),
        }.get(matcher.name)
        if known is not None and not any(_names(matcher, value) for value in known[1]):
            raise node.error(f"no {known[0]} is {matcher.value!r}", f"Known: {', '.join(sorted(known[1]))}.")
        return matcher

    def _channels(self, node: Node) -> list[str]:
        """The channels that one word stands for; `mail:owner` stays as it is."""
        text = node.text()
        kind, _, name = text.partition(":")
        match kind:
            case "log" if not name:
                return [LOG]
            case "slack" if _SLACK_NAME.fullmatch(name):
                return [text]
            case "mail" if name == OWNER_ITSELF:
                return [text]
            case "mail" if name in self._contacts:
                return list(self._contacts[name].sinks)
            case "mail" if is_address(name):
                return [text]
            case "mail":
                known = ", ".join(self._contacts) or "none"
                raise node.error(f"{name!r} has no contact", f"Give it one under `contacts`. Known: {known}.")
            case _:
                raise node.error(f"unknown channel {text!r}", "Write slack:#name, mail:contact, mail:owner or log.")

    def _to(self, node: Node) -> list[str]:
        found = [sink for each in node.items() for sink in self._channels(each)]
        if not found:
            raise node.error("this goes nowhere", 'Write ["slack:#name"].')
        return list(dict.fromkeys(found))

    def _targets(self, matchers: tuple[Matcher, ...], sinks: list[str]) -> Iterator[Route]:
        """Routes that all add to each other; whoever owns what is wrong is found by its label."""
        fixed = tuple(sink for sink in sinks if sink != f"{MAIL}:{OWNER_ITSELF}")
        if fixed:
            yield Route(matchers, fixed, goes_on=True)
        if len(fixed) < len(sinks):
            for contact in self._contacts.values():
                mine = Matcher("owner", "=", contact.name)
                yield Route((*matchers, mine), contact.sinks, goes_on=True)

    def _route(self, node: Node) -> Iterator[Route]:
        entries = node.mapping(("match", "to", "stop"), ("to",))
        matchers = self._matchers(entries["match"]) if "match" in entries else ()
        yield from self._targets(matchers, self._to(entries["to"]))
        if "stop" in entries and entries["stop"].boolean():
            yield Route(matchers, (), goes_on=False)

    def _fallback(self) -> dict[str, tuple[str, ...]]:
        if "fallback" not in self._sections:
            return {}
        node, found = self._sections["fallback"], {}
        for key, value in node.pairs():
            if key.text() not in (SLACK, MAIL):
                self._channels(key)
            sinks = self._channels(value)
            if f"{MAIL}:{OWNER_ITSELF}" in sinks:
                raise value.error("a fallback is one channel", "Write mail:platform-eng.")
            found[key.text()] = tuple(sinks)
        return found

    def _timing(self) -> Timing:
        if "timing" not in self._sections:
            return Timing()
        entries = self._sections["timing"].mapping((*_TIMES, _FALLBACK_AFTER))
        given = {name: times.span(node) for name, node in entries.items() if name == _TIMES[0]}
        given |= {
            name: times.span(node, at_least=_FEWEST_MINUTES) for name, node in entries.items() if name in _TIMES[1:]
        }
        return Timing(**given)

    def _fallback_after(self) -> timedelta:
        if "timing" not in self._sections:
            return FALLBACK_AFTER
        node = dict(self._sections["timing"].mapping((*_TIMES, _FALLBACK_AFTER))).get(_FALLBACK_AFTER)
        return FALLBACK_AFTER if node is None else times.span(node, at_least=_FEWEST_MINUTES)

    def _storm(self) -> Storm | None:
        node = self._sections.get("storm")
        if node is None:
            return Storm()
        if not node.is_mapping:
            if node.boolean():
                raise node.error("a storm is `off`, or `messages` and `within`")
            return None
        entries = node.mapping(("messages", "within"), ("messages", "within"))
        return Storm(_count(entries["messages"]), times.span(entries["within"], at_least=_FEWEST_MINUTES))

    def _hours(self) -> dict[Severity, Hours]:
        if "hours" not in self._sections:
            return {}
        found = self._sections["hours"].mapping(tuple(Severity))
        return {Severity(name): times.hours(node, self._zone) for name, node in found.items()}

    def _escalation(self) -> tuple[Escalation, ...]:
        steps: list[Escalation] = []
        for node in self._items("escalation"):
            entries = node.mapping(("after", "to"), ("after", "to"))
            after = times.span(entries["after"], at_least=_FEWEST_MINUTES)
            if steps and after <= steps[-1].after:
                raise entries["after"].error("a later contact comes later", "Count from when the page was told.")
            steps.append(Escalation(after, Routes((), tuple(self._targets((), self._to(entries["to"]))))))
        return tuple(steps)

    def _believed(self) -> dict[str, Policy]:
        flap = self._flap()
        found = dict.fromkeys(KNOWN_RULES, Policy(flap=flap)) if flap else {}
        if "rules" in self._sections:
            for name, node in self._sections["rules"].mapping(sorted(KNOWN_RULES)).items():
                entries = node.mapping(("for", "keep_firing"))
                waits = {key: times.span(each) for key, each in entries.items()}
                none = timedelta(0)
                found[name] = Policy(waits.get("for", none), waits.get("keep_firing", none), flap)
        return found

    def _flap(self) -> Flap | None:
        if "flapping" not in self._sections:
            return None
        keys = ("episodes", "within", "quiet")
        entries = self._sections["flapping"].mapping(keys, keys)
        within, quiet = (times.span(entries[key], at_least=_FEWEST_MINUTES) for key in keys[1:])
        return Flap(_count(entries["episodes"], 2), within, quiet)

    def _digests(self) -> tuple[Digest, ...]:
        found: dict[str, Digest] = {}
        for node in self._items("digests"):
            entries = node.mapping(("match", "to", "at", "timezone"), ("to", "at"))
            matchers = self._matchers(entries["match"]) if "match" in entries else ()
            zone = times.timezone(entries.get("timezone"), self._zone)
            for route in self._targets(matchers, self._to(entries["to"])):
                for sink in route.sinks:
                    if sink in found:
                        raise node.error(f"{sink} has a digest already", "A channel gets one a day.")
                    found[sink] = Digest(sink, route.matchers, times.time_of_day(entries["at"]), zone)
        return tuple(found.values())

    def _windows(self) -> tuple[Window, ...]:
        found: list[tuple[Node, Window]] = []
        readers: dict[str, Callable[..., list[tuple[Node, Window]]]]
        readers = {"maintenance": times.windows, "silences": times.silences}
        for section, read in readers.items():
            if section in self._sections:
                found += read(self._sections[section], self._matchers, self._zone)
        times.refuse_overlaps(found)
        return tuple(window for _, window in found)


def _names(matcher: Matcher, value: str) -> bool:
    """Whether a matcher speaks of a value, be it to ask for it or to leave it out."""
    met = matcher.matches({matcher.name: value})
    return met is not matcher.operator.startswith("!")


def _count(node: Node, at_least: int = 1) -> int:
    number = node.integer()
    if number < at_least:
        raise node.error(f"this is at least {at_least}")
    return number
