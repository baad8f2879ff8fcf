"""What workers over REST declare: once, by revision, and no more than their tenant may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.vocabulary.ids import JobId
from switchyard.services.broker import connection as nats_broker
from switchyard.services.broker.bucket import is_gone
from switchyard.services.broker.jetstream import api as js_api
from switchyard.services.broker.reader import follow, last_message
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.records import workers
from switchyard.services.worker.worker import Worker as NatsWorker
from tests.broker.notes import value_in
from tests.broker.shared import SharedBroker
from tests.gateway.leases.test_leases import Worker, submit, until_in_registry
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway
from tests.worker.site import TestConnector

LARGE = {"models": ["m" * 1000] * 31}
REVISION = "Switchyard-Worker-Revision"


@pytest.fixture
def worker(api: Gateway) -> Worker:
    return Worker(api, kinds=[api.tenant])


async def by_revision(worker: Worker, revision: int, **said: Any) -> Answer:
    body = {"worker": worker.body["worker"], "revision": revision, **said}
    return await worker.api.call("POST", "/v1/leases", body, token=worker.token)


def revision_of(answer: Answer) -> int:
    return int(answer.headers[REVISION])


async def declared(api: Gateway, name: str = "curl-1") -> workers.Declaration:
    entry = workers.DECLARATIONS.subject(f"rest.{api.tenant}.{name}")
    found = await last_message(api.nc, workers.DECLARATIONS.stream, entry, timeout_s=20)
    assert found is not None
    declaration = value_in(workers.DECLARATIONS, found)
    assert declaration is not None
    return declaration


async def resize(api: Gateway, stream: str, max_bytes: int) -> None:
    """Let a stream hold so much; without room it refuses every message."""
    info = await js_api(api.nc, f"STREAM.INFO.{stream}", timeout_s=20)
    config = info["config"] | {"max_bytes": max_bytes}
    assert "error" not in await js_api(api.nc, f"STREAM.UPDATE.{stream}", config, timeout_s=20)


# --- By revision


async def test_a_claim_names_the_revision_of_what_was_sent_before(api: Gateway, worker: Worker) -> None:
    first = await worker.claim(capabilities={"gpu": 24}, slots=3)
    job_id = await submit(api, requires={"gpu": {"$gte": 16}})
    claimed = await by_revision(worker, revision_of(first))
    assert (claimed.status, claimed.json["job"]["id"]) == (201, job_id)
    assert claimed.json["lease"]["revision"] == revision_of(claimed) == revision_of(first)
    view = await until_in_registry(api, worker)
    assert (view["capabilities"], view["slots"], view["kinds"]) == ({"gpu": 24}, 3, [api.tenant])


async def test_a_job_that_does_not_fit_the_revision_is_not_given(api: Gateway, worker: Worker) -> None:
    first = await worker.claim(capabilities={"gpu": 8})
    await submit(api, requires={"gpu": {"$gte": 16}})
    assert (await by_revision(worker, revision_of(first))).status == 204


async def test_the_same_capabilities_keep_their_revision_and_others_get_another(
    api: Gateway, worker: Worker
) -> None:
    answers = [await worker.claim(capabilities=said) for said in ({"n": 1}, {"n": 1}, {"n": True})]
    same, again, other = map(revision_of, answers)
    assert same == again < other
    refused = await by_revision(worker, same)
    assert (refused.status, refused.json["code"]) == (409, "unknown_revision")
    assert (await declared(api)).capabilities == {"n": True}


async def test_slots_that_claim_at_once_are_given_one_revision(api: Gateway, worker: Worker) -> None:
    answers = await asyncio.gather(*(worker.claim(capabilities=LARGE) for _ in range(12)))
    assert len({revision_of(answer) for answer in answers}) == 1


async def test_kinds_of_claims_by_revision_are_added(api: Gateway, worker: Worker) -> None:
    revision = revision_of(await worker.claim(capabilities={"gpu": 1}))
    assert revision_of(await by_revision(worker, revision, kinds=["other"])) == revision
    assert (await declared(api)).kinds == tuple(sorted(["other", api.tenant]))
    await submit(api)
    assert (await by_revision(worker, revision, kinds=["other"])).status == 204
    assert (await by_revision(worker, revision)).status == 201


async def test_an_expired_revision_is_refused_and_none_comes_again(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, lease_s=0.3) as api:
        worker = Worker(api, kinds=[api.tenant])
        revision = revision_of(await worker.claim(capabilities={"gpu": 1}))
        entry = workers.DECLARATIONS.subject(f"rest.{api.tenant}.curl-1")
        async with asyncio.timeout(DEADLINE_S):
            async for message in follow(
                api.nc, workers.DECLARATIONS.stream, [entry], latest=True, timeout_s=20
            ):
                if is_gone(message.headers, message.data):
                    break
        later = Worker(api, "later")
        await later.claim()
        await until_in_registry(api, later)  # so the gateway has heard of the end that came before
        refused = await by_revision(worker, revision)
        assert (refused.status, refused.json["code"]) == (409, "unknown_revision")
        assert revision_of(await worker.claim(capabilities={"gpu": 2})) > revision


async def test_a_declaration_that_was_taken_away_is_written_again_by_the_next_claim(
    api: Gateway, worker: Worker
) -> None:
    await worker.claim(capabilities={"gpu": 1})
    entry = workers.DECLARATIONS.subject(f"rest.{api.tenant}.curl-1")
    await api.publisher.publish(entry, b"", {"KV-Operation": "PURGE", "Nats-Rollup": "sub"})
    later = Worker(api, "later")
    await later.claim()
    await until_in_registry(api, later)  # so the gateway has heard of the end that came before
    await worker.claim(capabilities={"gpu": 1})
    assert (await declared(api)).capabilities == {"gpu": 1}
    assert (await until_in_registry(api, worker))["capabilities"] == {"gpu": 1}


async def test_a_revision_counts_at_every_gateway(
    api: Gateway, worker: Worker, shared_broker: SharedBroker, tmp_path_factory: pytest.TempPathFactory
) -> None:
    async with gateway(shared_broker.url, tmp_path_factory.mktemp("other")) as other:
        other.tenant = api.tenant
        elsewhere = Worker(other, kinds=[api.tenant])
        revision = revision_of(await worker.claim(capabilities={"gpu": 1}))
        job_id = await submit(api, requires={"gpu": 1})
        claimed = await by_revision(elsewhere, revision, wait_s=5)
        assert claimed.json["job"]["id"] == job_id
        changed = revision_of(await elsewhere.claim(capabilities={"gpu": 2}))
        assert (await by_revision(worker, changed)).status == 204
        assert (await by_revision(worker, revision)).json["code"] == "unknown_revision"


async def test_a_heartbeat_over_rest_does_not_grow_with_the_capabilities(
    api: Gateway, worker: Worker
) -> None:
    await worker.claim(capabilities=LARGE)
    record = workers.HEARTBEATS.subject(f"rest.{api.tenant}.curl-1")
    found = await last_message(api.nc, workers.HEARTBEATS.stream, record, timeout_s=20)
    assert found is not None
    assert len(found.data) < 400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"capabilities": {"a": [10**30]}}, "capabilities.a[0]"),
        ({"capabilities": {"a": 2**64}}, "capabilities.a"),
        ({"capabilities": {"x": "y" * 40_000}}, "capabilities"),
        ({"capabilities": {}, "revision": 1}, "revision"),
        ({"revision": 0}, "revision"),
        ({"kinds": None}, "kinds"),
    ],
)
async def test_a_claim_that_breaks_a_rule_names_the_field(
    api: Gateway, worker: Worker, body: dict[str, Any], field: str
) -> None:
    raw = str({**worker.body, **body}).replace("'", '"').replace("None", "null").encode()
    answer = await api.call("POST", "/v1/leases", raw, token=worker.token)
    assert (answer.status, answer.json["field"]) == (422, field)


async def test_capabilities_nested_300_deep_are_refused(api: Gateway, worker: Worker) -> None:
    deep = b'{"a":' * 300 + b"1" + b"}" * 300
    raw = b'{"worker":"w","kinds":["a"],"capabilities":%b}' % deep
    answer = await api.call("POST", "/v1/leases", raw, token=worker.token)
    assert (answer.status, answer.json["field"][:16]) == (422, "capabilities.a.a")


# --- Limits


@pytest.fixture
async def small(broker: NatsServer, tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway whose tenants may have little, on a broker that has room for a few of them."""
    room = {"KV_workers": 4 << 20, "KV_capabilities": 4 << 20}
    limits: dict[str, Any] = {"workers": 40, "tenant_capabilities_bytes": 1 << 20, "lease_s": 6.0}
    async with gateway(broker.url, tmp_path, max_bytes=room, **limits) as opened:
        yield opened


