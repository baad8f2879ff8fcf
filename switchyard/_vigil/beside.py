"""The beginning of a process beside a worker, which ends with it however the worker ends.

The first message, on a socket of its own, says all that it has to know; an argument would be seen by others.
It uses the standard library alone, so that such a process can be small.
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


def begin(channel_fd: int, stacks_fd: int, parent: int) -> tuple[socket.socket, dict[str, Any]]:
    """Follow the worker, and read what it says first.

    Args:
        channel_fd: the socket to the worker.
        stacks_fd: the pipe out of which the worker's stacks come.
        parent: the worker's process id.
    """

    def on_death(*_: object) -> None:
        if os.getppid() != parent:  # it comes also when the thread ends that has started us
            os._exit(0)

    # Whoever ends the whole group or control group ends the worker, which still drains: that is when to end.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, on_death)
    # What a handler in a thread of the worker held back is not held back here.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux alone has it
    if prctl is not None:
        prctl(PR_SET_PDEATHSIG, signal.SIGUSR1)
    if os.getppid() != parent:  # it died before the kernel was asked
        sys.exit(0)
    channel = socket.socket(fileno=channel_fd)
    channel.set_inheritable(False)
    os.set_inheritable(stacks_fd, False)
    return channel, _first_message(channel)


def _first_message(channel: socket.socket) -> dict[str, Any]:
    """Its length in four bytes, and JSON; ends the process if the worker is gone."""
    header = channel.recv(HEADER.size, socket.MSG_WAITALL)
    if len(header) < HEADER.size:
        sys.exit(0)
    (size,) = HEADER.unpack(header)
    body = channel.recv(size, socket.MSG_WAITALL)
    if len(body) < size:
        sys.exit(0)
    message: dict[str, Any] = json.loads(body)
    return message
