"""A long document, from the submitter over its parts and back, with one slot."""

from __future__ import annotations

from pathlib import Path

import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.connectors.convert.connector import ConvertConnector
from tests.documents.pdf.test_parts import book
from tests.gateway.rest import gateway
from tests.worker.site import open_site


@pytest.mark.drill
async def test_a_document_in_parts_is_the_document_and_is_billed_once(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with (
        open_site(broker.url) as site,
        gateway(broker.url, tmp_path / "gateway") as api,
        api.keeper(),
        site.worker(ConvertConnector(slots=1)),
    ):
        stored = await api.call(
            "POST", "/v1/files?name=book.pdf", book(tmp_path, 6).read_bytes(), Content_Type="application/pdf"
        )
        results = []
        for parts in (False, 2):
            payload = {"file": stored.json["id"], "ocr": "never", "parts": parts}
            job = await api.submit(kind="convert", payload=payload)
            assert (await site.final(job["id"])).name == "succeeded"
            done = (await api.get(f"/v1/jobs/{job['id']}")).json
            results.append((done["result"], done["usage"]))
        assert results[0] == results[1]
        assert results[1][1] == {"pages": 6}
