"""Two keys of one tenant where each sees its own alone: over every route of the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.doors.ilios.routes import ROUTES
from tests.gateway.ilios.client import Answer, Ilios, Sent
from tests.gateway.ilios.site import KEYS
from tests.gateway.ilios.test_batches import batch_house, ended, submitted

MINE = b"mine alone"
OPEN = {"GET /health", "GET /docs", "GET /openapi.json", "GET /"}


async def sent(client: Ilios) -> dict[str, str]:
    """What a key has: a document of each way in, and a batch."""
    at_once = await client.convert("mine.pdf", MINE)
    assert at_once.status == 200, at_once
    later = (await client.submit("mine.pdf", MINE)).json["id"]
    wish = {"fileName": "mine.pdf", "fileSize": len(MINE)}
    by_address = (await client.post("/api/documents/upload-url", wish)).json
    batch = (await submitted(client, [MINE])).json
    await client.ended(later)
    await ended(client, batch["batchId"])
    return {
        "at once": at_once.headers["X-Document-Id"], "later": later, "by address": by_address["id"],
        "of a batch": batch["documents"][0]["id"], "batch": batch["batchId"],
    }  # fmt: skip


def others(client: Ilios, document: str, batch: str) -> dict[str, Callable[[], Awaitable[Answer]]]:
    """Every route that names something, called by somebody else."""
    path = "/api/documents"
    return {
        "GET /api/documents/{id}": lambda: client.get(f"{path}/{document}?format=json"),
        "GET /api/documents/status/{id}": lambda: client.get(f"{path}/status/{document}"),
        "GET /api/documents/{id}/original": lambda: client.get(f"{path}/{document}/original"),
        "POST /api/documents/upload-complete/{id}": lambda: client.post(f"{path}/upload-complete/{document}"),
        "GET /api/documents/{id}/file": lambda: client.get(f"{path}/{document}/file"),
        "PUT /api/documents/{id}/file": lambda: client.call("PUT", f"{path}/{document}/file", b"x"),
        "GET /v1/batch/status/{id}": lambda: client.get(f"/v1/batch/status/{batch}?details=true"),
        "GET /v1/batch/download/{id}": lambda: client.get(f"/v1/batch/download/{batch}"),
        "POST /v1/batch/cancel/{id}": lambda: client.post(f"/v1/batch/cancel/{batch}"),
    }


MAKES = {
    "POST /v1/convert", "POST /api/documents/upload-url", "POST /api/documents/submit",
    "POST /v1/batch/submit",
}  # fmt: skip
"""Routes that name nothing that is there."""
SUMS = {"GET /api/usage/summary", "GET /api/usage/breakdown"}


async def test_a_key_reaches_nothing_of_another_over_any_route(broker: NatsServer, tmp_path: Path) -> None:
    async with batch_house(broker, tmp_path, ilios_own_only=True) as here:
        mine, other = here.client(KEYS[0]), here.client(KEYS[1])
        stranger = Ilios(here.api.http, here.api.url, here.api.token("admin", tenant=here.api.stranger))
        had = await sent(mine)
        batch = had.pop("batch")
        routes = {f"{route.method} {route.path}" for route in ROUTES}
        assert routes - OPEN == MAKES | SUMS | set(others(other, "", ""))
        for client in (other, stranger):
            for which, document in had.items():
                for route, call in others(client, document, batch).items():
                    answer = await call()
                    assert answer.status in (403, 404), (which, route, answer)
                    assert MINE not in answer.raw
                    assert b"mine.pdf" not in answer.raw
            assert (await client.get("/api/usage/summary")).json["summary"]["totalOperations"] == 0
            assert (await client.get("/api/usage/breakdown")).json["breakdown"] == []
        # What others have asked for has changed nothing.
        assert (await mine.get(f"/api/documents/{had['later']}")).text == MINE.decode() + "\n"
        assert (await mine.status(had["by address"]))["status"] == "pending"
        # The same bytes of another key are another document.
        again = await other.send("/v1/convert", Sent("file", MINE, "b.pdf"))
        assert "X-Stored-Result" not in again.headers
        assert again.headers["X-Document-Id"] not in had.values()
        lines: list[Any] = [
            orjson.loads(one) for one in (await mine.get(f"/v1/batch/download/{batch}")).raw.splitlines()
        ]
        assert [one["id"] for one in lines] == [had["of a batch"]]
