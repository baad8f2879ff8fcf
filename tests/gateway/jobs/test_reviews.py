"""Results that wait for a reviewer."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from switchyard.events.commands import Accept, Propose
from switchyard.events.errors import PreconditionFailedError
from switchyard.events.vocabulary.ids import JobId
from switchyard.services.access.jwt import load_or_create_secrets, mint
from switchyard.services.keeper.loop import Keeper
from tests.gateway.leases.test_leases import Worker, events_of, submit
from tests.gateway.rest import DEADLINE_S, Answer, Gateway

pytestmark = pytest.mark.shared_gateway


def token_of(api: Gateway, subject: str, *roles: str) -> str:
    """A token of somebody by name."""

    secret = load_or_create_secrets(api.settings.data_dir)[0]
    return mint(secret, tenant=api.tenant, roles=roles, ttl_s=600, subject=subject)


async def proposed(api: Gateway, body: Any = None, **fields: Any) -> str:
    """A job whose result was proposed by `bob`."""
    job_id = await submit(api, **fields)
    worker = Worker(api, kinds=[api.tenant])
    worker.token = token_of(api, "bob", "worker")
    claimed = await worker.claim()
    assert claimed.json["job"]["id"] == job_id
    answer = await worker.say(claimed, "propose", body or {"result": {"diff": "+1"}})
    assert answer.status == 200, answer
    return job_id


async def judge(
    api: Gateway, job_id: str, verb: str, body: Any = None, subject: str = "carol", **headers: str
) -> Answer:
    token = token_of(api, subject, "reviewer")
    return await api.call("POST", f"/v1/reviews/{job_id}/{verb}", body, token=token, **headers)


async def again(api: Gateway, job_id: str, result: Any) -> None:
    """Send the job back, and have its next attempt propose another result."""
    assert (await judge(api, job_id, "reject", {"reason": "no"})).status == 200
    await propose(api, result)


async def propose(api: Gateway, result: Any) -> None:
    """Have the next attempt of the only job propose a result."""
    worker = Worker(api, kinds=[api.tenant])
    worker.token = token_of(api, "bob", "worker")
    answer = await worker.say(await worker.claim(wait_s=20), "propose", {"result": result})
    assert answer.status == 200, answer


async def test_a_proposed_result_is_listed_claimed_and_accepted(api: Gateway) -> None:
    job_id = await proposed(api, labels={"team": "red"})
    job = (await api.get(f"/v1/jobs/{job_id}")).json
    assert (job["state"], job["result"], job["review"]["result"]) == ("review", None, {"diff": "+1"})
    reviewer = token_of(api, "carol", "reviewer")
    seq = {"Switchyard_Min_Seq": str(job["seq"])}
    listed = await api.get(f"/v1/reviews?kind={api.tenant}&label=team:red", token=reviewer, **seq)
    (review,) = listed.json["reviews"]
    assert (review["id"], review["review"]["by"]) == (job_id, "user:bob")
    assert (await api.get("/v1/reviews?label=team:blue", token=reviewer, **seq)).json["reviews"] == []
    claimed = await judge(api, job_id, "claim", {"lease_s": 60})
    assert claimed.json["review"]["reviewer"] == "user:carol"
    other = await judge(api, job_id, "accept", subject="dave")
    assert (other.status, other.json["code"]) == (409, "review_claimed")
    assert (await judge(api, job_id, "release", subject="dave")).status == 409
    assert (await judge(api, job_id, "release")).json["review"]["reviewer"] is None
    accepted = await judge(api, job_id, "accept", subject="dave")
    assert (accepted.json["state"], accepted.json["result"]) == ("succeeded", {"diff": "+1"})
    again = await judge(api, job_id, "accept", subject="dave")
    assert (again.status, again.json["allowed"]) == (409, ["archive"])


async def test_nobody_accepts_what_they_proposed_unless_the_job_says_so(api: Gateway) -> None:
    job_id = await proposed(api)
    own = await judge(api, job_id, "accept", subject="bob")
    assert (own.status, own.json["code"]) == (403, "four_eyes")
    assert (await judge(api, job_id, "accept")).json["state"] == "succeeded"
    job_id = await proposed(api, review={"four_eyes": False})
    assert (await judge(api, job_id, "accept", subject="bob")).json["state"] == "succeeded"


async def test_the_next_attempt_reads_the_feedback_and_rejections_have_a_limit(api: Gateway) -> None:
    job_id = await proposed(api, max_rejections=2)
    missing = await judge(api, job_id, "reject", {"feedback": "x"})
    assert (missing.status, missing.json["field"]) == (422, "reason")
    rejected = await judge(api, job_id, "reject", {"reason": "no tests", "feedback": {"add": ["tests"]}})
    assert (rejected.json["state"], rejected.json["rejections"]) == ("queued", 1)
    worker = Worker(api, kinds=[api.tenant])
    claimed = await worker.claim(wait_s=5)
    job = claimed.json["job"]
    assert (job["attempt"], job["rejections"], job["feedback"]) == (2, 1, {"add": ["tests"]})
    await worker.say(claimed, "propose", {"result": 2})
    dead = await judge(api, job_id, "reject", {"reason": "still none"})
    assert (dead.json["state"], dead.json["reason"]) == ("dead", "rejected_too_often")


@pytest.mark.parametrize(("verb", "body"), [("accept", None), ("reject", {"reason": "no"})])
async def test_a_verdict_is_on_the_proposal_that_was_read_alone(api: Gateway, verb: str, body: Any) -> None:
    job_id = await proposed(api)
    await again(api, job_id, 2)
    before = await events_of(api, job_id)
    other = await judge(api, job_id, verb, body, If_Match='"1"')
    assert (other.status, other.json["code"], other.json["field"]) == (412, "precondition_failed", "If-Match")
    for odd in ('W/"2"', "2", '"x"', '"2", W/"1"', '*, "2"'):
        malformed = await judge(api, job_id, verb, body, If_Match=odd)
        assert (malformed.status, malformed.json["field"]) == (400, "If-Match"), odd
    await judge(api, job_id, "claim", {"lease_s": 60}, subject="dave")
    claimed = await judge(api, job_id, verb, body, If_Match='"1"')  # which is refused without a condition
    assert (claimed.status, claimed.json["code"]) == (409, "review_claimed")
    await judge(api, job_id, "release", subject="dave")
    assert await events_of(api, job_id) == [*before, "review_claimed", "review_released"]
    assert (await judge(api, job_id, verb, body, If_Match='"7", "2"')).status == 200
    over = await judge(api, job_id, verb, body, If_Match='"2"')
    assert (over.status, over.json["code"]) == (409, "illegal_transition")


async def test_whoever_read_a_result_never_accepts_one_that_replaces_it_at_the_same_time(
    api: Gateway,
) -> None:
    job_id = await proposed(api, {"result": 1})

    async def accepts() -> None:
        """Accept the first until another is seen: some of these requests are under way when that comes."""
        while (answer := await judge(api, job_id, "accept", subject="dave", If_Match='"1"')).status != 412:
            assert answer.json["code"] == "illegal_transition"  # it was sent back, and nothing waits

    assert (await judge(api, job_id, "reject", {"reason": "no"})).status == 200
    async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(accepts())
        await propose(api, 2)
    job = (await api.get(f"/v1/jobs/{job_id}")).json
    assert (job["state"], job["attempt"], job["review"]["result"]) == ("review", 2, 2)


async def test_a_verdict_by_an_older_state_meets_the_newer_proposal(api: Gateway) -> None:
    job_id = await proposed(api, {"result": 1})
    read = await api.store.load(JobId(job_id))
    await again(api, job_id, 2)
    command = Accept(now=datetime.now(UTC), reviewer="user:dave", attempts=(read.attempt,))
    with pytest.raises(PreconditionFailedError, match="that of attempt 2"):
        await api.store.transition(read, command, actor="user:dave")
    anybody = msgspec.structs.replace(command, attempts=None)
    assert (await api.store.transition(read, anybody, actor="user:dave")).job.result == 2


CHECKED = {"auto_accept": {"checks": ["lint", "tests"]}}


async def test_a_proposal_that_passed_all_checks_is_accepted_at_once(api: Gateway) -> None:
    job_id = await proposed(api, {"result": 1, "checks": {"lint": True, "tests": True}}, review=CHECKED)
    assert await events_of(api, job_id) == ["submitted", "claimed", "proposed", "accepted"]
    last = (await api.store.history(JobId(job_id)))[-1]
    assert last.actor == "rule:auto_accept"


@pytest.mark.parametrize("checks", [{}, {"lint": True}, {"lint": True, "tests": False}])
async def test_a_proposal_that_did_not_pass_all_checks_waits(api: Gateway, checks: dict[str, bool]) -> None:
    job_id = await proposed(api, {"result": 1, "checks": checks}, review=CHECKED)
    assert (await events_of(api, job_id))[-1] == "proposed"


@pytest.mark.parametrize(
    ("rule", "state", "actor"),
    [
        ("accept", "succeeded", "rule:deadline"),
        ("reject", "queued", "rule:deadline"),
        ("expire", "expired", "keeper"),
    ],
)
async def test_a_review_that_nobody_made_in_time_is_decided_by_the_jobs_rule(
    api: Gateway, rule: str, state: str, actor: str
) -> None:
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(api.nc, api.settings).run())
        job_id = await proposed(api, review={"deadline_s": 0.5, "on_deadline": rule})
        async with asyncio.timeout(DEADLINE_S):
            while (await api.store.load(JobId(job_id))).status.value == "review":
                await asyncio.sleep(0.02)
        keeping.cancel()
    job = await api.store.load(JobId(job_id))
    assert (job.status.value, (await api.store.history(JobId(job_id)))[-1].actor) == (state, actor)


async def test_a_claimed_review_is_free_again_when_its_time_is_over(api: Gateway) -> None:
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(api.nc, api.settings).run())
        job_id = await proposed(api)
        await judge(api, job_id, "claim", {"lease_s": 1})
        async with asyncio.timeout(DEADLINE_S):
            while (await events_of(api, job_id))[-1] != "review_released":
                await asyncio.sleep(0.02)
        keeping.cancel()
    assert (await judge(api, job_id, "accept", subject="dave")).status == 200


async def test_the_keeper_accepts_what_passed_when_the_gateway_died_in_between(api: Gateway) -> None:

    job_id = await submit(api, review=CHECKED)
    job = await api.lease(job_id)
    assert job.lease is not None
    checks = {"lint": True, "tests": True}
    command = Propose(now=datetime.now(UTC), fence=job.lease.fence, result=1, checks=checks)
    await api.store.transition(job, command, actor="worker:w1")
    async with asyncio.TaskGroup() as group:
        keeping = group.create_task(Keeper(api.nc, api.settings).run())
        async with asyncio.timeout(DEADLINE_S):
            while (await events_of(api, job_id))[-1] != "accepted":
                await asyncio.sleep(0.02)
        keeping.cancel()
    assert (await api.store.history(JobId(job_id)))[-1].actor == "rule:auto_accept"


@pytest.mark.parametrize(
    ("review", "field"),
    [
        ({"deadline_s": 0}, "review.deadline_s"),
        ({"on_deadline": "wait"}, "review.on_deadline"),
        ({"auto_accept": {"checks": []}}, "review.auto_accept.checks"),
        ({"eyes": 4}, "review.eyes"),
    ],
)
async def test_a_rule_that_is_none_is_refused_by_name(
    api: Gateway, review: dict[str, Any], field: str
) -> None:
    refused = await api.call("POST", "/v1/jobs", {"kind": "noop", "review": review})
    assert (refused.status, refused.json["field"]) == (422, field)


async def test_only_a_reviewer_of_the_tenant_judges(api: Gateway) -> None:
    job_id = await proposed(api)
    refused = await api.call("POST", f"/v1/reviews/{job_id}/accept", token=token_of(api, "eve", "worker"))
    assert refused.status == 403
    stranger = api.token("reviewer", tenant=api.stranger)
    assert (await api.call("POST", f"/v1/reviews/{job_id}/accept", token=stranger)).status == 404
