"""Attempts that are left to a back end, and what it reports of them through any gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import jwt
import msgspec
import pytest

from switchyard.events.job import Job
from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.dispatch.blame import had_claim_alone
from switchyard.services.keeper.loop import Keeper
from tests.gateway.leases.test_leases import Worker, events_of, state_of, submit
from tests.gateway.rest import DEADLINE_S, Answer, Gateway

pytestmark = pytest.mark.shared_gateway

BACKEND = {"kind": "comfyui", "id": "gpu-a:8188", "remote_id": "prompt-1"}


class Left:
    """An attempt that was left to a back end."""

    def __init__(self, api: Gateway, worker: Worker, claimed: Answer, answer: Answer) -> None:
        self.api = api
        self.worker = worker
        self.claimed = claimed
        self.answer = answer
        self.job: str = claimed.json["job"]["id"]
        self.path: str = answer.json["outcome"]

    async def report(self, state: str, **fields: Any) -> Answer:
        """What the back end says, without any header."""
        return await post(self.api, self.path, {"state": state, **fields})

    async def state(self) -> str:
        return await state_of(self.api, self.job)

    async def names(self) -> list[str]:
        return await events_of(self.api, self.job)


async def post(api: Gateway, path: str, body: Any, **headers: str) -> Answer:
    async with api.http.post(api.url + path, json=body, headers=headers) as response:
        return Answer(response.status, response.headers, await response.read())


@pytest.fixture
def worker(api: Gateway) -> Worker:
    return Worker(api, kinds=[api.tenant])


async def leave(api: Gateway, worker: Worker, *, lease_s: float = 30, **fields: Any) -> Left:
    await submit(api, **fields)
    claimed = await worker.claim()
    assert claimed.status == 201, claimed
    answer = await worker.say(claimed, "delegate", {"backend": BACKEND, "lease_s": lease_s})
    assert answer.status == 200, answer
    return Left(api, worker, claimed, answer)


@pytest.fixture
async def left(api: Gateway, worker: Worker) -> Left:
    return await leave(api, worker)


async def loaded(api: Gateway, job: str) -> Job:
    return await api.store.load(JobId(job))


async def test_an_attempt_is_left_to_a_back_end_which_reports_its_outcome(left: Left, api: Gateway) -> None:
    assert left.answer.json["backend"] == BACKEND
    lease = (await loaded(api, left.job)).lease
    assert lease is not None
    assert (lease.fence, lease.attempt) == (left.claimed.json["lease"]["fence"], 1)
    assert lease.backend is not None
    assert lease.backend.remote_id == "prompt-1"
    heard = await left.report("running", progress={"fraction": 0.5, "stage": "sampling"})
    assert (heard.status, heard.json["cancel_requested"]) == (200, False)
    done = await left.report("succeeded", result={"ok": True}, usage={"steps": 20})
    assert (done.status, done.json["job"]) == (200, {"id": left.job, "state": "succeeded"})
    view = (await api.get(f"/v1/jobs/{left.job}")).json
    assert (view["result"], view["usage"]) == ({"ok": True}, {"steps": 20})
    history = (await api.get(f"/v1/jobs/{left.job}/events")).json["events"]
    assert [event["type"] for event in history] == ["submitted", "claimed", "claim_renewed", "succeeded"]
    assert history[-1]["actor"] == "backend:comfyui.gpu-a:8188"


async def test_a_report_that_comes_twice_is_answered_alike_and_changes_nothing(left: Left) -> None:
    first = await left.report("succeeded", result=1)
    for state, fields in (
        ("succeeded", {"result": 2}),
        ("failed", {"error": {"code": "x"}}),
        ("lost", {}),
        ("stopped", {}),
        ("running", {}),
    ):
        again = await left.report(state, **fields)
        assert (again.status, again.json) == (200, first.json), state
    assert await left.names() == ["submitted", "claimed", "claim_renewed", "succeeded"]


async def test_reports_at_once_through_one_gateway_land_once(left: Left) -> None:
    answers = await asyncio.gather(*(left.report("succeeded", result=n) for n in range(10)))
    assert {answer.status for answer in answers} == {200}
    assert (await left.names()).count("succeeded") == 1


async def test_a_report_of_an_earlier_attempt_changes_nothing(left: Left, api: Gateway) -> None:
    assert (await left.report("failed", error={"code": "x", "message": "m", "retryable": True})).status == 200
    assert await left.state() == "retrying"
    late = await left.report("succeeded", result=1)
    assert (late.status, late.json["job"]["state"]) == (200, "retrying")
    assert await left.state() == "retrying"


@pytest.mark.parametrize("body", [{"state": "succeeded"}, {"state": "lost"}])
async def test_a_forged_path_opens_nothing(left: Left, body: Any) -> None:
    head, payload, signature = left.path.rpartition("/")[2].split(".")
    claims = jwt.decode(f"{head}.{payload}.{signature}", options={"verify_signature": False})
    forged = [
        "x", "a.b.c", jwt.encode(claims, "another secret of thirty-two bytes!"),
        jwt.encode(claims, "", algorithm="none"), f"{head}.{payload}.{signature[:-4]}AAAA",
        left.claimed.json["lease"]["token"], left.api.token("admin"), "%ff", "ü",
    ]  # fmt: skip
    for token in forged:
        answer = await post(left.api, f"/v1/outcomes/{token}", body)
        assert (answer.status, answer.json["code"]) == (401, "outcome_token_invalid"), token
        assert signature not in answer.raw.decode()
    assert await left.names() == ["submitted", "claimed", "claim_renewed"]


async def test_the_path_is_no_lease_token_and_no_token(left: Left) -> None:
    token = left.path.rpartition("/")[2]
    lease = left.claimed.json["lease"]["id"]
    refused = await left.api.call(
        "POST", f"/v1/leases/{lease}/succeed", {}, token=left.worker.token, Switchyard_Lease_Token=token
    )
    assert refused.status == 403
    assert (await left.api.get("/v1/jobs", token=token)).status == 401


async def test_a_second_taker_is_refused_and_a_repeated_call_is_not(left: Left) -> None:
    for change, status in (
        ({}, 200), ({"remote_id": ""}, 200), ({"remote_id": "prompt-2"}, 409), ({"id": "gpu-b"}, 409),
    ):  # fmt: skip
        answer = await left.worker.say(left.claimed, "delegate", {"backend": BACKEND | change})
        assert answer.status == status, (change, answer)
        if status == 409:
            assert answer.json["code"] == "delegated"
    assert await left.names() == ["submitted", "claimed", "claim_renewed"]


async def test_many_signs_of_life_write_few_renewals(left: Left) -> None:
    for _ in range(20):
        assert (await left.report("running")).status == 200
    assert await left.names() == ["submitted", "claimed", "claim_renewed"]


async def test_a_lease_goes_on_as_long_as_the_back_end_shows_life(api: Gateway, worker: Worker) -> None:
    left = await leave(api, worker, lease_s=2)
    async with asyncio.timeout(DEADLINE_S):
        while (await left.names()).count("claim_renewed") < 4:
            await left.report("running")
            await asyncio.sleep(0.05)
    assert await left.state() == "running"


async def test_a_back_end_that_is_lost_ends_the_attempt_at_once_and_counts_as_nothing(left: Left) -> None:
    answer = await left.report("lost")
    assert (answer.status, answer.json["job"]["state"]) == (200, "queued")
    view = (await left.api.get(f"/v1/jobs/{left.job}")).json
    assert (view["attempt"], view["failures"]) == (1, 0)
    again = await left.worker.claim()
    assert (again.json["job"]["id"], again.json["job"]["attempt"]) == (left.job, 2)


async def test_a_job_that_is_to_stop_is_cancelled_when_its_back_end_says_so(left: Left) -> None:
    await left.api.call("POST", f"/v1/jobs/{left.job}/cancel", {"reason": "enough"})
    heard = await left.report("running")
    assert (heard.json["job"]["state"], heard.json["cancel"]["reason"]) == ("cancelling", "enough")
    assert (await left.report("stopped")).json["job"]["state"] == "cancelled"


async def test_a_file_of_the_back_end_is_an_artifact_of_the_attempt(left: Left) -> None:
    url = f"{left.api.url}{left.path}/artifacts?name=a.png"
    async with left.api.http.post(url, data=b"png", headers={"Content-Type": "image/png"}) as response:
        assert response.status == 201
    done = await left.report("succeeded", artifacts=["a.png"])
    assert done.status == 200, done
    view = (await left.api.get(f"/v1/jobs/{left.job}")).json
    assert [artifact["name"] for artifact in view["artifacts"]] == ["a.png"]
    async with left.api.http.post(url, data=b"png", headers={"Content-Type": "image/png"}) as response:
        assert response.status == 409


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "state"), ({"state": "done"}, "state"), ({"state": "failed"}, None),
        ({"state": "running", "result": 1}, None), ({"state": "lost", "error": {"code": "x"}}, None),
        ({"state": "succeeded", "progress": {"fraction": 1}}, None), ({"state": "succeeded", "x": 1}, "x"),
        ({"state": "succeeded", "artifacts": ["none"]}, "artifacts[0]"), ([], None), (1, None),
        ({"state": "succeeded", "usage": {"": 1}}, "usage"),
    ],
)  # fmt: skip
async def test_a_report_beyond_its_bounds_is_refused_and_changes_nothing(
    left: Left, body: Any, field: str | None
) -> None:
    answer = await post(left.api, left.path, body)
    assert answer.status == 422, answer
    assert left.path not in answer.raw.decode()  # who may read errors may not report
    if field is not None:
        assert answer.json["field"].startswith(field)
    assert await left.names() == ["submitted", "claimed", "claim_renewed"]


@pytest.mark.parametrize(
    "backend",
    [{}, {"kind": "k"}, {"kind": "", "id": "x"}, {"kind": "k", "id": "a b"}, {"kind": "k", "id": "x" * 101},
     {"kind": "k", "id": "x\n"}, {"kind": "k", "id": "x", "remote_id": "ü"}],
)  # fmt: skip
async def test_an_odd_back_end_is_refused_by_name(api: Gateway, worker: Worker, backend: Any) -> None:
    await submit(api)
    claimed = await worker.claim()
    answer = await worker.say(claimed, "delegate", {"backend": backend})
    assert (answer.status, answer.json["field"].split(".")[0]) == (422, "backend"), answer


async def test_no_job_is_blamed_for_what_its_back_end_may_have_run_beside(
    api: Gateway, worker: Worker
) -> None:
    await submit(api)
    claimed = await worker.claim()
    job = await loaded(api, claimed.json["job"]["id"])
    async with asyncio.timeout(DEADLINE_S):
        while not await had_claim_alone(api.nc, job, timeout_s=20):
            await asyncio.sleep(0.02)
    assert job.lease is not None
    lease = msgspec.structs.replace(job.lease, backend=Backend("comfyui", "gpu-a"))
    job = msgspec.structs.replace(job, lease=lease)
    assert not await had_claim_alone(api.nc, job, timeout_s=20)


@pytest.fixture
async def keeper(api: Gateway) -> AsyncIterator[None]:
    running = asyncio.create_task(Keeper(api.nc, api.settings).run())
    yield
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.usefixtures("keeper")
async def test_a_back_end_that_is_never_heard_of_again_loses_its_attempt(
    api: Gateway, worker: Worker
) -> None:
    left = await leave(api, worker, lease_s=1)
    await until_state(left, "queued")
    assert (await loaded(api, left.job)).failures == 0


@pytest.mark.usefixtures("keeper")
async def test_an_attempt_times_out_although_its_back_end_shows_life(api: Gateway, worker: Worker) -> None:
    left = await leave(api, worker, attempt_timeout_s=1.5, retry={"base_s": 60})
    async with asyncio.timeout(DEADLINE_S):
        while await left.state() == "running":
            await left.report("running")
            await asyncio.sleep(0.05)
    job = await loaded(api, left.job)
    assert (job.status, job.error and job.error.code) == ("retrying", "timeout")


async def until_state(left: Left, wanted: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await left.state() != wanted:
            await asyncio.sleep(0.05)
