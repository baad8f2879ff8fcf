"""What nobody should send: broken forms, odd names, wrong numbers, clients that lie or stop."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.ilios.client import Sent, form
from tests.gateway.ilios.site import House, house
from tests.gateway.rest import DEADLINE_S

FILE = Sent("file", b"text", "a.pdf")
PATHS = ("/v1/convert", "/api/documents/submit")


async def answered(reader: asyncio.StreamReader) -> bytes:
    """An answer, whether or not the gateway still waits for the rest of the request; b"" for none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        return error.partial
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return head + (await reader.read() if length is None else await reader.readexactly(int(length[1])))


async def nothing_is_left(here: House) -> None:
    """No job was made, and no file is kept."""
    files = await here.api.get("/v1/files", token=here.api.token("submitter"))
    jobs = await here.api.get("/v1/jobs", token=here.api.token("submitter"))
    assert (files.json["files"], jobs.json["jobs"]) == ([], [])


@pytest.mark.parametrize("path", PATHS)
async def test_forms_that_are_none_are_refused_in_the_shape_of_the_door(here: House, path: str) -> None:
    client = here.client()
    whole, kind = form(FILE)
    boundary = kind.partition("boundary=")[2]
    asked: dict[str, tuple[bytes, str]] = {
        "no form": (b"text", "application/pdf"),
        "json": (b'{"file": "x"}', "application/json"),
        "no boundary": (whole, "multipart/form-data"),
        "another boundary": (whole, "multipart/form-data; boundary=other"),
        "a boundary of 10,000": (whole, "multipart/form-data; boundary=" + "x" * 7000),
        "nothing": (b"", kind),
        "no end": (whole[: whole.rindex(b"--" + boundary.encode())], kind),
        "half a head": (whole[:40], kind),
        "a head without colon": (b"--b\r\nnonsense\r\n\r\nx\r\n--b--\r\n", "multipart/form-data; boundary=b"),
        "a form in a form": (
            b"--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\n\r\nx\r\n--c--\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
        "base64": (
            (b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.pdf"\r\n'
             b"Content-Transfer-Encoding: base64\r\n\r\ndGV4dA==\r\n--b--\r\n"),
            "multipart/form-data; boundary=b",
        ),
        "no name": (
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
            "multipart/form-data; boundary=b",
        ),
        "a file as text": form(Sent("file", b"text")),
        "another field": form(Sent("document", b"text", "a.pdf")),
        "an empty file": form(Sent("file", b"", "a.pdf")),
        "no choice": form(Sent("file", b"", "")),
        "two files": form(FILE, FILE),
        "a huge name": form(Sent("x" * 100_000, b"1"), FILE),
        "a huge field": form(Sent("format", b"x" * 100_000), FILE),
        "many fields": form(*(Sent(f"f{n}", b"1") for n in range(200)), FILE),
        "no UTF-8": form(Sent("format", b"\xff\xfe"), FILE),
        "wrong behind the file": form(FILE, Sent("retentionDays", b"0")),
    }  # fmt: skip
    wrong: dict[str, Any] = {}
    for name, (body, content_type) in asked.items():
        answer = await client.call("POST", path, body, Content_Type=content_type)
        if answer.status != 400 or not isinstance(answer.json.get("error"), str):
            wrong[name] = (answer.status, answer.raw[:200])
    assert wrong == {}
    answer = await client.call("POST", path, whole, Content_Type=kind, Content_Encoding="gzip")
    assert answer.status == 415
    await nothing_is_left(here)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "days",
    ["0", "-1", "3651", "1e9", "NaN", "abc", "1.5", "0x10", "\uff11\uff12", "30abc", "9" * 400, "null", "+5"],
)
async def test_a_time_that_is_none_is_refused(here: House, path: str, days: str) -> None:
    for parts in ((FILE, Sent("retentionDays", days.encode())), (Sent("retentionDays", days.encode()), FILE)):
        answer = await here.client().send(path, *parts)
        assert answer.status == 400, answer
        assert answer.json["error"].startswith("Failed to")
        assert "retentionDays" in answer.json["details"]
    await nothing_is_left(here)


@pytest.mark.parametrize("wanted", ["xml", "JSON", "json ", "markdown\n", "{}", "html"])
async def test_a_format_that_is_none_is_refused(here: House, wanted: str) -> None:
    answer = await here.client().send("/v1/convert", FILE, Sent("format", wanted.encode()))
    assert (answer.status, answer.json["error"]) == (400, "Failed to convert document")
    assert "format" in answer.json["details"]


@pytest.mark.parametrize("days", ["1", "3650", "", " 7 "])
async def test_a_time_that_is_one_is_taken(here: House, days: str) -> None:
    answer = await here.client().send("/v1/convert", FILE, Sent("retentionDays", days.encode()))
    assert answer.status == 200, answer


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\win.ini", "....win.ini"),
        ("/abs/olute.pdf", "olute.pdf"),
        ("..", "file"),
        (".", "file"),
        ("a%22b.pdf", 'a"b.pdf'),
        ("a%0D%0AX-Evil: 1.pdf", "a__X-Evil: 1.pdf"),
        ("\u202efdp.exe", "_fdp.exe"),
        ("x" * 400 + ".pdf", "x" * 251 + ".pdf"),
        ("Größe 中文.pdf", "Größe 中文.pdf"),
        ("<script>.pdf", "<script>.pdf"),
    ],
)
async def test_names_lead_nowhere_and_break_no_header(here: House, name: str, kept: str) -> None:
    answer = await here.client().send("/v1/convert", Sent("file", b"text", name), Sent("format", b"json"))
    assert answer.status == 200, answer
    assert answer.json["metadata"]["fileName"] == kept
    text = await here.client().get(f"/api/documents/{answer.json['id']}")
    assert "X-Evil" not in text.headers
    shown = text.headers["Content-Disposition"]
    assert shown.isascii()
    assert shown.startswith('inline; filename="')
    assert shown.partition('"')[2].partition('"')[0].endswith(".md")


