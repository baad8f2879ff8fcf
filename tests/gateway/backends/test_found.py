"""Attempts of REST workers that are at a back end: whose watcher is gone, and who is given them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from switchyard.events.errors import VersionConflictError
from switchyard.events.values import Backend
from switchyard.events.vocabulary.ids import JobId, WorkerId
from switchyard.services.broker.bucket import Bucket
from switchyard.services.dispatch.backends.delegations import Delegations
from switchyard.services.dispatch.backends.index import Index, Noted
from switchyard.services.dispatch.limit_tokens import Tokens
from switchyard.services.records.workers import HEARTBEATS
from tests.gateway.leases.test_leases import events_of, state_of, submit
from tests.gateway.rest import DEADLINE_S, Answer, Gateway
from tests.site import now

pytestmark = pytest.mark.shared_gateway


class Watcher:
    """A worker that sees the back end `double`, `id`, and speaks for itself."""

    def __init__(self, api: Gateway, name: str, *, role: str = "worker", tenant: str | None = None) -> None:
        self.api = api
        self.name = name
        self.id = api.tenant  # no other test's
        self.token = api.token(role, tenant=tenant)
        self.said: dict[str, Any] = {"worker": name, "kinds": [api.tenant], "lease_s": 5, "slots": 2}

    async def claim(self) -> Answer:
        claimed = await self.api.call("POST", "/v1/leases", {**self.said, "wait_s": 10}, token=self.token)
        assert claimed.status == 201, claimed
        return claimed

    async def say(self, lease: dict[str, Any], verb: str, body: Any = None) -> Answer:
        return await self.api.call(
            "POST", f"/v1/leases/{lease['id']}/{verb}", body,
            token=self.token, Switchyard_Lease_Token=lease["token"],
        )  # fmt: skip

    async def delegate(self, lease: dict[str, Any], **said: Any) -> Answer:
        backend = {"kind": "double", "id": self.id, "remote_id": "work"}
        return await self.say(lease, "delegate", {"backend": backend, "watched": True, **said})

    async def leave(self) -> dict[str, Any]:
        """Claim a job and leave it to the back end; the lease."""
        lease: dict[str, Any] = (await self.claim()).json["lease"]
        left = await self.delegate(lease)
        assert left.status == 200, left
        return lease

    async def ask(self, *, path: str | None = None, **said: Any) -> Answer:
        where = path or f"double/{self.id}"
        return await self.api.call(
            "POST", f"/v1/backends/{where}/attempts", {**self.said, **said}, token=self.token
        )

    async def fences(self, **said: Any) -> list[int]:
        answer = await self.ask(**said)
        assert answer.status == 200, answer
        return [each["lease"]["fence"] for each in answer.json["attempts"]]

    async def dies(self, *, tenant: str | None = None) -> None:
        """Its record is gone, as it is when nothing was heard of it for long enough."""
        worker = WorkerId(f"rest.{tenant or self.api.tenant}.{self.name}")
        bucket = Bucket(self.api.nc, HEARTBEATS, self.api.publisher, timeout_s=20)
        async with asyncio.timeout(DEADLINE_S):
            while (found := await bucket.get(worker)).value is not None:
                with contextlib.suppress(VersionConflictError):
                    await bucket.delete(worker, revision=found.revision)

    async def noted(self) -> list[Noted]:
        index = Index(self.api.nc, self.api.publisher, timeout_s=20)
        return await index.of(Backend("double", self.id))


async def given(watcher: Watcher, gone: Watcher, **said: Any) -> list[dict[str, Any]]:
    """What a worker gets once the other one is gone, though its last word may be written late."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            await gone.dies()
            found: list[dict[str, Any]] = (await watcher.ask(**said)).json["attempts"]
            if found:
                return found


async def test_what_a_worker_that_is_gone_has_left_goes_on_with_the_next_under_its_own_fence(
    api: Gateway,
) -> None:
    job = await submit(api, payload={"n": 1})
    one, two = Watcher(api, "one"), Watcher(api, "two")
    lease = await one.leave()
    (found,) = await given(two, one)
    assert found["backend"] == {"kind": "double", "id": api.tenant, "remote_id": "work"}
    assert found["job"]["payload"] == {"n": 1}
    assert found["job"]["state"] == "running"
    again = found["lease"]
    assert (again["id"], again["fence"], again["attempt"]) == (lease["id"], lease["fence"], 1)
    assert again["worker"] == f"rest.{api.tenant}.two"
    assert 0 < again["timeout_s"] <= api.settings.attempt_timeout_s
    assert found["lease_s"] == 4 * (5 + api.settings.lease_s)
    renewed = await two.say(again, "renew", {"lease_s": found["lease_s"]})
    assert renewed.status == 200, renewed
    assert (await two.say(again, "succeed", {"result": "done"})).status == 200
    assert await events_of(api, job) == ["submitted", "claimed", "claim_renewed", "succeeded"]
    assert await two.noted() == []


