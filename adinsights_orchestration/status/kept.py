"""What the status file says of the moment of which something was known last.

Belongs here: reading it back. Does not belong here: writing it (`file`). While the ops store does not answer, the file
is the only thing that still knows how old the last picture is.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from adinsights_orchestration.settings import Settings


def places(settings: Settings) -> list[Path | str]:
    """Returns where the status is kept: files as paths, objects as addresses."""
    path, url = settings.health.status_path, settings.health.status_url
    local = url is not None and url.startswith("file:")
    found: list[Path | str] = [path] if path else []
    return [*found, Path(unquote(urlsplit(url).path)) if local else url] if url else found


def last_known(settings: Settings) -> datetime | None:
    """Returns the moment of the last picture; None where no file says it."""
    moments = [_known_at(place) for place in places(settings) if isinstance(place, Path)]
    return max((moment for moment in moments if moment is not None), default=None)


def _known_at(path: Path) -> datetime | None:
    try:
        moment = datetime.fromisoformat(json.loads(path.read_bytes())["known_at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return moment if moment.tzinfo else None
