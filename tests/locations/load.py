"""Loads one code location as a fresh process does, and prints what it is, what it imported and what it touched."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

module, canary = sys.argv[1], sys.argv[2]
sockets: list[str] = []
written: list[str] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        sockets.append(f"{event} {arguments[1:]}")
    # A path that is a number is a pipe or file that is open already.
    if event == "open" and not isinstance(arguments[0], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        written.append(str(arguments[0]))


sys.addaudithook(_watch)
import importlib  # noqa: E402

from dagster._core.remote_representation.external_data import RepositorySnap  # noqa: E402
from dagster._serdes import serialize_value  # noqa: E402

found: dict[str, Any] = {"error": ""}
try:
    repository = importlib.import_module(module).defs().get_repository_def()
except Exception as error:  # noqa: BLE001  (whatever it is, the parent shows it)
    found["error"] = f"{type(error).__name__}: {error}"
else:
    snapshot = serialize_value(RepositorySnap.from_def(repository))
    found |= {
        "assets": len(repository.asset_graph.get_all_asset_keys()),
        "sensors": sorted(one.name for one in repository.sensor_defs),
        "leaks": canary in snapshot,
        "size": len(snapshot),
    }
found |= {
    "sockets": sockets,
    "written": [path for path in written if "__pycache__" not in path and path != os.devnull],
    "modules": sorted(sys.modules),
}
json.dump(found, sys.stdout)
