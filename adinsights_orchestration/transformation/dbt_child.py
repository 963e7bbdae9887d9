"""The dbt process itself: dbt's own command line, on a leash.

Belongs here: what must hold inside the process that is dbt. Does not belong here: anything of ours; this file runs by
path, imports the standard library and dbt only, and is never imported by the package. The leash is standard input: the
parent holds its other end open, and when the parent is gone, however it died, dbt stops instead of going on building
beside whatever is started next.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time

_GRACE_SECONDS = 10.0  # for dbt to cancel its queries
_KILLED = 137


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_GRACE_SECONDS)
    os._exit(_KILLED)


def main() -> None:
    """Runs dbt with this process's arguments; exits with dbt's code (0 done, 1 something failed, 2 not carried out)."""
    # A parent that was started in the background may have SIGINT ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Importing dbt makes a million objects that all stay: collecting while it happens costs a fifth of the start-up.
    gc.disable()
    from dbt.cli.main import cli

    gc.freeze()
    gc.enable()
    sys.argv[0] = "dbt"
    cli()


if __name__ == "__main__":
    main()
