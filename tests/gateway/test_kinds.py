from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.encoding.envelope import Recorded
from switchyard.events.values import Ageing, JobSpec
from switchyard.services.broker.server.server import NatsServer
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Answer, Gateway, gateway

pytestmark = pytest.mark.shared_gateway

DEFAULTS: dict[str, Any] = {
    "priority": 70, "max_attempts": 5, "retry": {"base_s": 1, "factor": 3}, "attempt_timeout_s": 60,
    "queue_timeout_s": 600, "deadline_s": 3600, "ageing": {"every_s": 30, "step": 2, "max": 90},
    "keep_s": 86400.5, "keep_dead_s": 172800, "fair_share": True, "weights": {"acme": 3, "beta": 1},
}  # fmt: skip


async def put(api: Gateway, kind: str, body: Any, **options: Any) -> Answer:
    return await api.call("PUT", f"/v1/kinds/{kind}", body, token=api.token("admin"), **options)


@pytest.fixture
async def kind(api: Gateway) -> AsyncIterator[str]:
    """A kind with defaults, in the one bucket of all tests."""
    name = f"k-{api.tenant}"
    assert (await put(api, name, DEFAULTS)).status == 200
    yield name
    await api.call("DELETE", f"/v1/kinds/{name}", token=api.token("admin"))


async def submitted(api: Gateway, **fields: Any) -> tuple[JobSpec, Recorded]:
    """A job's specification as its first event has it."""
    job = await api.submit(**fields)
    first = (await api.store.history(job["id"]))[0]
    return first.event.job, first  # type: ignore[union-attr, return-value]


async def test_what_a_submission_does_not_say_is_the_kinds(api: Gateway, kind: str) -> None:
    spec, first = await submitted(api, kind=kind)
    assert (spec.priority, spec.max_attempts, spec.attempt_timeout_s, spec.queue_timeout_s) == (
        70,
        5,
        60,
        600,
    )
    assert (spec.retry.base_s, spec.retry.factor, spec.retry.max_s) == (1, 3, 3600)
    assert spec.ageing == Ageing(30, 2, 90)
    assert spec.deadline_at == first.at + timedelta(hours=1)


async def test_what_a_submission_says_counts_more(api: Gateway, kind: str) -> None:
    deadline = datetime.now(UTC) + timedelta(days=1)
    spec, _ = await submitted(
        api, kind=kind, priority=0, max_attempts=1, retry={}, attempt_timeout_s=5, queue_timeout_s=9,
        ageing={"every_s": 7}, deadline_at=deadline.isoformat(),
    )  # fmt: skip
    assert (spec.priority, spec.max_attempts, spec.attempt_timeout_s, spec.queue_timeout_s) == (0, 1, 5, 9)
    assert (spec.retry.base_s, spec.ageing, spec.deadline_at) == (5, Ageing(7, 1, 100), deadline)


async def test_a_job_of_another_kind_is_as_it_always_was(api: Gateway, kind: str) -> None:
    spec, _ = await submitted(api, kind=f"{kind}x")
    assert spec == JobSpec(
        kind=f"{kind}x", tenant=api.tenant, lane=spec.lane, payload={}, size_bytes=spec.size_bytes
    )


async def test_a_bulk_submission_gets_the_defaults_too(api: Gateway, kind: str) -> None:
    (answer,) = await api.bulk({"kind": kind})
    assert (await api.get(f"/v1/jobs/{answer['id']}")).json["priority"] == 70


async def test_a_deadline_counts_from_the_start_time_of_a_job_that_has_one(api: Gateway, kind: str) -> None:
    start = datetime.now(UTC) + timedelta(days=2)
    spec, _ = await submitted(api, kind=kind, start_at=start.isoformat())
    assert spec.deadline_at == start + timedelta(hours=1)
    own, first = await submitted(api, deadline_s=60)
    assert own.deadline_at == first.at + timedelta(seconds=60)


async def test_defaults_are_read_replaced_and_taken_away(api: Gateway, kind: str) -> None:
    admin = api.token("admin")
    shown = (await api.get(f"/v1/kinds/{kind}", token=admin)).json
    assert shown == {
        "kind": kind, **DEFAULTS, "erasable": False, "erase_s": None,
        "retry": {"base_s": 1.0, "factor": 3.0, "max_s": 3600.0, "jitter": 0.1},
    }  # fmt: skip
    assert shown in (await api.get("/v1/kinds", token=admin)).json["kinds"]
    replaced = await put(api, kind, {"priority": 10})
    assert (replaced.json["priority"], replaced.json["weights"], replaced.json["deadline_s"]) == (
        10,
        {},
        None,
    )
    assert (await submitted(api, kind=kind))[0].max_attempts == 3
    assert (await api.call("DELETE", f"/v1/kinds/{kind}", token=admin)).status == 204
    for method in ("GET", "DELETE"):
        assert (await api.call(method, f"/v1/kinds/{kind}", token=admin)).status == 404
    assert (await api.submit(kind=kind))["priority"] == 50


