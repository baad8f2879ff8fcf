"""Ports for servers that do not choose their own."""

from __future__ import annotations

import random
import socket
from typing import Final

RANGE: Final = range(10_000, 32_000)
"""Below what the system gives to connections: one of those would take a port before its server does."""
_given: Final = set[int]()


def free_port() -> int:
    """A port that is free now, and that this process has not given before."""
    while True:
        port = random.choice(RANGE)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
