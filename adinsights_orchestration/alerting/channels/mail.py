"""E-mail as a channel: one address, one SMTP dialogue a mail, and what each answer means.

Belongs here: the dialogue, and from replies and lost connections to outcomes. Does not belong here: what the mail says
(`mail_message`), trying again (`deliver`). Each address is a channel of its own, so that what one recipient's server
refuses is tried again, or said by the fallback, for that one alone. A server cannot be asked whether it took a mail:
once the text was on its way and no answer came, it is sent again under the same Message-ID.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from email.message import EmailMessage

from adinsights_orchestration.alerting.channels.mail_message import Envelope, Thread, compose
from adinsights_orchestration.alerting.channels.sinks import (
    Absent,
    Attempted,
    Later,
    LookedUp,
    Notice,
    Outcome,
    Refused,
    Sent,
    Traits,
    Uncertain,
)
from adinsights_orchestration.alerting.contacts import MAIL
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import SmtpSecurity, SmtpSettings

_SHORTEST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=30), timedelta(minutes=10)
_OK, _GO_ON, _TAKEN, _FOR_GOOD = 250, 354, (250, 251), 500
_LONGEST_REASON = 160


class MailSink:
    """Alerts as mails to one address."""

    def __init__(
        self, settings: SmtpSettings, address: str, *, for_customers: bool = False, clock: Clock = utc_now
    ) -> None:
        self.name = f"{MAIL}:{address}"
        self.traits = Traits(
            deadline_seconds=settings.timeout_seconds,
            settle_seconds=5.0,  # a server that lost its client takes what it has or drops it, at once
            every=timedelta(seconds=2),
            burst=10,
            can_look_up=False,
            edits=False,
        )
        self._settings, self._clock = settings, clock
        self._envelope = Envelope(settings.sender, address, for_customers)

    def post(self, notice: Notice) -> Outcome:
        """Sends the first mail of a thread."""
        return self._send(notice, None)

    def update(self, notice: Notice, ref: str) -> Outcome:  # noqa: ARG002
        """A mail cannot be changed; what matters comes as an answer."""
        return Sent(ref)

    def reply(self, notice: Notice, root: str) -> Outcome:
        """Sends a mail in the thread."""
        return self._send(notice, Thread.parse(root))

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:  # noqa: ARG002
        """A mail server cannot be asked."""
        return Absent()

    def _send(self, notice: Notice, root: Thread | None) -> Outcome:
        now = self._clock()
        try:
            mail, thread = compose(notice, self._envelope, root, now)
            with dialogue(self._settings) as smtp:
                outcome = _hand_over(smtp, self._envelope, mail) or Sent(thread.ref)
        except Exception as error:  # noqa: BLE001  (every one is an answer about this mail)
            outcome = _before_the_text(error)
        if isinstance(outcome, _Busy):
            return Later(now + _pause(notice.attempt), outcome.reason)
        return outcome


@dataclass(frozen=True, slots=True)
class _Busy:
    """The server takes nothing now."""

    reason: str


class NoEncryptionError(Exception):
    """The server offers no STARTTLS, and nothing is sent in the clear."""


@contextmanager
def dialogue(settings: SmtpSettings) -> Iterator[smtplib.SMTP]:
    """A connection to the mail server, greeted, encrypted and logged in, for at most the deadline.

    Args:
        settings: The server's.

    Raises:
        NoEncryptionError: It offers no STARTTLS.
        OSError: No connection, no answer in time, or a certificate that is not valid.
        smtplib.SMTPException: It refused a step.
    """
    smtp = _client(settings)
    cut = threading.Timer(settings.timeout_seconds, _cut, [smtp])
    cut.daemon = True
    cut.start()  # a server that sends a byte now and then would outlast any timeout of a single read
    try:
        code, said = smtp.connect(settings.host or "", settings.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)
        smtp.ehlo_or_helo_if_needed()
        if settings.security is SmtpSecurity.STARTTLS:
            if not smtp.has_extn("starttls"):
                raise NoEncryptionError
            smtp.starttls(context=_tls(settings))
            smtp.ehlo()
        if settings.user:
            smtp.login(settings.user, settings.password.get_secret_value() if settings.password else "")
        yield smtp
        with suppress(OSError, smtplib.SMTPException):
            smtp.quit()
    finally:
        cut.cancel()
        smtp.close()


def _client(settings: SmtpSettings) -> smtplib.SMTP:
    own_name = "[127.0.0.1]"  # an address literal is always right, and looking a name up may take long
    if settings.security is SmtpSecurity.TLS:
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            local_hostname=own_name, timeout=settings.timeout_seconds, context=_tls(settings)
        )
        client._host = settings.host or ""  # type: ignore[attr-defined]  # noqa: SLF001  (only its constructor sets it)
        return client
    client = smtplib.SMTP(local_hostname=own_name, timeout=settings.timeout_seconds)
    client._host = settings.host or ""  # type: ignore[attr-defined]  # noqa: SLF001
    return client


def _tls(settings: SmtpSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_path)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            "the file of certificate authorities cannot be read",
            place=str(settings.ca_path),
            next_step="Check ADINSIGHTS_SMTP__CA_PATH.",
        ) from None


def _cut(smtp: smtplib.SMTP) -> None:
    if smtp.sock is not None:
        with suppress(OSError):
            socket.socket.shutdown(smtp.sock, socket.SHUT_RDWR)


def _hand_over(smtp: smtplib.SMTP, envelope: Envelope, mail: EmailMessage) -> Outcome | _Busy | None:
    """Sends one mail over a connection; returns None once the server has taken it."""
    for code, said in (smtp.mail(envelope.sender), smtp.rcpt(envelope.recipient)):
        if code not in _TAKEN:
            return _answer(code, said)
    code, said = smtp.docmd("DATA")
    if code != _GO_ON:
        return _answer(code, said)
    try:
        smtp.send(_dotted(mail.as_bytes()))
        code, said = smtp.getreply()
    except (OSError, smtplib.SMTPException) as error:
        return Uncertain(f"no answer to the mail's text: {type(error).__name__}")
    return None if code == _OK else _answer(code, said)


def _dotted(text: bytes) -> bytes:
    """The text as SMTP sends it: a line that begins with a dot gets another, and one dot alone ends it."""
    lines = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n").split(b"\n")
    return b"\r\n".join(b"." + line if line.startswith(b".") else line for line in lines) + b"\r\n.\r\n"


def _answer(code: int, said: bytes | str) -> Outcome | _Busy:
    words = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
    reason = f"{code} {' '.join(words.split())}"[:_LONGEST_REASON]
    return Refused(reason, permanent=True) if code >= _FOR_GOOD else _Busy(reason)


def _before_the_text(error: Exception) -> Outcome | _Busy:
    """What an error means before any text was sent: the mail is not there, for certain."""
    if isinstance(error, smtplib.SMTPAuthenticationError) and error.smtp_code >= _FOR_GOOD:
        # The server's words may repeat the user's name.
        return Refused(f"the mail server refuses the login ({error.smtp_code})", permanent=True)
    if isinstance(error, smtplib.SMTPResponseException):
        return _answer(error.smtp_code, error.smtp_error)
    reason = _mended_by_hand(error)
    if reason is not None:
        return Refused(reason, permanent=True)
    return Refused(f"the mail server does not answer: {type(error).__name__}", permanent=False)


def _mended_by_hand(error: Exception) -> str | None:
    """Why nothing will change until somebody does something; None for what passes by itself."""
    match error:
        case ssl.SSLCertVerificationError():
            return f"the mail server's certificate is not valid: {error.verify_message}"
        case NoEncryptionError():
            return "the mail server offers no STARTTLS"
        case smtplib.SMTPNotSupportedError():
            return "the mail server takes no login over this connection"
        case ConfigurationError():
            return error.problem
        case OSError() | smtplib.SMTPException():
            return None
        case _:
            return f"the mail cannot be made: {type(error).__name__}"


def _pause(attempt: int) -> timedelta:
    times: int = 2 ** min(attempt - 1, 10)
    return min(_SHORTEST_PAUSE * times, _LONGEST_PAUSE)
