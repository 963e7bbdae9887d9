"""What must never be read by a person: secrets and personal data, taken out of any text or value.

Belongs here: the patterns, the known secret values, and the walk over nested values; pure, and made of the standard
library only, because the log forwarder (`log_stream`) starts with every process. Does not belong here: where lines come
from or go to (`logs`, `dagster_logs`, `log_stream`). A redactor knows secrets two ways: by value (everything that this
process was configured with) and by shape (what a library, a server or a person may have put into a message).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

if TYPE_CHECKING:
    from pydantic import BaseModel

REDACTED = "[redacted]"
PERSONAL = "[personal data]"

# Below this length a value is as likely an ordinary word; below the second it is replaced only where it stands alone.
_SHORTEST_KNOWN = 5
_SHORTEST_ANYWHERE = 8
_DEEPEST = 8

_SENSITIVE = (
    r"(?:passw(?:or)?d|secret|token|(?:api|alerts|access)[_-]?key|authorization|credential|private[_-]?key|cookie|dsn"
    r"|(?:database|ping)[_-]?url)"
)
_SENSITIVE_NAME = re.compile(_SENSITIVE, re.IGNORECASE)
_SECRET_MARKS = ("passw", "secret", "token", "key", "authorization", "credential", "cookie", "dsn", "database", "ping")
_PERSONAL_NAMES = frozenset(
    ("email", "e_mail", "user_email", "ip", "ip_address", "remote_addr", "client_ip", "x_forwarded_for", "user_agent")
)
_PERSONAL_WORD = r"(?:(?:user_)?e[-_]?mail|(?:client_)?ip(?:_address)?|remote_addr|x[-_]forwarded[-_]for|user[-_]agent)"
_PERSONAL_MARKS = ("mail", "ip", "addr", "forwarded", "agent")

# Every run in these patterns is bounded or anchored: a line of 100 kB must not cost the square of its length.
_QUOTED = r"""(?:"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
_HARMLESS = r"""(?!["']?(?:SecretStr\b|\[redacted|\*{3}|(?:none|null|true|false)\b))"""
# `name=value`: addresses, keyword arguments, query strings. A bare `name: words` is prose and stays.
_ASSIGNED = re.compile(
    rf"""({_SENSITIVE}[\w.-]{{0,64}}\s*=\s*){_HARMLESS}({_QUOTED}|[^\s"',;&)\]}}]+)""", re.IGNORECASE
)
# `"name": "value"`: JSON and Python dictionaries, escaped quotes of JSON inside JSON included.
_ENTRY = re.compile(
    rf"""(\\?["'][\w.-]{{0,64}}{_SENSITIVE}[\w.-]{{0,64}}\\?["']\s*:\s*)(\\"(?:[^"\\]|\\[^"])*\\"|{_QUOTED})""",
    re.IGNORECASE,
)
_HEADER = re.compile(
    rf"((?:x-api-key|x-airbyte-webhook-secret|(?:proxy-)?authorization|(?:set-)?cookie)\s*[:=]\s*)(?!\s){_HARMLESS}(?:{_QUOTED}|[^\r\n\"',\]}}]+)",
    re.IGNORECASE,
)
_PERSONAL_ENTRY = re.compile(
    rf"""(\\?["']{_PERSONAL_WORD}\\?["']\s*:\s*)(\\"(?:[^"\\]|\\[^"])*\\"|{_QUOTED})""", re.IGNORECASE
)
# A capital or digit behind the first letter tells a token from prose ("basic authentication failed").
_BEARER = re.compile(r"\b((?i:bearer|basic))\s+(?=\S+[0-9A-Z=])[A-Za-z0-9._~+/=-]{8,}")
_USERINFO = re.compile(r"(?<=://)[^\s/@\"']*:[^\s/\"']*@")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,128}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL)
# A row or a statement's parameters in a database error hold whatever the table holds.
_ROW = re.compile(r"(Failing row contains )\(.*?(?:\)\.(?=\s|\Z)|\Z)", re.IGNORECASE | re.DOTALL)
_PARAMETERS = re.compile(r"\[parameters: .*?\](?=\n|\Z)", re.DOTALL)
# Tokens that say themselves what they are: JSON web tokens, Slack, Google, Meta, AWS.
_TOKEN_MARKS = ("eyJ", "xox", "ya29.", "EAA", "AKIA", "hooks.slack.com/")
_TOKEN = re.compile(
    r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?|\bxox[a-z]-[\w-]{8,}|\bya29\.[\w-]{8,}|\bEAA[A-Za-z0-9]{20,}|\bAKIA[0-9A-Z]{12,}"
    r"|(?<=hooks\.slack\.com/)[\w/-]{8,}"
)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{0,4}(?![\w:.])")
# Machines of ours: needed to mend a connection, and nobody's personal address. Everything else is somebody's.
_OUR_NETWORKS = tuple(
    ip_network(network)
    for network in (
        *("0.0.0.0/32", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("100.64.0.0/10", "::/128", "::1/128", "fc00::/7", "fe80::/10"),
    )
)


class Verbatim(str):
    """A text that is shown as it is: an address, say, that a person put into a file for others to find."""

    __slots__ = ()


class Redactor:
    """Takes secrets and personal data out of text and nested values.

    Args:
        secrets: Values that this process knows to be secret; a database address counts as its password.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True)
        self._anywhere = tuple(value for value in known if len(value) >= _SHORTEST_ANYWHERE)
        short = [re.escape(value) for value in known if len(value) < _SHORTEST_ANYWHERE]
        self._alone = re.compile(rf"(?<!\w)(?:{'|'.join(short)})(?!\w)") if short else None

    def text(self, text: str) -> str:
        """Returns `text` without secrets and personal data; a text that holds neither is returned as it is."""
        for value in self._anywhere:
            if value in text:
                text = text.replace(value, REDACTED)
        if self._alone is not None:
            text = self._alone.sub(REDACTED, text)
        lowered = text.lower()
        text = _without_secret_shapes(text, lowered)
        return _without_personal_shapes(text, lowered)

    def value(self, value: object, name: str = "", depth: int = 0) -> Any:
        """Returns `value` with every string in it redacted; what stands under a telling name goes as a whole."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, Verbatim):
            return str(value)
        if name and (mark := _mark_of(name)):
            return mark
        if isinstance(value, str) or depth >= _DEEPEST:
            return self.text(str(value))
        return self._nested(value, depth + 1)

    def _nested(self, value: object, depth: int) -> Any:
        if isinstance(value, Mapping):
            return {str(key): self.value(item, str(key), depth) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item, "", depth) for item in value]
        return self.text(str(value))


