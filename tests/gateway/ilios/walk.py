"""The whole API as a client of Ilios uses it: what is checked here holds at the real server and at ours."""

from __future__ import annotations

import re
from typing import Any, Final

from tests.gateway.ilios.client import ID, Answer, Ilios, Sent

ISO: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
NONE: Final = "a" * 24
NOT_READY: Final = {"pending", "processing"}


def refused(answer: Answer, status: int, error: str, *names: str) -> None:
    """An error in the shape that clients read."""
    assert (answer.status, answer.json["error"]) == (status, error), answer
    assert set(names) <= set(answer.json), answer


async def walk(client: Ilios, data: bytes, *, has_key: bool = True) -> None:
    """Go through the API.

    Args:
        client: one whose server converts.
        data: a document that it can convert, of one page.
        has_key: whether it asks for one.
    """
    await _open(client, has_key=has_key)
    await _convert(client, data)
    await _form(client, data)
    await _address(client, data)
    await _usage(client)
    await _none(client)


async def _open(client: Ilios, *, has_key: bool) -> None:
    health = await client.get("/health")
    assert (health.status, health.json["status"]) == (200, "healthy")
    assert ISO.fullmatch(health.json["timestamp"])
    assert set(health.json["services"]) == {"database", "s3"}
    if has_key:
        key, client.key = client.key, None
        refused(await client.get("/api/usage/summary"), 401, "Missing or invalid authorization header")
        client.key = "nobodys-key-000001"
        refused(await client.get("/api/usage/summary"), 401, "Invalid API key")
        client.key = key


async def _convert(client: Ilios, data: bytes) -> None:
    text = await client.convert("a.pdf", data)
    assert text.status == 200, text
    assert text.headers["Content-Type"].lower() == "text/plain; charset=utf-8"
    assert text.headers["Content-Disposition"] == 'inline; filename="a.pdf.md"'
    assert ID.fullmatch(text.headers["X-Document-Id"])
    assert text.headers["X-Extracted-Pages"] == "1"
    assert text.headers["X-Processing-Time-Ms"].isdecimal()
    found = (await client.convert("b.pdf", data, format="json", retentionDays=30)).json
    assert ID.fullmatch(found["id"])
    assert found["content"].strip() == text.text.strip()
    assert found["downloadUrl"] == f"/api/documents/{found['id']}"
    said = found["metadata"]
    assert (said["fileName"], said["fileSize"], said["extractedPages"]) == ("b.pdf", len(data), 1)
    assert isinstance(said["model"], str)
    assert isinstance(said["processingTimeMs"], int)
    assert isinstance(said["temperature"], int | float)
    assert isinstance(said["mimeType"], str)
    assert set(found["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    refused(await client.send("/v1/convert", Sent("format", b"json")), 400, "No file provided")


async def _read(client: Ilios, document: str, name: str, size: int) -> None:
    """A document that has been converted."""
    done = await client.ended(document)
    assert (done["id"], done["status"], done["fileName"], done["fileSize"]) == (
        document, "completed", name, size,
    )  # fmt: skip
    assert done["downloadUrl"] == f"/api/documents/{document}"
    assert ISO.fullmatch(done["createdAt"])
    assert ISO.fullmatch(done["processedAt"])
    text = await client.get(f"/api/documents/{document}")
    assert text.status == 200
    assert text.headers["Content-Disposition"] == f'inline; filename="{name}.md"'
    whole = (await client.get(f"/api/documents/{document}?format=json")).json
    assert (whole["id"], whole["fileName"], whole["content"]) == (document, name, text.text)
    assert {"metadata", "createdAt", "processedAt"} <= set(whole)


async def _form(client: Ilios, data: bytes) -> None:
    answer = await client.submit("c.pdf", data, retentionDays=7)
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    assert set(found) == {"id", "status", "fileName", "fileSize", "uploadUrl", "message"}
    assert (found["status"], found["fileName"], found["fileSize"]) == ("pending", "c.pdf", len(data))
    await _read(client, found["id"], "c.pdf", len(data))
    sent = await client.get(f"/api/documents/{found['id']}/original")
    assert sent.status == 302
    assert (await client.get(sent.headers["Location"])).raw == data
    refused(await client.send("/api/documents/submit", Sent("x", b"y")), 400, "No file provided")


async def _address(client: Ilios, data: bytes) -> None:
    wish = {"fileName": "d.pdf", "fileSize": len(data), "mimeType": "application/pdf"}
    found = (await client.post("/api/documents/upload-url", wish)).json
    assert set(found) == {"id", "uploadUrl", "s3Key", "expiresIn"}
    assert found["expiresIn"] == 3600
    early = await client.get(f"/api/documents/{found['id']}")
    refused(early, 400, "Document not ready", "status")
    put = await client.call("PUT", found["uploadUrl"], data, Content_Type="application/pdf")
    assert put.status == 200, put
    done = await client.post(f"/api/documents/upload-complete/{found['id']}")
    assert (done.status, done.json["id"], done.json["status"]) == (200, found["id"], "pending")
    assert done.json["message"] == "Upload confirmed, queued for processing"
    await _read(client, found["id"], "d.pdf", len(data))
    required = "fileName and fileSize are required"
    refused(await client.post("/api/documents/upload-url", {"fileName": "x"}), 400, required)
    large = await client.post("/api/documents/upload-url", {"fileName": "x", "fileSize": 2**31})
    refused(large, 400, "File size exceeds 1024MB limit")
    other = (await client.post("/api/documents/upload-url", {"fileName": "e", "fileSize": 5})).json
    refused(await client.post(f"/api/documents/upload-complete/{other['id']}"), 400, "File upload failed")


async def _usage(client: Ilios) -> None:
    found = (await client.get("/api/usage/summary?startDate=2020-01-01T00:00:00Z")).json
    assert found["filters"] == {"startDate": "2020-01-01T00:00:00.000Z"}
    totals = found["summary"]
    for name in (
        "totalDocuments",
        "totalOperations",
        "totalInputTokens",
        "totalOutputTokens",
        "totalCostCents",
    ):
        assert isinstance(totals[name], int)
    assert re.fullmatch(r"\d+\.\d\d", totals["totalCostUSD"])
    for share in (await client.get("/api/usage/breakdown")).json["breakdown"]:
        assert share["operation"] in ("convert", "convert-immediate")
        assert {"count", "totalInputTokens", "totalOutputTokens", "totalCostCents"} <= set(share)


async def _none(client: Ilios) -> None:
    for path in (f"status/{NONE}", NONE, f"{NONE}/original"):
        refused(await client.get(f"/api/documents/{path}"), 404, "Document not found")
    refused(await client.post(f"/api/documents/upload-complete/{NONE}"), 404, "Document not found")
