"""Secrets and personal data are taken out, whatever they are wrapped in; what an operator needs stays."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from adinsights_orchestration.cli.settings_page import setting_rows
from adinsights_orchestration.redaction import (
    PERSONAL,
    REDACTED,
    Redactor,
    environment_secrets,
    is_secret_name,
    settings_secrets,
)
from adinsights_orchestration.settings import Settings

CANARY = "c4nary/Secret+value&=%"


@pytest.mark.parametrize(
    "wrapped",
    [
        "plain {raw} in a sentence",
        "postgresql://role:{quoted}@db.internal:5432/warehouse",
        "https://api.example/jobs?key={quoted}",
        'body {{"note": "{escaped}"}}',
        "glued{raw}together",
    ],
)
def test_a_known_secret_is_hidden_however_it_is_written(wrapped: str) -> None:
    text = wrapped.format(raw=CANARY, quoted=quote(CANARY, safe=""), escaped=json.dumps(CANARY)[1:-1])
    cleaned = Redactor([CANARY]).text(text)
    assert CANARY not in cleaned
    assert quote(CANARY, safe="") not in cleaned
    assert "c4nary" not in cleaned


def test_an_address_is_known_by_its_password() -> None:
    redactor = Redactor(["postgresql://role:p%40ss%2Fw0rd9@db/warehouse"])
    assert redactor.text("authentication failed with p@ss/w0rd9") == f"authentication failed with {REDACTED}"
    assert "db/warehouse" in redactor.text("could not reach db/warehouse")


def test_a_short_secret_is_hidden_only_where_it_stands_alone() -> None:
    redactor = Redactor(["abcde"])
    assert redactor.text("abcde and abcdef") == f"{REDACTED} and abcdef"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.DEF.123",
        "{'Authorization': 'Basic dXNlcjpwYXNzd29yZA=='}",
        "GET /v19.0/me?access_token=leaked&fields=id",
        "x-api-key: leaked",
        'headers={"X-API-Key": "leaked"}',
        'X-Airbyte-Webhook-Secret: "leaked"',
        "{'client_secret': 'leaked phrase'}",
        '{"log": "{\\"refresh_token\\": \\"leaked phrase\\"}"}',
        "host=db password='leaked phrase' dbname=x",
        "SLACK_TOKEN=leaked",
        "amqp://user:leaked@broker/",
        "token eyJhbGciOiJIUzI1NiJ9.eyJsZWFrZWQiOjF9.leaked",
        "xoxb-123456789-leaked",
        "https://hooks.slack.com/services/T000/B000/leaked",
        "EAABleakedleakedleakedleaked",
        "-----BEGIN PRIVATE KEY-----\nleaked\n-----END PRIVATE KEY-----",
        "Cookie: session=leaked; other=leaked",
    ],
)
def test_a_secret_nobody_told_us_of_is_hidden_by_its_shape(text: str) -> None:
    cleaned = Redactor().text(text)
    assert "leaked" not in cleaned
    assert "dXNlcjpwYXNz" not in cleaned
    assert "abc.DEF" not in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "user jane.doe+ads@agency.example asked",
        "request from 203.0.113.77",
        "request from 2001:db8::8a2e:370:7334",
        "{'ip_address': '10.9.8.7'}",
        '{"user_agent": "Mozilla/5.0 (jane)"}',
        "{'email': 'jane'}",
        'DETAIL:  Failing row contains (17, jane, {"ip": "10.9.8.7"}, 2026).',
        "[SQL: insert ...]\n[parameters: {'name': 'jane', 'ip': '10.9.8.7'}]\n(Background on this error at: x)",
    ],
)
def test_personal_data_is_hidden(text: str) -> None:
    cleaned = Redactor().text(text)
    assert not [part for part in ("jane", "203.0.113", "10.9.8.7", "8a2e") if part in cleaned]
    assert PERSONAL in cleaned


@pytest.mark.parametrize(
    "text",
    [
        "ADINSIGHTS_BACKEND__WEBHOOK_SECRET: Field required",
        "connection to server at 127.0.0.1, port 15432 failed: Connection refused",
        "the warehouse at 10.2.0.15 does not answer",
        "sync of acme-jamaica/meta-ads-1f0c2a9b ended at 2026-11-23T08:19:38.123Z after 00:01:02",
        "basic authentication failed; a bearer authorization is needed",
        "partition_key=acme-jamaica/meta-ads-1f0c2a9b",
        "password=SecretStr('**********')",
        "token: expired",
        "dagster 1.13.27 on port 3000",
        "::1 and fe80::1 are ours",
    ],
)
def test_what_an_operator_needs_stays(text: str) -> None:
    assert Redactor(["another-secret"]).text(text) == text


def test_what_stands_under_a_telling_name_goes_whole() -> None:
    value = {
        "client_secret": ["a", "b"],
        "connection": "acme/meta-1",
        "rows": 3,
        "who": {"email": "x", "remote_addr": "y", "note": ["mail jane@agency.example"]},
    }
    assert Redactor().value(value) == {
        "client_secret": REDACTED,
        "connection": "acme/meta-1",
        "rows": 3,
        "who": {"email": PERSONAL, "remote_addr": PERSONAL, "note": [f"mail {PERSONAL}"]},
    }


def test_an_object_that_contains_itself_ends() -> None:
    loop: dict[str, object] = {"password": "x"}
    loop["again"] = loop
    assert "'password': 'x'" not in str(Redactor().value(loop))


@given(st.text(max_size=400))
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    redactor = Redactor([CANARY])
    once = redactor.text(text)
    assert redactor.text(once) == once


@given(st.text(alphabet="abc :/@.=\"'\\[]{}()", max_size=200), st.text(alphabet="abc :/@.=\"'\\[]{}()", max_size=200))
def test_no_surroundings_save_a_known_secret(before: str, after: str) -> None:
    assert "c4nary" not in Redactor(["c4naryc4nary"]).text(f"{before}c4naryc4nary{after}")


@pytest.mark.parametrize(
    "part", ["a", "token ", "token=", '"token": "', "://x:", "user@", "1:", "1.2.", "eyJ", "bearer ", "'ip': "]
)
def test_a_line_of_any_length_is_redacted_in_linear_work(part: str) -> None:
    # The suite's own time limit is the judge: squared work on half a megabyte would take hours.
    assert Redactor().text(part * (500_000 // len(part)) + "@://")


def test_every_secret_setting_is_known_by_value_and_by_the_name_of_its_variable() -> None:
    settings = Settings()
    values = set(settings_secrets(settings))
    secrets = [row for row in setting_rows() if "SecretStr" in str(_annotation(row.path))]
    assert len(secrets) >= 5
    for row in secrets:
        assert is_secret_name(row.variable), f"{row.variable} would not be hidden by the log forwarder"
    assert settings.ops_store.dsn.get_secret_value() in values
    assert settings.warehouse.password.get_secret_value() in values


def test_the_environment_gives_away_its_secrets_by_name() -> None:
    environment = {
        "DAGSTER_PG_PASSWORD": "one",
        "SLACK_BOT_TOKEN": "two",
        "HOME": "/root",
        "GOOGLE_CREDENTIALS_FILE": "/etc/google.json",
    }
    assert set(environment_secrets(environment)) == {"one", "two"}


def _annotation(path: tuple[str, ...]) -> object:
    model: type[BaseModel] = Settings
    for part in path[:-1]:
        model = type(model.model_fields[part].default)
    return model.model_fields[path[-1]].annotation
