"""Whether this host's clock can be believed, before anything is deleted or called closed by it.

Belongs here: holding it against a database server's. Does not belong here: the moment that anything is judged by. A
host whose clock jumped ahead finds everything past its window, and stamps with the same clock how fresh its registry
is: nothing of its own shows it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from adinsights_orchestration.errors import AdinsightsError

ASK = "select extract(epoch from clock_timestamp())::float8"  # whatever spelling of moments a database has
_MOST_APART = timedelta(hours=1)


class ClockError(AdinsightsError):
    """This host's clock and a server's are far apart; nothing was deleted or archived."""


def require_same_time(host: datetime, server: float, whose: str) -> None:
    """Refuses a host's clock that is more than an hour from a server's, whichever of the two is wrong.

    Args:
        host: The moment by this host's clock.
        server: The same moment by the server's, in seconds since 1970: what `ASK` returns.
        whose: Which server.
    """
    if abs(host.timestamp() - server) > _MOST_APART.total_seconds():
        ours, theirs = (
            f"{each:%Y-%m-%d %H:%M}" for each in (host.astimezone(UTC), datetime.fromtimestamp(server, UTC))
        )
        raise ClockError(
            f"this host's clock says {ours} UTC, that of {whose} {theirs}",
            next_step="Nothing was deleted or archived: by a clock that is ahead, rows would be past their window too"
            " early. Set the wrong one (chrony, timedatectl), then run it again.",
        )
