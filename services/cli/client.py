"""A small client of the REST API and the live updates, for the commands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote

import aiohttp
import orjson

from switchyard._client.json import body_json
from switchyard.events.encoding.codec import FINAL_EVENTS
from switchyard.events.errors import UnavailableError
from switchyard.services.cli.errors import ApiError
from switchyard.services.run import connection_file
from switchyard.services.settings import MIB

CONNECT_S: Final = 5.0
ANSWER_S: Final = 60.0
TRANSFER_S: Final = 3600.0
PING_S: Final = 20.0
RECONNECT_S: Final = 0.5
CHUNK_BYTES: Final = 256 * 1024
MARKDOWN: Final = "document.md"  # artifacts of results that are too long for an event
RESULT: Final = "result.json"
RESULT_BYTES: Final = 16 * MIB  # of a conversion's, which has up to 1,000 images and a warning of each
FINAL_STATES: Final = frozenset({"succeeded", "dead", "cancelled", "expired", "archived"})
REPAIRS: Final = frozenset({"repaired", "archived"})  # what may follow damage, and may itself not apply
# How a live message's refusal would be answered over REST.
STATUSES: Final = {"not_found": 404, "forbidden": 403, "rate_limited": 429}


class Api:
    """The gateway as a command sees it.

    Args:
        url: where it is.
        token: what it lets us do.
        hint: what to do when it cannot be reached.
    """

    def __init__(self, url: str, token: str, *, hint: str = "") -> None:
        self.url = url.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"}
        self._hint = hint
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        """Open the session."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S)
        self._session = aiohttp.ClientSession(headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the session."""
        await self._session.close()

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON answer, or the text where it is none; `json` is sent as the body.

        Raises:
            InvalidValueError: `json` cannot be sent.
            ApiError: the gateway refuses.
            UnavailableError: it cannot be reached.
        """
        if "json" in options:
            options["data"] = body_json(options.pop("json"))
            options["headers"] = {"Content-Type": "application/json", **options.get("headers", {})}
        async with self._open(method, path, **options) as answer:
            body = await answer.read()
            return orjson.loads(body) if "json" in answer.content_type and body else body.decode()

    @asynccontextmanager
    async def _open(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(method, self.url + path, **options) as answer:
                if answer.status >= 400:
                    raise ApiError(answer.status, await _problem(answer))
                yield answer
        except aiohttp.InvalidURL:
            raise UnavailableError(f"{self.url} is not the URL of a gateway{self._hint}") from None
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnavailableError:
        why = str(error) or "no answer in time"
        return UnavailableError(f"the gateway at {self.url} cannot be reached ({why}){self._hint}")

    async def upload(self, path: Path, key: str | None = None) -> dict[str, Any]:
        """Store a file, or find the one stored before under the same idempotency key; its view."""

        async def chunks() -> AsyncIterator[bytes]:
            with await asyncio.to_thread(path.open, "rb") as source:
                while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
                    yield chunk

        size = (await asyncio.to_thread(path.stat)).st_size
        uploaded: dict[str, Any] = await self.call(
            "POST", f"/v1/files?name={quote(path.name)}", data=chunks(),
            headers={
                "Content-Length": str(size), "Content-Type": "application/octet-stream", **key_header(key),
            },
            timeout=aiohttp.ClientTimeout(total=TRANSFER_S, sock_connect=CONNECT_S),
        )  # fmt: skip
        return uploaded

    async def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes."""
        timeout = aiohttp.ClientTimeout(total=TRANSFER_S, sock_connect=CONNECT_S, sock_read=ANSWER_S)
        async with self._open("GET", f"/v1/files/{file_id}", timeout=timeout) as answer:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job."""
        found: dict[str, Any] = await self.call("GET", job_path(job_id))
        return found

    async def cancel(self, job_id: str, reason: str | None) -> dict[str, Any]:
        """End a job; the job after that."""
        body = {"reason": reason} if reason else {}
        found: dict[str, Any] = await self.call("POST", job_path(job_id, "/cancel"), json=body)
        return found

    async def archive(self, job_id: str) -> dict[str, Any]:
        """Put a job away that has ended; the job after that."""
        found: dict[str, Any] = await self.call("DELETE", job_path(job_id))
        return found

    async def history(self, job_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """A job's events, oldest first."""
        after: int | None = 0
        while after is not None:
            page = await self.call("GET", job_path(job_id, "/events"), params={"after": after})
            for event in page["events"]:
                yield event
            after = page["after"]

    async def with_result(self, job: dict[str, Any]) -> dict[str, Any]:
        """A conversion with its result, also where that is too long for an event; any other job as it is."""
        large = [each for each in job["artifacts"] if each["name"] == RESULT]
        if job["kind"] != "convert" or job["result"] is not None or not large:
            return job
        if large[0]["size_bytes"] > RESULT_BYTES:
            return job
        body = b"".join([chunk async for chunk in self.download(large[0]["file"])])
        return job | {"result": orjson.loads(body)}

    async def output(self, job: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """What a job made, to be read: its Markdown if it made any, else its result as JSON."""
        result = job["result"]
        markdown = result.get("markdown") if isinstance(result, dict) else None
        files = {artifact["name"]: artifact["file"] for artifact in job["artifacts"]}
        large = files.get(MARKDOWN) or (files.get(RESULT) if result is None else None)
        if markdown is not None:
            yield f"{markdown.rstrip()}\n".encode()
        elif large:
            async for chunk in self.download(large):
                yield chunk
        else:
            yield orjson.dumps(result, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    async def follow(self, **selection: Any) -> AsyncGenerator[dict[str, Any], None]:
        """Live messages as they come, without end; a lost connection resumes without a gap.

        Args:
            selection: the fields of the subscription, as `docs/live.md` describes them.

        Raises:
            ApiError: the gateway refuses the connection or the subscription.
            UnavailableError: it cannot be reached and has never been.
        """
        cursor: str | None = None
        while True:
            try:
                async with self._session.ws_connect(f"{self.url}/v1/ws", heartbeat=PING_S) as socket:
                    wish = {"type": "subscribe", "id": "cli", "after": cursor, **selection}
                    await socket.send_str(orjson.dumps(wish).decode())
                    async for frame in socket:
                        if frame.type is not aiohttp.WSMsgType.TEXT:
                            continue
                        message = orjson.loads(frame.data)
                        if message["type"] == "error":
                            if message["code"] == "unavailable":
                                break
                            status = STATUSES.get(message["code"], 422)
                            raise ApiError(status, {"detail": message["message"]})
                        missed = message["type"] == "resync"
                        cursor = message["head"] if missed else message.get("cursor", cursor)
                        yield message
            except aiohttp.WSServerHandshakeError as error:
                if cursor is None or error.status < 500:
                    detail = f"the gateway refuses the live connection ({error.status})"
                    raise ApiError(error.status, {"detail": detail}) from None
            except aiohttp.InvalidURL:
                raise UnavailableError(f"{self.url} is not the URL of a gateway{self._hint}") from None
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                if cursor is None:
                    raise self._unreachable(error) from error
            await asyncio.sleep(RECONNECT_S)

    async def until_final(self, job_id: str, *, logs: bool = False) -> AsyncGenerator[dict[str, Any], None]:
        """The job's live messages until it has ended, or is damaged and does not end by itself."""
        async for message in self.follow(jobs=[job_id], progress=True, logs=logs):
            yield message
            kind, event = message["type"], message.get("event", {})
            doubtful = "unreadable" in event or event.get("type") in REPAIRS
            if kind in ("subscribed", "resync") or doubtful:
                job = await self.job(job_id)
                if job["state"] in FINAL_STATES or job["damage"]:
                    return
            elif event.get("type") in FINAL_EVENTS:
                return


def key_header(key: str | None) -> dict[str, str]:
    """The header that makes a request safe to send again."""
    return {} if key is None else {"Idempotency-Key": key}


def job_path(job_id: str, rest: str = "") -> str:
    """The route of a job."""
    return f"/v1/jobs/{quote(job_id, safe='')}{rest}"


async def _problem(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        problem = orjson.loads(await answer.read())
    except orjson.JSONDecodeError:
        return {}
    return problem if isinstance(problem, dict) else {}


def connect(data_dir: Path) -> Api:
    """The gateway that the environment or the data directory names.

    Raises:
        UnavailableError: neither names one.
    """
    found = connection_file.read(data_dir)
    url = os.environ.get("SWITCHYARD_URL") or (found.url if found else None)
    token = os.environ.get("SWITCHYARD_TOKEN") or (found.token if found else None)
    if url is None or token is None:
        raise UnavailableError(
            f"no Switchyard is running on {data_dir}: start one with `switchyard up`, or set SWITCHYARD_URL "
            "and SWITCHYARD_TOKEN"
        )
    return Api(url, token, hint=connection_file.hint(data_dir, found) if found and url == found.url else "")
