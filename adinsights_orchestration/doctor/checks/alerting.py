"""Whether alerts reach somebody: the alert file, Slack, and the mail server.

Belongs here: verdicts. Does not belong here: reading the file (`alerting.configuration`), the mail's dialogue
(`alerting.channels.mail`).
"""

from __future__ import annotations

import smtplib
from collections.abc import Iterator, Mapping, Sequence

from slack_sdk import WebClient

from adinsights_orchestration.alerting.channels.mail import NoEncryptionError, dialogue
from adinsights_orchestration.alerting.channels.slack import ERRORS, SCOPES, channel_id, make_client, meaning_of
from adinsights_orchestration.alerting.configuration.alert_file import SLACK, load_alerts
from adinsights_orchestration.alerting.contacts import MAIL, MAIN_CHANNEL, is_placeholder
from adinsights_orchestration.alerting.delivery.opening import build_sinks, kind_of, reached
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.doctor.model import Verdict, fail, ok, skipped, some, warn
from adinsights_orchestration.doctor.world import CONNECT_SECONDS, World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import SlackSettings

_DOCS = "docs/alerts.md"
# Slack's word for a history out of our scopes' reach where the token has all of them: that of a private channel.
_PRIVATE = "missing_scope"


def routes(world: World) -> Verdict:
    """The alert file is right, the channels that it names can be reached, and somebody reads the mail."""
    settings = world.settings
    config = load_alerts(settings.alerting.alerts_path, settings.home_timezone)
    sinks = build_sinks(settings, config)
    mailed = [name.partition(":")[2] for name in config.channels if kind_of(name) == MAIL and name in sinks.by_name]
    nobody = [address for address in mailed if is_placeholder(address)]
    if nobody and settings.environment is not Environment.LOCAL:
        return fail(
            f"mail goes to {some(nobody)}, which nobody reads",
            f"Give the contacts their own addresses: ADINSIGHTS_ALERTING__ALERTS_PATH, {_DOCS}.",
        )
    instead = {name: by for name, by in reached(config, sinks).items() if by != sinks.real(name)}
    said = f"{len(config.contacts)} contacts, {len(config.channels)} channels, {len(config.windows)} windows"
    if not instead or settings.environment is Environment.LOCAL:
        return ok(said)
    kinds = ", ".join(sorted({kind_of(name) for name in instead}))
    by = ", ".join(sorted(set(instead.values())))
    return warn(f"{said}; not configured: {kinds}. {by} says it instead", f"Configure its server: {_DOCS}.")


def slack(world: World) -> Verdict:
    """The token has the scopes that alerts need, and the bot may read and write in the channel."""
    settings = world.settings.slack
    if settings.token is None:
        return skipped("no Slack token is configured (ADINSIGHTS_SLACK__TOKEN)")
    try:
        return _slack(settings, _second_channels(world))
    except ERRORS as error:
        reason = getattr(meaning_of(error, utc_now()), "reason", type(error).__name__)
        if reason in ("channel_not_found", "not_in_channel", "is_archived"):
            return fail(f"{settings.channel}: {reason}", f"In Slack: /invite the bot to {settings.channel}.")
        if reason == _PRIVATE:
            return fail(
                f"{settings.channel} is private ({reason}): whether an alert arrived cannot be looked up there",
                f"In Slack, make {settings.channel} public, or name a public one: docs/alerts.md.",
            )
        return fail(f"{settings.api_url} answers {reason}", "Check ADINSIGHTS_SLACK__TOKEN: docs/alerts.md.")


def _slack(settings: SlackSettings, others: Sequence[str]) -> Verdict:
    client = make_client(settings)
    answer = client.auth_test()
    headers = {name.lower(): value for name, value in answer.headers.items()}
    found = headers.get("x-oauth-scopes", "")
    has = {each.strip() for each in (found[0] if isinstance(found, list) else str(found)).split(",")}
    missing = sorted(SCOPES - has)
    if missing:
        return fail(
            f"the token lacks {', '.join(missing)}", "Install the app anew from deploy/slack-app-manifest.yaml."
        )
    channel = channel_id(client, settings.channel, utc_now())
    client.conversations_history(channel=channel, limit=1)
    said = f"{answer['user']} in {answer['team']}, reads and writes {settings.channel}"
    refused = {name: why for name in others if (why := _refused(client, name))}
    if refused:
        whys = ", ".join(f"{name}: {why}" for name, why in refused.items())
        return warn(f"{said}; not {whys}", f"In Slack: {' '.join(_to_mend(refused))}")
    return ok(said)


def _to_mend(refused: Mapping[str, str]) -> Iterator[str]:
    private = [name for name, why in refused.items() if why == _PRIVATE]
    others = [name for name in refused if name not in private]
    if others:
        yield f"make them and /invite the bot to {', '.join(others)}."
    if private:
        yield f"Make {', '.join(private)} public."


def _second_channels(world: World) -> list[str]:
    """The channels in Slack that the alert file names, beside the main one."""
    config = load_alerts(world.settings.alerting.alerts_path, world.settings.home_timezone)
    return [name.partition(":")[2] for name in config.channels if kind_of(name) == SLACK and name != MAIN_CHANNEL]


def _refused(client: WebClient, channel: str) -> str:
    try:
        client.conversations_history(channel=channel_id(client, channel, utc_now()), limit=1)
    except ERRORS as error:
        return str(getattr(meaning_of(error, utc_now()), "reason", type(error).__name__))
    return ""


def mail_server(world: World) -> Verdict:
    """The mail server takes our connection and login."""
    smtp = world.settings.smtp
    if smtp.host is None:
        return skipped("no mail server is configured (ADINSIGHTS_SMTP__HOST)")
    where = f"{smtp.host}:{smtp.port}"
    try:
        with dialogue(smtp.model_copy(update={"timeout_seconds": min(smtp.timeout_seconds, CONNECT_SECONDS)})) as up:
            code, _ = up.noop()
    except smtplib.SMTPAuthenticationError as error:
        return fail(f"{where} refuses the login ({error.smtp_code})", "Check ADINSIGHTS_SMTP__USER and __PASSWORD.")
    except NoEncryptionError:
        return fail(f"{where} offers no STARTTLS", "Set ADINSIGHTS_SMTP__SECURITY to tls, or ask its owner.")
    except (OSError, smtplib.SMTPException) as error:
        return fail(f"{where} does not take the connection: {type(error).__name__}", "Check ADINSIGHTS_SMTP__HOST.")
    return ok(f"{where} answers {code}, {smtp.security}")
