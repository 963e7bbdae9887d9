"""The channels of a deployment: from what the alert file names and the settings reach to sinks.

Belongs here: making each named channel, and who stands in for one that cannot be made. Does not belong here: any
channel's protocol (`mail`, ...), routes (`alert_file`). A channel whose server is not configured is no error: what
it would say is said by its fallback, or by the log, and `adinsights doctor` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from adinsights_orchestration.alerting.channels.mail import MailSink
from adinsights_orchestration.alerting.channels.sinks import LogSink, Sink, Sinks
from adinsights_orchestration.alerting.configuration.alert_file import LOG, SLACK, AlertConfig, load_alerts
from adinsights_orchestration.alerting.contacts import MAIL, MAIN_CHANNEL
from adinsights_orchestration.alerting.evaluation.evaluate import Policies
from adinsights_orchestration.alerting.rules.catalog import RULES
from adinsights_orchestration.alerting.telling.digest import Digest
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import Settings

Maker = Callable[[str], Sink]  # from a channel's name to its sink


def makers(settings: Settings, config: AlertConfig) -> dict[str, Maker]:
    """Returns, by kind of channel, how one is made; kinds whose server is not configured are left out."""
    found: dict[str, Maker] = {LOG: lambda _: LogSink()}
    if settings.smtp.host is not None:

        def mail(name: str) -> Sink:
            address = name.partition(":")[2]
            contact = config.contact_at(address)
            return MailSink(settings.smtp, address, for_customers=contact is not None and contact.for_customers)

        found[MAIL] = mail
    if settings.slack.token is not None:
        from adinsights_orchestration.alerting.channels.slack import (  # who has none need not load its SDK
            SlackSink,
            make_client,
        )

        client = make_client(settings.slack)

        def slack(name: str) -> Sink:
            channel = name.partition(":")[2]
            return SlackSink(channel, client, name=name, timeout_seconds=settings.slack.timeout_seconds)

        found[SLACK] = slack
    return found


def configured_sinks(settings: Settings) -> Sinks:
    """Returns the sinks of the settings and their alert file."""
    return build_sinks(settings, load_alerts(settings.alerting.alerts_path, settings.home_timezone))


def build_sinks(settings: Settings, config: AlertConfig) -> Sinks:
    """Returns the sinks that the file names and the settings reach, the log always among them."""
    here, main = settings.environment, f"{SLACK}:{settings.slack.channel}"
    none = Sinks({}, (LOG,), {}, config.fallback_after, "" if here is Environment.PRODUCTION else here.value, main)
    kinds = makers(settings, config)
    names = [none.real(name) for name in config.channels if kind_of(name) in kinds]
    by_name: dict[str, Sink] = {name: kinds[kind_of(name)](name) for name in (*names, LOG)}
    slack = kinds.get(SLACK)  # edits, so what is told elsewhere now can say so
    sinks = replace(
        none, by_name=by_name, former=lambda name: slack(name) if slack and kind_of(name) == SLACK else None
    )
    there = [name for name in config.channels if name != LOG and sinks.real(name) in by_name]
    return replace(sinks, fallback={sinks.real(name): _stand_in(name, config, sinks) for name in there})


def reached(config: AlertConfig, sinks: Sinks) -> dict[str, str]:
    """Returns, by channel that the file names, its sink or the one that says it instead."""
    there = {name: sinks.real(name) in sinks.by_name for name in config.channels}
    return {name: sinks.real(name) if is_there else _stand_in(name, config, sinks) for name, is_there in there.items()}


def policies_of(config: AlertConfig, sinks: Sinks) -> Policies:
    """Returns what is judged and how it is told."""
    says = reached(config, sinks)
    options = replace(config.options(says, sinks.default), sinks=frozenset(sinks.by_name))
    digests = _told_by(config.digests, says)
    return Policies(RULES, options, config.believed, config.windows, digests)


def kind_of(channel: str) -> str:
    """The kind of a channel: `slack`, `mail`, `log`."""
    return channel.partition(":")[0]


def _told_by(digests: Iterable[Digest], says: Mapping[str, str]) -> tuple[Digest, ...]:
    """Each digest at the channel that says it; of two that meet there one becomes, of whatever either would tell."""
    by_sink: dict[str, Digest] = {}
    for each in digests:
        sink = says[each.sink]
        other = by_sink.get(sink, each)
        both = tuple(matcher for matcher in other.matchers if matcher in each.matchers)
        by_sink[sink] = replace(other, sink=sink, matchers=both)
    return tuple(by_sink.values())


def _stand_in(name: str, config: AlertConfig, sinks: Sinks) -> str:
    named, of_kind = config.fallback.get(name, ()), config.fallback.get(kind_of(name), ())
    if kind_of(name) == SLACK:
        # A second channel that nobody made: the main one mostly has the message, and a mail would reach another team.
        named = (*named, MAIN_CHANNEL)
    named = (*named, *of_kind)
    found = (each for each in map(sinks.real, named) if each in sinks.by_name and each != sinks.real(name))
    return next(found, LOG)
