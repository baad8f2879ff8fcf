from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from switchyard.projections import database
from switchyard.services.broker.reader import read_range
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.keeper.loop import Keeper
from switchyard.services.projector.projector import rebuild
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway
from tests.projections.rows import dump
from tests.projections.test_fold import TABLES
from tests.worker.site import TestConnector

pytestmark = pytest.mark.shared_gateway

UNKNOWN = "01a206f7-c7a1-7287-aad5-27ef529fe738"


@contextlib.asynccontextmanager
async def keeping(api: Gateway) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(Keeper(api.nc, api.settings).run())
        yield
        task.cancel()


async def die(api: Gateway, code: str = "no_vram", **fields: Any) -> dict[str, Any]:
    """A job that is dead, as the API shows it."""
    job = await api.submit(**fields)
    await api.fail(await api.lease(job["id"]), code, retryable=False)
    dead: dict[str, Any] = (await api.get(f"/v1/jobs/{job['id']}")).json
    assert dead["state"] == "dead"
    return dead


async def listed(api: Gateway, query: str = "", *, seq: int, **options: Any) -> list[str]:
    answer = await api.get(f"/v1/dead-letters{query}", Switchyard_Min_Seq=str(seq), **options)
    assert answer.status == 200, answer
    return [job["id"] for job in answer.json["dead_letters"]]


async def test_dead_letters_are_listed_with_why_they_died_the_latest_first(api: Gateway) -> None:
    first = await die(api)
    second = await die(api, "bad_input")
    await api.submit()
    answer = await api.get("/v1/dead-letters", Switchyard_Min_Seq=str(second["seq"]))
    found = zip((second, first), answer.json["dead_letters"], strict=True)
    assert all(job.items() >= listed.items() for job, listed in found)
    shown = answer.json["dead_letters"][0]
    assert (shown["reason"], shown["error"]["code"], shown["failures"]) == ("not_retryable", "bad_input", 1)
    assert shown["ended_at"] > shown["created_at"]


async def test_every_filter_selects_its_own_and_pages_go_on_where_they_left_off(api: Gateway) -> None:
    red = await die(api, "bad_input", kind="paint", labels={"team": "red"})
    blue = await die(api, labels={"team": "blue"})
    plain = await die(api)
    seq = plain["seq"]
    for query, found in (
        ("?kind=paint", [red]),
        ("?reason=not_retryable", [plain, blue, red]),
        ("?reason=poison", []),
        ("?code=bad_input", [red]),
        ("?code=bad_input,no_vram&kind=noop", [plain, blue]),
        ("?label=team:red", [red]),
        ("?label=team:red&label=team:blue", []),
        (f"?ended_after={plain['ended_at']}", [plain]),
        (f"?ended_before={blue['ended_at']}", [red]),
    ):
        assert await listed(api, query, seq=seq) == [job["id"] for job in found], query
    cursor, pages = "", []
    while cursor is not None:
        page = (await api.get(f"/v1/dead-letters?limit=1{cursor}", Switchyard_Min_Seq=str(seq))).json
        pages += [job["id"] for job in page["dead_letters"]]
        cursor = page["cursor"] and f"&cursor={page['cursor']}"
    assert pages == [plain["id"], blue["id"], red["id"]]


async def test_another_tenants_dead_letters_are_an_admins_to_see(api: Gateway) -> None:
    job = await die(api)
    stranger = api.token("submitter", tenant=api.stranger)
    assert await listed(api, seq=job["seq"], token=stranger) == []
    assert (await api.get(f"/v1/dead-letters?tenant={api.tenant}", token=stranger)).status == 403
    admin = api.token("admin", tenant=api.stranger)
    assert await listed(api, f"?tenant={api.tenant}", seq=job["seq"], token=admin) == [job["id"]]
    for verb in ("redrive", "discard"):
        for path in (f"/v1/jobs/{job['id']}/{verb}", f"/v1/jobs/{UNKNOWN}/{verb}"):
            assert (await api.call("POST", path, token=stranger)).status == 404
        assert (
            await api.call("POST", f"/v1/jobs/{job['id']}/{verb}", token=api.token("viewer"))
        ).status == 403
        bulk = f"/v1/dead-letters/{verb}"
        assert (await api.call("POST", bulk, {}, token=api.token("viewer"))).status == 403
        assert (await api.call("POST", f"{bulk}?tenant=*", {}, token=stranger)).status == 403
        answer = await api.call("POST", bulk, {}, token=stranger, Switchyard_Min_Seq=str(job["seq"]))
        assert answer.json["skipped"] + answer.json["refused"] == 0
    assert (await api.get(f"/v1/jobs/{job['id']}")).json == job


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("redrive", {"filter": {"kinds": ["a"]}}, 422, "filter.kinds"),
        ("redrive", {"filter": {"kind": ["A"]}}, 422, "filter.kind[0]"),
        ("redrive", {"filter": {"reason": ["bogus"]}}, 422, "filter.reason[0]"),
        ("redrive", {"priority": 101}, 422, "priority"),
        ("redrive", {"limit": 0}, 422, "limit"),
        ("redrive", {"limit": 1001}, 422, "limit"),
        ("redrive", {"cursor": "?"}, 422, "cursor"),
        ("redrive", {"filter": {"ended_after": "2026-01-01T00:00:00"}}, 422, "filter.ended_after"),
        ("discard", {"reason": "x" * 1001}, 422, "reason"),
        ("discard", {"priority": 1}, 422, "priority"),
        ("discard", b"{", 400, None),
    ],
)
async def test_a_wrong_bulk_call_changes_nothing(
    api: Gateway, path: str, body: Any, status: int, field: str | None
) -> None:
    job = await die(api)
    answer = await api.call("POST", f"/v1/dead-letters/{path}", body, Switchyard_Min_Seq=str(job["seq"]))
    assert (answer.status, answer.json.get("field")) == (status, field), answer
    assert (await api.get(f"/v1/jobs/{job['id']}")).json == job


