"""Clients of both generations, written from what is known of the real ones, against the door."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any

import orjson
import pytest

from switchyard.services.ids import id_for_key
from tests.broker.shared import SharedBroker
from tests.gateway.emp.site import TOKEN, Line, door, line
from tests.gateway.rest import DEADLINE_S, Gateway


async def lease(api: Gateway, kind: str = "", worker: str = "w", **capabilities: Any) -> dict[str, Any]:
    """A job, claimed over REST, as its tenant sees it."""
    body = {
        "worker": worker, "kinds": [kind or api.tenant], "wait_s": 15, "lease_s": 30,
        "capabilities": capabilities,
    }  # fmt: skip
    answer = await api.call("POST", "/v1/leases", body, token=api.token("worker"))
    assert answer.status == 201, answer
    found: dict[str, Any] = answer.json
    found["job"] = (await api.get(f"/v1/jobs/{found['job']['id']}")).json
    return found


async def report(api: Gateway, held: dict[str, Any], verb: str, body: Any) -> None:
    """A worker's word on its lease."""
    answer = await api.call(
        "POST", f"/v1/leases/{held['lease']['id']}/{verb}", body, token=api.token("worker"),
        Switchyard_Lease_Token=held["lease"]["token"],
    )  # fmt: skip
    assert answer.status == 200, answer


async def submit(peer: Line, job_type: str, **fields: Any) -> dict[str, Any]:
    """A job of the Python generation."""
    return await peer.ask("submit_job", "job_accepted", job_type=job_type, payload={"n": 1}, **fields)


async def queued(api: Gateway, job_id: str) -> None:
    """Wait until a job is in its lane again."""
    async with asyncio.timeout(2 * DEADLINE_S):
        while (await api.get(f"/v1/jobs/{job_id}")).json["state"] != "queued":
            await asyncio.sleep(0.05)


# --- The Python generation


