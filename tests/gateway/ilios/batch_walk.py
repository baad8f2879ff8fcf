"""Batches as a client of Ilios uses them: what is checked here holds at the real server and at ours."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from tests.gateway.ilios.client import ID, PAUSE_S, WAIT_S, Ilios, Sent
from tests.gateway.ilios.walk import ISO, NONE, refused

STATES: Final = ("pending", "processing", "completed", "failed")


async def walk_batches(client: Ilios, data: bytes, broken: bytes) -> None:
    """Go through the calls of batches.

    Args:
        client: one whose server converts.
        data: a document that it can convert, of one page.
        broken: one that it cannot.
    """
    await _refusals(client)
    await _mixed(client, data, broken)
    await _all_failed(client, broken)


async def _refusals(client: Ilios) -> None:
    refused(await client.send("/v1/batch/submit", Sent("priority", b"5")), 400, "No files provided")
    many = [Sent("files", b"x", f"{n}.pdf") for n in range(101)]
    answer = await client.send("/v1/batch/submit", *many)
    refused(answer, 400, "Maximum 100 files per batch", "provided")
    assert answer.json["provided"] == 101
    for path in ("status", "download"):
        refused(await client.get(f"/v1/batch/{path}/{NONE}"), 404, "Batch not found")
    wrong = await client.send("/v1/batch/submit", Sent("priority", b"11"), Sent("files", b"x", "a.pdf"))
    assert wrong.json["error"] == "Failed to submit batch", wrong


async def _mixed(client: Ilios, data: bytes, broken: bytes) -> None:
    fields = (Sent("retentionDays", b"7"), Sent("priority", b"9"))
    files = Sent("files", data, "a.pdf"), Sent("files[]", broken, "b.pdf"), Sent("files", data, "ü c.pdf")
    made = await client.send("/v1/batch/submit", *files, *fields)
    assert made.status == 202, made
    found: dict[str, Any] = made.json
    assert set(found) == {"batchId", "status", "totalDocuments", "documents", "statusUrl"}
    assert (found["status"], found["totalDocuments"]) == ("queued", 3)
    assert found["statusUrl"] == f"/v1/batch/status/{found['batchId']}"
    sent = [(one["fileName"], one["fileSize"], one["status"]) for one in found["documents"]]
    assert sent == [(part.filename, len(part.value), "pending") for part in files]
    assert all(ID.fullmatch(one["id"]) for one in found["documents"])
    status = await _ended(client, found["batchId"])
    assert status["status"] == "completed"
    assert status["progress"] == {"total": 3, "pending": 0, "processing": 0, "completed": 2, "failed": 1}
    details = (await client.get(f"{found['statusUrl']}?details=true")).json["documents"]
    assert [set(one) for one in details] == [{"id", "fileName", "status", "error", "processedAt"}] * 3
    states = {one["id"]: one["status"] for one in details}
    assert [states[one["id"]] for one in found["documents"]] == ["completed", "failed", "completed"]
    for one in details:
        assert (one["error"] is None) == (one["status"] == "completed")
        assert (one["processedAt"] is None) == (one["status"] == "failed")
    lines = await client.get(status["downloadUrl"])
    assert lines.status == 200
    name = f'attachment; filename="batch-{found["batchId"]}.jsonl"'
    assert lines.headers["Content-Disposition"] == name
    read = {one["id"]: one for one in map(orjson.loads, lines.raw.splitlines())}
    assert set(read) == set(states)
    for one in read.values():
        assert set(one) == {"id", "fileName", "status", "content", "metadata", "error", "processedAt"}
        assert (one["content"] is None) == (one["status"] == "failed")
    good = read[found["documents"][0]["id"]]
    assert good["metadata"]["extractedPages"] == 1
    assert isinstance(good["metadata"]["processingTimeMs"], int)
    assert (await client.get(f"/api/documents/{good['id']}")).text == good["content"]
    wrong = await client.get(f"{status['downloadUrl']}?format=xml")
    refused(wrong, 400, "Unsupported format", "supportedFormats")


async def _all_failed(client: Ilios, broken: bytes) -> None:
    made = await client.send("/v1/batch/submit", Sent("files[]", broken, "a.pdf"))
    assert made.status == 202, made
    status = await _ended(client, made.json["batchId"])
    assert status["status"] == "failed"
    assert status["progress"] == {"total": 1, "pending": 0, "processing": 0, "completed": 0, "failed": 1}
    assert (await client.get(status["downloadUrl"])).status == 200


async def _ended(client: Ilios, batch: str) -> dict[str, Any]:
    """Where a batch stands at its end; before, it is not to be downloaded."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found: dict[str, Any] = (await client.get(f"/v1/batch/status/{batch}")).json
            assert found["batchId"] == batch
            assert ISO.fullmatch(found["createdAt"])
            assert set(found["progress"]) == {"total", "pending", "processing", "completed", "failed"}
            if found["status"] in ("completed", "failed"):
                assert found["downloadUrl"] == f"/v1/batch/download/{batch}"
                assert ISO.fullmatch(found["completedAt"])
                return found
            assert found["status"] in STATES
            assert (found["completedAt"], "downloadUrl" in found) == (None, False)
            early = await client.get(f"/v1/batch/download/{batch}")
            if early.status == 400:
                refused(early, 400, "Batch not ready for download", "status", "progress")
                assert {"completed", "failed", "total"} <= set(early.json["progress"])
            await asyncio.sleep(PAUSE_S)