@pytest.mark.parametrize("query", ["?code=", "?reason=A", "?label=x", "?ended_after=then", "?state=dead"])
async def test_a_wrong_filter_is_refused(api: Gateway, query: str) -> None:
    assert (await api.get(f"/v1/dead-letters{query}")).status == 400


async def test_a_redriven_job_has_all_attempts_again_and_its_history_shows_the_new_payload(
    api: Gateway,
) -> None:
    job = await die(api, payload={"n": 1})
    body = {"payload": {"n": 2}, "priority": 90}
    answer = await api.call("POST", f"/v1/jobs/{job['id']}/redrive", body)
    assert answer.status == 200
    assert (answer.json["state"], answer.json["priority"], answer.json["failures"]) == ("queued", 90, 0)
    assert await listed(api, seq=answer.json["seq"]) == []
    events = (await api.get(f"/v1/jobs/{job['id']}/events")).json["events"]
    assert [event["type"] for event in events] == ["submitted", "leased", "dead", "queued"]
    assert events[-1]["actor"] == "user:ann"
    assert events[-1]["data"]["payload"] == {"n": 2}
    assert events[0]["data"]["job"]["payload"] == {"n": 1}
    again = await api.call("POST", f"/v1/jobs/{job['id']}/redrive", body)
    assert (again.status, again.json["code"]) == (409, "illegal_transition")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"payload": {"duration_s": "long"}}, 422, "payload.duration_s"),
        ({"payload": [1]}, 422, "payload"),
        ({"payload": {"echo": "x" * 600_000}}, 413, "payload"),
        ({"priority": 101}, 422, "priority"),
        ({"kind": "x"}, 422, "kind"),
    ],
)
async def test_an_edited_payload_is_checked_like_a_submission(
    api: Gateway, body: Any, status: int, field: str
) -> None:
    job = await die(api, kind="simulate")
    answer = await api.call("POST", f"/v1/jobs/{job['id']}/redrive", body)
    assert (answer.status, answer.json["field"]) == (status, field)
    assert (await api.get(f"/v1/jobs/{job['id']}")).json == job


async def test_a_file_that_an_edited_payload_names_must_be_there(api: Gateway) -> None:
    file = await api.call("POST", "/v1/files", b"a", Content_Type="text/html")
    job = await die(api, kind="convert", payload={"file": file.json["id"]})
    answer = await api.call("POST", f"/v1/jobs/{job['id']}/redrive", {"payload": {"file": UNKNOWN}})
    assert (answer.status, answer.json["code"]) == (422, "unknown_file")


async def test_the_worker_runs_with_the_newest_payload(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, drain_grace_s=0.2) as api:
        kind = f"k-{api.tenant}"
        job = await die(api, kind=kind, payload={"n": 1})
        await api.call("POST", f"/v1/jobs/{job['id']}/redrive", {"payload": {"n": 2}})
        ran = asyncio.Event()

        async def handler(attempt: Any) -> Any:
            ran.set()
            return attempt.payload

        connector = TestConnector(handler, kind)
        async with api.worker(connector, name=f"w-{api.tenant}"):
            done = await api.until(job["id"], "succeeded")
        assert done.event.result == {"n": 2}  # type: ignore[union-attr]
        assert connector.started == [2]


async def test_a_bulk_redrive_is_bounded_and_goes_on_from_its_cursor(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path, dead_letters_at_once=3, dead_letters_in_flight=2) as api:
        jobs = [await die(api, "bad_input" if n % 2 else "no_vram") for n in range(10)]
        wanted = [job["id"] for job in jobs if job["error"]["code"] == "bad_input"]
        body: dict[str, Any] = {"filter": {"code": ["bad_input"]}, "priority": 70}
        counts, seq = [], jobs[-1]["seq"]
        while True:
            answer = await api.call("POST", "/v1/dead-letters/redrive", body, Switchyard_Min_Seq=str(seq))
            assert answer.status == 200, answer
            counts.append((answer.json["redriven"], answer.json["skipped"], answer.json["refused"]))
            seq = int(answer.headers["Switchyard-Seq"])
            if answer.json["cursor"] is None:
                break
            body["cursor"] = answer.json["cursor"]
        assert counts == [(3, 0, 0), (2, 0, 0)]
        for job in jobs:
            now = (await api.get(f"/v1/jobs/{job['id']}")).json
            redriven = job["id"] in wanted
            assert (now["state"], now["priority"]) == (("queued", 70) if redriven else ("dead", 50))


