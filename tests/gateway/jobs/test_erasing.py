"""Jobs that can be erased, over REST."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.publisher import Publisher
from switchyard.services.files.erasures import ERASURES, Erasure
from switchyard.services.ids import id_for_key
from tests.gateway.leases.test_leases import Worker, worker
from tests.gateway.rest import Gateway

__all__ = ["worker"]

MARK = "a mark that nobody may find"


async def submit(api: Gateway, **fields: Any) -> str:
    request = {"kind": api.tenant, "payload": {"text": MARK}, "erasable": True, **fields}
    answer = await api.call("POST", "/v1/jobs", request)
    assert answer.status == 201, answer
    return str(answer.json["id"])


async def written(api: Gateway, job_id: str) -> str:
    """All that the log says of a job."""
    return str(await api.store.history(JobId(job_id)))


async def test_a_job_that_can_be_erased_leaves_nothing_in_its_events(api: Gateway, worker: Worker) -> None:
    job_id = await submit(api, max_attempts=1)
    claimed = await worker.claim()
    assert claimed.json["job"]["payload"] == {"text": MARK}
    assert (
        await worker.say(claimed, "progress", {"fraction": 0.5, "message": MARK, "stage": MARK})
    ).status < 300
    assert (await worker.say(claimed, "logs", {"lines": [MARK, MARK]})).status == 200
    failed = await worker.say(claimed, "fail", {"error": {"code": "no_use", "message": MARK}})
    assert failed.status == 200, failed
    assert (await api.call("POST", f"/v1/jobs/{job_id}/redrive", {})).status == 200
    claimed = await worker.claim(wait_s=20)
    done = await worker.say(claimed, "succeed", {"result": {"text": MARK}})
    assert done.status == 200, done
    assert done.json["result"] is None
    (artifact,) = done.json["artifacts"]
    assert orjson.loads((await api.get(f"/v1/files/{artifact['file']}")).raw) == {"text": MARK}
    assert MARK not in await written(api, job_id)
    assert "no_use" in await written(api, job_id)

    erased = await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true")
    assert (erased.status, erased.json["state"]) == (200, "archived")
    assert (await api.get(f"/v1/files/{artifact['file']}")).status == 404
    assert (await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true")).status == 200


async def test_only_what_can_be_erased_and_has_ended_is_erased(api: Gateway) -> None:
    plain = await submit(api, erasable=False)
    answer = await api.call("DELETE", f"/v1/jobs/{plain}?erase=true")
    assert (answer.status, answer.json["code"]) == (409, "not_erasable")
    job_id = await submit(api)
    answer = await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true")
    assert (answer.status, answer.json["code"]) == (409, "illegal_transition")
    for wrong in ("yes", "1", ""):
        answer = await api.call("DELETE", f"/v1/jobs/{job_id}?erase={wrong}")
        assert (answer.status, answer.json["code"]) == (400, "invalid_parameter")
    stranger = api.token("submitter", tenant=api.stranger)
    assert (await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true", token=stranger)).status == 404
    assert (await api.call("POST", f"/v1/jobs/{job_id}/cancel", {})).status == 200
    assert (await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true", token=stranger)).status == 404
    assert (
        await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true", token=api.token("viewer"))
    ).status == 403
    assert (await api.call("POST", f"/v1/jobs/{job_id}/again")).json["code"] == "not_repeatable"
    assert (await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true")).status == 200


async def test_its_files_have_to_be_erasable_too_and_go_with_it(api: Gateway) -> None:
    plain = (await api.call("POST", "/v1/files?name=a.bin", b"x")).json["id"]
    refused = await api.call(
        "POST", "/v1/jobs", {"kind": api.tenant, "erasable": True, "payload": {"deep": [{"file": plain}]}}
    )
    assert (refused.status, refused.json["code"]) == (422, "not_erasable")
    file = (await api.call("POST", "/v1/files?name=b.bin&erasable=true", b"x")).json["id"]
    job_id = await submit(api, payload={"deep": [{"file": file}, "0" * 8]})
    assert (await api.call("POST", f"/v1/jobs/{job_id}/cancel", {})).status == 200
    assert (await api.get(f"/v1/files/{file}")).raw == b"x"
    assert (await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true")).status == 200
    assert (await api.get(f"/v1/files/{file}")).status == 404
    assert (await api.get(f"/v1/files/{plain}")).status == 200
    assert (await api.call("POST", "/v1/files?erasable=maybe", b"x")).status == 400


async def test_a_job_that_is_named_in_a_payload_is_not_erased_with_it(api: Gateway) -> None:
    named = await submit(api)
    job_id = await ended(api, payload={"parent": named})
    assert (await api.call("DELETE", f"/v1/jobs/{job_id}?erase=true")).status == 200
    assert (await api.get(f"/v1/erasures/{job_id}")).json["scopes"] == [job_id]
    assert await api.call("POST", f"/v1/jobs/{named}/cancel", {})
    assert (await api.call("DELETE", f"/v1/jobs/{named}?erase=true")).status == 200
    assert (await api.get(f"/v1/erasures/{named}")).json["keys"] == 1


async def test_a_kind_makes_its_jobs_erasable(api: Gateway) -> None:
    admin = api.token("admin")
    answer = await api.call("PUT", f"/v1/kinds/{api.tenant}", {"erasable": True}, token=admin)
    assert (answer.status, answer.json["erasable"]) == (200, True)
    try:
        job_id = await submit(api, erasable=False)
        assert MARK not in await written(api, job_id)
    finally:
        await api.call("DELETE", f"/v1/kinds/{api.tenant}", token=admin)


@pytest.mark.parametrize("payload", [None, {"other": MARK}])
async def test_a_new_payload_of_a_redrive_stands_in_a_file_too(
    api: Gateway, worker: Worker, payload: dict[str, str] | None
) -> None:
    job_id = await submit(api, max_attempts=1)
    await worker.say(await worker.claim(), "fail", {"error": {"code": "no_use", "message": MARK}})
    body = {} if payload is None else {"payload": payload}
    assert (await api.call("POST", f"/v1/jobs/{job_id}/redrive", body)).status == 200
    claimed = await worker.claim(wait_s=20)
    assert claimed.json["job"]["payload"] == (payload or {"text": MARK})
    assert MARK not in await written(api, job_id)


async def test_a_job_says_when_it_is_erased_within_what_its_kind_and_tenant_allow(api: Gateway) -> None:
    admin = api.token("admin")

    async def time_of(**fields: Any) -> float | None:
        return (await api.store.load(JobId(await submit(api, **fields)))).erase_s

    async def refused(fields: dict[str, Any]) -> None:
        request = {"kind": api.tenant, "payload": {}, **fields}
        answer = await api.call("POST", "/v1/jobs", request)
        assert (answer.status, answer.json["field"]) == (422, "erase_s"), answer

    for wrong in (0, -1, 1e300, "1 day"):
        await refused({"erasable": True, "erase_s": wrong})
    await refused({"erase_s": 60})
    assert await time_of() is None
    assert await time_of(erase_s=1e8) == 1e8
    try:
        kind = await api.call("PUT", f"/v1/kinds/{api.tenant}", {"erase_s": 3600}, token=admin)
        assert (kind.status, kind.json["erase_s"]) == (200, 3600)
        assert await time_of() == 3600
        assert await time_of(erase_s=60) == 60
        await refused({"erasable": True, "erase_s": 3601})
        assert await time_of(erasable=False) is None
        limit = await api.call("PUT", "/v1/limits/all", {"erase_s": 600.5}, token=api.token("operator"))
        assert (limit.status, limit.json["erase_s"]) == (201, 600.5)
        assert await time_of() == 600.5
        await refused({"erasable": True, "erase_s": 601})
    finally:
        await api.call("DELETE", f"/v1/kinds/{api.tenant}", token=admin)
        await api.call("DELETE", "/v1/limits/all", token=api.token("operator"))


async def ended(api: Gateway, **fields: Any) -> str:
    job_id = await submit(api, **fields)
    assert (await api.call("POST", f"/v1/jobs/{job_id}/cancel", {})).status == 200
    return job_id


async def test_many_are_erased_at_once_and_it_says_which_were_not_and_why(api: Gateway) -> None:
    label = {"case": api.tenant}
    jobs = [await ended(api, labels=label) for _ in range(3)]
    other = await ended(api, labels={"case": "other"})
    runs = await submit(api, labels=label)
    plain = await ended(api, labels=label, erasable=False)
    waiting = (await api.call("GET", f"/v1/jobs/{plain}")).headers["Switchyard-Seq"]
    last = {"Switchyard_Min_Seq": waiting}
    would = (await api.call("POST", "/v1/erasures", {"label": label, "dry_run": True}, **last)).json
    assert (sorted(would["erased"]), would["dry_run"]) == (sorted(jobs), True)
    assert (await api.get("/v1/erasures")).json == {"erasures": [], "cursor": None}
    pages: list[dict[str, Any]] = []
    body: dict[str, Any] = {"label": label, "limit": 2, "reason": "asked"}
    while not pages or pages[-1]["cursor"] is not None:
        more = {} if not pages else {"cursor": pages[-1]["cursor"]}
        pages.append((await api.call("POST", "/v1/erasures", body | more, **last)).json)
    assert len(pages) == 3
    assert sorted(job for page in pages for job in page["erased"]) == sorted(jobs)
    refused = {one["id"]: one["code"] for page in pages for one in page["refused"]}
    assert refused == {runs: "illegal_transition", plain: "not_erasable"}
    again = (await api.call("POST", "/v1/erasures", {"jobs": [*jobs, *jobs, "nobody"]})).json
    assert (again["erased"], again["skipped"]) == ([], 3)
    assert [(one["id"], one["code"]) for one in again["refused"]] == [("nobody", "not_found")]

    certificate = (await api.get(f"/v1/erasures/{jobs[0]}")).json
    assert (certificate["reason"], certificate["keys"], certificate["job"]) == ("asked", 1, jobs[0])
    assert certificate["erased_at"] is not None
    assert (await api.get(f"/v1/erasures/{other}")).status == 404
    first = (await api.get("/v1/erasures?limit=2")).json
    rest = (await api.get(f"/v1/erasures?limit=2&cursor={first['cursor']}")).json
    assert sorted(one["job"] for page in (first, rest) for one in page["erasures"]) == sorted(jobs)
    assert rest["cursor"] is None


async def test_whom_many_are_erased_for_and_what_is_asked_is_judged(api: Gateway) -> None:
    job_id = await ended(api)
    for wrong, field in (
        ({}, "label"), ({"label": {}}, "label"), ({"jobs": []}, "jobs"), ({"jobs": [1]}, "jobs[0]"),
        ({"jobs": [job_id], "label": {"a": "b"}}, "jobs"), ({"jobs": [job_id], "limit": 1}, "cursor"),
        ({"tenant": "*"}, "tenant"), ({"label": {"a": "b"}, "limit": 10**6}, "limit"),
        ({"label": {"a": "b"}, "cursor": "x"}, "cursor"), ({"jobs": ["x"] * 5000}, "jobs"),
    ):  # fmt: skip
        answer = await api.call("POST", "/v1/erasures", wrong)
        assert (answer.status, answer.json["field"]) == (422, field), (wrong, answer)
    for cursor in ("0", "x", "-1", "9" * 30):
        assert (await api.get(f"/v1/erasures?cursor={cursor}")).status == 400
    assert (await api.get("/v1/erasures/x")).status == 400
    whole = {"tenant": api.tenant}
    stranger = api.token("tenant-admin", tenant=api.stranger)
    assert (await api.call("POST", "/v1/erasures", whole, token=stranger)).status == 403
    assert (await api.call("POST", "/v1/erasures", whole, token=api.token("submitter"))).status == 403
    by_id = await api.call("POST", "/v1/erasures", {"jobs": [job_id]}, token=stranger)
    assert [one["code"] for one in by_id.json["refused"]] == ["not_found"]
    assert (await api.get(f"/v1/erasures/{job_id}", token=stranger)).status == 404
    seq = (await api.call("GET", f"/v1/jobs/{job_id}")).headers["Switchyard-Seq"]
    own = await api.call(
        "POST", "/v1/erasures", whole, token=api.token("tenant-admin"), Switchyard_Min_Seq=seq
    )
    assert job_id in own.json["erased"]
    assert (await api.get("/v1/erasures", token=stranger)).json["erasures"] == []


async def test_an_erased_id_is_not_used_again_and_no_schedule_holds_what_is_to_be_erased(
    api: Gateway,
) -> None:
    key = {"Idempotency_Key": f"key-{api.tenant}"}
    request = {"kind": api.tenant, "payload": {"text": MARK}, "erasable": True}
    gone = id_for_key(api.tenant, key["Idempotency_Key"])
    now = datetime.now(UTC)
    erasure = Erasure(tenant=api.tenant, job=gone, kind="x", scopes=(gone,), by="x", requested_at=now)
    async with Publisher(api.nc, window=8, timeout_s=20) as publisher:
        await Bucket(api.nc, ERASURES, publisher, timeout_s=20).put((api.tenant, gone), erasure)
    answer = await api.call("POST", "/v1/jobs", request, **key)
    assert (answer.status, answer.json["code"]) == (409, "idempotency_conflict")
    assert "erased" in answer.json["detail"]
    plain = await api.call("POST", "/v1/jobs", {"kind": api.tenant}, **key)
    assert (plain.status, plain.json["id"]) == (201, gone)

    refused = await api.call("POST", "/v1/schedules", {"every_s": 3600, "job": request})
    assert (refused.status, refused.json["code"]) == (422, "not_erasable")
