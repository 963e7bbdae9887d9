"""The picture as one page of markdown: what on-call opens first, and when it is written anew.

Belongs here: the page, and the decision to write it, as pure functions. Does not belong here: writing it
(`automation`). Red stands on top, every row leads somewhere. Texts come from servers and people: nothing in them is
markup.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.model import Health
from adinsights_orchestration.status.links import CONNECTION_SECTION, OVERVIEW_SECTION, Links
from adinsights_orchestration.status.model import (
    FRESHNESS_STATES,
    UNKNOWN_STATE,
    ComponentStatus,
    ConnectionStatus,
    Overall,
    Status,
)
from adinsights_orchestration.status.rules import span_words

EVERY = timedelta(minutes=5)  # a picture that changes in details only
RENEWED = timedelta(hours=1)  # one that does not change at all
_LONGEST = 200
_MARKUP = str.maketrans({character: f"\\{character}" for character in "\\|[]<>*_`~#&!"})
_OVERALL = {Overall.OK: "🟢 OK", Overall.DEGRADED: "🟠 DEGRADED", Overall.DOWN: "🔴 DOWN"}
_HEALTH = {Health.OK: "🟢", Health.DEGRADED: "🟠", Health.DOWN: "🔴", Health.UNKNOWN: "⚪"}


@dataclass(frozen=True, slots=True)
class Written:
    """What was written last: when, and the digests of what it said.

    Attributes:
        at: When.
        transition: Digest of what is a transition when it changes.
        picture: Digest of everything that it said, ages aside.
    """

    at: datetime
    transition: str
    picture: str

    def to_json(self) -> str:
        """As it is kept between ticks."""
        return json.dumps({"at": self.at.isoformat(), "transition": self.transition, "picture": self.picture})

    @classmethod
    def from_json(cls, text: str | None) -> Written | None:
        """What was kept, read back; None for what is not that."""
        try:
            kept = json.loads(text or "")
            return cls(datetime.fromisoformat(kept["at"]), str(kept["transition"]), str(kept["picture"]))
        except (ValueError, KeyError, TypeError):
            return None


def to_write(status: Status, last: Written | None) -> Written | None:
    """Returns what to remember when the page has to be written now; None when it has not.

    A transition is written at once: the whole, a component, freshness, registry or topology is in another health than
    the page says. What else changed waits until the page is five minutes old. One that says the same is renewed every
    hour, as a sign of life.
    """
    new = Written(status.as_of, _digest(_transition(status)), _digest(_picture(status)))
    if last is None or new.transition != last.transition:
        return new
    age = new.at - last.at
    if age < timedelta():  # the clock was set back
        return new
    return new if age >= (EVERY if new.picture != last.picture else RENEWED) else None


def render(status: Status, links: Links) -> str:
    """Returns the page.

    Args:
        status: The picture.
        links: For the rows that are not of the picture itself.
    """
    components = ["### Components", "", *_components(status)]
    connections = [f"### Connections: {_counts(status)}", _evaluated(status), *_connections(status, links)]
    # Late connections are not looked for below sixteen components that are well.
    calm = all(each.health in (Health.OK, Health.UNKNOWN) for each in status.components)
    connections_first = calm and status.freshness.health is Health.DEGRADED
    parts = [
        [f"## {_OVERALL[status.overall]}", _as_of(status)],
        [f"- {_text(reason)}" for reason in status.reasons],
        *((connections, components) if connections_first else (components, connections)),
        _providers(status, links),
        ["### Also", "", *_others(status, links)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _as_of(status: Status) -> str:
    return (
        f"\n**As of {_moment(status.as_of)}**, {status.environment}. Written at once when something turns, within five "
        "minutes when a detail changes, and every hour in any case: an older page is a monitoring that stands still."
    )


def headline(status: Status) -> str:
    """Returns the picture in one line of markdown."""
    return "; ".join(_text(reason) for reason in status.reasons) or "All is well."


def _components(status: Status) -> list[str]:
    rows = [
        (
            _HEALTH[each.health] if each.watched else "",
            f"[{each.component}]({each.url})",
            _word(each),
            _text(each.detail),
            _time(each.since, status),
            _time(each.checked_at, status),
            f"[runbook]({each.runbook})",
        )
        for each in status.components
    ]
    return _table(("", "component", "state", "detail", "since (UTC)", "read at (UTC)", "what to do"), rows)


def _word(each: ComponentStatus) -> str:
    if not each.watched:
        return "not watched"
    return f"{each.health}: {_text(each.state)}" if each.health != each.state else each.health.value


def _connections(status: Status, links: Links) -> list[str]:
    rows = [
        (
            _colour(each),
            f"[{_text(each.partition)}]({each.url})",
            _text(each.tenant),
            each.state,
            _time(each.last_success_at, status) if each.last_success_at else "never",
            _time(each.deadline, status),
            _text(each.reason),
            f"[runbook]({links.runbook(CONNECTION_SECTION)})",
        )
        for each in status.freshness.stalest
        if _colour(each)
    ]
    if not rows:
        return []
    asked = sum(status.freshness.by_state[state] for state in FRESHNESS_STATES if _rank(state))
    shown = [f"\nThe worst {len(rows)} of {asked:,}; [all]({links.asset('freshness', 'connections')})."]
    heading = ("", "connection", "tenant", "state", "last success (UTC)", "late from (UTC)", "reason", "what to do")
    return [*_table(heading, rows), *(shown if asked > len(rows) else [])]


def _providers(status: Status, links: Links) -> list[str]:
    states = [state for state in FRESHNESS_STATES if status.freshness.by_state[state]]
    rows = [
        (
            f"[{provider.value}]({links.asset(*provider.asset_path)}?view=partitions)",
            *(f"{counts.get(state, 0):,}" for state in states),
        )
        for provider, counts in status.freshness.by_provider.items()
    ]
    return ["### By provider", "", *_table(("provider", *states), rows)] if rows else []


def _others(status: Status, links: Links) -> list[str]:
    registry, topology, findings = status.registry, status.topology, status.findings
    kinds = ", ".join(f"{count:,} {_text(kind)}" for kind, count in findings.by_kind.items())
    open_since = f" ({kinds}; the oldest since {_moment(findings.oldest_at)})" if findings.open else ""
    problems = f", {registry.problems} entries to mend" if registry.problems else ""
    listed = f"`adinsights findings` lists them; [what they are]({links.runbook(OVERVIEW_SECTION)})"
    served = f"{_text(registry.detail)}, {_moment(registry.read_at)}{problems}"
    lines = (
        f"{_HEALTH[registry.health]} Registry: {served}; [what to do]({registry.runbook}).",
        f"{_HEALTH[topology.health]} Topology: {_text(topology.detail)}, {_moment(topology.confirmed_at)}.",
        f"{findings.open:,} open findings{open_since}; {listed}.",
    )
    return [f"- {line}" for line in lines]


def _counts(status: Status) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in status.freshness.by_state.items() if count) or "none"


def _evaluated(status: Status) -> str:
    freshness = status.freshness
    if freshness.age_seconds is None:
        return "\n⚪ Never evaluated.\n"
    mark = "⚪ " if freshness.health is Health.UNKNOWN else ""
    return f"\n{mark}Evaluated {_moment(freshness.evaluated_at)}, {span_words(freshness.age_seconds)} before this.\n"


def _rank(state: str) -> int:
    """What asks for attention; `unknown` lies between what is well and what is not."""
    return 1 if state == UNKNOWN_STATE else Freshness(state).rank


def _colour(each: ConnectionStatus) -> str:
    if each.state == UNKNOWN_STATE:
        return "⚪"
    state = Freshness(each.state)
    return "" if not state.rank else "🟠" if state.passes else "🔴"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (heading, ["---"] * len(heading), *rows)]


def _text(text: str) -> str:
    line = " ".join(text.split())
    return (line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…").translate(_MARKUP)


def _moment(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if moment else "-"


def _time(moment: datetime | None, status: Status) -> str:
    """Within a narrow column: the time, and the day unless it is the page's own."""
    if moment is None:
        return "-"
    shown = moment.astimezone(UTC)
    return f"{shown:%H:%M}" if shown.date() == status.as_of.astimezone(UTC).date() else f"{shown:%Y-%m-%d %H:%M}"


def _transition(status: Status) -> object:
    parts = (status.freshness.health, status.registry.health, status.topology.health)
    return [status.overall, sorted((each.component, each.health, each.watched) for each in status.components), parts]


def _picture(status: Status) -> object:
    """Everything that the page says, but for its own moment and what only grows older."""
    ages = {"age_seconds", "latency_ms", "value", "checked_at", "last_ok_at", "last_success_at"}
    return [
        [each.model_dump(mode="json", exclude=ages | _grown_with(each)) for each in status.components],
        status.freshness.by_state,
        {provider: status.freshness.by_provider[provider] for provider in sorted(status.freshness.by_provider)},
        [(each.partition, each.state, each.reason) for each in status.freshness.stalest if _colour(each)],
        status.registry.problems,
        status.findings.by_kind,
        (status.topology.assets, status.topology.dashboards, status.topology.detail),
    ]


def _grown_with(each: ComponentStatus) -> set[str]:
    """What a component that is well says of itself may name an age or a figure of the moment."""
    return {"detail"} if each.health is Health.OK else set()


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]