async def test_jobs_that_somebody_else_has_redriven_meanwhile_are_skipped(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    async with gateway(shared_broker.url, tmp_path) as api:
        first, second = await die(api), await die(api)
        await api.get("/v1/dead-letters", Switchyard_Min_Seq=str(second["seq"]))
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(api.call("POST", "/v1/dead-letters/redrive", {})) for _ in range(4)]
        answers = [call.result().json for call in calls]
        assert sum(answer["redriven"] for answer in answers) == 2
        for job in (first, second):
            names = [entry.name for entry in await api.store.history(job["id"])]
            assert names == ["submitted", "leased", "dead", "queued"]


async def test_a_discarded_job_is_known_by_its_summary_and_its_key_when_its_history_is_gone(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api, keeping(api):
        body = {"kind": "noop", "labels": {"team": "red"}, "payload": {"n": 1}}
        made = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k1")
        await api.fail(await api.lease(made.json["id"]), "no_vram", retryable=False)
        path = f"/v1/jobs/{made.json['id']}"
        answer = await api.call("POST", f"{path}/discard", {"reason": "nobody needs it"})
        assert answer.status == 200
        assert (answer.json["state"], answer.json["archived_as"]) == ("archived", "dead")
        async with asyncio.timeout(DEADLINE_S):
            while len(await api.store.history(made.json["id"])) > 1:
                pass
        (event,) = (await api.get(f"{path}/events")).json["events"]
        assert (event["data"]["by"], event["data"]["reason"]) == ("user:ann", "nobody needs it")
        assert (await api.get(path)).json.items() >= answer.json.items()
        assert (answer.json["error"]["code"], answer.json["labels"]) == ("no_vram", {"team": "red"})
        again = await api.call("POST", "/v1/jobs", body, Idempotency_Key="k1")
        assert (again.status, again.json["id"], again.json["state"]) == (200, made.json["id"], "archived")
        other = await api.call("POST", "/v1/jobs", body | {"priority": 3}, Idempotency_Key="k1")
        assert (other.status, other.json["code"]) == (409, "idempotency_conflict")
        twice = await api.call("POST", f"{path}/discard", {})
        assert (twice.status, twice.json["seq"]) == (200, answer.json["seq"])


async def test_only_dead_jobs_are_discarded(api: Gateway) -> None:
    job = await api.submit()
    answer = await api.call("POST", f"/v1/jobs/{job['id']}/discard", {})
    assert (answer.status, answer.json["code"]) == (409, "illegal_transition")


async def test_a_history_that_was_archived_while_no_keeper_ran_is_purged_by_the_next(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api:
        job = await die(api)
        await api.call("POST", f"/v1/jobs/{job['id']}/discard", {})
        assert len(await api.store.history(job["id"])) == 4
        async with keeping(api), asyncio.timeout(DEADLINE_S):
            while len(await api.store.history(job["id"])) > 1:
                pass


async def test_a_read_model_rebuilt_after_a_bulk_discard_is_the_one_that_saw_it(
    broker: NatsServer, tmp_path: Path
) -> None:
    async with gateway(broker.url, tmp_path) as api, keeping(api):
        for n in range(6):
            await die(api, labels={"n": str(n)})
        alive = await api.submit()
        await api.complete(await api.lease(alive["id"]))
        seq = str(await api.store.last_seq(alive["id"]))
        body = {"filter": {"label": {}}, "reason": "old"}
        answer = await api.call("POST", "/v1/dead-letters/discard", body, Switchyard_Min_Seq=seq)
        assert (answer.json["discarded"], answer.json["cursor"]) == (6, None)
        assert await listed(api, seq=int(answer.headers["Switchyard-Seq"])) == []
        async with asyncio.timeout(DEADLINE_S):
            while len(await read_range(api.nc, "JOBS", "job.>", timeout_s=20)) > 6 + 3:
                pass
        path = database.path_in(tmp_path)
        with contextlib.closing(database.open_reader(path)) as connection:
            before = dump(connection, TABLES)
        await rebuild(api.nc, api.settings)
        with contextlib.closing(database.open_reader(path)) as connection:
            assert dump(connection, TABLES) == before
        assert len(before["jobs"]) == 7
        assert len(before["attempts"]) == 1
        when = datetime.fromisoformat(alive["created_at"]) - timedelta(days=1)
        after = when.isoformat().replace("+00:00", "Z")
        shown = (await api.get(f"/v1/jobs?state=archived&created_after={after}")).json["jobs"]
        assert {job["archived_as"] for job in shown} == {"dead"}
