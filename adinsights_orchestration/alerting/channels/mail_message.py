"""An alert as an e-mail: subject, text and HTML parts, and the headers that make one thread of one incident.

Belongs here: from a message to bytes, pure. Does not belong here: sending (`mail`), what is said (`wording`). Every
text comes from data and is escaped for where it stands: a line break in a tenant's name must not become a header, nor a
tag markup. The same notice makes the same mail whenever it is tried again, so that a server or a reader's program that
drops duplicates by Message-ID drops them.
"""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from urllib.parse import urlsplit

from adinsights_orchestration.alerting.channels.sinks import Notice
from adinsights_orchestration.alerting.message import TEST_GROUP, Item, Link, Message, Severity, Standing, clean, moment
from adinsights_orchestration.alerting.telling.digest import GROUP as DIGEST

LONGEST_SUBJECT = 90  # characters: what a phone shows of it, and a little
_LONGEST_LINE = 1000
_POLICY = SMTP.clone(cte_type="7bit")  # a server without 8BITMIME takes it too
_STYLE = "font-family:sans-serif;max-width:42rem"
_COLOURS = {Standing.RESOLVED: "#2e7d32", Standing.ACKNOWLEDGED: "#1565c0", Standing.SUPPRESSED: "#616161"}
_FIRING_COLOURS = {Severity.PAGE: "#c62828", Severity.WARN: "#b26a00"}


@dataclass(frozen=True, slots=True)
class Envelope:
    """Whom a mail is from and to, and in whose words it speaks."""

    sender: str
    recipient: str
    for_customers: bool = False


@dataclass(frozen=True, slots=True)
class Thread:
    """The first mail of an incident, as later ones must know it."""

    message_id: str
    subject: str

    @property
    def ref(self) -> str:
        """The thread as the outbox keeps it."""
        return f"{self.message_id} {self.subject}"

    @classmethod
    def parse(cls, ref: str) -> Thread:
        """The thread that the outbox kept; one of another channel makes a thread of its own."""
        message_id, _, subject = ref.partition(" ")
        return cls(clean(message_id, 200), clean(subject, LONGEST_SUBJECT + 20))


@dataclass(frozen=True)
class _Entry:
    title: str
    lines: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class _Page:
    """What both parts say."""

    heading: str
    colour: str
    lines: tuple[str, ...]
    entries: tuple[_Entry, ...]
    foot: tuple[str, ...]


def message_id(notice: Notice, sender: str) -> str:
    """Returns the mail's Message-ID, which follows from the notification id alone."""
    return f"<{notice.id}@{sender.rpartition('@')[2]}>"


def subject(message: Message, *, for_customers: bool = False) -> str:
    """Returns the subject of a first mail: severity and matter, short."""
    impact = _impact(message) if for_customers else ""
    word = message.severity.upper() if message.standing is not Standing.RESOLVED else "RESOLVED"
    kind = "CUSTOMERS" if for_customers else word
    return clean(f"[{kind}] {message.prefix}{impact or message.title}", LONGEST_SUBJECT)


def compose(notice: Notice, envelope: Envelope, root: Thread | None, now: datetime) -> tuple[EmailMessage, Thread]:
    """Returns the mail, and the thread that it belongs to.

    Args:
        notice: What to say.
        envelope: From whom, to whom.
        root: The thread that it answers in; None begins one.
        now: The moment, for the mail's date.
    """
    message, own_id = notice.message, message_id(notice, envelope.sender)
    thread = root or Thread(own_id, subject(message, for_customers=envelope.for_customers))
    page = _for_customers(message) if envelope.for_customers else _for_engineers(message)
    mail = EmailMessage(policy=_POLICY)
    mail["Subject"] = thread.subject if root is None else f"Re: {thread.subject}"
    mail["From"] = envelope.sender
    mail["To"] = envelope.recipient
    mail["Date"] = format_datetime(now)
    mail["Message-ID"] = own_id
    if root is not None:
        mail["In-Reply-To"] = root.message_id
        mail["References"] = root.message_id
    mail["Auto-Submitted"] = "auto-generated"
    mail["X-Auto-Response-Suppress"] = "All"
    mail["X-ADinsights-Group"] = clean(message.group.encode("ascii", "replace").decode(), 200)
    mail["X-ADinsights-Episode"] = str(message.episode)
    if message.severity is Severity.PAGE and message.standing is Standing.FIRING:
        mail["Importance"] = "high"
    mail.set_content(_text(page))
    mail.add_alternative(_html(page), subtype="html")
    mail.set_boundary(f"=_{notice.id.hex}")
    return mail, thread


def _for_engineers(message: Message) -> _Page:
    lines = [message.note, *message.lines] if message.note else [*message.lines]
    more = [f"and {message.more:,} more: adinsights alerts list"] if message.more else []
    return _Page(
        f"{message.standing.capitalize()}, {message.severity}: {message.prefix}{message.title}",
        _colour(message),
        tuple(lines),
        tuple(_entry(item) for item in message.items),
        (*more, *_how_to_take_on(message)),
    )


