"""Names and types of artifacts of jobs that can be erased: in files alone, and shown as before."""

from __future__ import annotations

import base64
import io
import zipfile
from typing import Any

from switchyard.events import subjects
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.reader import read_range
from switchyard.services.dispatch.references import resolved_payload
from switchyard.services.files import Files
from switchyard.services.files.info import artifact_id
from switchyard.services.files.keys import KEYS
from tests.gateway.jobs.test_reviews import judge
from tests.gateway.leases.test_leases import Worker, worker
from tests.gateway.rest import Answer, Gateway

__all__ = ["worker"]

NAME = "patient-47-11-ann.txt"
TYPE = "text/plain; case=patient-47-11-ann"
CONTENT = b"a mark that nobody may find"


async def left(api: Gateway, worker: Worker, **fields: Any) -> tuple[str, Answer]:
    """A job and the answer to its result, of one artifact and a value."""
    request = {"kind": api.tenant, "payload": {}, "erasable": True, **fields}
    job_id = (await api.call("POST", "/v1/jobs", request)).json["id"]
    claimed = await worker.claim(wait_s=20)
    assert claimed.status == 201, claimed
    lease = claimed.json["lease"]
    path = f"/v1/leases/{lease['id']}/artifacts?name={NAME}"
    stored = await api.call(
        "POST", path, CONTENT, token=worker.token, Switchyard_Lease_Token=lease["token"], Content_Type=TYPE
    )
    assert (stored.status, stored.json["name"], stored.json["type"]) == (201, NAME, TYPE)
    unknown = await worker.say(claimed, "succeed", {"artifacts": [NAME, "other.txt"]})
    assert (unknown.status, unknown.json["field"]) == (422, "artifacts[1]")
    done = await worker.say(claimed, "succeed", {"result": {"n": 1}, "artifacts": [NAME]})
    assert done.status == 200, done
    return str(job_id), done


async def test_names_stand_in_no_event_and_are_shown_as_before(api: Gateway, worker: Worker) -> None:
    job_id, done = await left(api, worker)
    shown = [(one["name"], one["type"]) for one in done.json["artifacts"]]
    assert shown == [(NAME, TYPE), ("result.json", "application/json")]
    last = {"Switchyard_Min_Seq": done.headers["Switchyard-Seq"]}
    assert (await api.get(f"/v1/jobs/{job_id}")).json["artifacts"] == done.json["artifacts"]
    assert (await api.get(f"/v1/jobs/{job_id}?at={done.headers['Switchyard-Seq']}")).json["artifacts"] == (
        done.json["artifacts"]
    )
    listed = (await api.call("GET", f"/v1/jobs?fields=artifacts&kind={api.tenant}", **last)).json["jobs"]
    assert listed[0]["artifacts"] == done.json["artifacts"]
    page = (await api.get(f"/v1/jobs/{job_id}/artifacts")).json["artifacts"]
    assert [(one["name"], one["type"]) for one in page] == shown
    archive = zipfile.ZipFile(io.BytesIO((await api.get(f"/v1/jobs/{job_id}/artifacts.zip")).raw))
    assert archive.read(NAME) == CONTENT
    file_id = done.json["artifacts"][0]["file"]
    file = await api.get(f"/v1/files/{file_id}")
    assert (file.raw, file.headers["Content-Type"]) == (CONTENT, TYPE)
    assert NAME in file.headers["Content-Disposition"]
    by_name = artifact_id(job_id, int(file_id.split(".")[1]), NAME)
    assert (await api.get(f"/v1/files/{by_name}")).raw == CONTENT

    history = str(await api.store.history(JobId(job_id)))
    assert "artifact-1" in history
    kept = [
        f"{message.subject} {message.data!r}"
        for stream in (KEYS.stream, subjects.FILES)
        for message in await read_range(api.nc, stream, ">", limit=500, timeout_s=20)
    ]
    assert any(job_id in text for text in kept)
    for text in (history, *kept):
        assert "patient" not in text
        assert "47-11-ann" not in text
        assert base64.b64encode(NAME.encode()).decode()[:12] not in text
    assert (await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true")).status == 200
    for gone in (file_id, by_name):
        assert (await api.get(f"/v1/files/{gone}")).status == 404


async def test_an_artifact_is_referred_to_by_its_name(api: Gateway, worker: Worker) -> None:
    job_id, done = await left(api, worker)
    payload = {"text": {"$result": {"job": job_id, "artifact": NAME}}}
    request = {"kind": api.tenant, "payload": payload, "erasable": True, "depends_on": [job_id]}
    child = (await api.call("POST", "/v1/jobs", request)).json["id"]
    spec, files = await api.store.spec(JobId(child)), Files(api.nc, timeout_s=20)
    assert await resolved_payload(api.store, files, spec) == {"text": done.json["artifacts"][0]["file"]}


async def test_a_result_that_waits_for_a_reviewer_shows_them_too(api: Gateway, worker: Worker) -> None:
    request = {"kind": api.tenant, "payload": {}, "erasable": True}
    job_id = (await api.call("POST", "/v1/jobs", request)).json["id"]
    claimed = await worker.claim(wait_s=20)
    assert (await worker.say(claimed, f"artifacts?name={NAME}", CONTENT)).status == 201
    proposed = await worker.say(claimed, "propose", {"artifacts": [NAME]})
    assert proposed.json["review"]["artifacts"][0]["name"] == NAME
    last = {"Switchyard_Min_Seq": str(proposed.json["seq"])}
    reviews = (await api.call("GET", "/v1/reviews", token=api.token("reviewer"), **last)).json
    assert [one["review"]["artifacts"][0]["name"] for one in reviews["reviews"] if one["id"] == job_id] == [
        NAME
    ]
    accepted = await judge(api, job_id, "accept", subject="dave")
    assert accepted.json["artifacts"][0]["name"] == NAME, accepted
    assert NAME not in str(await api.store.history(JobId(job_id)))


async def test_units_and_codes_are_words_and_no_content(api: Gateway, worker: Worker) -> None:
    request = {"kind": api.tenant, "payload": {}, "erasable": True, "max_attempts": 1}
    job_id = (await api.call("POST", "/v1/jobs", request)).json["id"]
    claimed = await worker.claim(wait_s=20)
    for unit in ("Patient 47-11-ann", "ä", "x" * 65):
        refused = await worker.say(claimed, "succeed", {"usage": {unit: 1}})
        assert (refused.status, refused.json["code"]) == (422, "invalid_usage"), unit
    failed = await worker.say(claimed, "fail", {"error": {"code": "Patient:47-11-ann", "message": "x"}})
    assert (failed.status, failed.json["error"]["code"]) == (200, "invalid_error")
    assert "47-11-ann" not in str(await api.store.history(JobId(job_id)))


async def test_a_deleted_file_that_can_be_erased_has_a_certificate_and_another_has_none(api: Gateway) -> None:
    for asked, status in (("&erasable=true", 200), ("", 404)):
        file = (await api.call("POST", f"/v1/files?name=x{asked}", CONTENT)).json["id"]
        assert (await api.call("DELETE", f"/v1/files/{file}")).status == 204
        assert (await api.call("DELETE", f"/v1/files/{file}")).status == 404
        found = await api.get(f"/v1/erasures/{file}")
        assert found.status == status
        if status == 200:
            assert (found.json["kind"], found.json["keys"], found.json["job"]) == ("file", 1, file)