async def test_a_type_that_is_none_is_guessed_from_the_name(here: House) -> None:
    for type_ in ("", "application/octet-stream", "text/plain", "nonsense", "a/b/c", "x" * 3000, "a/\xff"):
        answer = await here.client().send(
            "/v1/convert", Sent("file", b"text", "a.pdf", type_), Sent("format", b"json")
        )
        assert answer.status == 200, (type_, answer)
        assert answer.json["metadata"]["mimeType"] == "application/pdf"


async def test_a_client_that_stops_in_the_middle_leaves_nothing(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with house(shared_broker, tmp_path, transfer_idle_s=1.0) as here:
        client = here.client()
        body, kind = form(Sent("file", b"x" * 500_000, "a.pdf"))
        place = urlsplit(here.api.url)
        for path in PATHS:
            for stops in ("silent", "closed"):
                head = (
                    f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.key}\r\n"
                    f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
                )
                reader, writer = await asyncio.open_connection(place.hostname, place.port)
                writer.write(head.encode() + body[:200_000])
                await writer.drain()
                if stops == "closed":
                    writer.close()
                async with asyncio.timeout(DEADLINE_S):
                    answer = await answered(reader)
                if stops == "silent":
                    assert answer.startswith(b"HTTP/1.1 408"), answer
                    assert b'"error"' in answer
                    writer.close()
        await nothing_is_left(here)


async def test_a_length_that_lies_is_no_way_in(here: House) -> None:
    client = here.client()
    body, kind = form(FILE)
    place = urlsplit(here.api.url)
    for length, status in ((len(body) - 20, b"400"), (2**31, b"400"), (10**30, b"400"), (-5, b"400")):
        head = (
            f"POST /v1/convert HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {client.key}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        writer.write(head.encode() + body)
        await writer.drain()
        async with asyncio.timeout(DEADLINE_S):
            answer = await answered(reader)
        writer.close()
        assert answer.startswith((b"HTTP/1.1 " + status, b"HTTP/1.0 " + status)), answer
    await nothing_is_left(here)


async def test_a_file_that_is_too_large_is_refused_before_and_while_it_comes(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with house(shared_broker, tmp_path, file_bytes=100_000) as here:
        client = here.client()
        announced = await client.convert("a.pdf", b"x" * 300_000)
        assert (announced.status, announced.json["error"]) == (400, "File size exceeds 0MB limit")
        assert announced.json["details"]["maxSize"] == 100_000
        near = await client.convert("a.pdf", b"x" * 120_000)  # its form might have been that large
        assert near.status == 413, near
        asked = await client.post("/api/documents/upload-url", {"fileName": "a", "fileSize": 100_001})
        assert asked.status == 400
        place = (await client.post("/api/documents/upload-url", {"fileName": "a", "fileSize": 1})).json
        for size in (100_001, 500_000):
            put = await client.call("PUT", place["uploadUrl"], b"x" * size)
            assert put.status in (400, 413), put
        early = await client.post(f"/api/documents/upload-complete/{place['id']}")
        assert early.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b"1", b"{}", b'{"fileName": "a"}', b'{"fileSize": 5}',
        b'{"fileName": "", "fileSize": 5}', b'{"fileName": "a", "fileSize": 0}',
        b'{"fileName": "a", "fileSize": -1}', b'{"fileName": "a", "fileSize": "5"}',
        b'{"fileName": 5, "fileSize": 5}', b'{"fileName": "a", "fileSize": 1e400}',
        b'{"fileName": "a", "fileSize": NaN}', b'{"fileName": "a", "fileSize": 5, "retentionDays": 0}',
        b'{"fileName": "a", "fileSize": 5, "retentionDays": 3651}',
        b'{"fileName": "a", "fileSize": 5, "retentionDays": "30"}',
        b'{"fileName": "a", "fileSize": 5, "mimeType": 7}', b'{"fileName": "\xff", "fileSize": 5}',
        b'{"fileName": "a", "fileSize": 99999999999}', b"[" * 5000,
    ],
)  # fmt: skip
async def test_a_wish_for_an_address_that_is_none_is_refused(here: House, body: bytes) -> None:
    answer = await here.client().call(
        "POST", "/api/documents/upload-url", body, Content_Type="application/json"
    )
    assert answer.status == 400, answer
    assert isinstance(answer.json["error"], str)
    await nothing_is_left(here)


@pytest.mark.parametrize("name", ["../../a.pdf", "a\nb.pdf", "\u0000", "x" * 5000])
async def test_odd_names_of_files_to_come(here: House, name: str) -> None:
    client = here.client()
    answer = await client.post("/api/documents/upload-url", {"fileName": name, "fileSize": 5})
    assert answer.status == 200, answer
    assert (await client.call("PUT", answer.json["uploadUrl"], b"bytes")).status == 200
    status = await client.status(answer.json["id"])
    assert "/" not in status["fileName"]
    assert "\n" not in status["fileName"]
    assert 0 < len(status["fileName"]) <= 255


async def test_an_unknown_format_of_a_document_is_refused(here: House) -> None:
    client = here.client()
    document = (await client.convert("a.pdf", b"text")).headers["X-Document-Id"]
    answer = await client.get(f"/api/documents/{document}?format=xml")
    assert (answer.status, answer.json["supportedFormats"]) == (400, ["markdown", "json"])
    for wanted in ("markdown", "json", ""):
        assert (await client.get(f"/api/documents/{document}?format={wanted}")).status == 200
