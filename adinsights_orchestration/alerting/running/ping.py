"""The dead-man's ping: a request to somebody who misses it.

Belongs here: one request beside the tick. Does not belong here: when to send it (`automation`). What watches the
watcher has to be elsewhere: a service that expects a request every minute and tells people when none comes. The request
has a thread and a deadline of its own, so that a receiver that hangs delays no evaluation; while one is under way, no
second is sent. The address names the account, so it is a secret and no log line holds it.
"""

from __future__ import annotations

import threading
from time import monotonic

import httpx

from adinsights_orchestration.logs import get_logger

_log = get_logger(__name__)
_OK = 400  # statuses below this


class DeadMansPing:
    """Sends one ping at a time, in the background."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._url, self._timeout = url, timeout_seconds
        self._under_way = threading.Lock()

    def send(self) -> threading.Thread | None:
        """Sends a ping; returns the thread that does, or None while the last one is under way."""
        if not self._under_way.acquire(blocking=False):
            _log.warning("the ping is left out: the last one is still under way")
            return None
        thread = threading.Thread(target=self._work, name="dead-mans-ping", daemon=True)
        thread.start()
        return thread

    def _work(self) -> None:
        began = monotonic()
        try:
            # The body is not read: it may never end.
            with httpx.stream("GET", self._url, timeout=self._timeout) as answer:
                status = answer.status_code
            if status >= _OK:
                _log.warning("the ping was refused", status=status, next_step="Check ADINSIGHTS_ALERTING__PING_URL.")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
            # The error's text holds the address.
            _log.warning("the ping failed", error=type(error).__name__, seconds=round(monotonic() - began, 1))
        finally:
            self._under_way.release()
