"""The routes of schedules, without a keeper: nothing here fires."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.broker.shared import SharedBroker
from tests.gateway.rest import Answer, Gateway, gateway

pytestmark = pytest.mark.shared_gateway

JOB = {"kind": "noop"}


async def make(api: Gateway, **fields: Any) -> dict[str, Any]:
    answer = await api.call("POST", "/v1/schedules", {"cron": "0 12 * * *", "job": JOB} | fields)
    assert answer.status == 201, answer
    made: dict[str, Any] = answer.json
    return made


async def act(api: Gateway, name: str, action: str, **options: Any) -> Answer:
    return await api.call("POST", f"/v1/schedules/{name}/{action}", **options)


async def test_a_schedule_reads_as_it_was_made(api: Gateway) -> None:
    answer = await api.call(
        "POST", "/v1/schedules",
        {
            "name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "missed": "last",
            "overlap": "cancel_previous", "end_at": "2035-01-01T01:00:00+01:00",
            "job": {"kind": "noop", "payload": {"n": 1}, "labels": {"project": "p1"}, "priority": 7},
        },
    )  # fmt: skip
    assert (answer.status, answer.headers["Location"]) == (201, "/v1/schedules/nightly"), answer
    made = answer.json
    assert (await api.get("/v1/schedules/nightly")).json == made
    assert (made["id"], made["name"], made["state"], made["tenant"]) == (
        "nightly",
        "nightly",
        "active",
        api.tenant,
    )
    assert made["job"] == {
        "kind": "noop",
        "payload": {"n": 1},
        "labels": {"project": "p1"},
        "priority": 7,
    }
    assert (made["timezone"], made["end_at"]) == ("Europe/Berlin", "2035-01-01T00:00:00Z")
    assert (made["missed"], made["overlap"]) == ("last", "cancel_previous")
    assert (made["last_run"], made["runs"]) == (None, 0)
    times = [datetime.fromisoformat(text) for text in made["next_runs"]]
    assert len(times) == 5
    assert times == sorted(times)
    assert times[0] > datetime.now(UTC)


async def test_a_schedule_without_a_name_gets_an_id(api: Gateway) -> None:
    made = await make(api)
    assert (await api.get(f"/v1/schedules/{made['id']}")).json["id"] == made["id"]


async def test_a_name_is_taken_once(api: Gateway) -> None:
    await make(api, name="once")
    again = await api.call("POST", "/v1/schedules", {"name": "once", "cron": "@daily", "job": JOB})
    assert (again.status, again.json["code"]) == (409, "schedule_exists")
    stranger = api.token(tenant=api.stranger)
    theirs = await api.call(
        "POST", "/v1/schedules", {"name": "once", "cron": "@daily", "job": JOB}, token=stranger
    )
    assert theirs.status == 201


async def test_a_job_is_made_by_hand_once_and_moves_no_tick(api: Gateway) -> None:
    made = await make(api, name="byhand", job={"kind": "noop", "payload": {"n": 1}, "priority": 9})
    assert (await act(api, "byhand", "pause")).status == 200
    keyed = [await act(api, "byhand", "run", Idempotency_Key="k") for _ in range(2)]
    plain = await act(api, "byhand", "run")
    assert [answer.status for answer in (*keyed, plain)] == [201, 200, 201]
    job = keyed[0].json
    assert (keyed[1].json["id"] == job["id"], plain.json["id"] == job["id"]) == (True, False)
    assert (job["priority"], job["labels"]["schedule"]) == (9, "byhand")
    shown = (await api.get("/v1/schedules/byhand")).json
    assert (shown["runs"], shown["last_run"], shown["runs_by_hand"]) == (0, None, 2)
    assert (shown["last_by_hand"]["job_id"], shown["last_by_hand"]["by"]) == (plain.json["id"], "user:ann")
    assert (shown["cron"], shown["state"], made["state"]) == (made["cron"], "paused", "active")
    links = (await api.get(f"/v1/jobs/{job['id']}")).json["links"]
    assert links["schedule"] == "/v1/schedules/byhand"
    events = (await api.get(f"/v1/jobs/{job['id']}/events")).json["events"]
    assert events[0]["actor"] == "user:ann"
    viewer = await act(api, "byhand", "run", token=api.token("viewer"))
    assert (viewer.status, (await act(api, "none", "run")).status) == (403, 404)
    # Another job under the same key is another request.
    other = {"cron": "@daily", "job": {"kind": "noop", "payload": {"n": 2}}}
    assert (await api.call("PUT", "/v1/schedules/byhand", other)).status == 200
    again = await act(api, "byhand", "run", Idempotency_Key="k")
    assert (again.status, again.json["code"]) == (409, "idempotency_conflict")


async def test_put_makes_and_replaces(api: Gateway) -> None:
    body = {"every_s": 60, "job": JOB}
    first = await api.call("PUT", "/v1/schedules/p", body)
    assert (first.status, first.json["every_s"]) == (201, 60)
    await act(api, "p", "pause")
    second = await api.call("PUT", "/v1/schedules/p", {"name": "p", "cron": "@daily", "job": {"kind": "two"}})
    assert (second.status, second.json["every_s"], second.json["cron"]) == (200, None, "@daily")
    assert second.json["state"] == "paused"  # which replacing does not change
    assert second.json["job"] == {"kind": "two"}
    assert second.json["created_at"] == first.json["created_at"]
    other = await api.call("PUT", "/v1/schedules/p", {"name": "q", **body})
    assert (other.status, other.json["field"]) == (422, "name")
    assert (await api.call("PUT", "/v1/schedules/Bad", body)).status == 422


async def test_pause_and_resume_say_so_and_may_be_repeated(api: Gateway) -> None:
    await make(api, name="p")
    for _ in range(2):
        paused = await act(api, "p", "pause")
        assert (paused.status, paused.json["state"], paused.json["next_runs"]) == (200, "paused", [])
    assert (await api.get("/v1/schedules/p/next")).json == {"next_runs": []}
    for _ in range(2):
        resumed = await act(api, "p", "resume")
        assert (resumed.status, resumed.json["state"], len(resumed.json["next_runs"])) == (200, "active", 5)


async def test_next_runs_are_as_many_as_asked_for(api: Gateway) -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    await make(api, name="n", cron=None, every_s=90, start_at=start.isoformat())
    found = (await api.get("/v1/schedules/n/next?count=3")).json["next_runs"]
    assert found == ["2030-01-01T00:00:00Z", "2030-01-01T00:01:30Z", "2030-01-01T00:03:00Z"]
    for count in ("0", "101", "x"):
        refused = await api.get(f"/v1/schedules/n/next?count={count}")
        assert (refused.status, refused.json["field"]) == (400, "count")


async def test_a_preview_shows_both_changes_of_the_clock_and_keeps_nothing(api: Gateway) -> None:
    body = {"cron": "30 2 * * *", "timezone": "Europe/Berlin", "start_at": "2030-03-30T00:00:00Z"}
    spring = await api.call("POST", "/v1/schedules/preview?count=3", body)
    assert (spring.status, spring.json) == (
        200,
        {"next_runs": ["2030-03-30T01:30:00Z", "2030-03-31T01:00:00Z", "2030-04-01T00:30:00Z"]},
    )
    autumn = body | {"start_at": "2030-10-26T00:00:00Z", "job": JOB, "name": "x"}
    found = (await api.call("POST", "/v1/schedules/preview?count=3", autumn)).json["next_runs"]
    assert found == ["2030-10-26T00:30:00Z", "2030-10-27T00:30:00Z", "2030-10-28T01:30:00Z"]
    assert (await api.get("/v1/schedules")).json == {"schedules": [], "cursor": None}


async def test_a_schedule_may_be_called_preview(api: Gateway) -> None:
    await make(api, name="preview")
    assert (await api.get("/v1/schedules/preview")).json["id"] == "preview"


async def test_a_deleted_schedule_is_gone_and_its_name_free(api: Gateway) -> None:
    await make(api, name="d")
    assert (await api.call("DELETE", "/v1/schedules/d")).status == 204
    assert (await api.get("/v1/schedules/d")).status == 404
    assert (await api.call("DELETE", "/v1/schedules/d")).status == 404
    assert (await api.get("/v1/schedules")).json["schedules"] == []
    await make(api, name="d")
    assert [each["id"] for each in (await api.get("/v1/schedules")).json["schedules"]] == ["d"]


async def test_the_list_is_paged_by_name_and_shows_no_payload(api: Gateway) -> None:
    names = [f"s{number}" for number in range(7)]
    for name in reversed(names):
        await make(api, name=name)
    await api.call("DELETE", "/v1/schedules/s3")
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await api.get(f"/v1/schedules?limit=2{cursor}")).json
        seen += [each["id"] for each in page["schedules"]]
        assert all(each["kind"] == "noop" and "job" not in each for each in page["schedules"])
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert seen == [name for name in names if name != "s3"]


async def test_a_schedule_of_another_tenant_is_not_found_anywhere(api: Gateway) -> None:
    await make(api, name="mine")
    stranger = api.token(tenant=api.stranger)
    for method, path in (
        ("GET", ""), ("GET", "/next"), ("POST", "/pause"), ("POST", "/resume"), ("DELETE", ""),
    ):  # fmt: skip
        theirs = await api.call(method, f"/v1/schedules/mine{path}", token=stranger)
        unknown = await api.call(method, f"/v1/schedules/none{path}", token=stranger)
        assert theirs.status == unknown.status == 404, (method, path)
        assert theirs.json["code"] == unknown.json["code"] == "not_found"
    assert (await api.get("/v1/schedules", token=stranger)).json["schedules"] == []
    assert (await api.get("/v1/schedules/mine")).json["state"] == "active"
    admin = api.token("admin", tenant="operators")
    assert (await api.get(f"/v1/schedules/mine?tenant={api.tenant}", token=admin)).status == 200
    for tenant in ("*", "%3E", "a.b"):
        refused = await api.get(f"/v1/schedules?tenant={tenant}", token=admin)
        assert (refused.status, refused.json["field"]) == (400, "tenant")
    for name in ("*", "%3E", "a.b", "X", "a" * 5000):
        assert (await api.get(f"/v1/schedules/{name}")).status == 404


async def test_a_viewer_reads_and_previews_and_changes_nothing(api: Gateway) -> None:
    await make(api, name="v")
    viewer = api.token("viewer")
    for path in ("", "/v", "/v/next"):
        assert (await api.get(f"/v1/schedules{path}", token=viewer)).status == 200
    preview = {"cron": "@daily"}
    assert (await api.call("POST", "/v1/schedules/preview", preview, token=viewer)).status == 200
    body = {"cron": "@daily", "job": JOB}
    for method, path, sent in (
        ("POST", "", body), ("PUT", "/v", body), ("DELETE", "/v", None),
        ("POST", "/v/pause", None), ("POST", "/v/resume", None),
    ):  # fmt: skip
        refused = await api.call(method, f"/v1/schedules{path}", sent, token=viewer)
        assert (refused.status, refused.json["code"]) == (403, "forbidden"), (method, path)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"cron": None}, "cron"),
        ({"every_s": 5}, "cron"),
        ({"cron": None, "every_s": 0.5}, "every_s"),
        ({"cron": None, "every_s": 1e12}, "every_s"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": "/etc/localtime"}, "timezone"),
        ({"start_at": "2030-01-01T00:00:00"}, "start_at"),
        ({"start_at": "9999-12-31T23:59:59Z"}, "start_at"),
        ({"end_at": "0001-01-01T00:00:00+10:00"}, "end_at"),
        ({"start_at": "2030-01-02T00:00:00Z", "end_at": "2030-01-01T00:00:00Z"}, "end_at"),
        ({"missed": "maybe"}, "missed"),
        ({"overlap": "forbid"}, "overlap"),
        ({"name": "Big"}, "name"),
        ({"name": "x" * 64}, "name"),
        ({"colour": "red"}, "colour"),
        ({"job": None}, "job"),
        ({"job": []}, "job"),
        ({"job": {}}, "job.kind"),
        ({"job": {"kind": "Big"}}, "job.kind"),
        ({"job": {"kind": "noop", "priority": 101}}, "job.priority"),
        ({"job": {"kind": "noop", "colour": "red"}}, "job.colour"),
        ({"job": {"kind": "noop", "run_at": "2030-01-01T00:00:00Z"}}, "job.run_at"),
        ({"job": {"kind": "noop", "start_at": "2030-01-01T00:00:00Z"}}, "job.start_at"),
        ({"job": {"kind": "noop", "deadline_at": "2030-01-01T00:00:00Z"}}, "job.deadline_at"),
        ({"job": {"kind": "noop", "labels": {"schedule": "x"}}}, "job.labels.schedule"),
        ({"job": {"kind": "noop", "labels": {"BIG": "x"}}}, "job.labels.BIG"),
        ({"job": {"kind": "noop", "labels": 5}}, "job.labels"),
        ({"job": {"kind": "noop", "labels": {f"l{n}": "" for n in range(31)}}}, "job.labels"),
        ({"job": {"kind": "simulate", "payload": {"duration_s": "x"}}}, "job.payload.duration_s"),
        ({"job": {"kind": "convert", "payload": {"file": "0" * 36}}}, "job.payload.file"),
    ],
)
async def test_bad_input_names_its_field(api: Gateway, fields: dict[str, Any], field: str) -> None:
    body = {"cron": "@daily", "job": JOB} | fields
    for method, path in (("POST", "/v1/schedules"), ("PUT", "/v1/schedules/bad")):
        refused = await api.call(method, path, body)
        assert (refused.status, refused.json["field"]) == (422, field), refused
        assert refused.json["detail"].startswith((field, "the body")), refused
    assert (await api.get("/v1/schedules")).json["schedules"] == []


async def test_what_is_no_json_is_refused(api: Gateway) -> None:
    for body in (b"", b"{", b"\xff", b"[" * 3000, b'{"job": ' + b"[" * 3000):
        refused = await api.call("POST", "/v1/schedules", body)
        assert refused.status in (400, 422), refused


async def test_what_is_too_large_is_refused(api: Gateway) -> None:
    large = {"cron": "@daily", "job": {"kind": "noop", "payload": {"x": "x" * api.settings.payload_bytes}}}
    refused = await api.call("POST", "/v1/schedules", large)
    assert (refused.status, refused.json["field"]) == (413, "job.payload")
    body = b'{"cron": "@daily"' + b" " * api.settings.body_bytes + b"}"
    assert (await api.call("POST", "/v1/schedules", body)).status == 413


async def test_limits_of_a_tenant_hold(shared_broker: SharedBroker, tmp_path: Path) -> None:
    limits: dict[str, Any] = {"schedules": 2, "schedule_interval_s": 120.0, "schedule_next": 7}
    async with gateway(shared_broker.url, tmp_path, **limits) as api:
        fast = await api.call("POST", "/v1/schedules", {"every_s": 119, "job": JOB})
        assert (fast.status, fast.json["code"], fast.json["field"]) == (422, "too_often", "every_s")
        fast = await api.call("POST", "/v1/schedules/preview", {"cron": "* * * * *"})
        assert (fast.status, fast.json["field"]) == (422, "cron")
        for name in ("a", "b"):
            await make(api, name=name)
        full = await api.call("PUT", "/v1/schedules/c", {"cron": "@daily", "job": JOB})
        assert (full.status, full.json["code"]) == (422, "too_many_schedules")
        replaced = await api.call("PUT", "/v1/schedules/a", {"cron": "@daily", "job": JOB})
        assert replaced.status == 200
        await api.call("DELETE", "/v1/schedules/a")
        await make(api, name="c")
        assert (await api.get("/v1/schedules/c/next?count=8")).status == 400


async def test_a_schedule_whose_end_is_over_has_ended(api: Gateway) -> None:
    start = datetime.now(UTC) - timedelta(hours=3)
    made = await make(
        api, cron=None, every_s=3600, start_at=start.isoformat(),
        end_at=(start + timedelta(minutes=1)).isoformat(),
    )  # fmt: skip
    assert made["next_runs"] == []
    state = (await act(api, made["id"], "pause")).json["state"]
    assert state == "paused"
    assert (await act(api, made["id"], "resume")).json["state"] == "ended"