async def test_a_tenant_that_floods_the_records_stops_nobody_else(small: Gateway) -> None:
    flooder = Worker(small)
    gate = asyncio.Semaphore(32)

    async def flood(number: int) -> Answer:
        async with gate:
            return await flooder.claim(worker=f"w{number}", capabilities=LARGE | {"n": number})

    answers = await asyncio.gather(*(flood(number) for number in range(200)))
    refused = [answer for answer in answers if answer.status == 429]
    assert {answer.status for answer in answers} == {204, 429}
    assert {answer.json["code"] for answer in refused} <= {"too_many_workers", "too_many_capabilities"}
    assert all(small.tenant in answer.json["detail"] for answer in refused)
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in refused)
    info = await js_api(small.nc, f"STREAM.INFO.{workers.DECLARATIONS.stream}", timeout_s=20)
    assert info["state"]["bytes"] <= small.settings.tenant_capabilities_bytes

    nc = await nats_broker.connect(small.nc.connected_url.geturl(), name="w1")  # type: ignore[union-attr]

    async def done(_: Any) -> None:
        return

    connector = TestConnector(done)
    connector.extra = dict(LARGE)
    trusted = NatsWorker(nc, [connector], small.settings, worker_id="trusted")
    stranger = Worker(small, kinds=["echo"])
    stranger.token = small.token("worker", tenant=small.stranger)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(trusted.run())
        await trusted.ready.wait()
        assert trusted._registration.is_seen
        job_id = (await small.submit(kind="simulate", payload={}))["id"]
        async with asyncio.timeout(DEADLINE_S):
            while (await small.get(f"/v1/jobs/{job_id}")).json["state"] != "succeeded":
                await asyncio.sleep(0.02)
        assert (await stranger.claim(capabilities=LARGE)).status == 204
        trusted.stop()
        await task
    await nc.close()


