"""The child side of `services.worker.processes`: one process that runs one function after another.

Frames are a length of four bytes (big-endian) and that much JSON, over a socket of their own, so that a
library that prints disturbs nothing. From the parent: `{"function", "arguments"}`. From the child: any
number of `{"progress"}`, then one of `{"result"}`, `{"error"}` and `{"memory"}`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import importlib
import os
import queue
import resource
import signal
import socket
import struct
import sys
import threading
from pathlib import Path
from typing import Any, Final

import orjson

from events.outcome import exception_text, failure_of, trace_of
from services.connectors.protocol import BusyError, ConnectorError, FatalError, RetryableError

HEADER: Final = struct.Struct("!I")
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024  # larger things travel as files
STACK_BYTES: Final = 512 * 1024  # the reader's own; the default of 8 MiB would count against the limit
ERRORS: Final[dict[str, type[ConnectorError]]] = {
    kind.__name__: kind for kind in (FatalError, RetryableError, BusyError)
}
PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>

_prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux alone has it; elsewhere the socket's end must do
_MEMORY_FRAME: Final = HEADER.pack(15) + b'{"memory":true}'  # made while there still was memory


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that started it ends.

    It also serves as `preexec_fn` for the programs a function starts: killed from outside, this process
    cannot kill them itself.
    """
    if _prctl is not None:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def frame(message: dict[str, Any]) -> bytes:
    """One message as it travels.

    Raises:
        FatalError: code `message_too_large`.
    """
    body = orjson.dumps(message)
    if len(body) > MAX_FRAME_BYTES:
        raise FatalError(
            "message_too_large", f"{len(body)} bytes are more than the {MAX_FRAME_BYTES} that fit a message"
        )
    return HEADER.pack(len(body)) + body


def _confine(memory_bytes: int, parent: int) -> None:
    die_with_parent()
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(1)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # When the machine runs out of memory the parser is to die, not the worker.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    faulthandler.enable()


def _receive(channel: socket.socket, size: int) -> bytes:
    """Exactly `size` bytes, or nothing when the parent is gone."""
    received = bytearray()
    while len(received) < size:
        try:
            chunk = channel.recv(size - len(received))
        except ConnectionError:
            return b""
        if not chunk:
            return b""
        received += chunk
    return bytes(received)


def _read_calls(channel: socket.socket, calls: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Pass on what the parent asks for, and end the whole process group when the parent is gone."""
    try:
        while (header := _receive(channel, HEADER.size)) and (
            body := _receive(channel, *HEADER.unpack(header))
        ):
            calls.put(orjson.loads(body))
    finally:
        os.killpg(0, signal.SIGKILL)


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error comes of a lack of memory, however a library wrapped it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _answer(call: dict[str, Any], channel: socket.socket) -> bytes:
    """Run one function; the frame that ends the call."""

    def report(progress: dict[str, Any]) -> None:
        channel.sendall(frame({"progress": progress}))

    try:
        module, _, name = call["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        return frame({"result": function(call["arguments"], report)})
    except Exception as error:  # noqa: BLE001 - the boundary around foreign code: all goes to the parent
        if _is_out_of_memory(error):
            return _MEMORY_FRAME
        return frame({"error": _described(error)})


def _described(error: Exception) -> dict[str, str]:
    if isinstance(error, ConnectorError):
        kind = next(name for name, known in ERRORS.items() if isinstance(error, known))
        told = failure_of(error.code, error.message, retryable=kind != FatalError.__name__)
        if kind == RetryableError.__name__ and not told.retryable:
            kind = FatalError.__name__  # its code is none
        return {"kind": kind, "code": told.code, "message": told.message}
    return {
        "kind": RetryableError.__name__,
        "code": "internal",
        "message": exception_text(error),
        "traceback": trace_of(error),
    }


def main() -> None:
    """Serve calls until the parent closes the socket or ends; never returns."""
    descriptor, memory_bytes, parent = (int(argument) for argument in sys.argv[1:])
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    _confine(memory_bytes, parent)
    calls: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.stack_size(STACK_BYTES)
    threading.Thread(target=_read_calls, args=(channel, calls), daemon=True).start()
    while True:
        channel.sendall(_answer(calls.get(), channel))


if __name__ == "__main__":
    main()
