"""`/metrics`, `/livez` and `/readyz` of a process, from a thread of its own.

The part's event loop is what has to be judged, so it is not what answers: while it is stuck, `/livez` says so
as soon as that has lasted for `live_stall_s`, and `/readyz` at once. Code that holds the interpreter lock
stops this thread too; then nothing answers, which says the same.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import orjson
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from switchyard.events.errors import SwitchyardError
from switchyard.services.settings import Settings
from switchyard.services.telemetry.loop import Heartbeat
from switchyard.services.telemetry.part import Telemetry
from switchyard.services.telemetry.unbranded import Unbranded

log = structlog.get_logger()

CONNECTIONS: Final = 64
KEEP_ALIVE_S: Final = 5.0
METRICS_S: Final = 4.0
REQUEST_S: Final = 10.0
START_S: Final = 30.0
END_S: Final = 2.0
FAULT: Final = 500
JSON: Final = "application/json"

_T = TypeVar("_T")


class CannotListenError(SwitchyardError):
    """The address is taken, not ours, or not permitted."""


class Listener:
    """Answers while the block runs.

    Args:
        telemetry: that of the process.
        heartbeat: that of the loop that makes this, which is asked and judged.
        settings: address and limits.
    """

    def __init__(self, telemetry: Telemetry, heartbeat: Heartbeat, settings: Settings) -> None:
        self.url = ""
        self._telemetry = telemetry
        self._heartbeat = heartbeat
        self._settings = settings
        self._asked = asyncio.get_running_loop()
        self._started: Future[str] = Future()
        self._own: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._routes: dict[str, Callable[[], Awaitable[web.Response]]] = {
            "/metrics": self._metrics, "/livez": self._livez, "/readyz": self._readyz,
        }  # fmt: skip

    def __enter__(self) -> Self:
        """Listen.

        Raises:
            CannotListenError: the address cannot be used.
        """
        self._thread.start()
        try:
            self.url = self._started.result(START_S)
        except OSError as error:
            host, port = self._settings.metrics_host, self._settings.metrics_port
            raise CannotListenError(
                f"cannot listen on {host}:{port}: {error.strerror or error}; choose another with "
                "SWITCHYARD_METRICS_PORT, or none to do without"
            ) from None
        log.info("telemetry_served", url=self.url, part=self._telemetry.process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; requests under way are broken off."""
        if self._own is not None:
            self._own.call_soon_threadsafe(self._ending.set)
        self._thread.join(END_S)

    # --- The thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            else:
                log.exception("telemetry_failed")

    async def _serve(self) -> None:
        self._own, self._ending = asyncio.get_running_loop(), asyncio.Event()
        options: dict[str, Any] = {"keepalive_timeout": KEEP_ALIVE_S, "access_log": None}
        server = web.Server(self._answer, **options)

        def protocol() -> asyncio.BaseProtocol:
            if len(server.connections) >= CONNECTIONS:
                return _Refused()
            return _Handler(server, loop=asyncio.get_running_loop(), **options)

        listening = await self._own.create_server(
            protocol, self._settings.metrics_host, self._settings.metrics_port
        )
        try:
            host, port, *_ = listening.sockets[0].getsockname()
            self._started.set_result(f"http://{f'[{host}]' if ':' in host else host}:{port}")
            await self._ending.wait()
        finally:
            listening.close()
            await server.shutdown(0)

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        handler = self._routes.get(request.path)
        if handler is None:
            return Unbranded(status=404, text=f"there are {', '.join(self._routes)}\n")
        if request.method not in ("GET", "HEAD"):
            return Unbranded(status=405, headers={"Allow": "GET, HEAD"})
        return await handler()

    # --- What it answers

    async def _metrics(self) -> web.Response:
        await self._from_part(self._telemetry.refresh(), METRICS_S)
        return Unbranded(body=self._telemetry.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _livez(self) -> web.Response:
        stuck_s = self._heartbeat.stuck_s()
        lives = stuck_s < self._settings.live_stall_s
        return _json({"live": lives, "loop_stuck_s": round(stuck_s, 1)}, ok=lives)

    async def _readyz(self) -> web.Response:
        parts = await self._from_part(self._telemetry.ask(), self._settings.answer_s)
        stuck_s = self._heartbeat.stuck_s()
        loop = {"ok": parts is not None and stuck_s < self._settings.ready_stall_s}
        body: dict[str, Any] = {"loop": loop | {"stuck_s": round(stuck_s, 1)}, **(parts or {})}
        checks = [check for of_part in (parts or {}).values() for check in of_part.values()]
        ready = loop["ok"] and bool(checks) and all(check["ok"] for check in checks)  # none: it begins
        return _json({"ready": ready, "loop": body.pop("loop"), "parts": body}, ok=ready)

    async def _from_part(self, asking: Coroutine[Any, Any, _T], limit_s: float) -> _T | None:
        """What the part's own loop says; None when it does not within the time."""
        future = asyncio.run_coroutine_threadsafe(asking, self._asked)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), limit_s)
        except TimeoutError:
            return None
        except Exception:
            log.exception("part_not_asked", part=self._telemetry.process)
            return None


class _Handler(web.RequestHandler):
    """A connection whose requests come within their time, or it is closed; what is no HTTP is answered 400.

    Without that, so many clients that send nothing would keep everybody else out.
    """

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request, but not for ever."""
        super().connection_made(transport)
        self._first = self._loop.call_later(REQUEST_S, self.force_close)

    def data_received(self, data: bytes) -> None:
        """Take bytes; once a request is whole, the time without one is limited by keep-alive."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._first.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        """It ended."""
        self._first.cancel()
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP, without the server's name."""
        if status >= FAULT or request.writer.output_size > 0:
            super().handle_error(request, status, exc, message)  # logs it, or raises where an answer is out
        response = Unbranded(status=status, text="the request cannot be read\n" if status < FAULT else "")
        response.force_close()
        return response


class _Refused(asyncio.Protocol):
    """A connection that is one too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close it."""
        transport.close()


def _json(body: dict[str, Any], *, ok: bool) -> web.Response:
    headers = {} if ok else {"Retry-After": "1"}
    return Unbranded(body=orjson.dumps(body), status=200 if ok else 503, headers=headers, content_type=JSON)