async def test_a_new_worker_over_the_limit_is_refused_and_known_ones_go_on(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, workers=3, lease_s=1.0) as api:
        first = Worker(api, kinds=[api.tenant])
        revision = revision_of(await first.claim())
        for name in ("a", "b"):
            assert (await first.claim(worker=name)).status == 204
        refused = await first.claim(worker="c")
        assert (refused.status, refused.json["code"], refused.json["field"]) == (
            429,
            "too_many_workers",
            "worker",
        )
        assert "has 3 workers that claim over REST, of at most 3" in refused.json["detail"]
        assert int(refused.headers["Retry-After"]) >= 1
        await submit(api)
        assert (await by_revision(first, revision)).status == 201
        stranger = Worker(api, kinds=[api.tenant])
        stranger.token = api.token("worker", tenant=api.stranger)
        assert (await stranger.claim()).status == 204
        async with asyncio.timeout(DEADLINE_S):  # those that are gone make room
            while (await first.claim(worker="c")).status == 429:
                await asyncio.sleep(0.05)


async def test_claims_of_new_workers_at_once_stay_within_the_limit(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path, workers=5) as api:
        worker = Worker(api)
        answers = await asyncio.gather(*(worker.claim(worker=f"w{number}") for number in range(30)))
        assert sorted(answer.status for answer in answers) == [204] * 5 + [429] * 25


async def test_a_worker_that_changes_with_every_claim_keeps_one_entry(small: Gateway) -> None:
    worker = Worker(small)
    for number in range(60):  # 60 times 31 KiB are more than its tenant may have
        assert (await worker.claim(capabilities=LARGE | {"n": number})).status == 204
    info = await js_api(small.nc, f"STREAM.INFO.{workers.DECLARATIONS.stream}", timeout_s=20)
    assert info["state"]["messages"] == 1


async def test_a_tenants_declarations_are_bounded_in_bytes(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, tenant_capabilities_bytes=70_000) as api:
        worker = Worker(api)
        assert [(await worker.claim(worker=name, capabilities=LARGE)).status for name in "ab"] == [204, 204]
        refused = await worker.claim(worker="c", capabilities=LARGE)
        assert (refused.status, refused.json["code"]) == (429, "too_many_capabilities")
        assert "at most 70000" in refused.json["detail"]
        assert (await worker.claim(worker="a", capabilities=LARGE)).status == 204
        assert (await worker.claim(worker="c")).status == 204


@pytest.mark.parametrize("stream", [workers.HEARTBEATS.stream, workers.DECLARATIONS.stream])
async def test_no_job_is_given_to_a_worker_whose_record_cannot_be_written(
    broker: NatsServer, tmp_path: Path, stream: str
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        worker = Worker(api, kinds=[api.tenant])
        job_id = await submit(api)
        await resize(api, stream, 10)
        refused = await worker.claim()
        assert (refused.status, refused.json["code"]) == (503, "unavailable")
        assert "Retry-After" in refused.headers
        assert (await api.store.load(JobId(job_id))).attempt == 0
        await resize(api, stream, 1 << 20)
        assert (await worker.claim()).json["job"]["id"] == job_id


async def test_a_known_worker_whose_record_cannot_be_written_any_more_is_refused_until_it_can(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        worker = Worker(api, kinds=[api.tenant])
        revision = revision_of(await worker.claim())
        await resize(api, workers.HEARTBEATS.stream, 10)
        async with asyncio.timeout(DEADLINE_S):
            while (await by_revision(worker, revision)).status == 204:
                pass
        refused = await by_revision(worker, revision)
        assert (refused.status, "cannot be written" in refused.json["detail"]) == (503, True)
        await resize(api, workers.HEARTBEATS.stream, 1 << 20)
        async with asyncio.timeout(DEADLINE_S):
            while (await by_revision(worker, revision)).status == 503:
                await asyncio.sleep(0.05)
