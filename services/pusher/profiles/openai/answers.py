"""Answers that are a success: whole, or a stream that is shown as it comes."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

import aiohttp

from switchyard.events.errors import RejectedError
from switchyard.events.values import JobError
from switchyard.services import clock
from switchyard.services.dispatch.push.openai_options import Sort
from switchyard.services.dispatch.push.report import Done, Failed, OutputFile, body_of
from switchyard.services.outbound.client import bounded
from switchyard.services.outbound.sse import EventReader, StreamFaultError, StreamTooLargeError
from switchyard.services.pusher.calling import Answer, Broken, Reading, Said, shown
from switchyard.services.pusher.profiles.openai.completion import (
    ChunkError,
    Completion,
    SaidError,
    TooMuchError,
)
from switchyard.services.pusher.profiles.openai.limits import spent_s
from switchyard.services.pusher.profiles.openai.refusals import failed
from switchyard.services.records.servers.condition import Outcome

STREAM_TIMES: Final = 64
"""How many times the largest answer a stream may have in all: each token comes with some hundred bytes."""
AFTER_S: Final = 5.0
"""How long the usage is waited for, which comes after the end of all choices."""
LARGE_BYTES: Final = 1024 * 1024
END: Final = "[DONE]"
LISTS: Final[Mapping[Sort, str]] = {"chat": "choices", "embeddings": "data", "images": "data"}
IMAGES: Final = ((b"\x89PNG\r\n\x1a\n", "png"), (b"\xff\xd8\xff", "jpeg"), (b"GIF8", "gif"))
USAGE: Final = {
    "prompt_tokens": "input_tokens", "input_tokens": "input_tokens", "completion_tokens": "output_tokens",
    "output_tokens": "output_tokens", "total_tokens": "total_tokens",
}  # fmt: skip
MAX_COUNT: Final = 10**12


async def whole(sort: Sort, answer: aiohttp.ClientResponse, reading: Reading, most_bytes: int) -> Answer:
    """Read an answer that comes at once."""
    raw = await bounded(answer, most_bytes)
    is_large = len(raw) > LARGE_BYTES  # the other pushes go on meanwhile
    try:
        body = await asyncio.to_thread(body_of, raw) if is_large else body_of(raw)
    except RejectedError as error:
        return _invalid(
            f"no JSON object that can be kept: {shown(str(error), reading.hidden)}", answer.status
        )
    if is_large:
        return await asyncio.to_thread(_judged, sort, body, answer, reading)
    return _judged(sort, body, answer, reading)


async def streamed(answer: aiohttp.ClientResponse, reading: Reading, choices: int) -> Answer:
    """Read a chat that comes as a stream, and show its text; the result is the object that it would be whole.

    What breaks off or goes on after every choice has ended is whole all the same.

    Args:
        answer: whose headers have come.
        reading: how it is read, and who is shown its text.
        choices: how many were asked for.

    Raises:
        TimeoutError: it does not come whole in time.
    """
    reader = EventReader(most_bytes=reading.most_bytes, total_bytes=STREAM_TIMES * reading.most_bytes)
    completion = Completion(reading.most_bytes, choices)
    try:
        await _read(answer, reader, completion, reading)
        body = completion.whole()
    except SaidError as error:
        answer.close()
        return Said(Failed(failed(error.error, reading.hidden)), "")
    except (TooMuchError, StreamTooLargeError) as error:
        answer.close()
        return Broken(JobError("answer_too_large", str(error)), Outcome.TOO_LARGE, answer.status)
    except (ChunkError, StreamFaultError) as error:
        answer.close()
        return _invalid(shown(str(error), reading.hidden), answer.status)
    except (aiohttp.ClientError, OSError) as error:
        if isinstance(error, TimeoutError):
            raise
        message = f"its stream broke off after {completion.chunks} chunks: {type(error).__name__}"
        return Broken(JobError("stream_broken", message), Outcome.CLOSED, answer.status)
    if not completion.is_whole and not completion.is_ended:
        message = f"its stream ended after {completion.chunks} chunks without an end that it says"
        return Broken(JobError("stream_broken", message), Outcome.CLOSED, answer.status)
    return _judged("chat", body, answer, reading)


async def _read(
    answer: aiohttp.ClientResponse, reader: EventReader, completion: Completion, reading: Reading
) -> None:
    """Take the events of a stream until its end, or a while after the end of all choices."""
    try:
        async with asyncio.timeout(None) as until:
            async for piece in answer.content.iter_any():
                for event in reader.feed(piece):
                    if event.data.strip() == END:
                        completion.is_ended = True
                        break
                    if event.name == "error":
                        completion.fail(event.data)
                    if text := completion.take(event.data):
                        reading.news.tokens(text)
                if completion.is_ended:
                    break
                if completion.is_whole and until.when() is None:
                    until.reschedule(asyncio.get_running_loop().time() + AFTER_S)
    except (aiohttp.ClientError, OSError):
        if not completion.is_whole:
            raise
    answer.close()  # whatever may follow is of no use


def _judged(sort: Sort, body: dict[str, Any], answer: aiohttp.ClientResponse, reading: Reading) -> Answer:
    if body.get("error"):
        return Said(Failed(failed(body["error"], reading.hidden)), "")
    entries = body.get(LISTS[sort])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        return _invalid(f"an object without a list of objects {LISTS[sort]!r}", answer.status)
    files: tuple[OutputFile, ...] = ()
    if sort == "images":
        try:
            body, files = with_files(body)
        except ValueError as error:
            return _invalid(str(error), answer.status)
    done = Done(body, files=files, usage=usage_of(body.get("usage")))
    return Said(done, "", spent_s(answer.headers, clock.now()))


def usage_of(said: Any) -> dict[str, float]:
    """Tokens by our names for them; what is no count is left out."""
    if not isinstance(said, dict):
        return {}
    found: dict[str, float] = {}
    for name, ours in USAGE.items():
        if _is_count(said.get(name)):
            found.setdefault(ours, float(said[name]))
    for name in ("prompt_tokens_details", "input_tokens_details"):
        details = said.get(name)
        if isinstance(details, dict) and _is_count(details.get("cached_tokens")):
            found.setdefault("cached_tokens", float(details["cached_tokens"]))
    return found


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_COUNT


def with_files(body: dict[str, Any]) -> tuple[dict[str, Any], tuple[OutputFile, ...]]:
    """An answer whose images stand beside it, named in their places.

    Raises:
        ValueError: one of them is no base64.
    """
    entries: list[dict[str, Any]] = []
    files = []
    for number, entry in enumerate(body["data"], 1):
        encoded = entry.get("b64_json")
        if not isinstance(encoded, str):
            entries.append(entry)
            continue
        try:
            data = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError(f"an image that is no base64: data.{number - 1}.b64_json") from None
        sort = _sort_of(data)
        name = f"image-{number}.{sort}" if sort else f"image-{number}.bin"
        files.append(OutputFile(name, f"image/{sort}" if sort else "application/octet-stream", data))
        entries.append({key: value for key, value in entry.items() if key != "b64_json"} | {"artifact": name})
    return {**body, "data": entries}, tuple(files)


def _sort_of(data: bytes) -> str:
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((sort for start, sort in IMAGES if data.startswith(start)), "")


def _invalid(what: str, status: int) -> Broken:
    return Broken(JobError("answer_invalid", f"it answered {status} with {what}"), Outcome.NOT_JSON, status)
