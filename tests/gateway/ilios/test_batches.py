"""`/v1/batch/*`: many documents at once, of which some cannot be converted."""

from __future__ import annotations

import asyncio
import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.services.broker.server.server import NatsServer
from tests.gateway.batches.site import keeper
from tests.gateway.ilios.client import ID, Answer, Ilios, Sent
from tests.gateway.ilios.site import KEYS, House, house

DEADLINE_S = 90.0


@asynccontextmanager
async def batch_house(broker: NatsServer, directory: Path, **settings: Any) -> AsyncIterator[House]:
    """A house with a keeper, on a broker of its own."""
    values = {"lease_s": 2.0, "cancel_grace_s": 1.0, **settings}
    async with house(broker, directory, **values) as here, keeper(here.api):  # type: ignore[arg-type]
        yield here


async def submitted(client: Ilios, bodies: list[bytes], **fields: Any) -> Answer:
    parts = [Sent("files", body, f"{number}.pdf") for number, body in enumerate(bodies, 1)]
    parts += [Sent(name, str(value).encode()) for name, value in fields.items()]
    return await client.send("/v1/batch/submit", *parts)


async def ended(client: Ilios, batch: str) -> dict[str, Any]:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            answer = await client.get(f"/v1/batch/status/{batch}?details=true")
            assert answer.status == 200, answer
            found: dict[str, Any] = answer.json
            if found["status"] in ("completed", "failed"):
                return found
            await asyncio.sleep(0.1)


async def test_a_hundred_documents_of_which_seven_are_broken(broker: NatsServer, tmp_path: Path) -> None:
    broken = {3, 17, 29, 50, 51, 77, 100}
    bodies = [b"broken" if n in broken else b"page one of %d\fpage two" % n for n in range(1, 101)]
    async with batch_house(broker, tmp_path, slots=8) as here:
        client = here.client()
        made = await submitted(client, bodies, priority=9, retentionDays=7)
        assert made.status == 202, made
        found = made.json
        assert (found["status"], found["totalDocuments"], len(found["documents"])) == ("queued", 100, 100)
        assert all(ID.fullmatch(one["id"]) for one in (*found["documents"], {"id": found["batchId"]}))
        assert found["documents"][0] | {"id": ""} == {
            "id": "", "fileName": "1.pdf", "fileSize": len(bodies[0]), "status": "pending",
        }  # fmt: skip
        status = await ended(client, found["batchId"])
        assert status["status"] == "completed"
        assert status["progress"] == {
            "total": 100, "pending": 0, "processing": 0, "completed": 93, "failed": 7,
        }  # fmt: skip
        assert [one["id"] for one in status["documents"]] == [one["id"] for one in found["documents"]]
        failed = {n for n, one in enumerate(status["documents"], 1) if one["status"] == "failed"}
        assert failed == broken
        lines = await client.get(status["downloadUrl"])
        assert lines.headers["Content-Type"] == "application/x-ndjson"
        read = [orjson.loads(line) for line in lines.raw.splitlines()]
        assert [one["id"] for one in read] == [one["id"] for one in found["documents"]]
        assert read[0]["content"] == "page one of 1\n\n---\n\npage two\n"
        assert read[0]["metadata"]["extractedPages"] == 2
        assert (read[2]["content"], read[2]["error"]) == (None, "damaged_file")
        packed = await client.get(status["downloadUrl"] + "?format=zip")
        with zipfile.ZipFile(io.BytesIO(packed.raw)) as archive:
            assert len(archive.namelist()) == 94
            assert archive.read("1.pdf.md").decode() == read[0]["content"]
        # Each is a document like any other, of the priority that was asked for.
        document = await client.get(f"/api/documents/{read[0]['id']}")
        assert document.text == read[0]["content"]
        jobs = await here.api.get("/v1/jobs?limit=1", token=here.api.token("admin", tenant=here.api.tenant))
        assert jobs.json["jobs"][0]["priority"] == 90
        stranger = await here.api.get(
            f"/v1/batch/status/{found['batchId']}", token=here.api.token(tenant=here.api.stranger)
        )
        assert stranger.status == 404


async def test_download_before_the_end_is_refused_and_cancel_ends_it(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with batch_house(broker, tmp_path, works=False) as here:
        client = here.client()
        made = (await submitted(client, [b"one", b"two"], useMistralBatch="true")).json
        batch = made["batchId"]
        assert made["mistralBatchJobId"] == batch
        admin = here.api.token("admin", tenant=here.api.tenant)
        async with asyncio.timeout(DEADLINE_S):
            while len(jobs := (await here.api.get("/v1/jobs", token=admin)).json["jobs"]) < 2:
                await asyncio.sleep(0.05)
        why = await here.api.get(f"/v1/jobs/{jobs[0]['id']}/explain", token=admin)
        assert "mistral" in f"{why.raw.decode()}", why
        early = await client.get(f"/v1/batch/download/{batch}")
        assert (early.status, early.json["status"]) == (400, "pending")
        assert early.json["progress"]["total"] == 2
        wrong = await client.get(f"/v1/batch/download/{batch}?format=xml")
        assert (wrong.status, wrong.json["supportedFormats"]) == (400, ["jsonl", "zip"])
        assert (await client.post(f"/v1/batch/cancel/{batch}")).status == 200
        found = await ended(client, batch)
        assert (found["status"], found["progress"]["failed"]) == ("failed", 2)
        lines = (await client.get(f"/v1/batch/download/{batch}")).raw.splitlines()
        assert [orjson.loads(line)["status"] for line in lines] == ["failed"] * 2


@pytest.mark.parametrize(
    ("bodies", "fields", "error"),
    [
        ([], {}, "No files provided"),
        ([b"x"] * 101, {}, "Maximum 100 files per batch"),
        ([b"x"], {"priority": 11}, "Failed to submit batch"),
        ([b"x"], {"retentionDays": 0}, "Failed to submit batch"),
        ([b"x"], {"useMistralBatch": 2}, "Failed to submit batch"),
        ([b"x", b""], {}, "File is empty"),
    ],
)
async def test_bad_forms_leave_nothing_behind(
    broker: NatsServer, tmp_path: Path, bodies: list[bytes], fields: dict[str, int], error: str
) -> None:
    async with batch_house(broker, tmp_path, works=False) as here:
        answer = await submitted(here.client(), bodies, **fields)
        assert (answer.status, answer.json["error"]) == (400, error), answer
        admin = here.api.token("admin", tenant=here.api.tenant)
        assert (await here.api.get("/v1/batches", token=admin)).json["batches"] == []


async def test_keys_see_only_their_own_where_the_setting_says_so(broker: NatsServer, tmp_path: Path) -> None:
    async with batch_house(broker, tmp_path, works=False, ilios_own_only=True) as here:
        batch = (await submitted(here.client(KEYS[0]), [b"one"])).json["batchId"]
        assert (await here.client(KEYS[0]).get(f"/v1/batch/status/{batch}")).status == 200
        assert (await here.client(KEYS[1]).get(f"/v1/batch/status/{batch}")).status == 404
        assert (await here.client(KEYS[1]).post(f"/v1/batch/cancel/{batch}")).status == 404
