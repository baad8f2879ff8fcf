"""A document that is converted in parts is one document at this door, in its bills, and when it is erased."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.convert.connector import ConvertConnector
from switchyard.services.connectors.convert.section import ConvertSection
from switchyard.services.gateway.doors.ilios.ids import uuid_of
from tests.documents.pdf.test_parts import SENTENCE, book
from tests.gateway.ilios.test_batches import DEADLINE_S, batch_house, ended, submitted
from tests.gateway.ilios.test_bills import counted
from tests.ledger.books import in_ledger

PAGES = 6


async def test_a_document_in_parts_is_one_document(broker: NatsServer, tmp_path: Path) -> None:
    section = ConvertSection(kind="convert", id="convert", slots=1, split_over=PAGES - 1, part_pages=2)
    data = (await asyncio.to_thread(book, tmp_path, PAGES)).read_bytes()
    async with (
        batch_house(broker, tmp_path / "house", works=False) as here,
        here.api.worker(ConvertConnector(slots=1, section=section), name="reader"),
    ):
        client, api = here.client(), here.api
        answer = await client.convert("long.pdf", data)
        assert (answer.status, answer.headers["X-Extracted-Pages"]) == (200, str(PAGES)), answer
        assert answer.text.count(SENTENCE) == PAGES * 30
        document = answer.headers["X-Document-Id"]
        job: dict[str, Any] = (await api.get(f"/v1/jobs/{uuid_of(document)}")).json
        assert len(job["parts"]) == 3
        batch = (await submitted(client, [data + b"\n"])).json
        assert (await client.status(document))["status"] == "completed"
        done = await ended(client, batch["batchId"])
        assert (done["progress"]["total"], done["progress"]["completed"]) == (1, 1)
        assert len(done["documents"]) == 1
        bill = await counted(client, 2)
        lines = [line for line in await in_ledger(api) if line.tenant == api.tenant]
        assert (bill["totalDocuments"], bill["totalPages"]) == (2, 2 * PAGES)
        assert {line.operation for line in lines if line.units.get("pages", 0) == 0} == {
            "part", "convert-immediate", "batch",
        }  # fmt: skip
        shares = (await client.get("/api/usage/breakdown")).json["breakdown"]
        counts = {one["operation"]: one["count"] for one in shares}
        assert counts == {"batch": 1, "convert-immediate": 1}
        # Its parts go with it, and what they have left.
        parts = [(await api.get(f"/v1/jobs/{part['id']}")).json for part in job["parts"]]
        files = [artifact["file"] for part in parts for artifact in part["artifacts"]]
        assert [artifact["name"] for part in parts for artifact in part["artifacts"]].count("pages.bin") == 3
        for file in files:
            assert (await api.get(f"/v1/files/{file}")).status == 200
        gone = await api.call("DELETE", f"/v1/jobs/{job['id']}?erase=true")
        assert gone.status in (200, 204), gone
        for file in files:
            assert (await api.get(f"/v1/files/{file}")).status == 404
        async with asyncio.timeout(DEADLINE_S):
            for part in parts:
                while (await api.get(f"/v1/jobs/{part['id']}")).json["state"] != "archived":
                    await asyncio.sleep(0.05)