def _how_to_take_on(message: Message) -> Iterator[str]:
    """The command; of several alerts one alone would leave the message to be repeated, and a digest is of many."""
    ids = [item.incident for item in message.items if item.standing is Standing.FIRING]
    if len(ids) + message.more == 1 and ids:
        yield f"Take it on: adinsights alerts ack {ids[0]}"
    elif ids and message.group.partition("/")[0] == DIGEST:
        yield "Take one on: adinsights alerts ack, and its id"
    elif ids:
        yield f"Take all of it on: adinsights alerts ack {shlex.quote(message.group)}"


def _entry(item: Item) -> _Entry:
    ended = f", over {moment(item.ended)}" if item.ended else ""
    standing = f"{item.standing.capitalize()}, {item.severity}, since {moment(item.since)}{ended} ({item.incident})"
    facts = tuple(f"{name}: {value}" for name, value in item.facts)
    return _Entry(item.title, tuple(filter(None, (standing, item.detail, *facts))), item.links)


def _for_customers(message: Message) -> _Page:
    """What customers notice, without a word about jobs and connections; a test says that it is one."""
    if message.group == TEST_GROUP:
        return _Page(f"{message.prefix}{message.title}", _colour(message), message.lines, (), ())
    impacts = dict.fromkeys(item.impact for item in message.items if item.impact and item.ended is None)
    over = message.standing is Standing.RESOLVED
    who = message.owner or "The team in charge"
    state = {
        Standing.FIRING: f"Told to: {who}.",
        Standing.ACKNOWLEDGED: f"Taken on by: {who}.",
        Standing.SUPPRESSED: f"Known to: {who}.",
        Standing.RESOLVED: "It is over.",
    }[message.standing]
    until = f", until {moment(message.ended)}" if message.ended else ""
    since = f"Since {moment(message.since)}{until}. {state}"
    more = (f"and {message.more_impacts:,} more",) if message.more_impacts else ()
    if not message.items:  # a line of the story
        news = tuple(_Entry(text) for text in message.impacts)
        return _Page("News about what customers notice", _colour(message), (since,), news, more)
    entries = () if over else tuple(_Entry(text) for text in impacts)
    heading = "It is over: customers notice nothing of it any more" if over else "What customers notice"
    nothing = () if over or impacts else ("Customers should not notice anything.",)
    note = (message.note,) if message.note else ()
    return _Page(heading, _colour(message), (*note, *nothing, since), entries, more)


def _impact(message: Message) -> str:
    found = list(dict.fromkeys(item.impact for item in message.items if item.impact))
    more = len(found) - 1 + message.more_impacts
    return found[0] + (f" (and {more:,} more)" if more else "") if found else ""


def _colour(message: Message) -> str:
    return _COLOURS.get(message.standing) or _FIRING_COLOURS[message.severity]


def _text(page: _Page) -> str:
    return "\n".join(_text_lines(page)) + "\n"


def _text_lines(page: _Page) -> Iterator[str]:
    yield _line(page.heading)
    yield from _lines(page.lines)
    for entry in page.entries:
        yield ""
        yield f"* {_line(entry.title)}"
        yield from (f"  {line}" for line in _lines(entry.lines))
        yield from (f"  {_line(link.label)}: {_line(link.url)}" for link in entry.links)
    if page.foot:
        yield ""
        yield from _lines(page.foot)


def _html(page: _Page) -> str:
    body = [f'<h2 style="color:{page.colour};font-size:1.1em">{_escaped(page.heading)}</h2>']
    body += [f"<p>{_escaped(line)}</p>" for line in page.lines]
    for entry in page.entries:
        links = " · ".join(_link(link) for link in entry.links)
        lines = [*(_escaped(line) for line in entry.lines), *([links] if links else [])]
        body.append(f"<p><strong>{_escaped(entry.title)}</strong>{''.join(f'<br>{line}' for line in lines)}</p>")
    body += [f'<p style="color:#616161">{_escaped(line)}</p>' for line in page.foot]
    joined = "\n".join(body)
    return f'<!doctype html>\n<html lang="en"><body style="{_STYLE}">\n{joined}\n</body></html>\n'


def _link(link: Link) -> str:
    if not _is_web(link.url):
        return f"{_escaped(link.label)}: {_escaped(link.url)}"
    return f'<a href="{html.escape(link.url, quote=True)}">{_escaped(link.label)}</a>'


def _is_web(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https")
    except ValueError:  # brackets that hold no address, say
        return False


def _escaped(text: str) -> str:
    return html.escape(_line(text), quote=True)


def _line(text: str) -> str:
    return clean(text, _LONGEST_LINE)


def _lines(texts: Iterable[str]) -> Iterator[str]:
    return (_line(text) for text in texts if text)
