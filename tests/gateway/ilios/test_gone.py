"""What is erased is erased: no route of the door answers it, whether by hand or by its time."""

from __future__ import annotations

import asyncio
import io
import zipfile
from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest

from switchyard.services.broker.server.server import NatsServer
from switchyard.services.files import Files
from switchyard.services.gateway.doors.ilios.ids import uuid_of
from tests.gateway.batches.site import keeper
from tests.gateway.ilios.site import House, house
from tests.gateway.ilios.test_batches import DEADLINE_S, ended, submitted

SECRET = b"what nobody may read afterwards"
NAME = b"secret-name"


async def archived(here: House, document: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while (await here.client().status(document))["status"] != "archived":
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("by", ["hand", "time"])
async def test_no_route_answers_what_is_erased(broker: NatsServer, tmp_path: Path, by: str) -> None:
    async with house(broker, tmp_path) as here, AsyncExitStack() as stack:  # type: ignore[arg-type]
        client, api = here.client(), here.api
        if by == "time":
            # A retention shorter than a day is none that a request can ask for; a tenant's bound is.
            token = api.token("operator", "tenant-admin")
            put = await api.call("PUT", "/v1/limits/all", {"erase_s": 3}, token=token)
            assert put.status in (200, 201), put
        await stack.enter_async_context(keeper(api))
        first = await client.convert(f"{NAME.decode()}.pdf", SECRET)
        assert SECRET in first.raw
        sent = (await client.submit(f"{NAME.decode()}.pdf", SECRET)).json
        await client.ended(sent["id"])
        batch = (await submitted(client, [SECRET, SECRET])).json
        await ended(client, batch["batchId"])
        all_ = [first.headers["X-Document-Id"], sent["id"], *(one["id"] for one in batch["documents"])]
        files: list[str] = []
        for document in all_:
            job = (await api.get(f"/v1/jobs/{uuid_of(document)}")).json
            files += [job["labels"]["ilios-file"], *(one["file"] for one in job["artifacts"])]
            if by == "hand":
                gone = await api.call("DELETE", f"/v1/jobs/{uuid_of(document)}?erase=true")
                assert gone.status in (200, 204), gone
        for document in all_:
            await archived(here, document)
            for path in (document, f"{document}?format=json", f"{document}/original"):
                answer = await client.get(f"/api/documents/{path}")
                assert answer.status == 410, (path, answer)
                assert SECRET not in answer.raw
            found = await client.get(f"/api/documents/status/{document}")
            assert NAME not in found.raw
            again = await client.post(f"/api/documents/upload-complete/{document}")
            assert again.status == 404, again
            kept = await api.get(f"/v1/jobs/{uuid_of(document)}")
            assert SECRET not in kept.raw
            assert NAME not in kept.raw
        stored = Files(api.nc, timeout_s=DEADLINE_S)
        async with asyncio.timeout(DEADLINE_S):  # the keys go behind the jobs
            for file in files:
                while await stored.keys.under(api.tenant, file):
                    await asyncio.sleep(0.05)
        assert (await client.get(sent["uploadUrl"])).status == 404
        details = await client.get(f"/v1/batch/status/{batch['batchId']}?details=true")
        assert details.status == 200, details
        assert NAME not in details.raw
        lines = await client.get(f"/v1/batch/download/{batch['batchId']}")
        assert SECRET not in lines.raw
        assert [orjson.loads(line)["content"] for line in lines.raw.splitlines()] == [None, None]
        packed = await client.get(f"/v1/batch/download/{batch['batchId']}?format=zip")
        with zipfile.ZipFile(io.BytesIO(packed.raw)) as archive:
            assert all(SECRET not in archive.read(name) for name in archive.namelist())
        for file in files:
            assert (await api.get(f"/v1/files/{file}")).status == 404
        # The same bytes are converted once more: no stored result is left of them.
        converted = await client.convert("again.pdf", SECRET)
        assert (converted.status, "X-Stored-Result" in converted.headers) == (200, False)
        assert converted.headers["X-Document-Id"] not in all_
