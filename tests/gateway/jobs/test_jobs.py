"""Reading, waiting for and cancelling jobs."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.events.commands import Archive
from switchyard.services import event_store
from switchyard.services.ids import new_id
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway, now

pytestmark = pytest.mark.shared_gateway


async def test_job_reads_true_at_once_without_a_read_model_that_keeps_up(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, projector=False) as api:
        job = await api.submit()
        assert (await api.get(f"/v1/jobs/{job['id']}")).json.items() >= job.items()
        await api.lease(job["id"])
        read = await api.get(f"/v1/jobs/{job['id']}")
        assert (read.json["state"], read.json["worker"], read.json["attempt"]) == ("running", "w1", 1)
        assert read.headers["Switchyard-Seq"] == str(read.json["seq"])


async def test_read_model_and_log_give_the_same_job(api: Gateway) -> None:
    job = await api.submit(labels={"a": "b"}, payload={"x": 1})
    done = await api.complete(await api.lease(job["id"]), {"n": 1})
    listed = await api.get("/v1/jobs?fields=full", Switchyard_Min_Seq=str(done.seq))
    assert (await api.get(f"/v1/jobs/{job['id']}")).json.items() >= listed.json["jobs"][0].items()


async def test_job_of_another_tenant_is_not_found_anywhere(api: Gateway) -> None:
    job = await api.submit()
    stranger = api.token(tenant=api.stranger)
    paths = ("", "/events", "/result", "?at=1", "?wait=5")
    for path in paths:
        answer = await api.get(f"/v1/jobs/{job['id']}{path}", token=stranger)
        unknown = await api.get(f"/v1/jobs/{new_id()}{path}", token=stranger)
        assert answer.status == unknown.status == 404, path
        assert answer.json["code"] == unknown.json["code"] == "not_found"
    refused = await api.call("POST", f"/v1/jobs/{job['id']}/cancel", token=stranger)
    assert refused.status == 404
    assert (await api.get("/v1/jobs", token=stranger)).json["jobs"] == []
    assert (await api.get(f"/v1/jobs/{job['id']}")).json["state"] == "queued"


async def test_malformed_id_is_not_found(api: Gateway) -> None:
    for wrong in ("x", "*", "%3E", "a.b", new_id().upper(), f"{new_id()}%0A", "0" * 5000):
        assert (await api.get(f"/v1/jobs/{wrong}")).status == 404, wrong


async def test_only_an_admin_names_another_tenant(api: Gateway) -> None:
    job = await api.submit()
    admin = api.token("admin", tenant="operators")
    path = f"/v1/jobs/{job['id']}"
    assert (await api.get(path, token=admin)).status == 404
    assert (await api.get(f"{path}?tenant={api.tenant}", token=admin)).json["id"] == job["id"]
    assert (await api.get(f"{path}?tenant=*", token=admin)).json["id"] == job["id"]
    listed = await api.get(f"/v1/jobs?tenant={api.tenant}", token=admin, Switchyard_Min_Seq=str(job["seq"]))
    assert [found["id"] for found in listed.json["jobs"]] == [job["id"]]
    refused = await api.get(f"/v1/jobs?tenant={api.tenant}", token=api.token("viewer", tenant="other"))
    assert (refused.status, refused.json["code"]) == (403, "forbidden")
    assert "admin" in refused.json["detail"]
    assert (await api.get(f"/v1/jobs?tenant={api.tenant}")).status == 200


async def test_list_is_filtered(api: Gateway) -> None:
    first = await api.submit(kind="one", labels={"project": "p1", "site": "x:y"})
    second = await api.submit(kind="two", labels={"project": "p2"})
    third = await api.submit(kind="three", delay_s=3600)
    leased = await api.lease(second["id"])
    ids = {first["id"]: "first", second["id"]: "second", third["id"]: "third"}

    async def found(query: str) -> list[str]:
        answer = await api.get(f"/v1/jobs?{query}", Switchyard_Min_Seq=str(leased.seq))
        assert answer.status == 200, answer
        assert int(answer.headers["Switchyard-Seq"]) >= leased.seq
        return [ids[job["id"]] for job in answer.json["jobs"]]

    assert await found("") == ["third", "second", "first"]
    assert await found("state=queued") == ["first"]
    assert await found("state=queued,running") == ["second", "first"]
    assert await found("state=queued&state=scheduled") == ["third", "first"]
    assert await found("kind=one,two") == ["second", "first"]
    assert await found("label=project:p1") == ["first"]
    assert await found("label=project:p1&label=site:x:y") == ["first"]
    assert await found("label=project:p2&kind=one") == []
    assert await found("label=project:p1&label=project:p1") == ["first"]
    assert await found("label=project:p1&label=project:p2") == []
    assert await found(f"created_after={second['created_at']}") == ["third", "second"]
    assert await found(f"created_before={second['created_at']}") == ["first"]
    future = (now() + timedelta(hours=2)).isoformat().replace("+", "%2B")
    assert await found(f"created_after={future}") == []


async def test_jobs_are_found_by_how_their_id_begins_and_counted_by_what_a_list_selects(api: Gateway) -> None:
    made = [await api.submit(labels={"of": "many"}) for _ in range(3)]
    stranger = api.token(tenant=api.stranger)
    last = {"Switchyard_Min_Seq": str(made[-1]["seq"])}
    for job in made:
        for prefix in (job["id"], job["id"][:35]):
            found = (await api.get(f"/v1/job-ids?prefix={prefix}", **last)).json
            assert found == {"ids": [job["id"]], "total": 1, "more": False}
            hidden = (await api.get(f"/v1/job-ids?prefix={prefix}", token=stranger, **last)).json
            assert hidden == {"ids": [], "total": 0, "more": False}
    alike = (await api.get(f"/v1/job-ids?prefix={made[0]['id'][:4]}&limit=1", **last)).json
    assert (len(alike["ids"]), alike["total"]) == (1, 3)
    listed = (await api.get("/v1/job-ids?label=of:many&state=queued&limit=2", **last)).json
    assert listed == {"ids": [made[2]["id"], made[1]["id"]], "total": 3, "more": False}
    assert (await api.get("/v1/job-ids?kind=nobodys", **last)).json["total"] == 0
    for wrong in (
        "prefix=abc", "prefix=ABCD", "prefix=%25%25%25%25", f"prefix={'0' * 37}", "prefix=0000&kind=noop",
        "limit=0", "limit=101", "state=sleeping", "cursor=x", "label=x",
    ):  # fmt: skip
        refused = await api.get(f"/v1/job-ids?{wrong}")
        assert (refused.status, refused.json["field"]) == (400, wrong.partition("=")[0]), wrong


async def test_list_is_paged_without_gap_or_duplicate(api: Gateway) -> None:
    lines = await api.bulk(*({"kind": "noop"} for _ in range(25)))
    ids = {line["id"] for line in lines}
    seen: list[str] = []
    cursor = ""
    min_seq = str(lines[-1]["seq"])
    while True:
        page = (await api.get(f"/v1/jobs?limit=10{cursor}", Switchyard_Min_Seq=min_seq)).json
        seen += [job["id"] for job in page["jobs"]]
        if page["cursor"] is None:
            break
        assert len(page["jobs"]) == 10
        cursor = f"&cursor={page['cursor']}"
    assert len(seen) == 25
    assert set(seen) == ids


async def test_a_list_has_what_is_asked_for_in_the_order_that_is(api: Gateway) -> None:
    first, second, third = [await api.submit(labels={"n": str(n)}) for n in range(3)]
    done = await api.complete(await api.lease(first["id"]), {"large": "x" * 50_000})

    async def listed(query: str) -> list[dict[str, Any]]:
        answer = await api.get(f"/v1/jobs?{query}", Switchyard_Min_Seq=str(done.seq))
        found: list[dict[str, Any]] = answer.json["jobs"]
        return found

    brief = {job["id"]: job for job in await listed("")}
    full = await listed("fields=full")
    large = {"inputs", "result", "artifacts", "usage", "feedback", "review", "parts"}
    assert [job["result"] for job in full] == [None, None, {"large": "x" * 50_000}]
    for job in full:
        assert brief[job["id"]] == {name: value for name, value in job.items() if name not in large}
    assert await listed("fields=state,seq&kind=noop&fields=result&state=ended") == [
        {"id": first["id"], "state": "succeeded", "seq": done.seq, "result": {"large": "x" * 50_000}}
    ]
    for query, wanted in (
        ("state=waiting", [third, second]),
        ("state=active", []),
        ("state=active,succeeded", [first]),
        ("sort=created_at", [first, second, third]),
        ("sort=-updated_at", [first, third, second]),
        ("sort=updated_at&state=waiting", [second, third]),
        ("sort=updated_at&label=n:0", [first]),
        (f"updated_after={full[2]['updated_at']}", [first]),
        (f"sort=updated_at&updated_after={third['created_at']}", [third, first]),
        (f"sort=-updated_at&created_before={third['created_at']}", [first, second]),
    ):
        assert [job["id"] for job in await listed(query)] == [job["id"] for job in wanted], query
    assert await listed("fields=id&limit=1") == [{"id": third["id"]}]


async def test_a_job_shows_what_was_asked_for_and_leads_to_what_belongs_to_it(api: Gateway) -> None:
    parent = await api.submit()
    asked = {
        "payload": {"x": [1, {"y": "z"}]}, "requires": {"gpu": {"$gte": 2}}, "prefers": {"warm": True},
        "isolation": "strict", "attempt_timeout_s": 7.5, "queue_timeout_s": 3600.0, "erasable": False,
        "labels": {"batch": "b 1", "schedule": "mine"},
    }  # fmt: skip
    job = await api.submit(**asked, depends_on=[parent["id"]])
    path = f"/v1/jobs/{job['id']}"
    shown = (await api.get(path, Switchyard_Min_Seq=str(job["seq"]))).json
    wanted = {**asked, "requires": {"gpu": {"$gte": 2}}}
    assert {name: shown[name] for name in wanted if name != "prefers"} == {
        name: value for name, value in wanted.items() if name != "prefers"
    }
    assert shown["prefers"]
    links = shown["links"]
    assert (links["self"], links["parents"]) == (path, [f"/v1/jobs/{parent['id']}"])
    assert "schedule" not in links
    await api.get("/v1/jobs", Switchyard_Min_Seq=str(job["seq"]))
    assert (await api.get(links["parents"][0])).json["links"]["children"] == [path]
    for name in ("self", "events", "explain", "logs", "batch"):
        assert (await api.get(links[name])).status == 200, name
    found = (await api.get(links["batch"])).json["jobs"]
    assert [one["id"] for one in found] == [job["id"]]
    admin = api.token("admin", tenant=api.stranger)
    theirs = (await api.get(f"{path}?tenant={api.tenant}", token=admin)).json["links"]
    for name in ("self", "events", "explain", "logs", "batch"):
        assert (await api.get(theirs[name], token=admin)).status == 200, theirs[name]

    erasable = await api.submit(payload={"secret": "s"}, erasable=True)
    shown = (await api.get(f"/v1/jobs/{erasable['id']}")).json
    assert (shown["payload"], shown["erasable"]) == (None, True)
    assert (await api.get(shown["links"]["payload"])).json == {"secret": "s"}
    for path in (f"/v1/jobs/{erasable['id']}/cancel", f"/v1/jobs/{erasable['id']}?erase=true"):
        assert (await api.call("DELETE" if "erase" in path else "POST", path)).status == 200
    gone = (await api.get(f"/v1/jobs/{erasable['id']}")).json
    assert (gone["payload"], gone["requires"], gone["state"]) == (None, None, "archived")
    assert "payload" not in gone["links"]
    assert (await api.get(shown["links"]["payload"])).status == 404


async def test_wrong_parameter_is_named(api: Gateway) -> None:
    job = await api.submit()
    path = f"/v1/jobs/{job['id']}"
    cases = [
        ("/v1/jobs?colour=red", "colour", "unknown_parameter"),
        ("/v1/jobs?state=sleeping", "state", "invalid_parameter"),
        ("/v1/jobs?kind=Big", "kind", "invalid_parameter"),
        ("/v1/jobs?label=project", "label", "invalid_parameter"),
        ("/v1/jobs?cursor=x", "cursor", "invalid_parameter"),
        ("/v1/jobs?sort=updated_at&cursor=WzEsImEiXQ", "cursor", "invalid_parameter"),
        ("/v1/jobs?cursor=WyJ1cGRhdGVkX2F0IiwxLCJhIl0", "cursor", "invalid_parameter"),
        ("/v1/jobs?sort=updated_at&cursor=WyJjcmVhdGVkX2F0IiwxLCJhIl0", "cursor", "invalid_parameter"),
        ("/v1/jobs?sort=age", "sort", "invalid_parameter"),
        ("/v1/jobs?fields=id,payload", "fields", "invalid_parameter"),
        ("/v1/jobs?fields=full,id", "fields", "invalid_parameter"),
        ("/v1/jobs?updated_after=now", "updated_after", "invalid_parameter"),
        (f"{path}/logs?after=3", "after", "invalid_parameter"),
        (f"{path}/logs?tail=0", "tail", "invalid_parameter"),
        (f"{path}/logs?tail=3&after=a:1", "tail", "invalid_parameter"),
        (f"{path}/logs?attempt=x", "attempt", "invalid_parameter"),
        (f"{path}/logs?follow=1", "follow", "invalid_parameter"),
        ("/v1/dead-letters?cursor=x", "cursor", "invalid_parameter"),
        ("/v1/dead-letters?reason=bogus", "reason", "invalid_parameter"),
        ("/v1/files?cursor=x", "cursor", "invalid_parameter"),
        ("/v1/ws?token=x", "token", "unknown_parameter"),
        ("/v1/jobs?limit=0", "limit", "invalid_parameter"),
        ("/v1/jobs?limit=501", "limit", "invalid_parameter"),
        ("/v1/jobs?limit=5&limit=6", "limit", "invalid_parameter"),
        ("/v1/jobs?limit=\u0665", "limit", "invalid_parameter"),
        ("/v1/jobs?created_after=yesterday", "created_after", "invalid_parameter"),
        ("/v1/jobs?created_after=2026-01-01T00:00:00", "created_after", "invalid_parameter"),
        (f"{path}?at=yesterday", "at", "invalid_parameter"),
        (f"{path}?at=3&wait=1", "wait", "invalid_parameter"),
        (f"{path}?Wait=1", "Wait", "unknown_parameter"),
        (f"{path}/events?after=-1", "after", "invalid_parameter"),
        (f"{path}/result?format=xml", "format", "unknown_parameter"),
        ("/v1/queues?lane=x", "lane", "unknown_parameter"),
        ("/v1/workers?all=1", "all", "unknown_parameter"),
    ]
    for path, field, code in cases:
        answer = await api.get(path)
        assert (answer.status, answer.json["field"], answer.json["code"]) == (400, field, code), path
        assert field in answer.json["detail"]
    cursor = await api.get("/v1/jobs?cursor=xyz")
    assert (cursor.status, cursor.json["field"]) == (400, "cursor")
    minimum = await api.get("/v1/jobs", Switchyard_Min_Seq="soon")
    assert (minimum.status, minimum.json["field"]) == (400, "Switchyard-Min-Seq")


async def test_list_waits_for_the_sequence_that_the_client_has_seen(api: Gateway) -> None:
    for _ in range(20):
        job = await api.submit()
        listed = await api.get("/v1/jobs?limit=1", Switchyard_Min_Seq=str(job["seq"]))
        assert listed.json["jobs"][0]["id"] == job["id"]


async def test_sequence_that_is_not_reached_is_answered_with_retry_after(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, projector=False, min_seq_wait_s=0.05) as api:
        job = await api.submit()
        answer = await api.get("/v1/jobs", Switchyard_Min_Seq=str(job["seq"]))
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) >= 1
        assert (await api.get("/v1/jobs")).status == 200


async def test_sequence_that_no_event_has_is_refused(api: Gateway) -> None:
    seq = (await api.submit())["seq"]
    for ahead in (seq + 10**9, 10**18 - 1):
        answer = await api.get("/v1/jobs", Switchyard_Min_Seq=str(ahead))
        assert (answer.status, answer.json["field"]) == (400, "Switchyard-Min-Seq")
        assert (answer.json["code"], "Retry-After" in answer.headers) == ("invalid_parameter", False)


async def test_get_waits_for_the_end(api: Gateway) -> None:
    job = await api.submit()
    waiting = [asyncio.create_task(api.get(f"/v1/jobs/{job['id']}?wait=15")) for _ in range(3)]
    await api.complete(await api.lease(job["id"]), "done")
    for answer in await asyncio.gather(*waiting):
        assert (answer.json["state"], answer.json["result"]) == ("succeeded", "done")
    at_once = await api.get(f"/v1/jobs/{job['id']}?wait=15")
    assert at_once.json["state"] == "succeeded"


async def test_get_that_waited_in_vain_answers_the_job(api: Gateway) -> None:
    job = await api.submit()
    assert (await api.get(f"/v1/jobs/{job['id']}?wait=0.05")).json.items() >= job.items()


async def test_job_is_answered_as_it_was(api: Gateway) -> None:
    job = await api.submit()
    leased = await api.lease(job["id"])
    between = now()
    done = await api.complete(leased, "done")
    path = f"/v1/jobs/{job['id']}"

    async def state(at: object) -> str:
        answer = await api.get(f"{path}?at={at}")
        return str(answer.json["state"] if answer.status == 200 else answer.status)

    assert await state(job["seq"]) == "queued"
    assert await state(leased.seq) == "running"
    assert await state(done.seq) == await state(done.seq + 5) == "succeeded"
    assert await state(job["seq"] - 1) == "404"
    assert await state(between.isoformat().replace("+00:00", "Z")) == "running"
    assert await state("2020-01-01T00:00:00Z") == "404"
    assert await state("9999-12-31T23:59:59Z") == "succeeded"
    earlier = await api.get(f"{path}?at={leased.seq}")
    assert earlier.headers["Switchyard-Seq"] == str(leased.seq)
    assert earlier.json["result"] is None


async def test_large_events_are_fewer_on_a_page_and_none_is_left_out(
    api: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await api.submit(payload={"x": "a" * 5000})
    done = await api.complete(await api.lease(job["id"]), ["b" * 5000])
    path = f"/v1/jobs/{job['id']}"
    every = (await api.get(f"{path}/events")).json["events"]
    for most_bytes in (1, 4000, 6000):
        monkeypatch.setattr(event_store, "FEW_BYTES", most_bytes)
        found: list[Any] = []
        after: int | None = 0
        while after is not None:
            page = (await api.get(f"{path}/events?after={after}")).json
            found, after = found + page["events"], page["after"]
            assert after is None or page["events"], page
        assert found == every
        whole = await api.get(f"{path}?at={done.seq}")
        assert (whole.json["state"], whole.json["result"]) == ("succeeded", ["b" * 5000])
        assert (await api.get(f"{path}?at={every[1]['seq']}")).json["state"] == "running"


async def test_events_are_paged_oldest_first(api: Gateway) -> None:
    job = await api.submit(payload={"x": 1})
    await api.complete(await api.lease(job["id"]), {"n": 1})
    path = f"/v1/jobs/{job['id']}/events"
    every = (await api.get(path)).json
    assert [event["type"] for event in every["events"]] == ["submitted", "leased", "succeeded"]
    assert every["after"] is None
    assert set(every["events"][0]) == {"seq", "type", "at", "job_id", "actor", "data"}
    assert every["events"][0]["data"]["job"]["payload"] == {"x": 1}
    assert [event["actor"] for event in every["events"]] == ["user:ann", "worker:w1", "worker:w1"]
    first = (await api.get(f"{path}?limit=2")).json
    assert first["events"] == every["events"][:2]
    rest = (await api.get(f"{path}?limit=2&after={first['after']}")).json
    assert (rest["events"], rest["after"]) == (every["events"][2:], None)
    beyond = (await api.get(f"{path}?after={every['events'][2]['seq']}")).json
    assert beyond == {"events": [], "after": None}


async def test_result_is_the_bare_value(api: Gateway) -> None:
    job = await api.submit()
    path = f"/v1/jobs/{job['id']}/result"
    early = await api.get(path)
    assert (early.status, early.json["code"]) == (409, "not_finished")
    assert early.headers["Retry-After"] == "1"
    await api.complete(await api.lease(job["id"]), {"text": "# Title"})
    answer = await api.get(path)
    assert (answer.status, answer.json) == (200, {"text": "# Title"})


async def test_large_result_is_where_its_artifact_is(api: Gateway) -> None:
    job = await api.submit()
    artifact = {"file": "f-1", "name": "result.json", "type": "application/json", "size_bytes": 1}
    await api.complete(await api.lease(job["id"]), None, artifacts=(artifact,))
    answer = await api.get(f"/v1/jobs/{job['id']}/result")
    assert (answer.status, answer.headers["Location"]) == (303, "/v1/files/f-1")


async def test_job_without_a_result_says_why(api: Gateway) -> None:
    dead = await api.submit()
    await api.fail(await api.lease(dead["id"]), "bad_input", retryable=False)
    answer = await api.get(f"/v1/jobs/{dead['id']}/result")
    assert (answer.status, answer.json["code"]) == (409, "no_result")
    assert "bad_input" in answer.json["detail"]
    job = (await api.get(f"/v1/jobs/{dead['id']}")).json
    assert job["error"] == {"code": "bad_input", "message": "it broke", "retryable": False}


async def test_archived_job_is_known_and_its_result_is_gone(api: Gateway) -> None:
    answer = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k")
    job = await api.complete(await api.lease(answer.json["id"]), "done")
    await api.store.transition(job, Archive(now=now()), actor="keeper")
    assert (await api.get(f"/v1/jobs/{job.id}")).json["state"] == "archived"
    assert (await api.get(f"/v1/jobs/{job.id}/result")).status == 410
    again = await api.call("POST", "/v1/jobs", {"kind": "noop"}, Idempotency_Key="k")
    assert (again.status, again.json["id"]) == (200, job.id)


async def test_waiting_job_is_cancelled_at_once(api: Gateway) -> None:
    job = await api.submit()
    path = f"/v1/jobs/{job['id']}/cancel"
    answer = await api.call("POST", path, {"reason": "no longer needed"})
    assert (answer.status, answer.json["state"]) == (200, "cancelled")
    again = await api.call("POST", path)
    assert (again.status, again.json["seq"]) == (200, answer.json["seq"])
    last = await api.store.last(job["id"])
    assert last is not None
    assert (last.name, last.event.reason, last.actor) == ("cancelled", "no longer needed", "user:ann")  # type: ignore[union-attr]


async def test_running_job_is_asked_to_stop(api: Gateway) -> None:
    job = await api.submit()
    await api.lease(job["id"])
    answer = await api.call("POST", f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status, answer.json["state"]) == (202, "cancelling")
    assert answer.headers["Switchyard-Seq"] == str(answer.json["seq"])


async def test_ended_job_cannot_be_cancelled(api: Gateway) -> None:
    job = await api.submit()
    await api.complete(await api.lease(job["id"]))
    answer = await api.call("POST", f"/v1/jobs/{job['id']}/cancel", {})
    assert (answer.status, answer.json["code"]) == (409, "illegal_transition")
    assert answer.json["allowed"] == ["archive"]


async def test_bad_cancel_is_refused(api: Gateway) -> None:
    job = await api.submit()
    path = f"/v1/jobs/{job['id']}/cancel"
    for body, status, field in [
        (b"{", 400, None),
        ({"why": "x"}, 422, "why"),
        ({"reason": 5}, 422, "reason"),
        ({"reason": "x" * 1001}, 422, "reason"),
    ]:
        answer = await api.call("POST", path, body)
        assert (answer.status, answer.json.get("field")) == (status, field)
    viewer = await api.call("POST", path, token=api.token("viewer"))
    assert (viewer.status, viewer.json["code"]) == (403, "forbidden")
    assert (await api.get(f"/v1/jobs/{job['id']}")).json["state"] == "queued"


async def test_cancel_and_completion_race_to_one_end(api: Gateway) -> None:
    for _ in range(10):
        job = await api.submit()
        leased = await api.lease(job["id"])
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(
                api.call("POST", f"/v1/jobs/{job['id']}/cancel"), api.complete(leased, "done")
            )
        assert (await api.get(f"/v1/jobs/{job['id']}")).json["state"] == "succeeded"
