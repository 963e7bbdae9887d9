"""Mail over a real socket: every answer of a server, encryption, threads, and texts that try to be more than text."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import trustme
from pydantic import SecretStr

from adinsights_orchestration.alerting.channels.mail import MailSink
from adinsights_orchestration.alerting.channels.sinks import Later, Notice, Outcome, Refused, Sent, Uncertain
from adinsights_orchestration.alerting.message import Link, Message, Standing
from adinsights_orchestration.alerting.operating.trial import trial_message
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.local import mail as local_mail
from adinsights_orchestration.local.knobs import KnobArea, Knobs
from adinsights_orchestration.settings import SmtpSecurity, SmtpSettings
from tests.alerting.support import NOON, World, finding
from tests.alerting.test_notify import stale

ADDRESS = "data-eng@example.com"
FIRST, SECOND = UUID(int=1), UUID(int=2)


class Server:
    """A mail server, its mailbox and its knobs."""

    def __init__(self, knobs: KnobArea, mailbox: local_mail.Mailbox, port: int) -> None:
        self.knobs, self.mailbox, self.port = knobs, mailbox, port

    def sink(self, **settings: Any) -> MailSink:
        given: dict[str, Any] = {"host": "127.0.0.1", "port": self.port, "security": SmtpSecurity.NONE}
        given |= {"timeout_seconds": 19.0}
        given |= {"sender": "alerts@adinsights.example", **settings}
        customers = bool(given.pop("for_customers", False))
        return MailSink(SmtpSettings(**given), ADDRESS, for_customers=customers, clock=lambda: NOON)


@contextmanager
def served(**options: Any) -> Iterator[Server]:
    knobs = local_mail.declare(Knobs())
    mailbox = local_mail.Mailbox(knobs)
    with local_mail.serving(mailbox, 0, **options) as port:
        yield Server(knobs, mailbox, port)


@pytest.fixture
def server() -> Iterator[Server]:
    with served() as up:
        yield up


def message(**fields: object) -> Message:
    (order,) = World().tick(finding(**fields))  # type: ignore[arg-type]
    return order.message


def test_a_mail_has_both_parts_and_its_thread_hangs_on_the_first_ones_id(server: Server) -> None:
    sink, first = server.sink(), message()
    root = sink.post(Notice(FIRST, first))
    assert isinstance(root, Sent)
    later = replace(first, title="now it is called otherwise", lines=("12:10 UTC: Resolved after 9 min.",), items=())
    assert isinstance(sink.reply(Notice(SECOND, later), root.ref), Sent)
    opened, answer = (each.mail for each in server.mailbox.received())
    assert opened["Subject"] == "[WARN] acme-meta is late"
    assert opened["Message-ID"] == f"<{FIRST}@adinsights.example>"
    assert opened["Auto-Submitted"] == "auto-generated"
    assert (answer["In-Reply-To"], answer["References"]) == (opened["Message-ID"], opened["Message-ID"])
    assert answer["Subject"] == "Re: [WARN] acme-meta is late"
    text, page = server.mailbox.received()[0].part("plain"), server.mailbox.received()[0].part("html")
    assert "no success since 08:00" in text
    assert "<strong>acme-meta is late</strong>" in page


def foot(server: Server, said: Message) -> str:
    server.sink().post(Notice(uuid4(), said))
    return server.mailbox.received()[-1].part("plain").splitlines()[-1]


def test_a_mail_says_how_all_of_it_is_taken_on(server: Server) -> None:
    one = message()
    assert foot(server, one) == f"Take it on: adinsights alerts ack {one.items[0].incident}"
    (several,) = World().tick(finding("a"), finding("b"))
    assert foot(server, several.message) == "Take all of it on: adinsights alerts ack connection_stale"
    assert foot(server, replace(one, more=3)) == "Take all of it on: adinsights alerts ack connection_stale"
    daily = replace(several.message, group="digest/mail:ops@example.com")
    assert foot(server, daily) == "Take one on: adinsights alerts ack, and its id"


@pytest.mark.parametrize(
    ("knob", "value", "outcome"),
    [
        ("refuse_for_now", True, Later(NOON + timedelta(seconds=30), "451 4.7.1 greylisted, try again later")),
        ("refuse_recipient", ADDRESS, Refused("550 5.1.1 no such mailbox", permanent=True)),
        ("refuse_text", True, Refused("554 5.7.1 looks like spam", permanent=True)),
        ("drop_after_text_next", 1, Uncertain("no answer to the mail's text: SMTPServerDisconnected")),
    ],
)
def test_every_answer_of_a_server_is_what_it_means(server: Server, knob: str, value: Any, outcome: Outcome) -> None:
    server.knobs.set(knob, value)
    assert server.sink().post(Notice(FIRST, message())) == outcome


def test_a_mail_whose_answer_is_lost_is_sent_again_under_the_same_id(server: Server) -> None:
    server.knobs.set("drop_after_text_next", 1)
    sink, notice = server.sink(), Notice(FIRST, message())
    assert isinstance(sink.post(notice), Uncertain)
    assert isinstance(sink.post(replace(notice, attempt=2)), Sent)
    first, second = (each.mail for each in server.mailbox.received())
    assert first["Message-ID"] == second["Message-ID"]
    assert first.as_bytes() == second.as_bytes()


def test_a_server_that_is_too_slow_with_its_answer_leaves_it_open_whether_the_mail_is_there(server: Server) -> None:
    server.knobs.set("slow_ms", 6000)
    assert isinstance(server.sink(timeout_seconds=2.0).post(Notice(FIRST, message())), Uncertain)


def test_a_server_that_is_not_there_took_nothing_and_is_tried_again() -> None:
    with served() as gone:
        sink = gone.sink()
    outcome = sink.post(Notice(FIRST, message()))
    assert outcome == Refused("the mail server does not answer: ConnectionRefusedError", permanent=False)


@pytest.mark.parametrize("security", [SmtpSecurity.STARTTLS, SmtpSecurity.TLS])
def test_mail_is_encrypted_and_logged_in_and_a_wrong_password_or_certificate_sends_nothing(
    security: SmtpSecurity, tmp_path: Path
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    stranger.cert_pem.write_to_path(tmp_path / "other.pem")
    tls = _context(authority)
    login = {"user": "alerts", "password": SecretStr("right"), "security": security, "ca_path": tmp_path / "ca.pem"}
    with served(tls=tls, implicit=security is SmtpSecurity.TLS, login=("alerts", "right")) as server:
        notice = Notice(FIRST, message())
        assert isinstance(server.sink(**login).post(notice), Sent)
        wrong = server.sink(**{**login, "password": SecretStr("wrong")}).post(notice)
        assert wrong == Refused("the mail server refuses the login (535)", permanent=True)
        unknown = server.sink(**{**login, "ca_path": tmp_path / "other.pem"}).post(notice)
        assert isinstance(unknown, Refused)
        assert unknown.permanent
        assert "certificate is not valid" in unknown.reason
        assert len(server.mailbox.received()) == 1


def test_nothing_is_sent_in_the_clear_where_starttls_is_asked_for(server: Server) -> None:
    outcome = server.sink(security=SmtpSecurity.STARTTLS).post(Notice(FIRST, message()))
    assert outcome == Refused("the mail server offers no STARTTLS", permanent=True)
    assert server.mailbox.received() == []


def test_a_title_becomes_neither_a_header_nor_markup_nor_the_end_of_the_mail(server: Server) -> None:
    evil = message(
        title='acme\r\nBcc: all@example.com\r\n\r\n<script>alert("x")</script>',
        detail="\n.\nQUIT\n<!channel> \u202eabc 😀" * 3,
        links=(Link("<b>click</b>", "javascript:alert(1)"), Link("asset", 'https://x.example/?a="><i>')),
    )
    raw = replace(evil, title="a\r\nBcc: all@example.com", lines=(".", "..dots", "x" * 5000))
    assert isinstance(server.sink().post(Notice(FIRST, raw)), Sent)
    (received,) = server.mailbox.received()
    assert received.mail["Bcc"] is None
    assert received.mail["Subject"] == "[WARN] a Bcc: all@example.com"
    page = received.part("html")
    assert not {"<script", "<b>", "<i>", 'href="javascript'} & {
        part for part in ("<script", "<b>", "<i>") if part in page
    }
    assert "javascript:alert(1)" in page
    assert 'href="javascript' not in page
    assert "😀" in received.part("plain")


def test_a_link_that_is_no_address_is_text(server: Server) -> None:
    wrong = message(links=(Link("dashboard", "http://[dash]/1"),))
    assert isinstance(server.sink().post(Notice(FIRST, wrong)), Sent)
    (received,) = server.mailbox.received()
    assert "dashboard: http://[dash]/1" in received.part("html")


def test_a_mail_that_cannot_be_made_is_refused_for_good(server: Server) -> None:
    settings = SmtpSettings(host="127.0.0.1", port=server.port, security=SmtpSecurity.NONE)
    outcome = MailSink(settings, f"{ADDRESS}\nBcc: all@example.com").post(Notice(FIRST, message()))
    assert outcome == Refused("the mail cannot be made: ValueError", permanent=True)
    assert server.mailbox.received() == []


def test_marketing_operations_reads_what_customers_notice_and_nothing_of_jobs(server: Server) -> None:
    late = message(tenant="acme", labels={"provider": "meta"}, detail="job 17 failed", next_step="adinsights sync")
    sink = server.sink(for_customers=True)
    assert isinstance(sink.post(Notice(FIRST, late)), Sent)
    (received,) = server.mailbox.received()
    assert received.mail["Subject"] == "[CUSTOMERS] Meta figures of acme are not up to date."
    text = received.part("plain")
    assert "Meta figures of acme are not up to date." in text
    assert "job 17" not in text + received.part("html")
    assert "adinsights sync" not in text
    assert "Since 2026-03-10 12:00 UTC. Told to: " in text


def test_a_test_mail_to_a_customers_contact_says_that_it_is_one(server: Server) -> None:
    trial = trial_message(Environment.STAGING, "ann", NOON)
    assert isinstance(server.sink(for_customers=True).post(Notice(FIRST, trial)), Sent)
    (received,) = server.mailbox.received()
    assert received.mail["Subject"] == "[CUSTOMERS] TEST from staging: nothing is wrong"
    for part in ("plain", "html"):
        text = received.part(part)
        assert "TEST from staging: nothing is wrong" in text
        assert "ann tests this channel with `adinsights alerts test`" in text
        assert "It is over" not in text
        assert "customers notice" not in text


def test_marketing_operations_reads_what_is_new_and_from_when_to_when_it_lasted(server: Server) -> None:
    sink = server.sink(for_customers=True)
    sent = sink.post(Notice(FIRST, message(tenant="acme", labels={"provider": "meta"})))
    assert isinstance(sent, Sent)
    line = replace(message(), items=(), lines=("12:10 UTC: New: job 17 failed.",), impacts=("Meta is behind.",))
    over = replace(line, standing=Standing.RESOLVED, impacts=(), ended=NOON + timedelta(minutes=40))
    for each in (line, over):
        assert isinstance(sink.reply(Notice(uuid4(), each), sent.ref), Sent)
    texts = [each.part("plain") for each in server.mailbox.received()]
    (new,) = [text for text in texts if "Meta is behind." in text]
    assert "job 17" not in new
    assert any("Since 2026-03-10 12:00 UTC, until 2026-03-10 12:40 UTC. It is over." in text for text in texts)


def test_marketing_operations_reads_how_much_more_customers_notice_than_a_mail_lists(server: Server) -> None:
    tenants = [f"t{number:02}" for number in range(12)]
    world = World()
    labels = {"provider": "meta"}
    late = [
        stale(each, tenant=each, rule="connection_failing", labels=labels, since=NOON - timedelta(hours=20 - number))
        for number, each in enumerate(tenants)
    ]
    inside = [stale(each, rule="connection_running_long") for each in ("x", "y")]  # no customer notices that
    (first,) = world.tick(*late, *inside)
    sink = server.sink(for_customers=True)
    sent = sink.post(Notice(FIRST, first.message))
    assert isinstance(sent, Sent)
    (received,) = server.mailbox.received()
    assert received.mail["Subject"] == "[CUSTOMERS] Meta figures of t00 are not up to date. (and 11 more)"
    assert received.part("plain").count("are not up to date.") == 10
    assert received.part("plain").rstrip().endswith("and 2 more")
    assert "and 2 more" in received.part("html")


def _context(authority: trustme.CA) -> Any:
    import ssl

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context