async def test_every_gateway_follows_and_a_new_one_knows_from_its_first_submission_on(
    api: Gateway, kind: str, shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path / "other") as other:
        assert (await other.submit(kind=kind))["priority"] == 70
        await put(api, kind, {"priority": 11})
        async with asyncio.timeout(DEADLINE_S):
            while (await other.submit(kind=kind))["priority"] != 11:
                pass


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"priority": 101}, 422, "priority"),
        ({"max_attempts": 0}, 422, "max_attempts"),
        ({"retry": {"factor": 0.5}}, 422, "retry.factor"),
        ({"attempt_timeout_s": 0}, 422, "attempt_timeout_s"),
        ({"queue_timeout_s": -1}, 422, "queue_timeout_s"),
        ({"deadline_s": 1e12}, 422, "deadline_s"),
        ({"ageing": {"every_s": 0.5}}, 422, "ageing.every_s"),
        ({"ageing": {"every_s": 1, "step": 0}}, 422, "ageing.step"),
        ({"ageing": {"every_s": 1, "max": 101}}, 422, "ageing.max"),
        ({"ageing": {}}, 422, "ageing.every_s"),
        ({"keep_s": 0}, 422, "keep_s"),
        ({"keep_s": 1e300}, 422, "keep_s"),
        ({"keep_s": "1 day"}, 422, "keep_s"),
        ({"keep_dead_s": -1}, 422, "keep_dead_s"),
        ({"keep_dead_s": True}, 422, "keep_dead_s"),
        ({"fair_share": 1}, 422, "fair_share"),
        ({"weights": {"acme": 1001}}, 422, "weights[...]"),
        ({"weights": {"Acme": 1}}, 422, "weights"),
        ({"labels": {}}, 422, "labels"),
        (b"", 400, None),
        (b"{", 400, None),
    ],
)
async def test_wrong_defaults_are_refused(api: Gateway, body: Any, status: int, field: str | None) -> None:
    answer = await put(api, f"k-{api.tenant}", body)
    assert (answer.status, answer.json.get("field")) == (status, field), answer.json
    missing = await api.get(f"/v1/kinds/k-{api.tenant}", token=api.token("admin"))
    assert missing.status == 404


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"ageing": {"every_s": 0}}, "ageing.every_s"),
        ({"queue_timeout_s": 0}, "queue_timeout_s"),
        ({"deadline_s": 0}, "deadline_s"),
        ({"deadline_s": 5, "deadline_at": "2999-01-01T00:00:00Z"}, "deadline_s"),
        ({"deadline_s": 3e8, "start_at": "9999-01-01T00:00:00Z"}, "deadline_s"),
    ],
)
async def test_a_wrong_submission_is_refused(api: Gateway, fields: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", "/v1/jobs", {"kind": "noop", **fields})
    assert (answer.status, answer.json["field"]) == (422, field)


async def test_only_admins_see_and_set_defaults(api: Gateway, kind: str) -> None:
    for role in ("viewer", "submitter", "worker", "reviewer"):
        token = api.token(role)
        for method, path in (("GET", ""), ("GET", f"/{kind}"), ("PUT", f"/{kind}"), ("DELETE", f"/{kind}")):
            body: Any = {} if method == "PUT" else None
            assert (await api.call(method, f"/v1/kinds{path}", body, token=token)).status == 403
    assert (await put(api, "K", {})).status == 422
    assert (await api.get("/v1/kinds?x=1", token=api.token("admin"))).status == 400


async def test_kinds_and_weights_have_a_limit(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, kinds=1, kind_weights=1) as api:
        first, second = f"a-{api.tenant}", f"b-{api.tenant}"
        assert (await put(api, first, {"weights": {"a": 1}})).status == 200
        assert (await put(api, first, {"priority": 1})).status == 200
        too_many = await put(api, second, {})
        assert (too_many.status, too_many.json["field"]) == (422, "kind")
        weights = await put(api, first, {"weights": {"a": 1, "b": 1}})
        assert (weights.status, weights.json["field"]) == (422, "weights")
        await api.call("DELETE", f"/v1/kinds/{first}", token=api.token("admin"))
