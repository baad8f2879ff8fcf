from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import itertools
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import FormData
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nats.aio.client import Client
from structlog.testing import capture_logs

from switchyard.events import subjects
from switchyard.services.broker import topology
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.reader import read_range
from switchyard.services.files import Files
from switchyard.services.files.info import CHUNK_BYTES
from switchyard.services.gateway.doors.v1.answers.operation import file_answer
from switchyard.services.gateway.http.conditions import RANGE
from switchyard.services.settings import Settings
from tests.gateway.file_server import H_CALLER, Index, application
from tests.sizes import examples

DEADLINE_S = 60.0
MIB = 1024 * 1024
DATA = bytes(itertools.islice(itertools.cycle(range(251)), 2 * MIB + 77))
SHA256 = hashlib.sha256(DATA).hexdigest()
SETTINGS = Settings(file_bytes=8 * MIB, tenant_bytes=32 * MIB, transfer_idle_s=2.0, transfers=4)

Http = TestClient[Any, Any]


def caller(tenant: str = "acme", *roles: str) -> dict[str, str]:
    return {H_CALLER: json.dumps({"tenant": tenant, "roles": roles or ["submitter", "viewer"]})}


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "read_model.sqlite")
    yield index
    index.close()


@pytest.fixture
async def http(nats_connection: Client, index: Index) -> AsyncIterator[Http]:
    await topology.apply(nats_connection)
    server = TestServer(application(nats_connection, index.model, SETTINGS))
    async with TestClient(server, timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as client:
        yield client


async def stored_subjects(nc: Client) -> set[str]:
    query = {"subjects_filter": ">"}
    state = (await api(nc, f"STREAM.INFO.{subjects.FILES}", query, timeout_s=20))["state"]
    return set(state.get("subjects") or ())


async def nothing_is_stored(nc: Client) -> None:
    """Returns when what a broken-off upload left is gone: the server notices on its own time."""
    async with asyncio.timeout(DEADLINE_S):
        while await stored_subjects(nc):
            await asyncio.sleep(0.02)


async def upload(http: Http, data: bytes = DATA, path: str = "/v1/files", **headers: str) -> dict[str, Any]:
    response = await http.post(
        path, data=io.BytesIO(data), headers={name.replace("_", "-"): v for name, v in headers.items()}
    )
    assert response.status == 201, await response.text()
    view: dict[str, Any] = await response.json()
    return view


async def blocks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // MIB):
        yield bytes(MIB)


async def problem(response: aiohttp.ClientResponse, status: int, code: str) -> dict[str, Any]:
    assert response.status == status, await response.text()
    assert response.content_type == "application/problem+json"
    document: dict[str, Any] = json.loads(await response.read())
    assert document["code"] == code, document
    return document


class TestUpload:
    async def test_the_same_key_stores_once_and_refuses_other_bytes(self, http: Http) -> None:
        first = await upload(http, Idempotency_Key="k")
        again = await http.post("/v1/files", data=io.BytesIO(DATA), headers={"Idempotency-Key": "k"})
        assert (again.status, await again.json()) == (200, first)
        other = await http.post("/v1/files", data=io.BytesIO(b"other"), headers={"Idempotency-Key": "k"})
        await problem(other, 409, "idempotency_conflict")
        bad = await http.post("/v1/files", data=io.BytesIO(DATA), headers={"Idempotency-Key": "a b"})
        assert (await problem(bad, 422, "invalid"))["field"] == "Idempotency-Key"

    async def test_of_uploads_at_once_under_one_key_one_is_stored_and_only_the_same_bytes_find_it(
        self, http: Http
    ) -> None:
        met, ends = asyncio.Barrier(3), [b"a", b"b", b"a"]

        async def body(end: bytes) -> AsyncIterator[bytes]:
            async for block in blocks(7 * MIB):  # more than buffers hold: the gateway reads it
                yield block
            await met.wait()
            yield end

        headers = {"Idempotency-Key": "at-once"}
        for _ in range(2):  # the second time in the place of one that was deleted
            answers = await asyncio.gather(
                *(http.post("/v1/files", data=body(end), headers=headers) for end in ends)
            )
            views = [await answer.json() for answer in answers]
            codes = [(answer.status, view.get("code")) for answer, view in zip(answers, views, strict=True)]
            assert codes.count((201, None)) == 1, codes
            new = views[codes.index((201, None))]
            stored = await (await http.get(f"/v1/files/{new['id']}")).read()
            for answer, view, end in zip(answers, views, ends, strict=True):
                if not stored.endswith(end):
                    assert (answer.status, view["code"]) == (409, "idempotency_conflict")
                else:
                    assert (answer.status in (200, 201), view) == (True, new)
            assert hashlib.sha256(stored).hexdigest() == new["sha256"]
            assert (await http.delete(f"/v1/files/{new['id']}")).status == 204

    @pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, len(DATA)])
    async def test_a_file_comes_down_as_it_went_up(self, http: Http, size: int) -> None:
        response = await http.post(
            "/v1/files?name=scan%20%C3%A4.pdf",
            data=io.BytesIO(DATA[:size]),
            headers={"Content-Type": "application/pdf"},
        )
        assert response.status == 201
        view = await response.json()
        assert response.headers["Location"] == f"/v1/files/{view['id']}"
        assert set(view) == {
            "id", "name", "type", "size_bytes", "sha256", "created_at", "expires_at", "key",
        }  # fmt: skip
        assert (view["name"], view["type"], view["size_bytes"]) == ("scan ä.pdf", "application/pdf", size)
        assert view["sha256"] == hashlib.sha256(DATA[:size]).hexdigest()
        down = await http.get(response.headers["Location"])
        assert (down.status, await down.read()) == (200, DATA[:size])
        assert down.headers["ETag"] == f'"{view["sha256"]}"' == response.headers["ETag"]
        assert down.headers["Content-Type"] == "application/pdf"
        assert down.headers["Content-Length"] == str(size)

    async def test_a_body_of_unknown_length_is_stored(self, http: Http) -> None:
        async def body() -> AsyncIterator[bytes]:
            for start in range(0, len(DATA), 100_000):
                yield DATA[start : start + 100_000]

        response = await http.post("/v1/files", data=body())
        assert (response.status, (await response.json())["sha256"]) == (201, SHA256)

    async def test_a_form_with_a_file_is_stored(self, http: Http) -> None:
        form = FormData()
        form.add_field("file", io.BytesIO(DATA), filename="scan.pdf", content_type="application/pdf")
        response = await http.post("/v1/files", data=form)
        view = await response.json()
        assert (response.status, view["sha256"]) == (201, SHA256)
        assert (view["name"], view["type"]) == ("scan.pdf", "application/pdf")

    @pytest.mark.parametrize(
        ("disposition", "name"),
        [
            ('attachment; filename="a b.txt"', "a b.txt"),
            ("attachment; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
            ('attachment; filename="../../etc/passwd"', "passwd"),
            ('attachment; filename="C:\\\\x\\\\y.doc"', "y.doc"),
            ("attachment", "file"),
            (";;;", "file"),
        ],
    )
    async def test_the_name_comes_from_the_content_disposition(
        self, http: Http, disposition: str, name: str
    ) -> None:
        view = await upload(http, b"x", Content_Disposition=disposition)
        assert view["name"] == name

    async def test_the_type_that_curl_sends_for_everything_is_not_believed(self, http: Http) -> None:
        view = await upload(http, b"x", Content_Type="application/x-www-form-urlencoded")
        assert view["type"] == "application/octet-stream"

    @pytest.mark.parametrize(("path", "header"), [("?ttl_s=90", {}), ("", {"Switchyard-TTL": "90"})])
    async def test_a_file_is_kept_for_as_long_as_its_upload_says(
        self, http: Http, path: str, header: dict[str, str]
    ) -> None:
        response = await http.post(f"/v1/files{path}", data=b"x", headers=header)
        view = await response.json()
        kept = datetime.fromisoformat(view["expires_at"]) - datetime.fromisoformat(view["created_at"])
        assert kept == timedelta(seconds=90)

    async def test_a_file_expires_after_a_second_where_its_upload_says_so(
        self, http: Http, nats_connection: Client
    ) -> None:
        view = await upload(http, b"x", "/v1/files?ttl_s=1")
        meta = subjects.file_meta("acme", view["id"])
        async with asyncio.timeout(DEADLINE_S):
            while meta in await stored_subjects(nats_connection):
                await asyncio.sleep(0.05)
        await problem(await http.get(f"/v1/files/{view['id']}"), 404, "not_found")

    @pytest.mark.parametrize(
        ("header", "value"),
        [
            ("Content-Digest", f"sha-256=:{base64.b64encode(bytes.fromhex(SHA256)).decode()}:"),
            ("Content-Digest", f"md5=:AAAA:, sha-256=:{base64.b64encode(bytes.fromhex(SHA256)).decode()}:"),
            ("Digest", f"SHA-256={base64.b64encode(bytes.fromhex(SHA256)).decode()}"),
        ],
    )
    async def test_a_body_that_fits_its_digest_is_stored_and_another_is_not(
        self, http: Http, nats_connection: Client, header: str, value: str
    ) -> None:
        response = await http.post("/v1/files", data=io.BytesIO(DATA[:-1]), headers={header: value})
        await problem(response, 422, "digest_mismatch")
        assert await stored_subjects(nats_connection) == set()
        assert (await http.post("/v1/files", data=io.BytesIO(DATA), headers={header: value})).status == 201


class TestRefusedUploads:
    @pytest.mark.parametrize(
        ("path", "headers", "status", "code", "field"),
        [
            ("?nmae=x", {}, 400, "unknown_parameter", "nmae"),
            ("?name=a&name=b", {}, 400, "invalid_parameter", "name"),
            ("?name=a/b", {}, 422, "invalid", "name"),
            ("?name=" + "x" * 256, {}, 422, "invalid", "name"),
            ("?ttl_s=0", {}, 400, "invalid_parameter", "ttl_s"),
            ("?ttl_s=nan", {}, 400, "invalid_parameter", "ttl_s"),
            ("?ttl_s=soon", {}, 400, "invalid_parameter", "ttl_s"),
            ("?ttl_s=1e10", {}, 400, "invalid_parameter", "ttl_s"),
            ("", {"Switchyard-TTL": "-1"}, 400, "invalid_parameter", "Switchyard-TTL"),
            ("", {"Content-Type": "nonsense"}, 422, "invalid", "type"),
            ("", {"Content-Encoding": "gzip"}, 415, "unsupported_media_type", "Content-Encoding"),
            ("", {"Content-Digest": "sha-256=:AAAA:"}, 400, "invalid_parameter", "Content-Digest"),
        ],
    )
    async def test_a_rule_that_is_broken_is_named(
        self, http: Http, nats_connection: Client, path: str, headers: dict[str, str],
        status: int, code: str, field: str,
    ) -> None:  # fmt: skip
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            url = http.make_url("/v1/files").human_repr() + path
            async with session.post(url, data=b"x", headers=headers) as response:
                assert (await problem(response, status, code))["field"] == field
        assert await stored_subjects(nats_connection) == set()

    async def test_a_form_of_two_files_is_refused_and_leaves_nothing(
        self, http: Http, nats_connection: Client
    ) -> None:
        form = FormData()
        form.add_field("file", io.BytesIO(DATA), filename="one")
        form.add_field("file", io.BytesIO(DATA), filename="two")
        await problem(await http.post("/v1/files", data=form), 400, "malformed")
        await nothing_is_stored(nats_connection)

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"no form at all", b"--B\r\n\r\n", b"--B--\r\n",
            b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nvalue\r\n--B--\r\n',
            b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\nthe closing line is lost',
        ],
    )  # fmt: skip
    async def test_a_malformed_form_is_refused_and_leaves_nothing(
        self, http: Http, nats_connection: Client, body: bytes
    ) -> None:
        headers = {"Content-Type": "multipart/form-data; boundary=B"}
        response = await http.post("/v1/files", data=body, headers=headers)
        assert response.status == 400, await response.text()
        await nothing_is_stored(nats_connection)

    async def test_a_form_without_a_boundary_is_refused(self, http: Http) -> None:
        headers = {"Content-Type": "multipart/form-data"}
        await problem(await http.post("/v1/files", data=b"x", headers=headers), 400, "body_broken_off")

    async def test_a_body_over_the_limit_is_refused_and_leaves_nothing(
        self, http: Http, nats_connection: Client
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            for _ in range(9):
                yield bytes(MIB)

        await problem(await http.post("/v1/files", data=body()), 413, "file_too_large")
        await nothing_is_stored(nats_connection)

    async def test_an_announced_size_over_the_limit_is_refused_before_a_byte_is_sent(
        self, http: Http
    ) -> None:
        request = (
            b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\nExpect: 100-continue\r\n\r\n"
        )
        async with raw(http, request) as connection:
            assert await connection.until(b"\r\n") == b"HTTP/1.1 413 Request Entity Too Large\r\n"

    async def test_a_client_that_asks_may_continue_and_its_file_is_stored(self, http: Http) -> None:
        request = b"POST /v1/files HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
        async with raw(http, request) as connection:
            assert await connection.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.writer.write(b"abc")
            assert await connection.until(b"\r\n") == b"HTTP/1.1 201 Created\r\n"

    async def test_a_viewer_may_read_and_not_write(self, http: Http) -> None:
        view = await upload(http)
        viewer = caller("acme", "viewer")
        await problem(await http.post("/v1/files", data=b"x", headers=viewer), 403, "forbidden")
        await problem(await http.delete(f"/v1/files/{view['id']}", headers=viewer), 403, "forbidden")
        assert (await http.get(f"/v1/files/{view['id']}", headers=viewer)).status == 200

    async def test_a_worker_may_write(self, http: Http) -> None:
        response = await http.post("/v1/files", data=b"x", headers=caller("acme", "worker", "viewer"))
        assert response.status == 201


@dataclass
class Raw:
    """A connection that speaks HTTP by hand."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def until(self, what: bytes) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(what)


@asynccontextmanager
async def raw(http: Http, request: bytes) -> AsyncIterator[Raw]:
    connection = Raw(*await asyncio.open_connection(http.host, http.port))
    connection.writer.write(request)
    try:
        yield connection
    finally:
        connection.writer.close()
        with contextlib.suppress(ConnectionError):
            await connection.writer.wait_closed()


class TestBrokenOffUploads:
    @pytest.mark.parametrize("framing", [b"Content-Length: 8000000", b"Transfer-Encoding: chunked"])
    async def test_a_client_that_goes_away_leaves_nothing(
        self, http: Http, nats_connection: Client, framing: bytes
    ) -> None:
        async with self.half_sent(http, nats_connection, framing) as connection:
            connection.writer.transport.abort()
            await nothing_is_stored(nats_connection)

    async def test_a_client_that_goes_away_in_a_form_leaves_nothing(
        self, http: Http, nats_connection: Client
    ) -> None:
        framing = b"Content-Type: multipart/form-data; boundary=B\r\nContent-Length: 8000000"
        form = b'--B\r\nContent-Disposition: form-data; name="f"; filename="x"\r\n\r\n'
        async with self.half_sent(http, nats_connection, framing, form) as connection:
            connection.writer.transport.abort()
            await nothing_is_stored(nats_connection)

    async def test_a_client_that_stops_sending_is_given_up_and_leaves_nothing(
        self, http: Http, nats_connection: Client
    ) -> None:
        async with self.half_sent(http, nats_connection, b"Content-Length: 8000000") as connection:
            assert await connection.until(b"\r\n") == b"HTTP/1.1 408 Request Timeout\r\n"
            await nothing_is_stored(nats_connection)

    @asynccontextmanager
    async def half_sent(
        self, http: Http, nc: Client, framing: bytes, opening: bytes = b""
    ) -> AsyncIterator[Raw]:
        """An upload of which some is sent and the first of it is stored."""
        stored = asyncio.Event()

        async def on_chunk(_: object) -> None:
            stored.set()

        await nc.subscribe(subjects.ALL_FILE_CHUNKS, cb=on_chunk)
        await nc.flush()
        body = opening + bytes(4 * CHUNK_BYTES)
        if b"chunked" in framing:
            body = b"%x\r\n%s\r\n" % (len(body), body)
        async with raw(http, b"POST /v1/files HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n\r\n") as connection:
            connection.writer.write(body)
            async with asyncio.timeout(DEADLINE_S):
                await stored.wait()
            yield connection


class TestRanges:
    @pytest.fixture
    async def url(self, http: Http) -> str:
        return f"/v1/files/{(await upload(http))['id']}"

    @settings(
        max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(first=st.none() | st.integers(0, len(DATA) + 5), last=st.none() | st.integers(0, len(DATA) + 5))
    async def test_a_range_is_what_slicing_gives(
        self, http: Http, url: str, first: int | None, last: int | None
    ) -> None:
        text = f"bytes={'' if first is None else first}-{'' if last is None else last}"
        response = await http.get(url, headers={"Range": text})
        body = await response.read()
        if (first is None and last is None) or (first is not None and last is not None and last < first):
            assert (response.status, body) == (200, DATA)  # malformed, and so ignored
            return
        start = max(0, len(DATA) - (last or 0)) if first is None else first
        wanted = DATA[start:] if first is None or last is None else DATA[start : last + 1]
        if not wanted:
            assert response.status == 416
            assert response.headers["Content-Range"] == f"bytes */{len(DATA)}"
            return
        assert (response.status, body) == (206, wanted)
        assert response.headers["Content-Range"] == f"bytes {start}-{start + len(wanted) - 1}/{len(DATA)}"
        assert response.headers["Content-Length"] == str(len(wanted))

    @pytest.mark.parametrize("text", ["bytes=0-1,4-5", "lines=0-1", "bytes=a-b", "bytes", "bytes=1" * 30])
    async def test_a_range_that_is_not_understood_is_ignored(self, http: Http, url: str, text: str) -> None:
        assert RANGE.fullmatch(text) is None
        response = await http.get(url, headers={"Range": text})
        assert (response.status, await response.read()) == (200, DATA)

    async def test_a_range_of_an_empty_file_cannot_be_satisfied(self, http: Http) -> None:
        view = await upload(http, b"")
        response = await http.get(f"/v1/files/{view['id']}", headers={"Range": "bytes=0-0"})
        await problem(response, 416, "range_not_satisfiable")

    @pytest.mark.parametrize(
        ("condition", "status"), [(f'"{SHA256}"', 206), ('"other"', 200), (f'W/"{SHA256}"', 200)]
    )
    async def test_a_range_holds_only_for_the_version_that_it_names(
        self, http: Http, url: str, condition: str, status: int
    ) -> None:
        response = await http.get(url, headers={"Range": "bytes=0-9", "If-Range": condition})
        assert (response.status, await response.read()) == (status, DATA[:10] if status == 206 else DATA)

    async def test_a_range_may_name_its_version_by_its_time(self, http: Http, url: str) -> None:
        modified = (await http.head(url)).headers["Last-Modified"]
        response = await http.get(url, headers={"Range": "bytes=0-9", "If-Range": modified})
        assert response.status == 206
        earlier = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
        response = await http.get(url, headers={"Range": "bytes=0-9", "If-Range": earlier})
        assert response.status == 200

    async def test_head_says_all_and_sends_nothing(self, http: Http, url: str) -> None:
        response = await http.head(url, headers={"Range": "bytes=0-9"})
        assert (response.status, await response.read()) == (200, b"")
        assert response.headers["Content-Length"] == str(len(DATA))
        assert response.headers["Accept-Ranges"] == "bytes"


class TestConditions:
    PAST = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    FUTURE = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"If-None-Match": f'"{SHA256}"'}, 304),
            ({"If-None-Match": f'"other", W/"{SHA256}"'}, 304),
            ({"If-None-Match": "*"}, 304),
            ({"If-None-Match": '"other"'}, 200),
            ({"If-None-Match": '"other"', "If-Modified-Since": FUTURE}, 200),
            ({"If-Modified-Since": FUTURE}, 304),
            ({"If-Modified-Since": PAST}, 200),
            ({"If-Modified-Since": "yesterday"}, 200),
            ({"If-Match": f'"{SHA256}"'}, 200),
            ({"If-Match": "*"}, 200),
            ({"If-Match": '"other"'}, 412),
            ({"If-Match": f'W/"{SHA256}"'}, 412),
            ({"If-Match": "garbage"}, 412),
            ({"If-Unmodified-Since": PAST}, 412),
            ({"If-Unmodified-Since": FUTURE}, 200),
            ({"If-None-Match": f'"{SHA256}"', "Range": "bytes=0-1"}, 304),
        ],
    )
    async def test_a_condition_decides(self, http: Http, headers: dict[str, str], status: int) -> None:
        url = f"/v1/files/{(await upload(http))['id']}"
        for method in ("GET", "HEAD"):
            response = await http.request(method, url, headers=headers)
            body = await response.read()
            assert response.status == status
            if status == 304:
                assert body == b""
                assert response.headers["ETag"] == f'"{SHA256}"'


class TestSafety:
    async def test_a_foreign_tenants_file_is_404_for_every_method(self, http: Http) -> None:
        url = f"/v1/files/{(await upload(http))['id']}"
        for method in ("GET", "DELETE"):
            await problem(await http.request(method, url, headers=caller("globex")), 404, "not_found")
        assert (await http.head(url, headers=caller("globex"))).status == 404
        assert await (await http.get(url)).read() == DATA

    async def test_an_admin_may_name_the_tenant_and_nobody_else(self, http: Http) -> None:
        url = f"/v1/files/{(await upload(http))['id']}?tenant=acme"
        admin = caller("ops", "admin", "viewer", "submitter", "worker")
        assert await (await http.get(url, headers=admin)).read() == DATA
        await problem(await http.get(url, headers=caller("globex")), 403, "forbidden")

    @pytest.mark.parametrize("file_id", ["nothing", "a%2Fb", "%00", "x" * 300, "..%2f..%2fetc", "%C3%A4"])
    async def test_an_unknown_id_is_404(self, http: Http, file_id: str) -> None:
        session = aiohttp.ClientSession(requote_redirect_url=False)
        async with session, session.get(f"{http.make_url('/v1/files/')}{file_id}") as response:
            await problem(response, 404, "not_found")

    async def test_a_page_is_saved_and_never_shown(self, http: Http) -> None:
        view = await upload(
            http, b"<script>alert(1)</script>", "/v1/files?name=x.html", Content_Type="text/html"
        )
        headers = (await http.get(f"/v1/files/{view['id']}")).headers
        assert headers["Content-Disposition"] == 'attachment; filename="x.html"'
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]
        assert "private" in headers["Cache-Control"]

    @pytest.mark.parametrize(
        ("name", "header"),
        [
            ('a".txt', "attachment; filename=\"a_.txt\"; filename*=UTF-8''a%22.txt"),
            ("€ 1.pdf", "attachment; filename=\"_ 1.pdf\"; filename*=UTF-8''%E2%82%AC%201.pdf"),
            ("a;b.txt", "attachment; filename=\"a_b.txt\"; filename*=UTF-8''a%3Bb.txt"),
        ],
    )
    async def test_a_name_cannot_break_out_of_its_header(self, http: Http, name: str, header: str) -> None:
        response = await http.post("/v1/files", params={"name": name}, data=b"x")
        view = await response.json()
        assert view["name"] == name
        down = await http.get(f"/v1/files/{view['id']}")
        assert down.headers["Content-Disposition"] == header

    async def test_a_deleted_file_is_gone(self, http: Http) -> None:
        url = f"/v1/files/{(await upload(http))['id']}"
        assert (await http.delete(url)).status == 204
        for method in ("GET", "DELETE"):
            await problem(await http.request(method, url), 404, "not_found")

    async def test_a_file_that_lost_a_chunk_breaks_off_and_never_looks_whole(
        self, http: Http, nats_connection: Client
    ) -> None:
        view = await upload(http)
        chunks = await read_range(nats_connection, subjects.FILES, subjects.ALL_FILE_CHUNKS, timeout_s=20)
        await nats_connection.jetstream().delete_msg(subjects.FILES, chunks[12].seq)
        response = await http.get(f"/v1/files/{view['id']}")
        assert response.status == 200
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    async def test_a_file_that_cannot_be_read_at_all_is_no_200(
        self, http: Http, nats_connection: Client
    ) -> None:
        view = await upload(http)
        chunks = await read_range(nats_connection, subjects.FILES, subjects.ALL_FILE_CHUNKS, timeout_s=20)
        await nats_connection.jetstream().delete_msg(subjects.FILES, chunks[0].seq)
        await problem(await http.get(f"/v1/files/{view['id']}"), 500, "internal")


class TestList:
    async def test_files_are_listed_newest_first_and_paged(self, http: Http, index: Index) -> None:
        infos = [index.add("acme", n, name=f"{n}.txt") for n in range(5)]
        index.add("globex", 9)
        found, cursor = [], ""
        while True:
            response = await http.get(f"/v1/files?limit=2{cursor}")
            assert response.status == 200, await response.text()
            page = await response.json()
            found += page["files"]
            if page["cursor"] is None:
                break
            cursor = f"&cursor={page['cursor']}"
        wanted = sorted(
            (msgspec.to_builtins(file_answer(info)) for info in infos),
            key=lambda v: (v["created_at"], v["id"]),
            reverse=True,
        )
        assert found == wanted

    async def test_expired_files_are_neither_listed_nor_counted(self, http: Http, index: Index) -> None:
        index.add("acme", SETTINGS.tenant_bytes, ttl_s=-1)
        assert await (await http.get("/v1/files")).json() == {"files": [], "cursor": None}
        assert (await http.post("/v1/files", data=b"x")).status == 201

    @pytest.mark.parametrize(
        ("query", "status", "field"),
        [
            ("limit=0", 400, "limit"),
            ("limit=501", 400, "limit"),
            ("limit=x", 400, "limit"),
            ("page=2", 400, "page"),
            ("cursor=nonsense", 422, "cursor"),
        ],
    )
    async def test_a_parameter_that_is_wrong_is_named(
        self, http: Http, query: str, status: int, field: str
    ) -> None:
        response = await http.get(f"/v1/files?{query}")
        assert response.status == status
        assert json.loads(await response.read())["field"] == field

    async def test_another_tenants_files_are_for_admins(self, http: Http, index: Index) -> None:
        info = index.add("acme", 1)
        response = await http.get("/v1/files?tenant=acme", headers=caller("globex"))
        await problem(response, 403, "forbidden")
        admin = caller("ops", "admin", "viewer")
        page = await (await http.get("/v1/files?tenant=acme", headers=admin)).json()
        assert [file["id"] for file in page["files"]] == [info.id]


class TestLimits:
    async def test_an_upload_over_the_quota_is_refused_with_quota_and_use(
        self, http: Http, index: Index, nats_connection: Client
    ) -> None:
        index.add("acme", SETTINGS.tenant_bytes - MIB)
        document = await problem(await http.post("/v1/files", data=io.BytesIO(DATA)), 413, "quota_exceeded")
        assert str(SETTINGS.tenant_bytes) in document["detail"]
        assert str(SETTINGS.tenant_bytes - MIB) in document["detail"]
        assert await stored_subjects(nats_connection) == set()
        assert (await http.post("/v1/files", data=io.BytesIO(DATA), headers=caller("globex"))).status == 201
        assert (await http.post("/v1/files", data=io.BytesIO(bytes(MIB)))).status == 201

    async def test_an_upload_of_unknown_length_is_ended_at_the_quota_and_leaves_nothing(
        self, http: Http, index: Index, nats_connection: Client
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield DATA

        index.add("acme", SETTINGS.tenant_bytes - MIB)
        await problem(await http.post("/v1/files", data=body()), 413, "quota_exceeded")
        await nothing_is_stored(nats_connection)

    async def test_uploads_at_once_count_together_and_a_failed_one_counts_no_more(
        self, http: Http, index: Index, nats_connection: Client
    ) -> None:
        index.add("acme", SETTINGS.tenant_bytes - 3 * MIB)
        arrived, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> AsyncIterator[bytes]:
            yield DATA
            arrived.set()
            await go_on.wait()
            yield bytes(MIB)  # over the quota

        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            first = group.create_task(http.post("/v1/files", data=slow()))
            await arrived.wait()
            while not await stored_subjects(nats_connection):
                await asyncio.sleep(0.01)
            await problem(await http.post("/v1/files", data=io.BytesIO(DATA)), 413, "quota_exceeded")
            go_on.set()
        await problem(first.result(), 413, "quota_exceeded")
        assert (await http.post("/v1/files", data=io.BytesIO(DATA))).status == 201

    async def test_a_finished_upload_counts_before_the_read_model_knows_it(
        self, http: Http, index: Index
    ) -> None:
        index.add("acme", SETTINGS.tenant_bytes - 3 * MIB)
        assert (await http.post("/v1/files", data=io.BytesIO(DATA))).status == 201
        await problem(await http.post("/v1/files", data=io.BytesIO(DATA)), 413, "quota_exceeded")

    async def test_transfers_over_the_limit_are_asked_to_come_back(self, http: Http) -> None:
        go_on = asyncio.Event()
        arrived = [asyncio.Event() for _ in range(SETTINGS.transfers)]

        async def slow(begun: asyncio.Event) -> AsyncIterator[bytes]:
            yield DATA
            begun.set()
            await go_on.wait()

        async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as group:
            running = [group.create_task(http.post("/v1/files", data=slow(begun))) for begun in arrived]
            for begun in arrived:
                await begun.wait()
            response = await http.post("/v1/files", data=b"x")
            await problem(response, 503, "unavailable")
            assert int(response.headers["Retry-After"]) > 0
            go_on.set()
        assert [task.result().status for task in running] == [201] * SETTINGS.transfers
        assert (await http.post("/v1/files", data=b"x")).status == 201

    async def test_a_client_that_stops_reading_is_cut_off(self, http: Http, nats_connection: Client) -> None:
        files = Files(nats_connection, timeout_s=20)
        size = 32 * MIB  # more than the buffers of the sockets hold
        big = await files.put(
            tenant="acme", file_id="big", name="big", type="text/plain", body=blocks(size),
            max_bytes=size, ttl_s=3600,
        )  # fmt: skip
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        narrow.connect((http.host, http.port))
        reader, writer = await asyncio.open_connection(sock=narrow, limit=1024)
        writer.write(f"GET /v1/files/{big.id} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with capture_logs() as logs:
            assert b"200 OK" in await Raw(reader, writer).until(b"\r\n\r\n")
            async with asyncio.timeout(DEADLINE_S):
                while not any(entry["event"] == "download_broken_off" for entry in logs):
                    await asyncio.sleep(0.02)
        received = 0
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(DEADLINE_S):
                while block := await reader.read(MIB):
                    received += len(block)
        assert received < size
        writer.close()