async def test_a_python_client_submits_and_sees_its_job_through(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        accepted = await submit(peer, api.tenant, priority=5, message_id="job / 1?é")
        assert accepted == {
            "type": "job_accepted", "job_id": "job / 1?é", "status": "pending", "position": 1,
            "estimated_start": None, "notified_workers": 0, "timestamp": accepted["timestamp"],
        }  # fmt: skip
        held = await lease(api)
        assert held["job"]["id"] == id_for_key(api.tenant, "emp\0job / 1?é")
        assert held["job"]["priority"] == 5
        await report(api, held, "progress", {"fraction": 0.5, "stage": "processing", "message": "half"})
        shown = await peer.until("update_job_progress")
        assert shown == {
            "type": "update_job_progress", "job_id": "job / 1?é", "progress": 50, "status": "processing",
            "message": "half", "worker_id": "w", "connector_details": None, "timestamp": shown["timestamp"],
        }  # fmt: skip
        status = await peer.ask("request_job_status", "response_job_status", job_id="job / 1?é")
        assert (status["status"], status["progress"], status["worker_id"]) == ("processing", 50, "w")
        assert isinstance(status["started_at"], float)
        assert status["completed_at"] is None
        await report(api, held, "succeed", {"result": {"x": 1}})
        done = await peer.until("complete_job")
        assert (done["job_id"], done["status"], done["result"]) == ("job / 1?é", "completed", {"x": 1})
        status = await peer.ask("request_job_status", "response_job_status", job_id="job / 1?é")
        assert (status["status"], status["progress"], status["result"]) == ("completed", 100, {"x": 1})
        assert isinstance(status["completed_at"], float)


async def test_a_job_without_an_id_gets_one(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        accepted = await submit(peer, f"Rest {api.tenant}!", timestamp=1.5)
        assert uuid.UUID(accepted["job_id"])
        held = await lease(api, f"rest-{api.tenant}")
        assert held["job"]["labels"]["emp-type"] == f"Rest {api.tenant}!"


async def test_our_own_kinds_are_kept_apart(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await submit(peer, "comfyui")
        assert (await lease(api, "emp-comfyui"))["job"]["labels"]["emp-type"] == "comfyui"


async def test_a_used_id_is_answered(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer, line(api, "/ws/client/two") as other:
        await submit(peer, api.tenant, message_id="m")
        assert (await submit(peer, api.tenant, message_id="m"))["job_id"] == "m"
        assert (await submit(other, api.tenant, message_id="m"))["job_id"] == "m"
        refused = await submit(peer, "other", message_id="m")
        assert refused["type"] == "error"
        assert refused["details"]["code"] == "idempotency_conflict"
        assert refused["message_id"] == "m"
        held = await lease(api)
        await report(api, held, "succeed", {"result": [1]})
        for one in (peer, other):
            assert (await one.until("complete_job"))["result"] == {"result": [1]}
        assert (await submit(peer, api.tenant, message_id="m"))["status"] == "completed"
        await api.caught_up()
        assert len((await api.get("/v1/jobs")).json["jobs"]) == 1


async def test_somebody_else_follows_a_job(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer, line(api, "/ws/client/two") as other:
        job_id = (await submit(peer, api.tenant))["job_id"]
        confirmed = await other.ask("subscribe_job", "subscription_confirmed", job_id=job_id)
        assert confirmed["job_id"] == job_id
        held = await lease(api)
        await report(api, held, "succeed", {"result": {"x": 1}})
        assert (await other.until("complete_job"))["job_id"] == job_id
        late = await other.ask("subscribe_job", "subscription_confirmed", job_id=job_id)
        assert late["type"] == "subscription_confirmed"


async def test_who_subscribes_late_is_sent_the_end(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        job_id = (await submit(peer, api.tenant))["job_id"]
        await report(api, await lease(api), "succeed", {"result": {"x": 1}})
        await peer.until("complete_job")
        async with line(api, "/ws/client/two") as other:
            await other.send("subscribe_job", job_id=job_id)
            assert (await other.until("complete_job"))["result"] == {"x": 1}


async def test_failures_are_shown_and_end_in_one_fail_job(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await submit(peer, api.tenant, message_id="m")
        held = await lease(api)
        assert held["job"]["max_attempts"] == 4
        await report(api, held, "fail", {"error": {"code": "x", "message": "no", "retryable": True}})
        shown = await peer.until("update_job_progress", "fail_job")
        assert (shown["type"], shown["status"], shown["message"]) == ("update_job_progress", "error", "no")
        status = await peer.ask("request_job_status", "response_job_status", job_id="m")
        assert (status["status"], status["message"]) == ("pending", "no")


async def test_force_retry_starts_a_failed_job_again(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await submit(peer, api.tenant, message_id="m")
        held = await lease(api)
        await report(api, held, "fail", {"error": {"code": "x", "message": "no", "retryable": False}})
        assert (await peer.until("fail_job"))["error"] == "no"
        again = await peer.ask("force_retry_job", "response_job_status", job_id="m")
        assert (again["status"], "cleared" in again["message"]) == ("pending", True)
        held = await lease(api)  # by the worker that failed it
        await report(api, held, "succeed", {"result": {"x": 2}})
        assert (await peer.until("complete_job"))["result"] == {"x": 2}
        refused = await peer.ask("force_retry_job", "response_job_status", job_id="m")
        assert refused["type"] == "error"


async def test_force_retry_ends_the_wait_for_the_next_attempt(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await submit(peer, api.tenant, message_id="m")
        held = await lease(api)
        nothing = await peer.ask("force_retry_job", "response_job_status", job_id="m")
        assert (nothing["status"], "no failure history" in nothing["message"]) == ("claimed", True)
        await report(api, held, "fail", {"error": {"code": "x", "message": "no"}})
        assert (await api.get(f"/v1/jobs/{held['job']['id']}")).json["state"] == "retrying"
        # No keeper runs: by itself its time would never come.
        again = await peer.ask("force_retry_job", "response_job_status", job_id="m")
        assert (again["status"], "cleared" in again["message"]) == ("pending", True)
        held = await lease(api)
        assert held["job"]["attempt"] == 2
        await report(api, held, "succeed", {"result": {"x": 2}})
        assert (await peer.until("complete_job"))["result"] == {"x": 2}


async def test_force_retry_lifts_the_ban_of_a_job_that_waits(api: Gateway) -> None:
    """While a free worker could take it, the one that failed it is not given it, until somebody says so."""
    async with api.keeper(), line(api, "/ws/client/one") as peer:
        await submit(peer, api.tenant, message_id="m")
        held = await lease(api)
        body = {"worker": "free", "kinds": [api.tenant], "slots": 2, "wait_s": 1, "lease_s": 600}
        await submit(peer, api.tenant, message_id="other")
        assert (await api.call("POST", "/v1/leases", body, token=api.token("worker"))).status == 201
        await report(api, held, "fail", {"error": {"code": "x", "message": "no"}})
        await queued(api, held["job"]["id"])
        asked = {"worker": "w", "kinds": [api.tenant], "wait_s": 2, "lease_s": 30}
        banned = await api.call("POST", "/v1/leases", asked, token=api.token("worker"))
        assert banned.status == 204, banned
        again = await peer.ask("force_retry_job", "response_job_status", job_id="m")
        assert (again["status"], "cleared" in again["message"]) == ("pending", True)
        twice = await peer.ask("force_retry_job", "response_job_status", job_id="m")
        assert (twice["status"], "no failure history" in twice["message"]) == ("pending", True)
        assert (await lease(api))["job"]["attempt"] == 2


async def test_cancel_is_answered_once(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer, line(api, "/ws/client/two") as other:
        await submit(peer, api.tenant, message_id="m")
        await other.ask("subscribe_job", "subscription_confirmed", job_id="m")
        answer = await peer.ask("cancel_job", "response_job_status", job_id="m", reason="enough")
        assert (answer["status"], answer["message"]) == ("cancelled", "Job cancelled: enough")
        assert (await other.until("response_job_status"))["status"] == "cancelled"
        refused = await peer.ask("cancel_job", "response_job_status", job_id="m")
        assert "terminal state" in refused["error"]
        await peer.ask("stay_alive", "response_job_status")
        said = [one for one in peer.seen if one["type"] == "response_job_status"]
        assert [one["job_id"] for one in said] == ["m", "keep-alive"]


async def test_a_running_job_is_cancelled_too(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await submit(peer, api.tenant, message_id="m")
        held = await lease(api)
        answer = await peer.ask("cancel_job", "response_job_status", job_id="m")
        assert answer["status"] == "cancelled"
        status = await peer.ask("request_job_status", "response_job_status", job_id="m")
        assert (status["status"], "not stopped" in status["message"]) == ("cancelled", True)
        await report(api, held, "release", {})
        async with asyncio.timeout(DEADLINE_S):
            while True:
                status = await peer.ask("request_job_status", "response_job_status", job_id="m")
                if status["completed_at"] is not None:
                    break
        assert status["status"] == "cancelled"


async def test_a_large_result_comes_in_chunks(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await submit(peer, api.tenant, message_id="m")
        held = await lease(api)

        await report(api, held, "succeed", {"result": {"text": "é" * 400_000}})
        done = await peer.until("complete_job")
        assert done["result"] == {"text": "é" * 400_000}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"payload": 1}, "payload"), ({"job_type": ""}, "job_type"), ({"job_type": "…"}, "job_type"),
        ({"job_type": "x" * 64}, "job_type"), ({"priority": "high"}, "priority"),
        ({"priority": True}, "priority"), ({"message_id": "x" * 201}, "job_id"),
        ({"message_id": "a\nb"}, "job_id"), ({"max_retries": -1}, "max_retries"),
        ({"requirements": []}, None), ({"requirements": 5}, "requirements"),
        ({"requirements": {"hardware": 5}}, "requirements.hardware"),
        ({"requirements": {"models": 5}}, "requirements.models"),
        ({"requirements": {"customer_isolation": "odd"}}, "requirements.customer_isolation"),
        ({"customer_id": 5}, "customer_id"), ({"data": 5}, "data"),
    ],
)  # fmt: skip
async def test_what_breaks_a_rule_is_named(api: Gateway, fields: dict[str, Any], named: str | None) -> None:
    async with line(api, "/ws/client/one") as peer:
        await peer.send("submit_job", **{"job_type": api.tenant, "payload": {}, **fields})
        answer = await peer.until("error", "job_accepted", "job_submitted")
        assert answer.get("details", {}).get("field") == named if named else answer["type"] != "error"


@pytest.mark.parametrize(
    ("sent", "taken"), [(0, 0), (-5, 0), (7, 7), (100, 100), (10**15, 100), ("12", 12), (2.0, 2), (None, 0)]
)
async def test_priorities_keep_their_order(api: Gateway, sent: Any, taken: int) -> None:
    async with line(api, "/ws/client/one") as peer:
        await submit(peer, api.tenant, priority=sent)
        assert (await lease(api))["job"]["priority"] == taken


async def test_a_million_keys_are_refused_or_taken_and_nothing_breaks(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        many = {f"k{number}": number for number in range(100_000)}
        await peer.send("submit_job", job_type=api.tenant, payload=many)
        assert (await peer.until("error"))["details"]["code"] == "payload_too_large"
        await peer.send("submit_job", job_type=api.tenant, payload={}, **many)
        assert (await peer.until("error", "job_accepted"))["type"] == "job_accepted"


async def test_jobs_of_another_tenant_are_not_there(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        job_id = (await submit(peer, api.tenant, message_id="mine"))["job_id"]
        real = id_for_key(api.tenant, "emp\0mine")
        async with line(api, "/ws/client/one", token=api.token(tenant=api.stranger)) as other:
            for type_ in ("request_job_status", "subscribe_job", "cancel_job", "force_retry_job"):
                for sent in (job_id, real):
                    assert "not found" in (await other.ask(type_, "nothing", job_id=sent))["error"]
            await other.ask("submit_job", "job_accepted", job_type=api.tenant, payload={}, message_id="mine")
            await peer.ask("cancel_job", "response_job_status", job_id="mine")
            status = await other.ask("request_job_status", "response_job_status", job_id="mine")
            assert status["status"] == "pending"


@pytest.mark.parametrize("sent", ["", "nothing", "a/b", 5, None, {"x": 1}, "x" * 10_000, "\x00", "..", "é"])
async def test_ids_that_name_nothing_are_errors(api: Gateway, sent: Any) -> None:
    async with line(api, "/ws/client/one") as peer:
        assert (await peer.ask("request_job_status", "response_job_status", job_id=sent))["type"] == "error"
        assert (await peer.ask("get_job_status", "job_status", job_id=sent, id=1))["type"] in (
            "error", "job_status",
        )  # fmt: skip


async def test_a_viewer_may_look_and_no_more(api: Gateway) -> None:
    async with line(api, "/ws/client/one", token=api.token("viewer")) as peer:
        refused = await submit(peer, api.tenant)
        assert refused["details"]["code"] == "forbidden"
        assert (await peer.ask("stay_alive", "response_job_status"))["status"] == "acknowledged"


async def test_a_client_that_comes_back_misses_nothing(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await submit(peer, api.tenant, message_id="m")
        held = await lease(api)
    await report(api, held, "succeed", {"result": {"x": 1}})
    async with line(api, "/ws/client/one") as peer:
        assert (await peer.until("complete_job"))["job_id"] == "m"
    async with line(api, "/ws/client/one") as peer:
        await peer.ask("stay_alive", "response_job_status")
        assert "complete_job" not in {one["type"] for one in peer.seen}


async def test_a_gateway_that_comes_back_sends_what_ended_meanwhile(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with door(shared_broker, tmp_path / "a") as api:
        async with line(api, "/ws/client/one") as peer:
            await submit(peer, api.tenant, message_id="m")
            await submit(peer, api.tenant, message_id="n")
            held = await lease(api)
        await report(api, held, "succeed", {"result": {"x": 1}})
        tenant = api.tenant
    opened = door(shared_broker, tmp_path / "a", emp_tenant=tenant)
    async with opened as api, line(api, "/ws/client/one") as peer:
        assert (await peer.until("complete_job"))["job_id"] == "m"
        await report(api, await lease(api), "succeed", {"result": {"x": 2}})
        assert (await peer.until("complete_job"))["job_id"] == "n"
        assert [one["type"] for one in peer.seen].count("complete_job") == 2


async def test_a_client_that_does_not_read_is_ended_and_holds_nobody_up(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with door(shared_broker, tmp_path, socket_buffer=50, socket_ping_s=0.5) as api:
        lines = line(api, "/ws/client/deaf"), line(api, "/ws/client/one")
        async with lines[0] as deaf, lines[1] as peer:
            payload = {"text": "x" * 200_000}
            await peer.ask("submit_job", "job_accepted", job_type=api.tenant, payload=payload, message_id="m")

            async def flood() -> None:
                while True:
                    await deaf.send("get_job_status", job_id="m")

            async with asyncio.timeout(DEADLINE_S):
                flooding = asyncio.create_task(flood())
                for _ in range(20):
                    assert (await peer.ask("stay_alive", "response_job_status"))["status"] == "acknowledged"
                await asyncio.wait([flooding])
                assert isinstance(flooding.exception(), ConnectionError)


# --- The TypeScript generation


async def test_a_typescript_client_submits_and_sees_its_job_through(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        assert (await peer.until("connected"))["client_id"] == "one"
        made = await peer.ask(
            "submit_job", "job_submitted", id=7, service_required=api.tenant, payload={"n": 1},
            requirements={"hardware": {"gpu_memory_gb": 8}}, customer_id="acme", max_retries=1,
        )  # fmt: skip
        assert made["message_id"] == 7
        job_id = made["job_id"]
        subscribed = await peer.ask("subscribe_progress", "subscribed", job_id=job_id, id=8)
        assert (subscribed["job_id"], subscribed["message_id"]) == (job_id, 8)
        held = await lease(api, api.tenant, hardware={"gpu_memory_gb": 24})
        assert (held["job"]["priority"], held["job"]["max_attempts"]) == (50, 2)
        assert (await peer.until("job_assigned"))["worker_id"] == "w"
        changed = await peer.until("job_status_changed")
        assert (changed["old_status"], changed["new_status"]) == ("pending", "assigned")
        await report(api, held, "progress", {"fraction": 0.25, "message": "a quarter"})
        assert (await peer.until("progress"))["data"]["progress"] == 25
        job = (await peer.ask("get_job_status", "job_status", job_id=job_id, id=9))["job"]
        assert (job["status"], job["customer_id"], job["payload"]) == ("in_progress", "acme", {"n": 1})
        await report(api, held, "succeed", {"result": {"success": True}})
        done = await peer.until("job_completed")
        assert (done["job_id"], done["worker_id"], done["result"]) == (job_id, "w", {"success": True})
        assert done["completed_at"].endswith("Z")


async def test_the_older_form_of_a_submission_is_read(api: Gateway) -> None:
    async with line(api, "/ws/compat") as peer:
        await peer.send("submit_job", id="q", data={"type": api.tenant, "payload": {}, "priority": 60})
        made = await peer.until("job_submitted")
        assert made["message_id"] == "q"
        assert (await lease(api))["job"]["priority"] == 60
        missing = await peer.ask("get_job_status", "job_status", job_id="nothing", id=3)
        assert (missing["job"], missing["message_id"]) == (None, 3)


async def test_a_job_that_fails_is_job_failed(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        await peer.ask("submit_job", "job_submitted", id=1, job_type=api.tenant, payload={})
        held = await lease(api)
        await report(api, held, "fail", {"error": {"code": "x", "message": "no", "retryable": False}})
        failed = await peer.until("job_failed")
        assert (failed["error"], failed["failed_at"][-1]) == ("no", "Z")


async def test_a_typescript_client_cancels(api: Gateway) -> None:
    async with line(api, "/ws/client/one") as peer:
        made = await peer.ask("submit_job", "job_submitted", id=1, job_type=api.tenant, payload={})
        gone = await peer.ask("cancel_job", "job_cancelled", id=2, job_id=made["job_id"])
        assert (gone["job_id"], gone["message_id"]) == (made["job_id"], 2)


# --- What a job demands


def VRAM(gb: Any) -> dict[str, Any]:  # noqa: N802 - a word in a table
    return {"gpu_memory_gb": gb}


def OPEN_TO(**access: Any) -> dict[str, Any]:  # noqa: N802 - likewise
    return {"customer_access": access}


@pytest.mark.parametrize(
    ("requirements", "fits", "fits_not"),
    [
        ({"hardware": {"gpu_memory_gb": 16}}, {"hardware": VRAM(16)}, {"hardware": VRAM(8)}),
        ({"hardware": VRAM("all")}, {}, None),
        ({"models": ["a", "b"]}, {"models": {"sim.v1": ["b", "a", "c"]}}, {"models": {"sim.v1": ["a"]}}),
        ({"models": "all"}, {}, None),
        ({"customer_isolation": "strict"}, OPEN_TO(isolation="strict"), OPEN_TO(isolation="loose")),
        (
            {"customer_isolation": "loose"}, OPEN_TO(allowed_customers=["acme"]),
            OPEN_TO(allowed_customers=["other"]),
        ),
        ({"customer_isolation": "none"}, {}, OPEN_TO(denied_customers=["acme"])),
        ({"location.region": "eu"}, {"location": {"region": "eu"}}, {"location": {"region": "us"}}),
        ({"compliance": ["gdpr"]}, {"compliance": ["hipaa", "gdpr"]}, {"compliance": []}),
        ({"speed": {"jobs": 2, "is": "x"}}, {"speed": {"jobs": 3, "is": "x"}}, {"speed": {"jobs": 1}}),
        ({"beta": True}, {"beta": True}, {"beta": False}),
        (
            {"positive_requirements": {"beta": True}, "negative_requirements": {"old": True}},
            {"beta": True}, {"beta": True, "old": True},
        ),
    ],
)  # fmt: skip
async def test_requirements_are_ours(
    api: Gateway, requirements: dict[str, Any], fits: dict[str, Any], fits_not: dict[str, Any] | None
) -> None:
    async with line(api, "/ws/client/one") as peer:
        await peer.ask(
            "submit_job", "job_submitted", id=1, job_type=f"{api.tenant}.v1", payload={}, customer_id="acme",
            requirements=requirements,
        )  # fmt: skip
    renamed = {"models": {f"{api.tenant}.v1": fits["models"]["sim.v1"]}} if "models" in fits else fits
    if fits_not is not None:
        body = {"worker": "no", "kinds": [f"{api.tenant}-v1"], "capabilities": fits_not}
        answer = await api.call("POST", "/v1/leases", body, token=api.token("worker"))
        assert answer.status == 204, answer
    assert await lease(api, f"{api.tenant}-v1", "yes", **renamed)


# --- REST


async def call(api: Gateway, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with api.http.request(method, api.url + path, json=body, params={"token": TOKEN}) as answer:
        return answer.status, orjson.loads(await answer.read())


async def test_rest_submits_reads_and_lists(api: Gateway) -> None:
    status, made = await call(
        api, "POST", "/api/jobs", {"job_type": api.tenant, "payload": {"n": 1}, "job_id": "a/b"}
    )
    assert (status, made["success"], made["job_id"]) == (200, True, "a/b")
    status, made = await call(api, "POST", "/api/jobs", {"service_required": api.tenant, "payload": {}})
    assert (status, made["success"]) == (201, True)
    status, job = await call(api, "GET", "/api/jobs/a%2Fb")
    assert (status, job["status"], job["payload"], job["job"]["status"]) == (
        200,
        "pending",
        {"n": 1},
        "pending",
    )
    # The read model may not know the other one yet, whose priority is higher.
    assert job["position_description"] in ("Next in queue", "1 job ahead in queue")
    await api.caught_up()
    status, page = await call(api, "GET", "/api/jobs")
    assert (status, page["total"], {job["id"] for job in page["jobs"]}) == (200, 2, {"a/b", made["job_id"]})
    status, missing = await call(api, "GET", "/api/jobs/nothing")
    assert (status, missing["success"], "not found" in missing["detail"]) == (404, False, True)
    async with api.http.get(f"{api.url}/api/jobs") as answer:
        assert answer.status == 401


async def test_rest_waits_for_the_end(api: Gateway) -> None:
    body = {"job_type": api.tenant, "payload": {}, "wait": True, "timeout": 20}
    waiting = asyncio.create_task(call(api, "POST", "/api/jobs", body))
    await report(api, await lease(api), "succeed", {"result": {"x": 1}})
    status, job = await waiting
    assert (status, job["status"], job["result"]) == (200, "completed", {"x": 1})
    status, job = await call(api, "POST", "/api/jobs", {**body, "timeout": 0.1})
    assert (status, job["status"], "Timeout" in job["error"]) == (200, "pending", True)


async def test_server_sent_events_follow_a_job_to_its_end(api: Gateway) -> None:
    _, made = await call(api, "POST", "/api/jobs", {"service_required": api.tenant, "payload": {}})
    path = f"{api.url}/api/jobs/{made['job_id']}/progress"
    async with asyncio.timeout(DEADLINE_S):
        async with api.http.get(path, params={"token": TOKEN}) as stream:
            assert stream.status == 200
            await stream.content.readuntil(b"\n\n")
            held = await lease(api)
            await report(api, held, "progress", {"fraction": 0.5})
            await report(api, held, "succeed", {"result": {"x": 1}})
            text = (await stream.read()).decode()
        types = [orjson.loads(row[6:])["type"] for row in text.splitlines() if row.startswith("data: ")]
        assert types[-1] == "job_completed"
        assert "id: ended" in text
        async with api.http.get(path, params={"token": TOKEN}) as stream:  # a late reader
            assert "job_completed" in await stream.text()
        async with api.http.get(path, params={"token": TOKEN}, headers={"Last-Event-ID": "ended"}) as stream:
            assert stream.status == 204
