"""A small client of the REST API and the live updates, for the commands.

Where a loop runs it speaks through the transport of `switchyard.client`; where none does, without one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, urlencode

import orjson

from switchyard._client import connection
from switchyard.errors import ApiError, UnreachableError
from switchyard.events.errors import ForbiddenError, UnavailableError
from switchyard.services.cli.gateway.ids import whole_id
from switchyard.services.cli.gateway.plain import CHUNK_BYTES, Plain, not_url, read_all
from switchyard.services.cli.shown import now
from switchyard.services.run import connection_file

if TYPE_CHECKING:
    from switchyard._client.transport import Transport

MIB: Final = 1024 * 1024
CONNECT_S: Final = 5.0
ANSWER_S: Final = 60.0
TRANSFER_S: Final = 3600.0
RECONNECT_S: Final = 0.5
ANSWER_BYTES: Final = 1024 * MIB
MARKDOWN: Final = "document.md"  # artifacts of results that are too long for an event
RESULT: Final = "result.json"
RESULT_BYTES: Final = 16 * MIB  # of a conversion's, which has up to 1,000 images and a warning of each
FINAL_STATES: Final = frozenset({"succeeded", "dead", "cancelled", "expired", "archived"})
REPAIRS: Final = frozenset({"repaired", "archived"})  # what may follow damage, and may itself not apply
SHOWN_CHARS: Final = 60  # of an answer that is none of ours
PAGE: Final = 500


class Api:
    """The gateway as a command sees it.

    Args:
        url: where it is.
        token: what it lets us do.
        hint: what to do when it cannot be reached.
    """

    def __init__(self, url: str, token: str, *, hint: str = "") -> None:
        self.url = url.rstrip("/")
        self.token = token
        self._hint = hint
        self._plain: Plain | None = None
        self._transport: Transport | None = None

    async def __aenter__(self) -> Self:
        """Nothing is opened before the first request."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        if self._plain is not None:
            self._plain.close()
        if self._transport is not None:
            await self._transport.close()

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of an answer, None where it is empty; `json` is sent as the body.

        Raises:
            InvalidValueError: `json` cannot be sent.
            ApiError: the gateway refuses.
            UnreachableError: it cannot be reached, or what is there is none.
        """
        raw = await self.raw(method, path, **options)
        if not raw:
            return None
        try:
            return orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise self.strange(raw.decode(errors="replace")) from None

    async def page(self, path: str, name: str, **options: Any) -> dict[str, Any]:
        """A page of a list, which has its items as `name`, each an object.

        Raises:
            ApiError: the gateway refuses.
            UnreachableError: it cannot be reached, or what is there is none.
        """
        found = await self.call("GET", path, **options)
        items = found.get(name) if isinstance(found, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise self.strange(orjson.dumps(found).decode())
        return {"cursor": None, **found}

    async def pages(
        self, path: str, name: str, *, params: list[tuple[str, str]] | None = None, most: int | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The items of a list, page after page; `most` of them at most."""
        left, cursor = most, ""
        while left is None or left > 0:
            limit = PAGE if left is None else min(PAGE, left)
            asked = [*(params or []), ("limit", str(limit)), *([("cursor", cursor)] if cursor else [])]
            found = await self.page(path, name, params=asked)
            for item in found[name]:
                yield item
            left = None if left is None else left - len(found[name])
            if not (cursor := found["cursor"]) or not found[name]:
                return

    async def raw(self, method: str, path: str, *, json: Any = None, **options: Any) -> bytes:
        """The bytes of an answer."""
        if json is not None:
            from switchyard._client.json import body_json  # noqa: PLC0415 - who only asks does without

            options["body"] = body_json(json)
            options["headers"] = {"Content-Type": "application/json", **(options.get("headers") or {})}
        if not _in_loop():
            with self._line().open(method, path, **options) as answer:
                return read_all(answer, most_bytes=ANSWER_BYTES, within_s=ANSWER_S)
        async with self._open(method, path, **options) as found:
            return bytes(await found.read())

    def strange(self, text: str) -> UnreachableError:
        """The error for an answer that is none of a gateway."""
        found = " ".join(text.split())[:SHOWN_CHARS]
        return UnreachableError(f"what is at {self.url} is no gateway of Switchyard's: it answered {found!r}")

    def _line(self) -> Plain:
        if self._plain is None:
            self._plain = Plain(self.url, self.token, self._hint)
        return self._plain

    def _lines(self) -> Transport:
        from switchyard._client.transport import Transport  # noqa: PLC0415 - takes long to import

        if self._transport is None:
            if not self.url.startswith(("http://", "https://")):
                raise not_url(self.url)
            at = connection.Connection(self.url, self.token)
            self._transport = Transport(at, timeout_s=ANSWER_S, retries=0)
        return self._transport

    @asynccontextmanager
    async def _open(
        self, method: str, path: str, *, params: Any = None, total_s: float = ANSWER_S, **options: Any
    ) -> AsyncIterator[Any]:
        import aiohttp  # noqa: PLC0415 - takes long to import

        transport = self._lines()
        limits = aiohttp.ClientTimeout(total=total_s, sock_connect=CONNECT_S, sock_read=ANSWER_S)
        target = path + (f"?{urlencode(params)}" if params else "")
        try:
            async with transport.open(method, target, timeout=limits, **options) as answer:
                now.hear(answer.headers.get("Date", ""))
                yield answer
        except aiohttp.InvalidURL:
            raise not_url(self.url) from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> UnreachableError:
        why = str(error) or "no answer in time"
        return UnreachableError(f"the gateway at {self.url} cannot be reached ({why}){self._hint}")

    async def upload(self, path: Path, key: str | None = None, *, erasable: bool = False) -> dict[str, Any]:
        """Store a file, or find the one stored before under the same idempotency key; its view."""
        asked = {"name": path.name} | ({"erasable": "true"} if erasable else {})
        with path.open("rb") as source:
            size = os.fstat(source.fileno()).st_size
            headers = {
                "Content-Length": str(size), "Content-Type": "application/octet-stream", **key_header(key),
            }  # fmt: skip
            sent = {"params": asked, "body": _sized(source), "headers": headers}
            if _in_loop():
                sent["total_s"] = TRANSFER_S
            uploaded = await self.call("POST", "/v1/files", **sent)
        if not isinstance(uploaded, dict) or "id" not in uploaded:
            raise self.strange(str(uploaded))
        return uploaded

    def download(self, file_id: str) -> AsyncGenerator[bytes, None]:
        """A file's bytes."""
        return self.chunks(f"/v1/files/{quote(file_id, safe='')}")

    def saved(self, file_id: str, target: IO[bytes]) -> str | None:
        """Write a file's bytes; its name, as far as it has one. No loop may run."""
        with self._line().open("GET", f"/v1/files/{quote(file_id, safe='')}") as answer:
            while chunk := answer.read(CHUNK_BYTES):
                target.write(chunk)
            return answer.headers.get_filename()

    async def chunks(self, path: str) -> AsyncGenerator[bytes, None]:
        """The bytes of a long answer as they come."""
        if not _in_loop():
            with self._line().open("GET", path) as answer:
                while chunk := answer.read(CHUNK_BYTES):
                    yield chunk
            return
        async with self._open("GET", path, total_s=TRANSFER_S) as found:
            async for chunk in found.content.iter_chunked(CHUNK_BYTES):
                yield chunk

    async def path(self, job_id: str, rest: str = "") -> str:
        """The route of the job whose id is this, or alone begins with it.

        Raises:
            RejectedError: several do.
        """
        return job_path(await whole_id(self, job_id), rest)

    async def job(self, job_id: str) -> dict[str, Any]:
        """A job."""
        return self.of_job(await self.call("GET", await self.path(job_id)))

    def of_job(self, found: Any) -> dict[str, Any]:
        """What was answered, if it is a job.

        Raises:
            UnreachableError: it is none.
        """
        if not isinstance(found, dict) or not {"id", "state"} <= found.keys():
            raise self.strange(orjson.dumps(found).decode())
        return found

    async def cancel(self, job_id: str, reason: str | None) -> dict[str, Any]:
        """End a job; the job after that."""
        body = {"reason": reason} if reason else {}
        return self.of_job(await self.call("POST", await self.path(job_id, "/cancel"), json=body))

    async def archive(self, job_id: str) -> dict[str, Any]:
        """Put a job away that has ended; the job after that."""
        return self.of_job(await self.call("DELETE", await self.path(job_id)))

    async def history(self, job_id: str) -> AsyncGenerator[dict[str, Any], None]:
        """A job's events, oldest first."""
        after: int | None = 0
        path = await self.path(job_id, "/events")
        while after is not None:
            page = await self.page(path, "events", params={"after": after})
            for event in page["events"]:
                yield event
            after = page.get("after")

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

        Every connection begins with a `hello`.

        Args:
            selection: the fields of the subscription, as `docs/live.md` describes them.

        Raises:
            ApiError: the gateway refuses the connection or the subscription.
            UnreachableError: it cannot be reached and has never been.
        """
        import asyncio  # noqa: PLC0415 - who only asks does without

        import aiohttp  # noqa: PLC0415

        from switchyard._client import live  # noqa: PLC0415

        cursor: str | None = None

        def wish(_: object) -> dict[str, Any]:
            return {"type": "subscribe", "id": "cli", "after": cursor, **selection}

        while True:
            try:
                yield {"type": "hello"}
                async with aclosing(live.frames(self._lines(), wish)) as frames:
                    async for message, _ in frames:
                        place = "head" if message["type"] == "resync" else "cursor"
                        cursor = message.get(place) or message.get("revision") or cursor
                        yield message
            except aiohttp.WSServerHandshakeError as error:
                if error.status < 400:
                    raise self.strange("no live updates") from None
                if cursor is None or error.status < 500:
                    raise _refused(error.status) from None
            except ApiError as error:
                if error.status < 500:
                    raise
            except aiohttp.InvalidURL:
                raise not_url(self.url) from None
            except (aiohttp.ClientError, TimeoutError) as error:
                if cursor is None:
                    raise self._unreachable(error) from error
            except (orjson.JSONDecodeError, KeyError, TypeError):
                raise self.strange("no live updates") from None
            await asyncio.sleep(RECONNECT_S)

    async def until_final(self, job_id: str, *, logs: bool = False) -> AsyncGenerator[dict[str, Any], None]:
        """The job's live messages until it has ended, or is damaged and does not end by itself."""
        from switchyard.events.encoding.codec import FINAL_EVENTS  # noqa: PLC0415 - takes long to import

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


