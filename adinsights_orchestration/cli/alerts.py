"""`adinsights alerts`: what is wrong, who has it in hand, and what nobody wants to hear of for a while.

Belongs here: showing, and asking for what `alerting.operating` does. Does not belong here: rules, messages, channels.
"""

from __future__ import annotations

import getpass
import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.errors import ConfigurationError, OpsStoreError

if TYPE_CHECKING:
    from adinsights_orchestration.alerting.matching import Silence
    from adinsights_orchestration.alerting.model import Incident
    from adinsights_orchestration.settings import Settings

app = typer.Typer(
    help="List, acknowledge, silence, test and replay alerts.", no_args_is_help=True, rich_markup_mode=None
)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_SPAN = re.compile(r"(\d{1,5})([mhd])")
_ByOption = Annotated[str | None, typer.Option("--by", help="Who you are; your login name else.")]


@app.command("list")
def list_alerts(as_json: process.JsonOption = False) -> None:
    """List what is wrong now, the most urgent first, and quiet times in force or to come, the alert file's too."""
    from adinsights_orchestration.alerting.operating import hands

    settings, now = process.settings(), utc_now()
    store = process.open_ops_store(settings)
    found, at = hands.open_incidents(store), hands.last_evaluation(store)
    quiet = [*hands.silences(store, now), *_of_alert_file(settings, now)]
    if as_json:
        process.print_json(
            {
                "evaluated_at": at,
                "alerts": [_row(each) for each in found],
                "silences": [_silence(each) for each in quiet],
            }
        )
        return
    if found:
        shown = [{name: value for name, value in _row(each).items() if name != "group"} for each in found]
        process.print_rows(shown, as_json=False, title="Alerts")  # `show` has the group: here it would squeeze the rest
    if quiet:
        process.print_rows([_silence(each) for each in quiet], as_json=False, title="Quiet times")
    if at is None:
        process.say("Alerts were never evaluated: is the sensor alert_evaluate on?")
        return
    process.say(f"{len(found)} firing, evaluated {(now - at).total_seconds():.0f} s ago")


@app.command()
def show(
    incident: Annotated[str, typer.Argument(help="The alert's id.")],
    as_json: process.JsonOption = False,
) -> None:
    """Show one alert: everything that is known, its links, and what happened to it."""
    from adinsights_orchestration.alerting.operating import hands
    from adinsights_orchestration.alerting.telling import wording

    found = hands.story(process.open_ops_store(process.settings()), incident)
    item = wording.item(found.incident, utc_now())
    if as_json:
        process.print_json(
            {**_row(found.incident), "facts": dict(item.facts), "links": item.links, "history": found.history}
        )
        return
    process.say(f"{item.title} ({item.standing}, {item.severity}, {item.incident})")
    process.say(item.detail)
    known = [{"what": "Group", "value": found.incident.finding.group_key}]
    known += [{"what": name, "value": value} for name, value in item.facts]
    known += [{"what": link.label, "value": link.url} for link in item.links]
    process.print_rows(known, as_json=False, title=f"Since {item.since:%Y-%m-%d %H:%M} UTC")
    history = [{"at": each.at, "what": each.kind, "detail": each.detail} for each in found.history]
    process.print_rows(history, as_json=False, title="History")


@app.command()
def ack(
    incident: Annotated[str, typer.Argument(help="The alert's id, or a group's key for all of it.")],
    by: _ByOption = None,
) -> None:
    """Take an alert on: no repeats and no escalation, until it gets worse."""
    from adinsights_orchestration.alerting.operating import hands

    store = process.open_ops_store(process.settings())
    done = hands.acknowledge(store, incident, by or getpass.getuser(), utc_now())
    process.say(f"{len(done)} acknowledged" if done else "it was acknowledged before")


@app.command()
def silence(
    matchers: Annotated[list[str], typer.Argument(help="What: tenant=acme, rule=~connection_.*; all must match.")],
    lasts: Annotated[str, typer.Option("--for", help="How long: 30m, 2h, 3d.")],
    reason: Annotated[str, typer.Option("--reason", help="Why.")],
    by: _ByOption = None,
) -> None:
    """Keep what matches quiet for a while; what still fires at the end is told then."""
    from adinsights_orchestration.alerting.operating import hands

    store, now = process.open_ops_store(process.settings()), utc_now()
    made = hands.silence(store, matchers, _span(lasts), by or getpass.getuser(), reason, now)
    covered = sum(made.covers(each.all_labels, now) for each in hands.open_incidents(store))
    process.say(f"silence {made.id} until {made.ends_at:%Y-%m-%d %H:%M} UTC; it covers {covered} that fire now")


