"""The start of the process that keeps a worker's leases: what it needs is small, and no handler runs in it.

The first message, on a socket of its own, says all that it has to know; an argument would be seen by others.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import struct
import sys
from typing import Any, Final

HEADER: Final = struct.Struct("!I")
PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>
WEB_SOCKETS: Final = ("ws://", "wss://")


def _first_message(channel: socket.socket) -> dict[str, Any]:
    """What the worker says first: its length in four bytes, and JSON; ends the process if it is gone."""
    header = channel.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        sys.exit(0)
    (size,) = HEADER.unpack(header)
    body = channel.recv(size, socket.MSG_WAITALL)
    if len(body) < size:
        sys.exit(0)
    said: dict[str, Any] = json.loads(body)
    return said


def main() -> None:
    """Keep the leases of the worker at the other end of the socket, until either ends."""
    channel_fd, stacks_fd, parent = (int(argument) for argument in sys.argv[1:])
    # Whoever ends the whole group or control group ends the worker, which still drains: that is when to end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0) if os.getppid() != parent else None)
    prctl = getattr(
        ctypes.CDLL(None), "prctl", None
    )  # Linux alone has it; elsewhere the socket's end must do
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:  # it died before the kernel was asked
        return
    channel = socket.socket(fileno=channel_fd)
    channel.set_inheritable(False)
    os.set_inheritable(stacks_fd, False)
    said = _first_message(channel)
    if not any(url.startswith(WEB_SOCKETS) for url in said["url"].split(",")):
        sys.modules["aiohttp"] = None  # type: ignore[assignment]  # half of the start, for web sockets alone
    from services.worker import vigil_duty  # noqa: PLC0415 - what it imports depends on what was said

    vigil_duty.run(said, channel, stacks_fd, parent)


if __name__ == "__main__":
    main()