def _in_loop() -> bool:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _sized(source: IO[bytes]) -> Any:
    """A file as the body of a request."""
    if not _in_loop():
        return source

    async def chunks() -> AsyncIterator[bytes]:
        import asyncio  # noqa: PLC0415

        while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
            yield chunk

    return chunks()


def _refused(status: int) -> ApiError:
    from switchyard.errors import api_error  # noqa: PLC0415

    return api_error(status, {"detail": f"the gateway refuses the live connection ({status})"})


def connect(data_dir: Path) -> Api:
    """The gateway that the environment or the data directory names.

    Raises:
        UnavailableError: neither names one.
        ForbiddenError: one is named, and no token for it.
    """
    found = connection_file.read(data_dir)
    url = os.environ.get("SWITCHYARD_URL") or (found.url if found else None)
    token = os.environ.get("SWITCHYARD_TOKEN") or (found.token if found else None)
    if url is None:
        raise UnavailableError(
            f"no Switchyard is running on {data_dir}: start one with `switchyard up`, or set SWITCHYARD_URL "
            "and SWITCHYARD_TOKEN"
        )
    if token is None:
        raise ForbiddenError(f"no token for {url}: set SWITCHYARD_TOKEN to one, or to an API key")
    return Api(url, token, hint=connection_file.hint(data_dir, found) if found and url == found.url else "")
