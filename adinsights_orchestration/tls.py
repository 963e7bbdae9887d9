"""The certificates that servers are verified with, read once a process.

Belongs here: that context. Does not belong here: clients. Reading the certificates takes 40 ms of CPU, more than most
of what is asked over it. SSL_CERT_FILE names a company's own authority.
"""

from __future__ import annotations

import ssl
from functools import lru_cache

import httpx


@lru_cache(maxsize=1)
def verifying() -> ssl.SSLContext:
    """The context for clients of servers that anybody may know; the same one each time."""
    return httpx.create_ssl_context(trust_env=True)
