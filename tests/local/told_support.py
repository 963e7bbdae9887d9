"""What people were told, as text that a reader can judge: Slack's channels and the mails of a local stack.

Read over HTTP, as Slack's own clients and a mail program would. What differs from run to run (moments, durations, ids,
ports, counts of what goes on by itself) stands there as a placeholder; everything else must be the same, to the letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import httpx

from adinsights_orchestration.local.slack.world import CHANNELS, TOKEN

Posted = Mapping[str, Any]
MAIN, DATA = (f"C0LOCAL{number:03}" for number in range(2))  # the channels' ids
_SPAN = r"(?:\d+ d(?: \d+ h)?|\d+ h(?: \d+ min)?|\d+ min|\d+ s)"
_PLACEHOLDERS = (
    (r"\d{4}-\d\d-\d\d \d\d:\d\d(?::\d\d)? UTC", "<time>"),
    (r"\b\d\d:\d\d(?::\d\d)? UTC", "<time>"),
    (r" A sync runs since <time>\.", ""),  # whether an evaluation met one depends on seconds
    (rf"\bafter {_SPAN}", "after <duration>"),
    (rf"\b{_SPAN} ago\b", "<duration> ago"),
    (r"\b\d+\.\d h ago\b", "<duration> ago"),
    (r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{10}\b", "<id>"),
    (r"\b127\.0\.0\.1:\d+", "127.0.0.1:<port>"),
    (r"\b\d+ failures(?= since|:)", "<n> failures"),
    (r"\b\d+ failed builds in a row", "<n> failed builds in a row"),
)


def slack(url: str) -> str:
    """Every channel: first messages as they stand now, oldest first, with their threads beneath them.

    Args:
        url: The local Slack.
    """
    with _client(url) as client:
        return "\n".join(_channel(client, *one) for one in zip((MAIN, DATA), CHANNELS, strict=True))


def roots(url: str) -> list[str]:
    """The first messages of the main channel, oldest first, by the ids that Slack gave them."""
    with _client(url) as client:
        shown = _asked(client, "conversations.history", channel=MAIN)
    return [each["ts"] for each in reversed(shown) if _is_root(each)]


def mails(url: str) -> str:
    """Every mail, by mailbox, and in each the oldest first: whose mail a server takes first is no matter.

    Args:
        url: The local mail pages.
    """
    found = httpx.get(f"{url}/messages", timeout=30).raise_for_status().json()
    found.reverse()
    in_mailboxes = sorted(found, key=lambda each: str(each["headers"]["to"]))
    return "\n".join(_mail(number, each) for number, each in enumerate(in_mailboxes, start=1))


def normal(text: str) -> str:
    """The text with placeholders for what differs from run to run."""
    for pattern, word in _PLACEHOLDERS:
        text = re.sub(pattern, word, text)
    return text


def _client(url: str) -> httpx.Client:
    return httpx.Client(base_url=f"{url}/api/", headers={"authorization": f"Bearer {TOKEN}"}, timeout=30)


def _is_root(message: Posted) -> bool:
    return message.get("thread_ts") in (None, message["ts"])


def _asked(client: httpx.Client, method: str, **asked: Any) -> list[Posted]:
    answer = client.get(method, params={"limit": 1000, **asked}).raise_for_status().json()
    assert answer["ok"], answer
    assert not answer["has_more"], "more messages than a day should have"
    messages: list[Posted] = answer["messages"]
    return messages


def _channel(client: httpx.Client, channel: str, name: str) -> str:
    shown = _asked(client, "conversations.history", channel=channel)
    in_channel = {each["ts"] for each in shown}
    first = [each for each in reversed(shown) if _is_root(each)]
    lines = [name, "=" * len(name), ""]
    for number, root in enumerate(first, start=1):
        thread = _asked(client, "conversations.replies", channel=channel, ts=root["ts"])[1:]
        lines += [f"message {number}", *_indented(_root(root), "    ")]
        for each in thread:
            also = ", also shown in the channel" if each["ts"] in in_channel else ""
            lines += [f"        in its thread{also}:", *_indented(_texts(each), "            ")]
        lines.append("")
    return "\n".join(lines if first else [*lines, "Nothing has been said here.", ""])


def _root(message: Posted) -> Iterator[str]:
    yield from _texts(message)
    for each in message.get("reactions", ()):
        yield f"[reaction :{each['name']}: by {', '.join(each['users'])}]"


def _texts(message: Posted) -> Iterator[str]:
    for block in message["blocks"]:
        if block["type"] == "header":
            yield f"# {normal(block['text']['text'])}"
        else:
            texts = [block["text"]] if "text" in block else block["elements"]
            for each in texts:
                yield from normal(_without_addresses(each["text"])).splitlines()
    if not message["blocks"]:
        yield from normal(message["text"]).splitlines()


def _without_addresses(text: str) -> str:
    return re.sub(r"<https?://[^|>]*\|([^>]*)>", r"<link: \1>", text)


def _mail(number: int, mail: Mapping[str, Any]) -> str:
    headers = mail["headers"]
    lines = [f"mail {number}", f"    To: {headers['to']}", f"    Subject: {normal(headers['subject'].strip())}"]
    text = re.sub(r"https?://\S+", "<link>", mail["text"])
    return "\n".join([*lines, "", *_indented(normal(text).splitlines(), "    "), ""])


def _indented(lines: Iterable[str], by: str) -> Iterator[str]:
    return (f"{by}{line}".rstrip() for line in lines)
