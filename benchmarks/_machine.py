"""What the benchmarks share: ids, ports, process figures."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

NAMESPACE = UUID("3f2c1b6a-9d1e-5c44-8c55-1d9a0a7be001")


def free_port() -> int:
    """A loopback port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Cost:
    """What something took.

    Attributes:
        wall: Seconds that passed.
        client: CPU seconds of this process and of those that it started and that have ended.
        server: CPU seconds of the database server, all of its processes.
    """

    wall: float = 0.0
    client: float = 0.0
    server: float = 0.0

    @property
    def cpu(self) -> float:
        """CPU seconds of both sides, which a machine that is shared changes least."""
        return self.client + self.server


@contextmanager
def measured(server: Callable[[], float]) -> Iterator[Cost]:
    """What the body takes, in the end; the server's CPU seconds so far are asked of the caller."""
    cost = Cost()
    began, client, server_began = time.monotonic(), _with_children(), server()
    yield cost
    cost.wall, cost.client = time.monotonic() - began, _with_children() - client
    cost.server = server() - server_began


def _with_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return cpu_seconds() + usage.ru_utime + usage.ru_stime


def cpu_seconds() -> float:
    """CPU seconds of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