@app.command()
def unsilence(
    number: Annotated[int, typer.Argument(help="The silence's number.")],
    by: _ByOption = None,
) -> None:
    """End a silence now."""
    from adinsights_orchestration.alerting.operating import hands

    store = process.open_ops_store(process.settings())
    if not hands.unsilence(store, number, by or getpass.getuser(), utc_now()):
        raise ConfigurationError(f"no silence {number} is in force", next_step="See adinsights alerts list.")
    process.say(f"silence {number} ended")


@app.command("test")
def try_channels(
    channels: Annotated[list[str] | None, typer.Argument(help="Only these channels.")] = None,
    by: _ByOption = None,
    as_json: process.JsonOption = False,
) -> None:
    """Send a test message through every channel and say what came of it. Exit code 1: one did not take it."""
    from adinsights_orchestration.alerting.delivery.opening import configured_sinks
    from adinsights_orchestration.alerting.operating.trial import clear_mended, trial_message, try_sinks

    settings = process.settings()
    message = trial_message(settings.environment, by or getpass.getuser(), utc_now())
    tried = try_sinks(configured_sinks(settings), message, channels or ())
    found = [{"channel": each.sink, "arrived": each.arrived, "said": each.said} for each in tried]
    process.print_rows(found, as_json=as_json, title="Test")
    try:
        clear_mended(process.open_ops_store(settings), tried, utc_now())
    except OpsStoreError as error:  # the channels were tried all the same
        process.say(f"Open findings about channels stay as they are: {error}")
    if not all(each.arrived for each in tried):
        raise typer.Exit(1)


@app.command()
def replay(
    incident: Annotated[str | None, typer.Argument(help="An alert's id: its message is sent anew.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="What is over by now too.")] = False,
    by: _ByOption = None,
    as_json: process.JsonOption = False,
) -> None:
    """Say again what channels refused for good, or, with an id, the message that the alert belongs to."""
    from adinsights_orchestration.alerting.operating import replay as again

    store, who, now = process.open_ops_store(process.settings()), by or getpass.getuser(), utc_now()
    if incident is not None:
        found = again.message_of(store, incident, who, now)
    else:
        found = again.dead_letters(store, who, now, everything=everything)
    listed = [{"channel": each.sink, "message": each.title} for each in found]
    if listed or as_json:
        process.print_rows(listed, as_json=as_json, title="Said again, with the next delivery")
    if not listed:
        process.say("no channel refused anything for good" + ("" if everything else " that still fires"))


def _of_alert_file(settings: Settings, now: datetime) -> list[Silence]:
    """The file's windows and silences; one that cannot be read is no reason to show nothing else."""
    from adinsights_orchestration.alerting.configuration.alert_file import load_alerts
    from adinsights_orchestration.alerting.windows import to_come

    try:
        config = load_alerts(settings.alerting.alerts_path, settings.home_timezone)
    except ConfigurationError as error:
        process.say(f"Quiet times of the alert file are left out: {error}")
        return []
    return to_come(config.windows, now)


def _row(incident: Incident) -> dict[str, Any]:
    from adinsights_orchestration.alerting.audience import owner_name
    from adinsights_orchestration.alerting.telling.quiet import kind_of

    finding = incident.finding
    return {
        "id": incident.id,
        "group": finding.group_key,
        "severity": incident.severity.value,
        "state": incident.state.value,
        "quiet": kind_of(incident.suppressed_by),
        "since": finding.since,
        "title": finding.title,
        "detail": finding.detail,
        "owner": owner_name(finding.owner),
        "acknowledged by": incident.acked_by or "",
    }


def _silence(one: Silence) -> dict[str, Any]:
    from adinsights_orchestration.alerting.windows import LONG_AGO

    return {
        "silence": one.id or None,
        "kind": one.kind.value,
        "what": ", ".join(map(str, one.matchers)),
        "from": one.starts_at if one.starts_at > LONG_AGO else None,
        "until": one.ends_at,
        "by": one.author if one.id else f"{one.author} (alert file)",
        "reason": one.reason if one.name in ("", one.reason) else f"{one.name}: {one.reason}",
    }


def _span(text: str) -> timedelta:
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(f"{text!r} is no duration", next_step="Write 30m, 2h or 3d.")
    return int(found[1]) * _UNITS[found[2]]
