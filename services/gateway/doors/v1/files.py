"""The routes of files: upload, download, list, delete."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import datetime
from email.utils import format_datetime
from typing import Any, Final, Protocol
from urllib.parse import quote

import structlog
from aiohttp import hdrs, web

from switchyard.events.errors import (
    ConflictError,
    LimitError,
    NotFoundError,
    SwitchyardError,
    UnavailableError,
)
from switchyard.services import clock
from switchyard.services.access.principal import Principal, Role
from switchyard.services.files import FileInfo, Files
from switchyard.services.files.quota import Quota
from switchyard.services.gateway.http.callers import PRINCIPAL, json_response, require
from switchyard.services.gateway.http.conditions import Unsatisfiable, Version, is_unchanged, wanted_range
from switchyard.services.gateway.http.problems import Problem, problem_of
from switchyard.services.gateway.http.query import Query, scope
from switchyard.services.gateway.http.uploads import Upload, is_form, open_upload, ttl_s
from switchyard.services.ids import id_for_key, new_id
from switchyard.services.intake.request import parse_key
from switchyard.services.records.room import FOR_ENDS
from switchyard.services.settings import Settings

log = structlog.get_logger()

FORM_OVERHEAD_BYTES: Final = 64 * 1024
SHOWN_CHARS: Final = 80
NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 ._()-]")


class FileIndex(Protocol):
    """What the read model knows of files."""

    def files_kept(self, tenant: str, now: datetime) -> tuple[int, int, int]:
        """How many files a tenant keeps, their bytes, and up to which sequence of the object store."""

    def files(
        self, tenant: str, cursor: str | None, limit: int, *, now: datetime
    ) -> tuple[list[dict[str, Any]], str | None]:
        """A page of a tenant's files, newest first, and the cursor of the next page, if there is one."""