def settings_secrets(settings: BaseModel) -> Iterator[str]:
    """Yields the value of every `SecretStr` in the settings, nested groups included."""
    from pydantic import BaseModel as Model
    from pydantic import SecretStr

    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield value.get_secret_value()
        elif isinstance(value, Model):
            yield from settings_secrets(value)


def environment_secrets(environment: Mapping[str, str]) -> Iterator[str]:
    """Yields the values of environment variables whose names say that they are secret."""
    for name, value in environment.items():
        if is_secret_name(name):
            yield value


def is_secret_name(name: str) -> bool:
    """Whether a field or variable of this name holds a secret."""
    return _SENSITIVE_NAME.search(name) is not None and not name.upper().endswith(("_PATH", "_FILE", "_URL_SCHEME"))


_current = Redactor()


def use(redactor: Redactor) -> None:
    """Makes `redactor` the one that this process' logs and errors go through."""
    global _current  # noqa: PLW0603  (one per process, like the logging configuration that it belongs to)
    _current = redactor


def redact(text: str) -> str:
    """Redacts `text` with this process' redactor; before logging is configured, by shape only."""
    return _current.text(text)


def redact_value(value: object) -> Any:
    """Redacts a nested value with this process' redactor."""
    return _current.value(value)


def _forms(secret: str) -> Iterator[str]:
    """The ways one secret is written: plain, in an address, inside JSON."""
    if "://" in secret:
        yield from _password_forms(secret)
        return
    for form in (secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]):
        if len(form) >= _SHORTEST_KNOWN:
            yield form


def _password_forms(address: str) -> Iterator[str]:
    try:
        password = urlsplit(address).password
    except ValueError:
        password = None
    if password:
        yield from _forms(unquote(password))
        yield from _forms(password)


def _mark_of(name: str) -> str:
    if name.lower().replace("-", "_") in _PERSONAL_NAMES:
        return PERSONAL
    return REDACTED if is_secret_name(name) else ""


def _without_secret_shapes(text: str, lowered: str) -> str:
    if "://" in text and "@" in text:
        text = _USERINFO.sub(f"{REDACTED}@", text)
    if _any(_SECRET_MARKS, lowered):
        if "private key" in lowered:
            text = _PEM.sub(REDACTED, text)
        text = _HEADER.sub(rf"\1{REDACTED}", text)
        text = _ASSIGNED.sub(rf"\1{REDACTED}", text)
        text = _ENTRY.sub(_kept_quotes(REDACTED), text)
    if "bearer" in lowered or "basic" in lowered:
        text = _BEARER.sub(rf"\1 {REDACTED}", text)
    if _any(_TOKEN_MARKS, text):
        text = _TOKEN.sub(REDACTED, text)
    return text


def _without_personal_shapes(text: str, lowered: str) -> str:
    if "failing row contains" in lowered:
        text = _ROW.sub(rf"\1({PERSONAL})", text)
    if "[parameters: " in text:
        text = _PARAMETERS.sub(f"[parameters: {PERSONAL}]", text)
    if ("'" in text or '"' in text) and _any(_PERSONAL_MARKS, lowered):
        text = _PERSONAL_ENTRY.sub(_kept_quotes(PERSONAL), text)
    if "@" in text:
        text = _EMAIL.sub(PERSONAL, text)
    if text.count(".") >= 3:
        text = _IPV4.sub(_unless_ours, text)
    if text.count(":") >= 2:
        text = _IPV6.sub(_unless_ours, text)
    return text


def _any(marks: tuple[str, ...], text: str) -> bool:
    for mark in marks:  # noqa: SIM110  (a generator costs more than the search; this runs for every line)
        if mark in text:
            return True
    return False


def _kept_quotes(mark: str) -> Callable[[re.Match[str]], str]:
    def replaced(found: re.Match[str]) -> str:
        value = found.group(2)
        edge = value[:2] if value.startswith("\\") else value[0]
        return f"{found.group(1)}{edge}{mark}{edge}"

    return replaced


def _unless_ours(found: re.Match[str]) -> str:
    try:
        address: IPv4Address | IPv6Address = ip_address(found.group(0))
    except ValueError:
        return found.group(0)
    if any(address in network for network in _OUR_NETWORKS):
        return found.group(0)
    return PERSONAL
