"""One process that runs one function after another: the child side of `processes`.

Frames are a length of four bytes (big-endian) and that much JSON, over a socket of their own, so that a
library that prints disturbs nothing. From the parent: `{"call", "function", "arguments"}`, and "before" with
a function that is called once in the life of the child. From the child: any number of `{"call", "progress"}`
and then one of `{"call", "result"}`, `{"call", "error"}` and `{"memory"}`; the first two with `"left"` where
the call has left something behind. `call` is the parent's number of the call.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import faulthandler
import importlib
import os
import resource
import socket
import struct
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NoReturn

import orjson

from switchyard._worker.given.errors import (
    BusyError,
    ConnectorError,
    FatalError,
    RetryableError,
    traceback_of,
)
from switchyard._worker.traceback import forget
from switchyard.events.outcome import exception_text, failure_of
from switchyard.services.connectors.isolation.supervisor import die_with_parent
from switchyard.services.connectors.isolation.traces import Traces

__all__ = ["ERRORS", "HEADER", "MAX_FRAME_BYTES", "NO_CONTEXT", "die_with_parent", "frame", "serve"]

HEADER: Final = struct.Struct("!I")
MAX_FRAME_BYTES: Final = 16 * 1024 * 1024  # larger things travel as files
ERRORS: Final[dict[str, type[ConnectorError]]] = {
    kind.__name__: kind for kind in (FatalError, RetryableError, BusyError)
}
NO_CONTEXT: Final = "a forked process has no context: give what it is to report to the handler's own"
_IOLBF: Final = 1  # <stdio.h>

_libc = ctypes.CDLL(None)
_MEMORY_FRAME: Final = HEADER.pack(15) + b'{"memory":true}'  # made while there still was memory


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


class _Channel:
    """The socket to the parent: whole frames from any thread, and none from a copy of this process."""

    def __init__(self, descriptor: int) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._owner = os.getpid()
        self._lock = threading.Lock()
        self._writer = 0
        self._waiting: deque[bytes] = deque()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """A copy of this process was asked nothing: it holds no end of the socket, and answers nothing."""
        self._socket.close()

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that was asked."""
        return os.getpid() == self._owner

    def send(self, data: bytes) -> None:
        """Send a frame after those that wait already.

        Raises:
            RuntimeError: this is a fork of the process that was asked.
        """
        if not self.is_ours:
            raise RuntimeError(NO_CONTEXT)
        self._waiting.append(data)
        thread = threading.get_ident()
        if self._writer == thread:  # in a signal handler; what it interrupted sends this after its own frame
            return
        with self._lock:
            self._writer = thread
            try:
                while self._waiting:
                    self._socket.sendall(self._waiting.popleft())
            finally:
                self._writer = 0

    def receive(self) -> bytes:
        """The next frame's body, or nothing when the parent is gone."""
        header = self._exactly(HEADER.size)
        return self._exactly(*HEADER.unpack(header)) if header else b""

    def _exactly(self, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            try:
                chunk = self._socket.recv(size - len(received))
            except ConnectionError:
                return b""
            if not chunk:
                return b""
            received += chunk
        return bytes(received)


class _Reports:
    """What a call reports, until it ends: what comes later is nobody's."""

    def __init__(self, channel: _Channel, call: int) -> None:
        self._channel = channel
        self._call = call
        self.ended = False

    def __call__(self, progress: dict[str, Any]) -> None:
        if not self.ended:
            self._channel.send(frame({"call": self._call, "progress": progress}))


def _confine(supervisor: int, address_space_bytes: int | None) -> None:
    die_with_parent()
    if os.getppid() != supervisor:  # it died before the kernel was asked
        os._exit(1)
    if address_space_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # When the machine runs out of memory the parser is to die, not the worker.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr] # the real ones, as yet
    with contextlib.suppress(
        ValueError, AttributeError
    ):  # lines that C libraries print are shown at once too
        _libc.setvbuf(ctypes.c_void_p.in_dll(_libc, "stdout"), None, _IOLBF, 8192)
    faulthandler.enable()


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error comes of a lack of memory, however a library wrapped it."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        kind = type(error)  # the class's own word may raise anything
        if issubclass(kind, MemoryError) or (
            issubclass(kind, OSError) and getattr(error, "errno", 0) == errno.ENOMEM
        ):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _named(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    return found


class _Server:
    """Answers calls, one after another."""

    def __init__(self, channel: _Channel, supervisor: int) -> None:
        self._channel = channel
        self._supervisor = supervisor
        self._prepared = False
        self._traces: Traces | None = None

    def answer(self, call: dict[str, Any]) -> None:
        """Run one function and send the frame that ends the call."""
        number = call["call"]
        reports = _Reports(self._channel, number)
        try:
            self._prepare(call)
            function = _named(call["function"])
            if self._traces is None:  # else it is as it was after the last call
                self._traces = Traces(self._supervisor)
            ended = self._ended(number, {"result": function(call["arguments"], reports)})
        except Exception as error:  # noqa: BLE001 - the boundary around foreign code: all goes to the parent
            if not self._channel.is_ours:
                traceback.print_exc()
                _leave(1)
            if _is_out_of_memory(error):
                self._channel.send(_MEMORY_FRAME)
                return
            described = _described(error)
            forget(error)
        except SystemExit as error:
            if not self._channel.is_ours:
                _leave(error.code if isinstance(error.code, int) else int(error.code is not None))
            raise
        else:
            reports.ended = True
            self._channel.send(ended)
            return
        # Here the error is gone, and with it what only its frames have held.
        reports.ended = True
        self._channel.send(self._ended(number, {"error": described}))

    def _prepare(self, call: dict[str, Any]) -> None:
        before = call.get("before")
        if before is not None and not self._prepared:
            _named(before["function"])(before["arguments"])
            self._prepared = True

    def _ended(self, number: int, outcome: dict[str, Any]) -> bytes:
        if not self._channel.is_ours:  # the function has forked, and this is the copy
            _leave(0)
        body = frame({"call": number, **outcome})  # a result that is none is the call's error
        _flush()
        left = self._traces.left() if self._traces is not None else []
        return frame({"call": number, **outcome, "left": left}) if left else body


def _flush() -> None:
    """Let the parent find all output in the pipe when it finds the answer."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # it may be anything by now
            stream.flush()
    _libc.fflush(None)


def _leave(status: int) -> NoReturn:
    """End a copy of the process that was asked."""
    _flush()
    os._exit(status & 0xFF)


def _described(error: Exception) -> dict[str, str]:
    if isinstance(error, ConnectorError):
        kind = next(name for name, known in ERRORS.items() if isinstance(error, known))
        failure = failure_of(error.code, error.message, retryable=kind != FatalError.__name__)
        if kind == RetryableError.__name__ and not failure.retryable:
            kind = FatalError.__name__  # its code is none
        described = {"kind": kind, "code": failure.code, "message": failure.message}
    else:
        message = exception_text(error)
        described = {"kind": RetryableError.__name__, "code": "internal", "message": message}
    return described | {"traceback": traceback_of(error)}


def serve(descriptor: int, supervisor: int, options: dict[str, Any]) -> NoReturn:
    """Serve calls until the parent closes the socket."""
    channel = _Channel(descriptor)
    _confine(supervisor, options["address_space_bytes"])
    server = _Server(channel, supervisor)
    while body := channel.receive():
        server.answer(orjson.loads(body))
    os._exit(0)
