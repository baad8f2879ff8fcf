"""Servers that speak as OpenAI's API does (docs/push.md)."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any, Final

import aiohttp
import msgspec
import orjson

from switchyard.events.errors import InvalidError
from switchyard.services import clock
from switchyard.services.connectors.protocol import FatalError
from switchyard.services.dispatch.push.openai_options import PATHS, OpenAIOptions, asked_of, sort_of, url_of
from switchyard.services.outbound.client import AnswerTooLargeError, bounded
from switchyard.services.pusher.calling import Answer, Reading
from switchyard.services.pusher.profiles.openai.answers import streamed, whole
from switchyard.services.pusher.profiles.openai.models import models_of
from switchyard.services.pusher.profiles.openai.refusals import judged
from switchyard.services.pusher.profiles.protocol import Asked, Profile, Ref, Task

REFUSAL_BYTES: Final = 64 * 1024
REFUSAL_S: Final = 5.0
MODELS_BYTES: Final = 1024 * 1024
"""Some services have hundreds of models, and much to say of each."""
STREAM: Final = "text/event-stream"


class OpenAIProfile(Profile):
    """Posts the payload to one of three endpoints below `endpoints.predict`."""

    health_bytes = MODELS_BYTES

    async def request(self, task: Task, /) -> Asked:
        """The payload as it is, except for how the answer comes."""
        try:
            asked = asked_of(_options(task.ref), task.ref.kind, task.payload)
        except InvalidError as error:
            raise FatalError("payload_invalid", error.message) from error
        url = url_of(task.ref.server.endpoints.predict, PATHS[asked.sort])
        return Asked(url, asked.body)

    async def judged(self, task: Task, answer: aiohttp.ClientResponse, reading: Reading, /) -> Answer:
        """A success as it says, as it comes where it is a stream; else whose fault it is."""
        if not 200 <= answer.status < 300:
            return await _refused(answer, reading)
        sort = sort_of(_options(task.ref), task.ref.kind)
        if sort is None:
            raise AssertionError("a kind without an endpoint is not asked for")
        if answer.content_type == STREAM and sort == "chat":
            return await streamed(answer, reading, _number(task.payload.get("n")))
        return await whole(
            sort, answer, reading, reading.files_bytes if sort == "images" else reading.most_bytes
        )

    def calls_back(self, _ref: Ref, /) -> bool:
        """As `Profile.calls_back`: never."""
        return False

    def found(self, raw: bytes, /) -> dict[str, Any]:
        """The models of a server, where its health endpoint lists them."""
        try:
            models = models_of(msgspec.json.decode(raw))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return {}
        return {} if models is None else {"models": list(models)}


async def _refused(answer: aiohttp.ClientResponse, reading: Reading) -> Answer:
    raw = b""
    if not 300 <= answer.status < 400:
        # What is too large or breaks off does not matter: the status says enough.
        with contextlib.suppress(AnswerTooLargeError, aiohttp.ClientError, OSError):
            async with asyncio.timeout(REFUSAL_S):
                raw = await bounded(answer, REFUSAL_BYTES)
    answer.close()
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    text = raw.decode("utf-8", "replace")
    return judged(answer.status, answer.headers, body, text, clock.now(), reading.hidden)


def _options(ref: Ref) -> OpenAIOptions:
    found: OpenAIOptions = ref.options
    return found


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 128 else 1
