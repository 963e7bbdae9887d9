"""A mail server on loopback that keeps what it gets: a real SMTP dialogue, with faults, and a page of what came.

Belongs here: the server, its knobs, its two pages. Does not belong here: sending mail. Nothing leaves the machine; what
was received is in memory and gone with the process.
"""

from __future__ import annotations

import asyncio
import html
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.knobs import Knob, KnobArea, Knobs

AREA = "mail"
KEPT = 500  # mails
MAIL_KNOBS = (
    Knob("refuse_for_now", False, "Every recipient is refused with 451, as a greylisting server does."),
    Knob("refuse_recipient", "", "This recipient is refused with 550 for good; `*` is everybody."),
    Knob("refuse_text", False, "Every mail's text is refused with 554, as a spam filter does."),
    Knob("drop_after_text_next", 0, "So many mails are taken, and the connection closed without an answer."),
    Knob("slow_ms", 0, "Delay before the answer to a mail's text, in milliseconds."),
)


@dataclass(frozen=True, slots=True)
class Received:
    """A mail as it came."""

    sender: str
    recipient: str
    mail: EmailMessage

    def part(self, kind: str) -> str:
        """The text of its part `plain` or `html`."""
        body = self.mail.get_body((kind,))
        return "" if body is None else str(body.get_content())

    def shown(self) -> dict[str, Any]:
        """What the JSON page shows of it."""
        names = ("Subject", "From", "To", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted")
        headers = {name.lower(): str(self.mail[name]) for name in names if self.mail[name] is not None}
        return {"recipient": self.recipient, "headers": headers, "text": self.part("plain"), "html": self.part("html")}


class Mailbox:
    """Everything that was received, and the dialogue's answers; aiosmtpd calls the `handle_` methods."""

    def __init__(self, knobs: KnobArea) -> None:
        self._knobs, self._lock = knobs, threading.Lock()
        self._received: deque[Received] = deque(maxlen=KEPT)

    def received(self) -> list[Received]:
        """What was received, oldest first."""
        with self._lock:
            return list(self._received)

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Takes a recipient or refuses it."""
        if self._knobs.get("refuse_for_now"):
            return "451 4.7.1 greylisted, try again later"
        if self._knobs.get("refuse_recipient") in (address, "*"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Takes a mail's text."""
        if delay := self._knobs.get("slow_ms"):
            await asyncio.sleep(delay / 1000)
        if self._knobs.get("refuse_text"):
            return "554 5.7.1 looks like spam"
        content = envelope.content if isinstance(envelope.content, bytes) else b""
        mail = message_from_bytes(content, policy=default)
        with self._lock:
            for address in envelope.rcpt_tos:
                self._received.append(Received(envelope.mail_from or "", address, mail))
        if self._knobs.take("drop_after_text_next") and server.transport is not None:
            cast(asyncio.WriteTransport, server.transport).abort()
        return "250 2.0.0 taken"


@contextmanager
def serving(
    mailbox: Mailbox,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    implicit: bool = False,
    login: tuple[str, str] | None = None,
) -> Iterator[int]:
    """Takes mail in a thread while the block runs; yields the port.

    Args:
        mailbox: Where it goes.
        port: Where to listen on 127.0.0.1; 0 takes a free one.
        tls: The server's certificate; without it nothing is encrypted.
        implicit: Whether it is encrypted from the first byte, instead of by STARTTLS.
        login: The user and password that are needed; None needs none.
    """

    def authenticate(_server: SMTP, _session: Session, _envelope: Envelope, _how: str, given: Any) -> AuthResult:
        known = login is not None and isinstance(given, LoginPassword)
        right = known and (given.login.decode(), given.password.decode()) == login
        return AuthResult(success=right, handled=right)

    controller = _Controller(
        mailbox,
        hostname="127.0.0.1",
        port=port,
        ssl_context=tls if implicit else None,
        tls_context=None if implicit else tls,
        require_starttls=tls is not None and not implicit,
        authenticator=authenticate,
        auth_required=login is not None,
        auth_require_tls=not implicit,  # its word for STARTTLS
        server_hostname="localhost",
    )
    controller.start()
    try:
        yield controller.bound
    finally:
        controller.stop()


class _Controller(Controller):
    """aiosmtpd's, which cannot say which port it got, and greets the port that it was asked for."""

    @property
    def bound(self) -> int:
        """The port that it listens on."""
        server = cast("asyncio.Server | None", self.server)
        return int(server.sockets[0].getsockname()[1]) if server is not None else self.port

    def _trigger_server(self) -> None:
        self.port = self.bound
        super()._trigger_server()  # type: ignore[no-untyped-call]


def create_mail_app(mailbox: Mailbox) -> Starlette:
    """The pages: `/` for people, `/messages` as JSON, newest first."""

    async def page(_: Request) -> Response:
        shown = "".join(_shown(each) for each in reversed(mailbox.received()))
        return HTMLResponse(_PAGE.format(mails=shown or "<p>Nothing was received yet.</p>"))

    async def messages(_: Request) -> Response:
        return JSONResponse([each.shown() for each in reversed(mailbox.received())])

    return Starlette(routes=[Route("/", page), Route("/messages", messages)])


def declare(knobs: Knobs) -> KnobArea:
    """The mail server's knobs."""
    return knobs.declare(AREA, MAIL_KNOBS)


def _shown(one: Received) -> str:
    subject, text = html.escape(str(one.mail["Subject"])), html.escape(one.part("plain"))
    return f"<h2>{subject}</h2><p>to {html.escape(one.recipient)}</p><pre>{text}</pre>"


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>ADinsights local mail</title></head>
<body style="font-family: sans-serif; max-width: 48rem; margin: 2rem auto"><h1>Received mail</h1>
{mails}</body></html>"""
