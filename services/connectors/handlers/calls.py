"""Files between a handler in a child process and its worker: a socket on which the child asks.

One request is one line of JSON, `{"fetch": id, "to": path}`, `{"outcome": part}` or `{"save": name, "path":
path, "media_type": type}`; so is its answer, `{"done": {...}}` or `{"error": {"kind", "code", "message"}}`.
Each request has a connection of its own, so that no thread gets another's answer. Bytes go by way of the
attempt's scratch directory, which both see.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import orjson

from switchyard._worker.given.surroundings import Surroundings
from switchyard._worker.handler_errors import HandlerError, Release, Retry, failure
from switchyard._worker.scratch import remove
from switchyard.events.errors import SwitchyardError

TEMPORARY: Final = tempfile.gettempdir()  # asked before a handler can change the answer
SOCKET: Final = "calls"
MAX_REQUEST_BYTES: Final = 64 * 1024
AT_ONCE: Final = 8  # requests of one attempt; the others wait


@contextlib.asynccontextmanager
async def served(surroundings: Surroundings) -> AsyncIterator[str]:
    """Answer the calls of one attempt while the block lasts; where its child finds them."""
    # A directory of its own, readable by nobody else: a socket's path may have no more than 107 characters.
    directory = await asyncio.to_thread(tempfile.mkdtemp, prefix="switchyard-", dir=TEMPORARY)

    room = asyncio.Semaphore(AT_ONCE)
    under_way: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # What a child sends may be anything: a request that is none gets no answer.
        with (
            contextlib.suppress(ConnectionError, ValueError, LookupError, TypeError),
            contextlib.closing(writer),
        ):
            async with room:
                request = orjson.loads(await reader.readline())
                writer.write(orjson.dumps(await _answered(surroundings, request)) + b"\n")
                await writer.drain()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(answer(reader, writer))
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    path = str(Path(directory) / SOCKET)
    try:
        server = await asyncio.start_unix_server(begin, path, limit=MAX_REQUEST_BYTES)
        try:
            yield path
        finally:
            server.close()
            for task in list(under_way):  # nobody waits for the answer any more
                task.cancel()
            if under_way:
                await asyncio.wait(under_way)
    finally:
        await asyncio.to_thread(remove, Path(directory))


async def _answered(surroundings: Surroundings, request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "fetch" in request:
            return {"done": await surroundings.fetch(request["fetch"], Path(request["to"]))}
        if "outcome" in request:
            return {"done": await surroundings.outcome(request["outcome"])}
        path = Path(request["path"])
        return {"done": await surroundings.save(request["save"], path, media_type=request["media_type"])}
    except HandlerError as error:
        return _refused(error)
    except SwitchyardError as error:  # the broker is away: that is not the job's failure
        return _refused(Release(str(error), code="unavailable"))
    except OSError as error:
        return _refused(Retry(str(error), code="internal"))


def _refused(error: HandlerError) -> dict[str, Any]:
    failed = failure(error)
    return {"error": {"kind": type(error).__name__, "code": failed.code, "message": failed.message}}