class FileRoutes:
    """Handlers of `/v1/files`.

    Args:
        files: where they are stored.
        index: lists them and counts their bytes.
    """

    def __init__(self, files: Files, index: FileIndex, settings: Settings) -> None:
        self._files = files
        self._index = index
        self._settings = settings
        self.quota = Quota(
            lambda tenant: index.files_kept(tenant, clock.now()),
            limit_files=settings.tenant_files,
            limit_bytes=settings.tenant_bytes,
        )
        self._transfers = 0
        self._transfers_of: Counter[str] = Counter()

    def routes(self) -> list[web.RouteDef]:
        """The routes, for `Application.add_routes`."""
        return [
            web.post("/v1/files", self.upload, expect_handler=continue_later),
            web.get("/v1/files", self.list_files),
            web.get("/v1/files/{id}", self.download),
            web.delete("/v1/files/{id}", self.delete),
        ]

    async def upload(self, request: web.Request) -> web.Response:
        """`POST /v1/files`: store the body, or the file in a form."""
        principal = _writer(request)
        query = Query(request, "name", "ttl_s")
        lifetime_s = ttl_s(request, query, self._settings)
        announced = request.content_length or 0
        if is_form(request):
            announced = max(0, announced - FORM_OVERHEAD_BYTES)
        if announced > self._settings.file_bytes:
            message = f"a file has at most {self._settings.file_bytes} bytes; this one has {announced}"
            raise LimitError(message, status=413, code="file_too_large")
        with self._transfer(principal.tenant), self.quota.upload(principal.tenant, announced) as take:
            await self._files.check_room(announced)
            await _continue_now(request)
            upload = await open_upload(request, query, self._settings.transfer_idle_s)
            file_id = _file_id(request, principal.tenant)
            earlier = await self._earlier(principal.tenant, file_id) if file_id else None
            if earlier is not None:
                await _compare(earlier, upload, take)
                return json_response(earlier.view(), headers=_located(earlier))
            info = await self._files.put(
                tenant=principal.tenant,
                file_id=file_id or new_id(),
                name=upload.name,
                type=upload.type,
                body=upload.body,
                max_bytes=self._settings.file_bytes,
                ttl_s=lifetime_s,
                sha256=upload.sha256,
                on_bytes=take,
                key=principal.key,
            )
            take.stored(info.seq)
        log.info("file_stored", file=info.id, tenant=info.tenant, size_bytes=info.size_bytes)
        return json_response(info.view(), status=201, headers=_located(info))

    async def receive(
        self,
        request: web.Request,
        *,
        tenant: str,
        file_id: str,
        name: str,
        before_commit: Callable[[], Awaitable[object]],
    ) -> FileInfo:
        """Store the body of a request as a tenant's file.

        Args:
            request: its body was not touched yet.
            tenant: whose file it is.
            file_id: its id.
            name: its name.
            before_commit: called when all bytes are there; nothing is kept if it raises.

        Raises:
            RejectedError: the body breaks a rule, or the tenant's quota.
            StorageFullError: there is no room for it.
            UnavailableError: the broker does not answer, or too many files are being transferred.
        """
        settings = self._settings
        announced = request.content_length or 0
        if announced > settings.file_bytes:
            message = f"a file has at most {settings.file_bytes} bytes; this one has {announced}"
            raise LimitError(message, status=413, code="file_too_large")
        with self._transfer(tenant), self.quota.upload(tenant, announced) as take:
            await self._files.check_room(announced, FOR_ENDS)
            await _continue_now(request)
            upload = await open_upload(request, Query(request, "name"), settings.transfer_idle_s)
            info = await self._files.put(
                tenant=tenant, file_id=file_id, name=name, type=upload.type,
                body=_and_then(upload.body, before_commit), max_bytes=settings.file_bytes,
                ttl_s=settings.file_ttl_s, sha256=upload.sha256, on_bytes=take, reserve=FOR_ENDS,
                key=request[PRINCIPAL].key,
            )  # fmt: skip
            take.stored(info.seq)
            return info

    async def _earlier(self, tenant: str, file_id: str) -> FileInfo | None:
        with contextlib.suppress(NotFoundError):
            return await self._files.info(tenant, file_id)
        return None

    async def list_files(self, request: web.Request) -> web.Response:
        """`GET /v1/files`: a page of the tenant's files, newest first."""
        query = Query(request, "tenant", "cursor", "limit")
        tenant = scope(request, query)
        most = self._settings.page_size_max
        limit = query.integer("limit", default=min(self._settings.page_size, most), least=1, most=most)
        page, cursor = self._index.files(tenant, query.text("cursor"), limit, now=clock.now())
        return json_response({"files": page, "cursor": cursor})

    async def download(self, request: web.Request) -> web.StreamResponse:
        """`GET` and `HEAD /v1/files/{id}`: the file's bytes, or a range of them."""
        tenant = scope(request, Query(request, "tenant"))
        info = await self._files.info(tenant, request.match_info["id"])
        version = Version(info.sha256, info.created_at.replace(microsecond=0))
        headers = _headers(info)
        if is_unchanged(request, version):
            return web.Response(status=304, headers=headers)
        wanted = wanted_range(request, version, info.size_bytes)
        if wanted is Unsatisfiable.RANGE:
            return Problem(
                status=416,
                code="range_not_satisfiable",
                detail=f"the file has {info.size_bytes} bytes",
                field=hdrs.RANGE,
                headers={hdrs.CONTENT_RANGE: f"bytes */{info.size_bytes}"},
            ).response(request.path)
        start, end = wanted or (0, info.size_bytes)
        response = web.StreamResponse(status=206 if wanted else 200, headers=headers)
        response.headers[hdrs.CONTENT_TYPE] = info.type
        response.content_length = end - start
        if wanted:
            response.headers[hdrs.CONTENT_RANGE] = f"bytes {start}-{end - 1}/{info.size_bytes}"
        if request.method == hdrs.METH_HEAD:
            await response.prepare(request)
            return response
        with self._transfer(tenant):
            await self._send(request, response, info, start, end)
        return response

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /v1/files/{id}`."""
        require(request, Role.SUBMITTER)  # a worker stores files, but those of others are not its to remove
        tenant = scope(request, Query(request, "tenant"))
        await self._files.delete(tenant, request.match_info["id"])
        return web.Response(status=204)

    async def _send(
        self, request: web.Request, response: web.StreamResponse, info: FileInfo, start: int, end: int
    ) -> None:
        async with contextlib.aclosing(self._files.read(info, start, end)) as blocks:
            # Read before the status is sent, so that a file that cannot be read is an error and no 200.
            first = await anext(blocks, b"")
            await response.prepare(request)
            try:
                await self._write(response, first)
                async for block in blocks:
                    await self._write(response, block)
                await response.write_eof()
            except ConnectionError:
                log.info("download_broken_off", file=info.id, by="client")
            except (SwitchyardError, TimeoutError) as error:
                # The body is shorter than announced, and a lost connection is the only way left to say so.
                log.warning("download_broken_off", file=info.id, by="gateway", error=str(error) or "stalled")
                if request.transport is not None:
                    request.transport.abort()

    async def _write(self, response: web.StreamResponse, block: bytes) -> None:
        """Write a block, waiting as long as a client may stop reading; the buffer never grows beyond it."""
        async with asyncio.timeout(self._settings.transfer_idle_s):
            await response.write(block)

    @contextlib.contextmanager
    def _transfer(self, tenant: str) -> Iterator[None]:
        if self._transfers >= self._settings.transfers:
            message = f"{self._settings.transfers} files are being transferred, which is the limit"
            raise UnavailableError(message, retry_after_s=2.0)
        most = self._settings.tenant_transfers
        if self._transfers_of[tenant] >= most:
            message = f"{most} files of tenant {tenant} are being transferred, which is the limit"
            raise LimitError(message, code="too_many_transfers", retry_after_s=2.0)
        self._transfers += 1
        self._transfers_of[tenant] += 1
        try:
            yield
        finally:
            self._transfers -= 1
            self._transfers_of[tenant] -= 1
            if not self._transfers_of[tenant]:
                del self._transfers_of[tenant]


async def _and_then(
    body: AsyncIterator[bytes], check: Callable[[], Awaitable[object]]
) -> AsyncIterator[bytes]:
    async for block in body:
        yield block
    await check()


async def continue_later(_: web.Request) -> None:
    """Leave `Expect: 100-continue` to the handler, so that a refused upload is not sent at all."""


def answer_expectations(app: web.Application) -> None:
    """Have every other route answer `Expect` before its body comes, and refuse what nobody can expect."""
    for route in app.router.routes():
        if route._expect_handler is not continue_later:  # noqa: SLF001 - it is set where a route is made
            route._expect_handler = _expected  # noqa: SLF001


async def _expected(request: web.Request) -> web.Response | None:
    try:
        await _continue_now(request)
    except web.HTTPExpectationFailed as error:
        return problem_of(error).response(request.path)
    return None


async def _continue_now(request: web.Request) -> None:
    expected = request.headers.get(hdrs.EXPECT, "")
    if expected.lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # as aiohttp's own handler does: the answer has not begun
    elif expected:
        shown = expected[:SHOWN_CHARS]
        raise web.HTTPExpectationFailed(text=f"Expect: 100-continue is all that is known, not {shown!r}")


def _writer(request: web.Request) -> Principal:
    """The caller, if it may store files.

    Raises:
        ForbiddenError: it may not.
    """
    principal = request[PRINCIPAL]
    if Role.WORKER not in principal.roles:
        principal.check(Role.SUBMITTER)
    return principal


def _file_id(request: web.Request, tenant: str) -> str | None:
    """The id that the caller's idempotency key stands for, if it sent one."""
    key = request.headers.get("Idempotency-Key")
    return None if key is None else id_for_key(tenant, f"file\0{parse_key(key)}")


async def _compare(stored: FileInfo, upload: Upload, on_bytes: Callable[[int], None]) -> None:
    """Read an upload that was stored before, and store nothing.

    Raises:
        ConflictError: it is another file under the same key.
    """
    digest = hashlib.sha256()
    async for block in upload.body:
        on_bytes(len(block))
        digest.update(block)
    if digest.hexdigest() != stored.sha256:
        message = f"the idempotency key stands for file {stored.id}, which has other bytes"
        raise ConflictError(message, code="idempotency_conflict")


def _located(info: FileInfo) -> dict[str, str]:
    return {hdrs.LOCATION: f"/v1/files/{info.id}", hdrs.ETAG: f'"{info.sha256}"'}


def _headers(info: FileInfo) -> dict[str, str]:
    """What a browser must know; a file is saved and never shown, whatever its uploader says that it is."""
    return {
        hdrs.ETAG: f'"{info.sha256}"',
        hdrs.LAST_MODIFIED: format_datetime(info.created_at, usegmt=True),
        hdrs.CACHE_CONTROL: "private, no-cache",
        hdrs.ACCEPT_RANGES: "bytes",
        hdrs.CONTENT_DISPOSITION: _disposition(info.name),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
    }


def _disposition(name: str) -> str:
    """A download's name for old and new clients. Source: RFC 6266, section 4.3 and appendix D."""
    plain = NOT_PLAIN.sub("_", name)
    header = f'attachment; filename="{plain}"'
    return header if plain == name else f"{header}; filename*=UTF-8''{quote(name, safe='')}"


FILE_ROUTES: Final = web.AppKey("file_routes", FileRoutes)
