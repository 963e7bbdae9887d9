"""The backend's own alert rules, evaluated on request.

Belongs here: `POST /alerts/run`. Does not belong here: our own rules. The runbook has it called after a remediation. A
backend that does not answer is reported and never fatal: our own evaluation does not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

import httpx

from adinsights_orchestration.settings import Settings

_PATH = "/alerts/run"
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class BackendRun:
    """What came of it.

    Attributes:
        asked: Whether the backend was asked at all.
        done: Whether it says that it evaluated.
        said: What it said, or why it was not asked.
    """

    asked: bool
    done: bool
    said: str


def run_backend_rules(settings: Settings) -> BackendRun:
    """Has the backend evaluate its alert rules; never raises for what a server or network may do."""
    key = settings.alerting.backend_alerts_key
    if key is None:
        return BackendRun(False, False, "not asked: ADINSIGHTS_ALERTING__BACKEND_ALERTS_KEY is not set")
    deadline = settings.backend.request_timeout_seconds
    try:
        status, text = _post(f"{settings.backend.url}{_PATH}", {"X-API-Key": key.get_secret_value()}, deadline)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return BackendRun(True, False, f"the backend does not answer ({type(error).__name__})")
    if status in (401, 403):
        return BackendRun(True, False, f"the backend refuses the key (HTTP {status})")
    if not 200 <= status < 300:
        return BackendRun(True, False, f"the backend answers HTTP {status}")
    return BackendRun(True, True, f"the backend evaluated its rules: {' '.join(text.split())[:_LONGEST]}")


def _post(url: str, headers: Mapping[str, str], deadline_seconds: float) -> tuple[int, str]:
    """Returns status and the beginning of the body; a body that trickles is left when the time is over."""
    began, text = monotonic(), ""
    with httpx.stream("POST", url, headers=headers, timeout=deadline_seconds) as answer:
        for part in answer.iter_text():
            text += part
            if len(text) > _LONGEST or monotonic() - began > deadline_seconds:
                break
        return answer.status_code, text
