"""`/api/documents/*`: sent, converted later, fetched; and who sees what."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from switchyard.events.vocabulary.ids import JobId
from switchyard.services.files import Files
from switchyard.services.gateway.doors.ilios.ids import document_id, uuid_of
from switchyard.services.ids import new_id
from tests.broker.shared import SharedBroker
from tests.gateway.ilios.client import ID, Ilios, Sent
from tests.gateway.ilios.site import KEYS, House, house
from tests.gateway.rest import DEADLINE_S

PDF = b"%PDF-1.7 one"


async def address(client: Ilios, size: int = len(PDF), **fields: object) -> dict[str, Any]:
    answer = await client.post("/api/documents/upload-url", {"fileName": "a.pdf", "fileSize": size, **fields})
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    return found


async def test_a_document_goes_the_way_of_a_form(here: House) -> None:
    client = here.client()
    answer = await client.submit("my report.pdf", b"one\ftwo", retentionDays=30)
    assert answer.status == 200, answer
    found = answer.json
    assert set(found) == {"id", "status", "fileName", "fileSize", "uploadUrl", "message"}
    assert (found["status"], found["fileName"], found["fileSize"]) == ("pending", "my report.pdf", 7)
    assert (await client.get(found["uploadUrl"])).raw == b"one\ftwo"
    done = await client.ended(found["id"])
    assert (done["status"], done["downloadUrl"]) == ("completed", f"/api/documents/{found['id']}")
    assert done["createdAt"] <= done["processedAt"]
    text = await client.get(f"/api/documents/{found['id']}")
    assert (text.text, text.headers["Content-Disposition"]) == (
        "one\n\n---\n\ntwo\n", 'inline; filename="my report.pdf.md"',
    )  # fmt: skip
    whole = (await client.get(f"/api/documents/{found['id']}?format=json")).json
    assert set(whole) == {"id", "fileName", "content", "metadata", "createdAt", "processedAt"}
    sent = await client.get(f"/api/documents/{found['id']}/original")
    assert sent.status == 302
    got = await client.get(sent.headers["Location"])
    assert (got.raw, got.headers["Content-Type"]) == (b"one\ftwo", "application/pdf")
    job = await here.api.get(f"/v1/jobs/{uuid_of(found['id'])}", token=here.api.token("viewer"))
    assert job.json["labels"]["ilios-days"] == "30"
    kept = await here.api.store.load(JobId(job.json["id"]))
    info = await Files(here.api.nc, timeout_s=20).info(kept.tenant, kept.labels["ilios-file"])
    assert kept.ended_at is not None
    assert kept.erase_s == 30 * 86400
    assert info.expires_at >= kept.ended_at + timedelta(seconds=kept.erase_s)


async def test_a_document_goes_the_way_of_an_address(here: House) -> None:
    client = here.client()
    found = await address(client, mimeType="application/pdf", retentionDays=5)
    assert set(found) == {"id", "uploadUrl", "s3Key", "expiresIn"}
    assert (ID.fullmatch(found["id"]) is not None, found["expiresIn"]) == (True, 3600)
    waiting = await client.status(found["id"])
    assert (waiting["status"], waiting["fileName"], waiting["fileSize"]) == ("pending", "a.pdf", len(PDF))
    early = await client.post(f"/api/documents/upload-complete/{found['id']}")
    assert (early.status, early.json["error"]) == (400, "File upload failed")
    assert (await client.get(f"/api/documents/{found['id']}")).json["status"] == "pending"
    assert (await client.get(f"/api/documents/{found['id']}/original")).status == 404
    put = await client.call("PUT", found["uploadUrl"], PDF, Content_Type="application/pdf")
    assert (put.status, put.raw) == (200, b"")
    done = await client.post(f"/api/documents/upload-complete/{found['id']}")
    assert done.status == 200, done
    assert done.json == {
        "id": found["id"], "status": "pending", "message": "Upload confirmed, queued for processing",
    }  # fmt: skip
    assert (await client.ended(found["id"]))["status"] == "completed"
    again = await client.post(f"/api/documents/upload-complete/{found['id']}")
    assert (again.status, again.json["status"]) == (200, "completed")
    assert len(here.worker.seen) == 1
    job = await here.api.get(f"/v1/jobs/{uuid_of(found['id'])}", token=here.api.token("viewer"))
    assert job.json["labels"]["ilios-days"] == "5"


async def test_bytes_may_be_put_again_until_they_are_confirmed(here: House) -> None:
    client = here.client()
    found = await address(client)
    for data in (b"first", b"second, longer"):
        assert (await client.call("PUT", found["uploadUrl"], data)).status == 200
    assert (await client.post(f"/api/documents/upload-complete/{found['id']}")).status == 200
    late = await client.call("PUT", found["uploadUrl"], b"third")
    assert (late.status, late.json["code"]) == (409, "confirmed")
    await client.ended(found["id"])
    assert (await client.get(f"/api/documents/{found['id']}")).text == "second, longer\n"


async def test_ranges_of_the_bytes_that_were_sent(here: House) -> None:
    client = here.client()
    url = (await client.submit("a.pdf", b"0123456789")).json["uploadUrl"]
    part = await client.call("GET", url, Range="bytes=2-4")
    assert (part.status, part.raw, part.headers["Content-Range"]) == (206, b"234", "bytes 2-4/10")
    assert (await client.call("GET", url, Range="bytes=20-")).status == 416
    head = await client.call("HEAD", url)
    assert (head.status, head.headers["Content-Length"], head.raw) == (200, "10", b"")


async def test_an_address_opens_one_file_for_one_method_and_ends(
    here: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = here.client()
    one, other = await address(client), await address(client)
    down = (await client.submit("b.pdf", PDF)).json["uploadUrl"]
    ticket = parse_qs(urlsplit(one["uploadUrl"]).query)["ticket"][0]
    path = f"{client.url}/api/documents/{other['id']}/file?ticket={ticket}"
    head, body, mark = ticket.split(".")
    refused = {
        "another file": await client.call("PUT", path, b"x"),
        "another method": await client.call("GET", one["uploadUrl"]),
        "the other way": await client.call("PUT", down, b"x"),
        "no ticket": await client.call("PUT", one["uploadUrl"].partition("?")[0], b"x"),
        "changed": await client.call(
            "PUT", one["uploadUrl"].replace(ticket, f"{head}.{body[:-2]}AA.{mark}"), b"x"
        ),
        "unsigned": await client.call(
            "PUT", one["uploadUrl"].replace(ticket, f"eyJhbGciOiJub25lIn0.{body}."), b"x"
        ),
        "a key of the system": await client.call(
            "PUT", one["uploadUrl"].replace(ticket, here.api.token("admin")), b"x"
        ),
    }  # fmt: skip
    assert {name: answer.status for name, answer in refused.items()} == dict.fromkeys(refused, 403)
    assert all("error" in answer.json for answer in refused.values())
    assert (await client.call("PUT", one["uploadUrl"], PDF)).status == 200
    monkeypatch.setattr("switchyard.services.gateway.doors.ilios.documents.addresses.UPLOAD_S", -1)
    late = await client.call("PUT", (await address(client))["uploadUrl"], PDF)
    assert (late.status, late.json["code"]) == (403, "address_expired")


async def test_a_key_sees_what_is_its_tenants_and_nothing_else(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with house(shared_broker, tmp_path, ilios_own_only=False) as here:
        mine, colleague = here.client(KEYS[0]), here.client(KEYS[1])
        stranger = Ilios(here.api.http, here.api.url, here.api.token("admin", tenant="stranger"))
        found = (await mine.submit("a.pdf", PDF)).json["id"]
        waiting = (await address(mine))["id"]
        await mine.ended(found)
        assert (await colleague.get(f"/api/documents/{found}")).status == 200
        for document in (found, waiting):
            for call in (
                stranger.get(f"/api/documents/{document}"),
                stranger.get(f"/api/documents/status/{document}"),
                stranger.get(f"/api/documents/{document}/original"),
                stranger.post(f"/api/documents/upload-complete/{document}"),
            ):
                answer = await call
                assert (answer.status, answer.json["error"]) == (404, "Document not found"), answer


async def test_by_a_setting_a_key_sees_its_own_alone(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with house(shared_broker, tmp_path, ilios_own_only=True) as here:
        mine, colleague = here.client(KEYS[0]), here.client(KEYS[1])
        found = (await mine.submit("a.pdf", PDF)).json["id"]
        waiting = (await address(mine))["id"]
        await mine.ended(found)
        for document in (found, waiting):
            for path in (document, f"status/{document}", f"{document}/original"):
                assert (await colleague.get(f"/api/documents/{path}")).status == 404
            assert (await colleague.post(f"/api/documents/upload-complete/{document}")).status == 404
        assert (await mine.get(f"/api/documents/{found}")).status == 200
        admin = Ilios(here.api.http, here.api.url, here.api.token("tenant-admin"))
        assert (await admin.get(f"/api/documents/{found}")).status == 200  # a token is no key


async def test_jobs_and_files_that_are_no_documents_are_not_found(here: House) -> None:
    client = here.client()
    job = await here.api.call("POST", "/v1/jobs", {"kind": "noop"})
    file = await here.api.call("POST", "/v1/files", PDF, Content_Type="application/pdf")
    for id_ in (job.json["id"], file.json["id"], new_id()):
        document = document_id(id_)
        for path in (document, f"status/{document}", f"{document}/original"):
            answer = await client.get(f"/api/documents/{path}")
            assert (answer.status, answer.json["error"]) == (404, "Document not found")
        assert (await client.post(f"/api/documents/upload-complete/{document}")).status == 404


@pytest.mark.parametrize("bad", ["x", "A" * 25, "a" * 31, "a" * 19, "..%2f" + "a" * 20, "%00" + "a" * 20])
async def test_an_id_of_another_form_is_refused(here: House, bad: str) -> None:
    for path in (bad, f"status/{bad}", f"{bad}/original"):
        answer = await here.client().get(f"/api/documents/{path}")
        assert (answer.status, answer.json["error"]) == (400, "Invalid document ID format"), answer
    answer = await here.client().post(f"/api/documents/upload-complete/{bad}")
    assert answer.status == 400


@pytest.mark.parametrize("other", ["z" * 25, "a" * 20, "z" * 30, "0" * 24])
async def test_an_id_that_is_none_of_ours_is_not_found(here: House, other: str) -> None:
    answer = await here.client().get(f"/api/documents/status/{other}")
    assert (answer.status, answer.json["error"]) == (404, "Document not found")


@pytest.mark.parametrize("order", ["before", "behind"])
async def test_all_of_a_document_is_kept_for_as_long_as_it_was_asked_for(here: House, order: str) -> None:
    file, asked = Sent("file", PDF, "a.pdf"), Sent("retentionDays", b"1000")
    parts = (asked, file) if order == "before" else (file, asked)
    made = (await here.client().send("/api/documents/submit", *parts)).json
    await here.client().ended(made["id"])
    job = (await here.api.get(f"/v1/jobs/{uuid_of(made['id'])}")).json
    files = Files(here.api.nc, timeout_s=DEADLINE_S)
    for file_id in (job["labels"]["ilios-file"], *(one["file"] for one in job["artifacts"])):
        info = await files.info(here.api.tenant, file_id)
        assert (info.expires_at - info.created_at).days >= 999, info.id
    assert (await here.client().get(made["uploadUrl"])).raw == PDF


async def test_a_tenant_may_say_how_long_a_document_is_kept_at_most(here: House) -> None:
    operator = here.api.token("operator", "tenant-admin")
    limit = await here.api.call("PUT", "/v1/limits/all", {"erase_s": 10 * 86400}, token=operator)
    assert limit.status in (200, 201), limit
    client = here.client()
    refused = await client.submit("a.pdf", PDF, retentionDays=11)
    assert (refused.status, refused.json["details"]) == (
        400, "retentionDays: at most 10 days are allowed here",
    )  # fmt: skip
    wish = {"fileName": "a", "fileSize": 5, "retentionDays": 11}
    assert (await client.post("/api/documents/upload-url", wish)).status == 400
    made = (await client.submit("a.pdf", PDF)).json["id"]
    job = (await here.api.get(f"/v1/jobs/{uuid_of(made)}")).json
    assert job["labels"]["ilios-days"] == "10"


async def test_an_erased_document_is_gone(here: House) -> None:
    client = here.client()
    found = (await client.submit("a.pdf", PDF)).json
    await client.ended(found["id"])
    gone = await here.api.call("DELETE", f"/v1/jobs/{uuid_of(found['id'])}?erase=true")
    assert gone.status in (200, 204), gone
    assert (await client.status(found["id"]))["status"] == "archived"
    assert (await client.get(f"/api/documents/{found['id']}")).status == 410
    assert (await client.get(f"/api/documents/{found['id']}/original")).status == 410
    assert (await client.get(found["uploadUrl"])).status == 404


async def test_a_document_that_is_converted_again_later_keeps_its_colleagues_apart(here: House) -> None:
    client = here.client()
    async with asyncio.TaskGroup() as tasks:
        sent = [tasks.create_task(client.submit(f"{n}.pdf", b"text %d" % n)) for n in range(5)]
    for number, task in enumerate(sent):
        document = task.result().json["id"]
        await client.ended(document)
        assert (await client.get(f"/api/documents/{document}")).text == f"text {number}\n"


async def test_an_erased_conversion_leaves_no_key_behind_and_is_made_again(here: House) -> None:
    client = here.client()
    first = await client.convert("a.pdf", PDF)
    job = uuid_of(first.headers["X-Document-Id"])
    assert job is not None
    named = (await here.api.get(f"/v1/jobs/{job}")).json["labels"]["ilios-file"]
    files = Files(here.api.nc, timeout_s=DEADLINE_S)
    assert await files.keys.under(here.api.tenant, job)
    assert await files.keys.under(here.api.tenant, named)
    assert (await here.api.call("DELETE", f"/v1/jobs/{job}?erase=true")).status in (200, 204)
    assert await files.keys.under(here.api.tenant, job) == []
    assert await files.keys.under(here.api.tenant, named) == []
    again = await client.convert("a.pdf", PDF)
    assert (again.status, "X-Stored-Result" in again.headers) == (200, False)
    assert again.headers["X-Document-Id"] != first.headers["X-Document-Id"]
