"""The routes of a server, each asked with user and password, and the one call that takes as long as the work.

Source: `modules/api` and `modules/progress.py` of AUTOMATIC1111's web UI, of Forge and of SD.Next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import aiohttp

from switchyard.services.connectors.a1111.section import A1111Section
from switchyard.services.connectors.comfyui import api
from switchyard.services.connectors.comfyui.api import Answer, AwayError, parsed

PATHS: Final = {
    "txt2img": "/sdapi/v1/txt2img",
    "img2img": "/sdapi/v1/img2img",
    "inpaint": "/sdapi/v1/img2img",
    "upscale": "/sdapi/v1/extra-single-image",
    "interrogate": "/sdapi/v1/interrogate",
}
"""By task, the route that does it."""
INTERRUPT: Final = "/sdapi/v1/interrupt"
PROGRESS: Final = "/sdapi/v1/progress?skip_current_image=true"
TASK: Final = "/internal/progress"
PENDING: Final = "/internal/pending-tasks"


class ForbiddenError(AwayError):
    """The server takes user and password, and not these."""


class Api(api.Api):
    """A client of one server.

    Args:
        section: where it is, and its times.
        alive: called with each answer.
    """

    def __init__(self, section: A1111Section, *, alive: Callable[[], None]) -> None:
        super().__init__(section.address, answer_s=section.answer_s, stall_s=section.lost_s, alive=alive)
        said = section.authorization
        self._headers = {} if said is None else {"Authorization": said}

    def _http(self) -> aiohttp.ClientSession:
        if self._closed:
            raise AwayError("the connector is closed")
        if self._session is None:
            # A connection that was kept may be closed by the server at the very moment of a call, and nobody
            # would know whether the work has begun.
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(), headers=self._headers,
            )  # fmt: skip
        return self._session

    async def get(self, path: str, *, answer_s: float | None = None) -> Any:
        """The JSON value that a path has.

        Raises:
            ForbiddenError: user and password are wanted, or others.
            AwayError: it does not answer, or not as such servers do.
        """
        status, body = await self.ask("GET", path, answer_s=answer_s)
        if status in (401, 403):
            raise ForbiddenError("it does not take the user and password of the section", answered=True)
        if status == 404 and path.startswith("/sdapi"):
            raise AwayError("it has no API: start it with --api", answered=True)
        if status != 200:
            raise AwayError(f"it answers {status} to {path.partition('?')[0]}", answered=True)
        return await parsed(body)

    async def post(self, path: str, body: Any) -> Any:
        """What it answers with 200 to a small question; None for any other answer.

        Raises:
            AwayError: it does not answer in time, or with what is no JSON.
        """
        status, said = await self.ask("POST", path, body)
        return await parsed(said) if status == 200 else None

    async def call(self, path: str, body: bytes, most_bytes: int, moved: Callable[[], None]) -> Answer:
        """Have work done; it answers when that is done, however long it takes.

        Args:
            path: one of `PATHS`.
            body: JSON.
            most_bytes: what the answer may have.
            moved: called as often as something of the answer comes.

        Raises:
            AwayError: the connection was not made.
            BrokenError: it broke off; whether the work is done is not known.
            TooLargeError: the answer has more bytes.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=api.CONNECT_S)
        headers = {"Content-Type": "application/json"}
        sent = False
        try:
            async with self._requested("POST", path, limits, data=body, headers=headers) as response:
                sent = True
                if (response.content_length or 0) > most_bytes:
                    raise api.TooLargeError
                whole = bytearray()
                async for chunk in response.content.iter_chunked(api.CHUNK_BYTES):
                    whole += chunk
                    moved()
                    if len(whole) > most_bytes:
                        raise api.TooLargeError
                return Answer(response.status, bytes(whole))
        except AwayError as error:
            if error.refused and not sent:
                raise
            raise BrokenError(str(error)) from None


class BrokenError(Exception):
    """A call broke off; the message says how, for people."""
