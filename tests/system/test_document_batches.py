"""A batch of documents, some of them broken, while gateway, keeper and workers are killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
import pytest

from tests.gateway.ilios.client import Ilios, Sent
from tests.sizes import sizes
from tests.system.deployment import Deployment

pytestmark = [pytest.mark.system]

KEY: Final = "team-alpha-key-0001"
WAIT_S: Final = 240
WORKER: Final = "worker0"
VICTIMS: Final = ("gateway", "keeper", "projector")


def document(number: int, *, broken: bool) -> Sent:
    """A file of a form."""
    if broken:
        return Sent("files", b"%PDF-1.7 cut off here", f"{number}.pdf")
    return Sent("files", f"<h1>Document {number}</h1><p>word{number}</p>".encode(), f"{number}.html")


async def status(client: Ilios, batch: str) -> dict[str, Any]:
    """Where a batch stands, asked again while the gateway is away."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                answer = await client.get(f"/v1/batch/status/{batch}?details=true")
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(0.1)
                continue
            if answer.status == 200:
                found: dict[str, Any] = answer.json
                return found
            assert answer.status == 503, answer
            await asyncio.sleep(0.2)


async def kill(site: Deployment, name: str) -> None:
    """Kill the worker in the midst of a document, and a part beside it, and start them again."""
    if WORKER in site.parts:
        await site.parts[WORKER].kill()
    await site.parts[name].kill()
    if name == "gateway":
        await site.start_gateway("gateway", int(site.url.rpartition(":")[2]))
    else:
        await site.start(name, name)
    await site.start_worker(WORKER, kinds="convert", slots=1)


@pytest.mark.parametrize("size", sizes((20, 3, 3), (100, 7, 16), timeout_s=1800))
async def test_each_document_ends_once_while_everything_is_killed(
    size: tuple[int, int, int], tmp_path: Path
) -> None:
    number, bad, kills = size
    broken = {1 + which * number // bad for which in range(bad)}
    async with Deployment(tmp_path, lease_s=3.0) as site:
        site.settings |= {"SWITCHYARD_ILIOS": "true", "API_KEY": KEY}
        await site.start("projector", "projector")
        await site.start_gateway()
        await site.start("keeper", "keeper")
        client = Ilios(site.session, site.url, KEY)
        made = await client.send(
            "/v1/batch/submit", *(document(one, broken=one in broken) for one in range(1, number + 1))
        )
        assert made.status == 202, made
        # What was answered is there, whatever dies: the gateway does before any has been converted.
        await kill(site, "gateway")
        batch, sent, killed = made.json["batchId"], made.json["documents"], 1
        async with asyncio.timeout(WAIT_S * (1 + kills)):
            while (found := await status(client, batch))["status"] not in ("completed", "failed"):
                ended = found["progress"]["completed"] + found["progress"]["failed"]
                if killed < kills and ended >= number * killed // (2 * kills):
                    await kill(site, VICTIMS[killed % len(VICTIMS)])
                    killed += 1
                await asyncio.sleep(0.1)
        assert (found["status"], killed) == ("completed", kills)
        assert [one["id"] for one in found["documents"]] == [one["id"] for one in sent]
        failed = {n for n, one in enumerate(found["documents"], 1) if one["status"] == "failed"}
        assert failed == broken, found
        lines = (await client.get(f"/v1/batch/download/{batch}")).raw.splitlines()
        read = [orjson.loads(line) for line in lines]
        assert [one["id"] for one in read] == [one["id"] for one in sent]
        for which, one in enumerate(read, 1):
            if which in broken:
                assert (one["content"], bool(one["error"])) == (None, True)
            else:
                assert f"word{which}\n" in one["content"]
