"""Documents whose files lie in S3: their bytes go past the gateway, by addresses that S3 gives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
import pytest
import yarl

from switchyard.services.files import Files
from switchyard.services.files.s3 import S3
from switchyard.services.gateway.doors.ilios.ids import uuid_of
from tests.broker.shared import SharedBroker
from tests.files.s3.server import keys_in, make_bucket, moto, s3_settings
from tests.gateway.ilios.client import Ilios
from tests.gateway.ilios.site import KEYS, House, house
from tests.gateway.rest import DEADLINE_S

PDF = b"%PDF-1.7 by an address"
OF_S3 = ("s3_bucket", "s3_endpoint", "s3_access_key_id", "s3_secret_access_key")


@pytest.fixture
async def s3() -> AsyncIterator[S3]:
    with moto() as url:
        bucket = S3(s3_settings(url))
        await make_bucket(bucket)
        yield bucket
        await bucket.aclose()


@pytest.fixture
async def there(shared_broker: SharedBroker, tmp_path: Path, s3: S3) -> AsyncIterator[House]:
    given = {name: getattr(s3.settings, name) for name in OF_S3}
    async with house(shared_broker, tmp_path, **given) as found:
        yield found


async def address(client: Ilios, size: int = len(PDF), **fields: object) -> dict[str, Any]:
    answer = await client.post("/api/documents/upload-url", {"fileName": "a.pdf", "fileSize": size, **fields})
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


async def put(url: str, data: bytes, **headers: str) -> int:
    """As a client does that has been given the address and nothing else."""
    async with (
        aiohttp.ClientSession() as session,
        session.put(yarl.URL(url, encoded=True), data=data, headers=headers) as answer,
    ):
        return answer.status


async def complete(client: Ilios, document: str) -> tuple[int, Any]:
    answer = await client.post(f"/api/documents/upload-complete/{document}")
    return answer.status, answer.json


async def test_a_document_goes_to_s3_and_is_converted_once_it_is_complete(there: House, s3: S3) -> None:
    client = there.client()
    found = await address(client, mimeType="application/pdf", retentionDays=5)
    assert set(found) == {"id", "uploadUrl", "s3Key", "expiresIn"}
    assert found["uploadUrl"].startswith(str(s3.settings.s3_endpoint))
    assert unquote(urlsplit(found["uploadUrl"]).path) == f"/{s3.bucket}/{found['s3Key']}"
    assert (await client.status(found["id"]))["fileSize"] == len(PDF)
    early = await complete(client, found["id"])
    assert (early[0], early[1]["error"]) == (400, "File upload failed")
    assert (await client.get(f"/api/documents/{found['id']}/original")).status == 404
    # The PUT may name another type, or none.
    assert await put(found["uploadUrl"], PDF, **{"Content-Type": "text/x-odd"}) == 200
    assert found["s3Key"] in await keys_in(s3)
    status, said = await complete(client, found["id"])
    assert (status, said["status"]) == (200, "pending"), said
    assert (await client.ended(found["id"]))["status"] == "completed"
    assert (await client.get(f"/api/documents/{found['id']}")).text == PDF.decode() + "\n"
    again = await complete(client, found["id"])
    assert (again[0], again[1]["status"], len(there.worker.seen)) == (200, "completed", 1)
    assert found["s3Key"] not in await keys_in(s3)
    job = (await there.api.get(f"/v1/jobs/{uuid_of(found['id'])}", token=there.api.token("viewer"))).json
    assert job["labels"]["ilios-days"] == "5"
    sent = await client.get(f"/api/documents/{found['id']}/original")
    got = await client.get(sent.headers["Location"])
    assert (sent.status, got.raw, got.headers["Content-Type"]) == (302, PDF, "application/pdf")


async def test_what_lies_in_the_bucket_afterwards_says_nothing_and_goes_with_the_document(
    there: House, s3: S3
) -> None:
    client = there.client()
    found = await address(client)
    assert await put(found["uploadUrl"], PDF) == 200
    assert (await complete(client, found["id"]))[0] == 200
    await client.ended(found["id"])
    s3_client, kept = await s3.client(), await keys_in(s3)
    assert kept
    for key in kept:
        answer = await s3_client.get_object(Bucket=s3.bucket, Key=key)
        assert PDF not in await answer["Body"].read()
    gone = await there.api.call("DELETE", f"/v1/jobs/{uuid_of(found['id'])}?erase=true")
    assert gone.status in (200, 204), gone
    assert (await client.get(f"/api/documents/{found['id']}/original")).status == 410
    assert await put(found["uploadUrl"], PDF) == 200  # the address is S3's, and ends by itself
    assert (await complete(client, found["id"]))[0] == 404


async def test_what_is_put_there_later_changes_nothing(there: House, s3: S3) -> None:
    client = there.client()
    found = await address(client)
    assert await put(found["uploadUrl"], PDF) == 200
    assert (await complete(client, found["id"]))[0] == 200
    await client.ended(found["id"])
    assert await put(found["uploadUrl"], PDF[::-1]) == 200
    assert (await complete(client, found["id"]))[0] == 200
    info = await Files(there.api.nc, timeout_s=DEADLINE_S, s3=s3).info(
        there.api.tenant, uuid_of(found["id"]) or ""
    )
    assert info.size_bytes == len(PDF)
    assert (await client.get(f"/api/documents/{found['id']}")).text == PDF.decode() + "\n"


async def test_only_who_asked_for_an_address_completes_it(there: House) -> None:
    found = await address(there.client(KEYS[0]))
    assert await put(found["uploadUrl"], PDF) == 200
    stranger = Ilios(there.api.http, there.api.url, there.api.token("admin", tenant="stranger"))
    assert (await complete(stranger, found["id"]))[0] == 404
    assert (await complete(there.client(KEYS[1]), found["id"]))[0] == 200  # a colleague


async def test_a_size_that_is_none_or_too_large_gets_no_address(there: House) -> None:
    client = there.client()
    for size, said in ((0, "fileName and fileSize are required"), (2**60, "File size exceeds")):
        answer = await client.post("/api/documents/upload-url", {"fileName": "a.pdf", "fileSize": size})
        assert (answer.status, answer.json["error"].startswith(said)) == (400, True), answer
    long = await address(client, mimeType="a/" + "b" * 99)
    assert (await client.status(long["id"]))["status"] == "pending"
