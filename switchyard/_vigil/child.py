"""What the process beside a worker over REST does: it renews leases while the worker's event loop does not.

Lines of JSON come from the worker, each an object; times are of `time.monotonic`, the same in all processes:

    {"beat": number}        the worker's event loop goes round; answered with the same
    {"lease": id, "job", "headers", "renewed_at", "until", "lease_s"}
                            a lease, to be renewed by so much until then at most; again where that changes
    {"renewed": id, "at"}   the worker has renewed it itself
    {"ended": id}           it is not held any more

and go to it:

    {"renewed": id, "asked_at", "cancel"}   it was renewed, and whether its job is to be stopped
    {"over": id, "is_timeout"}              it is gone, or else the attempt's time is over
    {"unblocked": {...}}                    its loop was blocked: for how long, by what

It uses the standard library alone, so it is small and starts at once, and blocks in threads, a few at most.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import logging.handlers
import os
import queue
import selectors
import socket
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit

from switchyard._vigil import beside
from switchyard._vigil.blockage import Blockage

log = logging.getLogger("switchyard.worker")

AT_ONCE: Final = 8
RETRY_S: Final = 1.0
LEAST_ANSWER_S: Final = 1.0
MOST_ANSWER_S: Final = 10.0
READ_BYTES: Final = 64 * 1024
LINE_BYTES: Final = 1024 * 1024
ANSWER_BYTES: Final = 64 * 1024
UNSENT_BYTES: Final = 1024 * 1024
LINES_UNSAID: Final = 100


class Gateway:
    """Asks a gateway as the worker's own session does: to the same place, by the same certificates.

    Args:
        url: its base.
        headers: those of each request.
        timeout_s: for each step of one.
    """

    def __init__(self, url: str, headers: dict[str, str], timeout_s: float) -> None:
        self._parts = urlsplit(url)
        self._headers = headers
        self._timeout_s = timeout_s
        self._tls = ssl.create_default_context() if self._parts.scheme == "https" else None

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """The status and the body, which is empty if it is no object.

        Raises:
            OSError: there is no answer.
            http.client.HTTPException: what answers is not HTTP.
            ValueError: it cannot be asked so.
        """
        host, port = self._parts.hostname or "", self._parts.port
        connection = (
            http.client.HTTPConnection(host, port, timeout=self._timeout_s)
            if self._tls is None
            else http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=self._tls)
        )
        with contextlib.closing(connection):
            connection.request("POST", self._parts.path + path, body, self._headers | headers)
            answer = connection.getresponse()
            message = answer.read(ANSWER_BYTES)
        try:
            found = json.loads(message)
        except ValueError:
            found = None
        return answer.status, found if isinstance(found, dict) else {}


class _Kept:
    """A lease that is being kept."""

    __slots__ = ("again_at", "body", "headers", "is_asked", "is_over", "job", "renewed_at", "until")

    def __init__(self, message: dict[str, Any]) -> None:
        self.job: str = message["job"]
        self.headers: dict[str, str] = message["headers"]
        self.renewed_at: float = message["renewed_at"]
        self.until: float = message["until"]
        self.body = json.dumps({"lease_s": message["lease_s"]}).encode()
        self.again_at = 0.0
        self.is_asked = self.is_over = False


class Duty:
    """Keeps one worker's leases.

    Args:
        message: the worker's first message.
        channel: to the worker.
        stacks_fd: where the worker's stacks come from.
        parent: the worker's process id.
    """

    def __init__(self, message: dict[str, Any], channel: socket.socket, stacks_fd: int, parent: int) -> None:
        self._worker: str = message["worker"]
        self._every_s: float = message["every_s"]
        self._late_s: float = message["late_s"]
        self._stall_s: float = message["stall_s"]
        answer_s = min(MOST_ANSWER_S, max(LEAST_ANSWER_S, message["lease_s"] / 3))
        self._gateway = Gateway(message["url"], message["headers"], answer_s)
        self._channel = channel
        self._parent = parent
        self._unread = b""
        self._unsent = bytearray()
        self._blocked: dict[str, Any] = {}
        self._kept: dict[str, _Kept] = {}
        self._is_stalled = False
        self._sending = threading.Lock()
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="renewal")
        self._blockage = Blockage(stacks_fd, self._worker, message["thread"], self._jobs, self._say)
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(channel, selectors.EVENT_READ, self._listen)
        self._waiting.register(stacks_fd, selectors.EVENT_READ, self._blockage.on_stack)
        channel.setblocking(False)

    def work(self) -> None:
        """Renew until the worker is gone, which ends the process."""
        while True:
            for key, _ in self._waiting.select(self._late_s / 2):
                key.data()
            if os.getppid() != self._parent:
                os._exit(0)
            self._send()
            self._check()
            self._renew_all()

    def _jobs(self) -> list[str]:
        return [kept.job for kept in self._kept.values()]

    def _say(self, event: str, /, **fields: Any) -> None:
        """At once in this process's log, for the worker may never speak again; in its own when it does."""
        if event == "loop_unblocked":
            self._report({"unblocked": self._blocked | fields})
            return
        log.warning("%s %s", event, _shown(fields))
        if event == "loop_blocked":
            self._blocked = fields

    # --- From and to the worker

    def _listen(self) -> None:
        try:
            part = self._channel.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        if not part or len(self._unread) > LINE_BYTES:
            os._exit(0)
        *lines, self._unread = (self._unread + part).split(b"\n")
        for line in lines:
            self._obey(json.loads(line))

    def _obey(self, message: dict[str, Any]) -> None:
        match message:
            case {"beat": number}:
                self._blockage.beat()
                self._report({"beat": number})
            case {"lease": lease}:
                self._kept[lease] = _Kept(message)
            case {"renewed": lease, "at": at}:
                if (kept := self._kept.get(lease)) is not None:
                    kept.renewed_at = max(kept.renewed_at, at)
            case {"ended": lease}:
                self._kept.pop(lease, None)

    def _report(self, line: dict[str, Any]) -> None:
        """A line that finds no room is left out: a worker that has read nothing for so long has lost all."""
        with self._sending:
            if len(self._unsent) < UNSENT_BYTES:
                self._unsent += json.dumps(line).encode() + b"\n"
        self._send()

    def _send(self) -> None:
        with self._sending, contextlib.suppress(OSError):
            while self._unsent:
                del self._unsent[: self._channel.send(self._unsent)]

    # --- The work

    def _check(self) -> None:
        """Look at the worker's loop and at the time of its leases."""
        self._blockage.check()
        blocked_s = self._blockage.seconds
        is_stalled = blocked_s > self._stall_s
        if is_stalled and not self._is_stalled:
            effect = "its leases are renewed no more"
            self._say(
                "worker_stalled", worker=self._worker, seconds=round(blocked_s, 1), jobs=self._jobs(),
                effect=effect,
            )  # fmt: skip
        self._is_stalled = is_stalled
        now = time.monotonic()
        for lease, kept in list(self._kept.items()):
            if kept.is_over:
                del self._kept[lease]
            elif kept.until < now:
                del self._kept[lease]
                log.warning("lease_outstayed job=%s: it is renewed no more, its time is over", kept.job)

    def _renew_all(self) -> None:
        """Renew what is due, if the worker's loop does not, though has within its time."""
        if self._is_stalled or self._blockage.seconds < self._late_s:
            return
        now = time.monotonic()
        for lease, kept in self._kept.items():
            if not kept.is_asked and now >= max(kept.renewed_at + self._every_s, kept.again_at):
                kept.is_asked = True
                self._threads.submit(self._renew, lease, kept)

    def _renew(self, lease: str, kept: _Kept) -> None:
        """In a thread of its own."""
        asked_at = time.monotonic()
        try:
            status, answer = self._gateway.post(f"/v1/leases/{lease}/renew", kept.body, kept.headers)
            if status == 200:
                kept.renewed_at = max(kept.renewed_at, asked_at)
                cancel = answer.get("cancel_requested") is True
                self._report({"renewed": lease, "asked_at": asked_at, "cancel": cancel})
            elif status == 409:
                kept.is_over = True
                self._report({"over": lease, "is_timeout": answer.get("code") == "attempt_timeout"})
            else:
                log.warning("lease %s was not renewed: status %d", lease, status)
        except (OSError, http.client.HTTPException, ValueError) as error:
            log.warning("lease %s was not renewed: %r", lease, error)
        finally:
            kept.again_at = time.monotonic() + min(RETRY_S, self._every_s)
            kept.is_asked = False


def _shown(fields: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in fields.items())


class _Queued(logging.handlers.QueueHandler):
    """Leaves out what finds no room: a log that nobody reads must not hold up the renewals."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        pass


def _log_in_a_thread() -> None:
    lines: queue.Queue[logging.LogRecord] = queue.Queue(LINES_UNSAID)
    stream = logging.StreamHandler()
    stream.setFormatter(logging.Formatter("%(levelname)s:%(name)s:%(message)s"))
    log.addHandler(_Queued(lines))
    log.propagate = False
    logging.handlers.QueueListener(lines, stream).start()


def main(channel_fd: str, stacks_fd: str, parent: str) -> None:
    """Keep the leases of the worker at the other end of the socket, until either ends."""
    channel, message = beside.begin(int(channel_fd), int(stacks_fd), int(parent))
    _log_in_a_thread()
    try:
        Duty(message, channel, int(stacks_fd), int(parent)).work()
    except Exception:
        log.exception("the process that renews leases fails; another one is started")
        sys.stderr.flush()
        time.sleep(0.1)
    finally:
        os._exit(1)  # a gateway that does not answer must not hold up the end