async def test_a_worker_that_is_alive_keeps_its_own(api: Gateway) -> None:
    await submit(api)
    one, two = Watcher(api, "one"), Watcher(api, "two")
    lease = await one.leave()
    assert await two.fences() == []
    assert await one.fences(held=[lease["fence"]]) == []


async def test_what_nobody_watches_is_given_to_nobody(api: Gateway) -> None:
    """Its back end calls back."""
    await submit(api)
    one, two = Watcher(api, "one"), Watcher(api, "two")
    lease = (await one.claim()).json["lease"]
    assert (await one.delegate(lease, watched=False)).json["lease_s"] == 5
    await one.dies()
    assert await two.fences() == []
    assert await one.noted() == []


async def test_of_many_that_ask_at_once_one_is_given_it(api: Gateway) -> None:
    for _ in range(3):
        await submit(api)
    one = Watcher(api, "one")
    fences = [(await one.leave())["fence"] for _ in range(3)]
    others = [Watcher(api, f"w{number}") for number in range(6)]
    for each in others:
        assert await each.fences() == []  # all can be seen from now on
    got: list[int] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(got) < 3:
            await one.dies()
            for fences_of_one in await asyncio.gather(*(each.fences() for each in others)):
                got += fences_of_one
    assert sorted(got) == sorted(fences)


async def test_an_answer_that_was_lost_is_given_again(api: Gateway) -> None:
    await submit(api)
    one, two, three = (Watcher(api, name) for name in ("one", "two", "three"))
    lease = await one.leave()
    await given(two, one)  # and nothing came of it
    assert await three.fences() == []
    (again,) = (await two.ask()).json["attempts"]
    assert again["lease"]["fence"] == lease["fence"]
    assert await two.fences(held=[lease["fence"]]) == []
    assert (await two.say(again["lease"], "succeed", {})).status == 200


async def test_a_worker_that_comes_back_under_its_name_is_given_its_own(api: Gateway) -> None:
    await submit(api)
    lease = await Watcher(api, "one").leave()
    assert await Watcher(api, "one").fences() == [lease["fence"]]


async def test_what_a_worker_lets_go_of_is_given_at_once(api: Gateway) -> None:
    job = await submit(api)
    one, two = Watcher(api, "one"), Watcher(api, "two")
    lease = await one.leave()
    assert (await one.delegate(lease, watched=False)).status == 200
    assert await two.fences() == [lease["fence"]]
    assert await state_of(api, job) == "running"


@pytest.mark.parametrize("role", ["worker", "admin"])
async def test_another_tenant_is_given_nothing(api: Gateway, role: str) -> None:
    """Nor is an admin of another one: a tenant's worker may have named any work there is."""
    await submit(api)
    one = Watcher(api, "one")
    lease = await one.leave()
    await one.delegate(lease, watched=False)
    stranger = Watcher(api, "two", role=role, tenant=api.stranger)
    assert await stranger.fences() == []
    assert [noted.watcher for noted in await one.noted()] == [""]
    assert await Watcher(api, "three").fences(kinds=["another"]) == []
    assert await Watcher(api, "three").fences() == [lease["fence"]]


async def test_what_a_worker_on_nats_has_left_is_given_to_none_over_rest(api: Gateway) -> None:
    await submit(api)
    one = Watcher(api, "one")
    lease = (await one.claim()).json["lease"]
    tokens = Tokens(api.nc, api.settings, wake=lambda: None)
    index = Index(api.nc, api.publisher, timeout_s=20)
    delegations = Delegations(api.store, tokens, index, api.settings)
    await one.delegate(lease)
    (noted,) = await one.noted()
    await index.forget(noted.claims)
    await index.note(noted.claims.__class__(**{
        **{name: getattr(noted.claims, name) for name in noted.claims.__struct_fields__},
        "worker": WorkerId("a-nats-worker"),
    }), WorkerId("gone"), 60)  # fmt: skip
    assert await delegations.current((await one.noted())[0]) is not None
    assert await one.fences() == []


