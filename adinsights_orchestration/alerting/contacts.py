"""Contacts: who is reached under an owner's name, and in whose words.

Belongs here: owners, their addresses, reading both from the alert file. Does not belong here: when they are told
(`alert_file`), sending mail (`mail`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from adinsights_orchestration.alerting.audience import CUSTOMERS
from adinsights_orchestration.yaml_lines import Node

MAIL = "mail"
# The channel of the shipped routes; where it really is says the setting, so that a token and a channel are enough. Its
# sink is called by where it is, so that moving it counts as another channel.
MAIN_CHANNEL = "slack:#adinsights-alerts"
IS_MAIN = "is_main"  # in the detail of a finding about a channel: whether it is that one, wherever that is
OWNERS = ("data-eng", "platform-eng", "marketing-ops")  # runbook: contacts
OWNER_ITSELF = "owner"  # `mail:owner`: whoever owns what is wrong
_RESERVED_TOP, _EXAMPLES = ("example", "invalid", "test", "localhost"), ("com", "org", "net")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


def is_address(text: str) -> bool:
    """Whether a text is one plain mail address: nothing that a header or a mail server could take for more."""
    return _ADDRESS.fullmatch(text) is not None and len(text) <= 254


def is_placeholder(address: str) -> bool:
    """Whether a mail address is in a domain that is reserved for examples and tests: nobody ever reads what it gets.

    RFC 2606 and RFC 6761 reserve them.
    """
    labels = address.rpartition("@")[2].lower().split(".")
    return labels[-1] in _RESERVED_TOP or (len(labels) > 1 and labels[-2] == "example" and labels[-1] in _EXAMPLES)


@dataclass(frozen=True)
class Contact:
    """Whom an owner's name stands for.

    Attributes:
        name: The owner.
        addresses: Mail addresses; each is a channel of its own, so that one that is refused loses nothing for others.
        for_customers: Whether mails say what customers notice, in their words.
    """

    name: str
    addresses: tuple[str, ...]
    for_customers: bool = False

    @property
    def sinks(self) -> tuple[str, ...]:
        """Its channels."""
        return tuple(f"{MAIL}:{address}" for address in self.addresses)


def read_contacts(node: Node) -> dict[str, Contact]:
    """Returns the contacts of a section; every owner of the runbook needs one.

    Raises:
        ConfigurationError: An owner has none, or something is wrong; with file and line.
    """
    found: dict[str, Contact] = {}
    taken: dict[str, Node] = {}
    for key, value in node.pairs():
        name = key.text()
        if name == OWNER_ITSELF or not _NAME.fullmatch(name):
            raise key.error(f"{name!r} is no owner's name", "Write small letters, digits and dashes.")
        if value.is_null:
            raise key.error(f"the owner {name} has no contact", "Write a mail address.")
        entries = value.mapping(("mail", "words"), ("mail",)) if value.is_mapping else {"mail": value}
        words = entries.get("words")
        if words is not None and words.text() not in ("engineers", CUSTOMERS):
            raise words.error(f"unknown words {words.text()!r}", f"Known: engineers, {CUSTOMERS}.")
        contact = Contact(name, _addresses(entries["mail"]), words is not None and words.text() == CUSTOMERS)
        for address in contact.addresses:
            if address in taken:
                raise value.error(f"{address} is a contact already", f"See {taken[address].place}.")
            taken[address] = value
        found[name] = contact
    for owner in OWNERS:
        if owner not in found:
            raise node.error(f"the owner {owner} has no contact", "Each owner of the runbook needs one.")
    return found


def _addresses(node: Node) -> tuple[str, ...]:
    given = [node.text()] if not node.is_list else [each.text() for each in node.items()]
    for address in given:
        if not is_address(address):
            raise node.error(f"{address!r} is no mail address", "Write name@example.com, without a display name.")
    if not given:
        raise node.error("a contact needs a mail address")
    return tuple(dict.fromkeys(given))
