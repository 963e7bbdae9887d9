"""The alert file: what the shipped one says, what one's own changes, and every mistake refused with its line."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from adinsights_orchestration.alerting.configuration.alert_file import SHIPPED, build_config, load_alerts
from adinsights_orchestration.alerting.delivery.opening import build_sinks, policies_of
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.windows import in_force
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import Settings, SlackSettings, SmtpSettings

DATA, PLATFORM, MARKETING = (f"mail:{name}@example.com" for name in ("data-eng", "platform-eng", "marketing-ops"))
SHIPPED_TEXT = (SHIPPED.read_text(), "alerts.yaml")
JAMAICA = "America/Jamaica"


def own(text: str) -> list[tuple[str, str]]:
    return [SHIPPED_TEXT, (text, "own.yaml")]


def test_the_shipped_file_is_short_and_switches_on_nothing_that_holds_back() -> None:
    assert len(SHIPPED.read_text().splitlines()) < 40
    config = load_alerts()
    assert (config.hours, config.escalation, config.believed, config.digests, config.windows) == ({}, (), {}, (), ())


def test_the_shipped_routes_are_the_runbooks() -> None:
    config = load_alerts()
    routes = config.options({name: name for name in config.channels}, ("log",)).routes
    warn = {"rule": "connection_stale", "severity": "warn", "owner": "data-eng"}
    assert routes.sinks_for(warn) == ("slack:#adinsights-alerts",)
    dbt = {"rule": "dbt_failing", "severity": "page", "owner": "data-eng", "audience": "customers"}
    assert routes.sinks_for(dbt) == ("slack:#adinsights-alerts", "slack:#adinsights-data", DATA, MARKETING)
    data = ("slack:#adinsights-alerts", "slack:#adinsights-data")
    assert routes.sinks_for({"rule": "run_failed", "job": "dbt_nightly", "severity": "warn"}) == data
    assert routes.sinks_for({"rule": "check_failed", "asset": "marts/x", "severity": "warn"}) == data
    assert routes.sinks_for({"rule": "run_failed", "job": "history_prune", "severity": "warn"}) == data[:1]
    down = {"rule": "component_down", "severity": "page", "owner": "platform-eng"}
    assert routes.sinks_for(down) == ("slack:#adinsights-alerts", PLATFORM)


def test_without_any_server_the_log_says_everything_and_with_mail_alone_mail_does() -> None:
    config = load_alerts()
    none = policies_of(config, build_sinks(Settings(), config)).options.routes
    assert none.sinks_for({"rule": "dbt_failing", "severity": "page", "owner": "data-eng"}) == ("log",)
    sinks = build_sinks(Settings(smtp=SmtpSettings(host="mail.example.com")), config)
    mailed = policies_of(config, sinks).options.routes
    assert mailed.sinks_for({"rule": "dbt_failing", "severity": "page", "owner": "data-eng"}) == (PLATFORM, DATA)
    assert sinks.fallback[DATA] == "log"


def test_digests_without_a_server_are_said_by_what_stands_in_and_two_that_meet_become_one_of_both() -> None:
    config = build_config(
        own(
            "digests:\n  - {match: [severity=warn, tenant=acme], at: '08:00', to: ['slack:#adinsights-data']}\n"
            "  - {match: [severity=warn], at: '09:00', to: ['slack:#adinsights-alerts']}"
        )
    )
    (one,) = policies_of(config, build_sinks(Settings(), config)).digests
    assert (one.sink, [str(each) for each in one.matchers], one.at) == ("log", ["severity=warn"], time(8))


def test_a_second_channel_in_slack_has_the_main_one_behind_it_before_anybodys_mail() -> None:
    with_mail = Settings(slack=SlackSettings(token=SecretStr("xoxb-1")), smtp=SmtpSettings(host="mail.example.com"))
    fallback = build_sinks(with_mail, load_alerts()).fallback
    assert fallback["slack:#adinsights-data"] == "slack:#adinsights-alerts"
    assert fallback["slack:#adinsights-alerts"] == PLATFORM
    named = build_config(own('fallback: {"slack:#adinsights-data": "mail:data-eng"}'))
    assert build_sinks(with_mail, named).fallback["slack:#adinsights-data"] == DATA


def test_a_second_channel_in_slack_has_the_main_one_behind_it_where_there_is_no_mail() -> None:
    settings = Settings(slack=SlackSettings(token=SecretStr("xoxb-1")))
    fallback = build_sinks(settings, load_alerts()).fallback
    assert (fallback["slack:#adinsights-data"], fallback["slack:#adinsights-alerts"]) == (
        "slack:#adinsights-alerts",
        "log",
    )


def test_how_long_a_channel_may_take_nothing_is_ten_minutes_or_what_the_file_says() -> None:
    texts = ("storm: off", "timing: {group_interval: 1m}", "timing: {fallback_after: 2m}")
    found = [build_sinks(Settings(), build_config(own(text))).fallback_after for text in texts]
    assert found == [timedelta(minutes=10), timedelta(minutes=10), timedelta(minutes=2)]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("routes:\n  - match: [rule=dbt_falling]\n    to: [log]", 2, "no rule is 'dbt_falling'"),
        ("routes:\n  - match: [severity=urgent]\n    to: [log]", 2, "no severity is 'urgent'"),
        ("routes:\n  - match: [owner=sales]\n    to: [log]", 2, "no owner is 'sales'"),
        ("routes:\n  - match: [colour=red]\n    to: [log]", 2, "no alert has a label 'colour'"),
        ("routes:\n  - to: [pager:me]", 2, "unknown channel 'pager:me'"),
        ('routes:\n  - to: ["slack:alerts"]', 2, "unknown channel"),
        ("routes:\n  - to: [mail:sales]", 2, "'sales' has no contact"),
        ("routes:\n  - to: []", 2, "this goes nowhere"),
        ("route:\n  - to: [log]", 1, "unknown key 'route'"),
        ("contacts:\n  data-eng: a@example.com\n  platform-eng:\n  marketing-ops: b@example.com", 3, "has no contact"),
        ("contacts:\n  data-eng: a@example.com\n  platform-eng: b@example.com", 2, "marketing-ops has no contact"),
        ("contacts:\n  data-eng: 'a@example.com, b@example.com'", 2, "no mail address"),
        ("hours:\n  warn: {from: '17:00', to: '08:00'}", 2, "before they begin"),
        ("hours:\n  warn: {from: '08:00', to: '17:00', timezone: Jamaica/Kingston}", 2, "no timezone"),
        ("hours:\n  warn: {from: '08:00', to: '17:00', holidays: ZZ}", 2, "no holidays are known"),
        ("escalation:\n  - {after: 30m, to: [log]}\n  - {after: 15m, to: [log]}", 3, "comes later"),
        ("rules:\n  connection_late: {for: 5m}", 2, "unknown key 'connection_late'"),
        ("storm: {messages: 0, within: 10m}", 1, "at least 1"),
        ("timing: {repeat_interval: soon}", 1, "no duration"),
        ("timing: {fallback_after: 10s}", 1, "too short"),
        ("digests:\n  - {to: [log], at: '08:00'}\n  - {to: [log], at: '09:00'}", 3, "has a digest already"),
        (
            "maintenance:\n  - {name: a, match: [tenant=x], from: '2026-03-02 10:00', to: '2026-03-01 10:00'}",
            2,
            "and begins at",
        ),
        ("maintenance:\n  - {name: a, match: [tenant=x], cron: '0 2 * * *'}", 2, "`cron` and `lasts`"),
        ("maintenance:\n  - {name: a, match: [tenant=x], cron: '0 25 * * *', lasts: 1h}", 2, "cron expression"),
        ("maintenance:\n  - {name: a, match: [tenant=x], cron: '0 * * * *', lasts: 2h}", 2, "begins again"),
        (
            (
                "silences:\n  - {match: [tenant=x], to: 2026-04-01, author: a, reason: r}\n"
                "  - {match: [tenant=x], from: 2026-03-01, to: 2026-05-01, author: a, reason: r}"
            ),
            3,
            "overlaps with own.yaml:2",
        ),
        (
            (
                "maintenance:\n  - {name: a, match: [tenant=x], cron: '0 2 * * *', lasts: 2h}\n"
                "  - {name: b, match: [tenant=x], from: '2026-03-05 03:00', to: '2026-03-05 05:00'}"
            ),
            3,
            "overlaps with own.yaml:2",
        ),
        (
            (
                "maintenance:\n  - {name: a, match: [tenant=x], cron: '0 * * * *', lasts: 10m}\n"
                "  - {name: b, match: [tenant=x], cron: '30 2 24 12 *', lasts: 1h}"
            ),
            3,
            "at 2026-12-24 03:00 UTC",
        ),
        (
            (
                "maintenance:\n  - {name: a, match: [tenant=x], cron: '5 2 24 12 *', lasts: 1m}\n"
                "  - {name: b, match: [tenant=x], cron: '0 * * * *', lasts: 10m}"
            ),
            3,
            "at 2026-12-24 02:05 UTC",
        ),
    ],
)
def test_a_mistake_is_refused_with_its_file_and_line(text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        build_config(own(text))
    assert refused.value.place == f"own.yaml:{line}"
    assert words in refused.value.problem


def test_windows_that_never_meet_are_not_refused_however_rare_one_of_them_is() -> None:
    text = (
        "maintenance:\n  - {name: a, match: [tenant=x], cron: '0 * * * *', lasts: 10m}\n"
        "  - {name: b, match: [tenant=x], cron: '10 2 24 12 *', lasts: 50m}\n"
        "  - {name: c, match: [tenant=x], cron: '0 0 4 24 12 ? 2025', lasts: 1h}"
    )
    assert [each.name for each in build_config(own(text)).windows] == ["a", "b", "c"]


def test_hours_know_the_countrys_holidays_and_days_of_ones_own() -> None:
    text = "hours:\n  warn: {from: '08:00', to: '17:00', holidays: JM, closed: [2026-12-24]}"
    hours = build_config(own(text), JAMAICA).hours[Severity.WARN]
    at_ten = [datetime(2026, month, day, 15, tzinfo=UTC) for month, day in ((8, 5), (8, 6), (12, 23), (12, 24))]
    assert [hours.are_now(each) for each in at_ten] == [True, False, True, False]
    assert date(2027, 8, 6) in hours.holidays


def test_windows_are_in_force_in_their_own_timezone_and_silences_until_their_end() -> None:
    text = (
        "maintenance:\n  - {name: vacuum, match: [component=warehouse], cron: '0 2 * * 0', lasts: 2h}\n"
        "silences:\n  - {match: [tenant=acme], to: '2026-03-08 08:00', author: ann, reason: moving}"
    )
    windows = build_config(own(text), JAMAICA).windows
    sunday = datetime(2026, 3, 8, 7, 0, tzinfo=UTC)  # two in the morning in Jamaica
    hours = [sunday + timedelta(hours=shift) for shift in (-1, 0, 1, 2, 6)]
    assert [[each.label for each in in_force(windows, at)] for at in hours] == [
        ["silenced:moving"],
        ["maintenance:vacuum", "silenced:moving"],
        ["maintenance:vacuum", "silenced:moving"],
        ["silenced:moving"],
        [],
    ]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="ADINSIGHTS_ALERTING__ALERTS_PATH"):
        load_alerts(tmp_path / "none.yaml")