@pytest.mark.parametrize(
    "path",
    ["double/*", "*/x", "double/%3E", "double/a%20b", "double/" + "x" * 101, "double/%00", "d%2Fx/y",
     "double/%C3%A9"],
)  # fmt: skip
async def test_a_name_that_no_back_end_can_have_is_refused(api: Gateway, path: str) -> None:
    answer = await Watcher(api, "one").ask(path=path)
    assert answer.status in (404, 422), answer
    assert answer.json["code"]


async def test_a_back_end_that_nobody_knows_has_nothing(api: Gateway) -> None:
    watcher = Watcher(api, "one")
    for path in ("no/such", "double/..", f"double/{api.tenant}.x", "d:o.u/b:l.e"):
        answer = await watcher.ask(path=path)
        assert answer.status in (200, 404), answer
        if answer.status == 200:
            assert answer.json == {"attempts": [], "more": False}


@pytest.mark.parametrize(
    ("said", "field"),
    [
        ({"held": ["x"]}, "held"), ({"held": [0]}, "held"), ({"held": [1] * 10_001}, "held"),
        ({"most": 0}, "most"), ({"most": 101}, "most"), ({"wait_s": 3}, "wait_s"),
        ({"lease_s": 0}, "lease_s"), ({"lease_s": 10**9}, "lease_s"),
        ({"kinds": None}, "kinds"), ({"worker": "a.b"}, "worker"),
    ],
)  # fmt: skip
async def test_a_request_that_breaks_a_rule_is_refused_by_name(
    api: Gateway, said: dict[str, Any], field: str
) -> None:
    answer = await Watcher(api, "one").ask(**said)
    assert answer.status == 422, answer
    assert answer.json["field"].startswith(field)


async def test_only_so_many_are_given_at_a_time(api: Gateway) -> None:
    one, two = Watcher(api, "one"), Watcher(api, "two")
    for _ in range(3):
        await submit(api)
        await one.delegate(await one.leave(), watched=False)
    first = (await two.ask(most=2)).json
    assert (len(first["attempts"]), first["more"]) == (2, True)
    held = [each["lease"]["fence"] for each in first["attempts"]]
    second = (await two.ask(most=2, held=held)).json
    assert (len(second["attempts"]), second["more"]) == (1, False)


async def test_a_draining_worker_is_given_nothing_more(api: Gateway) -> None:
    await submit(api)
    one, two = Watcher(api, "one"), Watcher(api, "two")
    lease = await one.leave()
    await one.delegate(lease, watched=False)
    assert await two.fences(kinds=["another"]) == []
    drained = await api.call(
        "POST", f"/v1/workers/rest.{api.tenant}.two/drain", token=api.token("operator", "admin")
    )
    assert drained.status in (200, 202, 204), drained
    async with asyncio.timeout(DEADLINE_S):
        while (answer := await two.ask(kinds=["another"])).headers["Switchyard-Worker-State"] != "draining":
            await asyncio.sleep(0.02)
    assert answer.json["attempts"] == []
    assert await two.fences() == []


async def test_a_job_that_is_to_stop_is_given_too(api: Gateway) -> None:
    job = await submit(api)
    one, two = Watcher(api, "one"), Watcher(api, "two")
    lease = await one.leave()
    assert (await api.call("POST", f"/v1/jobs/{job}/cancel", {})).status in (200, 202)
    await one.delegate(lease, watched=False)
    (found,) = (await two.ask()).json["attempts"]
    renewed = await two.say(found["lease"], "renew", {"lease_s": found["lease_s"]})
    assert renewed.json["cancel_requested"] is True
    assert (await two.say(found["lease"], "release")).json["state"] == "cancelled"


async def test_a_renewal_of_what_is_at_a_back_end_writes_once_in_half_its_time(api: Gateway) -> None:
    job = await submit(api)
    one = Watcher(api, "one")
    lease = await one.leave()
    for _ in range(5):
        renewed = await one.say(lease, "renew", {"lease_s": 140})
        assert renewed.status == 200
    assert (await events_of(api, job)).count("claim_renewed") == 1
    state = await api.store.load(JobId(job))
    assert state.lease is not None
    assert state.lease.expires_at is not None
    assert (state.lease.expires_at - now()).total_seconds() > 4 * api.settings.lease_s
