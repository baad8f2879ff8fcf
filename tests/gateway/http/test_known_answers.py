"""Answers that a client has already, and answers in gzip."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import orjson
import pytest

from switchyard.events import subjects
from switchyard.services.gateway.http.edge.packing import LEAST_BYTES, takes_gzip
from tests.gateway.rest import DEADLINE_S, Answer, Gateway

pytestmark = pytest.mark.shared_gateway

KINDS = ("/v1/jobs", "/v1/dead-letters", "/v1/reviews")


async def raw(api: Gateway, path: str, method: str = "GET", **headers: str) -> Answer:
    """An answer whose body is as it was sent."""
    sent = {"Authorization": f"Bearer {api.token('viewer', 'reviewer')}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    async with asyncio.timeout(DEADLINE_S), api.http.request(
        method, api.url + path, headers=sent, auto_decompress=False, skip_auto_headers=["Accept-Encoding"]
    ) as answer:  # fmt: skip
        return Answer(answer.status, answer.headers, await answer.read())


# --- Known


async def test_a_job_that_has_not_changed_is_not_sent_again(api: Gateway) -> None:
    job = await api.submit()
    path = f"/v1/jobs/{job['id']}"
    first = await api.get(path)
    tag = first.headers["ETag"]
    assert tag.startswith(f'W/"{job["seq"]}-')
    assert first.headers["Cache-Control"] == "private, no-cache"
    for given in (tag, tag.removeprefix("W/"), f'"x", {tag}', f'W/"y",{tag} , "z"', "*"):
        again = await api.get(path, If_None_Match=given)
        assert (again.status, again.raw, again.headers["ETag"]) == (304, b"", tag)
        assert again.headers["Switchyard-Seq"] == str(job["seq"])
        assert "Content-Type" not in again.headers
    head = await api.call("HEAD", path, If_None_Match=tag)
    assert (head.status, head.headers["ETag"]) == (304, tag)
    whole = await api.call("HEAD", path)
    assert (whole.status, whole.raw, whole.headers["ETag"]) == (200, b"", tag)
    await api.call("POST", f"{path}/cancel", {})
    changed = await api.get(path, If_None_Match=tag)
    assert (changed.status, changed.json["state"]) == (200, "cancelled")
    assert changed.headers["ETag"] != tag


@pytest.mark.parametrize(
    "given", ["", "x", '"', 'W/"', '"x"', "* , *", '*, "x"', "W/*", '"' * 5000, "w/", ",,,", '"1-*"']
)
async def test_what_names_no_tag_of_ours_is_answered_whole(api: Gateway, given: str) -> None:
    job = await api.submit()
    assert (await api.get(f"/v1/jobs/{job['id']}", If_None_Match=given)).status == 200
    assert (await api.get("/v1/jobs", If_None_Match=given)).status == 200


async def test_another_tenants_job_is_not_there_whatever_is_known_of_it(api: Gateway) -> None:
    job = await api.submit()
    tag = (await api.get(f"/v1/jobs/{job['id']}")).headers["ETag"]
    stranger = api.token("viewer", tenant=api.stranger)
    for path in (f"/v1/jobs/{job['id']}", f"/v1/jobs/{job['id']}/events"):
        for given in (tag, "*"):
            assert (await api.get(path, token=stranger, If_None_Match=given)).status == 404


async def test_a_list_is_sent_again_when_anything_has_changed(api: Gateway) -> None:
    job = await api.submit()
    seq = {"Switchyard_Min_Seq": str(job["seq"])}
    first = await api.get("/v1/jobs", **seq)
    tag = first.headers["ETag"]
    assert (await api.get("/v1/jobs", If_None_Match=tag, **seq)).status == 304
    for other in ("/v1/jobs?limit=1", "/v1/jobs?state=dead"):
        assert (await api.get(other, If_None_Match=tag)).status == 200
    stranger = api.token("viewer", tenant=api.stranger)
    foreign = await api.get("/v1/jobs", token=stranger, If_None_Match=tag)
    assert (foreign.status, foreign.json["jobs"]) == (200, [])
    second = await api.submit()
    changed = await api.get("/v1/jobs", If_None_Match=tag, Switchyard_Min_Seq=str(second["seq"]))
    assert (changed.status, changed.json["jobs"][0]["id"]) == (200, second["id"])


async def test_a_wrong_parameter_is_refused_to_who_knows_the_answer(api: Gateway) -> None:
    for path in (f"{kind}?{wrong}" for kind in KINDS for wrong in ("x=1", "limit=0", "label=x")):
        answer = await api.get(path, token=api.token("reviewer"), If_None_Match="*")
        assert answer.status == 400, path


async def test_progress_is_news_of_a_job_and_of_a_list(api: Gateway) -> None:
    worker = api.token("worker")
    job = await api.submit()
    asked = {"worker": "w", "kinds": ["noop"], "wait_s": 15}
    claimed = (await api.call("POST", "/v1/leases", asked, token=worker)).json
    lease = claimed["lease"]
    await api.caught_up()
    paths = (f"/v1/jobs/{job['id']}", "/v1/jobs")

    async def tags(least: float) -> list[str]:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                answers = [await api.get(path) for path in paths]
                shown = [answers[0].json["progress"], answers[1].json["jobs"][0]["progress"]]
                if all(one and one["fraction"] >= least for one in shown):
                    return [answer.headers["ETag"] for answer in answers]
                await asyncio.sleep(0.02)

    async def report(fraction: float) -> None:
        await api.call(
            "POST", f"/v1/leases/{lease['id']}/progress", {"fraction": fraction}, token=worker,
            Switchyard_Lease_Token=lease["token"],
        )  # fmt: skip

    async with api.http.ws_connect(  # so that reports are read
        f"{api.url}/v1/ws", headers={"Authorization": f"Bearer {api.token('viewer')}"}
    ):
        await report(0.25)
        before = await tags(0.25)
        await report(0.75)
        after = await tags(0.75)
    assert all(one != other for one, other in zip(before, after, strict=True))


async def test_who_waits_is_answered_when_there_is_news(api: Gateway) -> None:
    job = await api.submit()
    path = f"/v1/jobs/{job['id']}"
    tag = (await api.get(path)).headers["ETag"]
    waiting = asyncio.create_task(api.get(f"{path}?wait=20", If_None_Match=tag))
    await api.call("POST", f"{path}/cancel", {})
    answer = await waiting
    assert (answer.status, answer.json["state"]) == (200, "cancelled")
    known = await api.get(f"{path}?wait=20", If_None_Match=answer.headers["ETag"])
    assert known.status == 304


# --- Packed


@pytest.mark.parametrize(
    "accepted",
    [
        "gzip", "GZIP", "deflate, gzip;q=1.0, *;q=0.5", "*", "x-gzip", "gzip;q=0.001", "gzip ; q = 0.5",
        "br, gzip", "gzip;q=0.5, identity;q=0.5",
    ],
)  # fmt: skip
def test_gzip_is_for_who_takes_it(accepted: str) -> None:
    assert takes_gzip(accepted)


@pytest.mark.parametrize(
    "accepted",
    [
        "", "gzip;q=0", "gzip;q=0.000", "*;q=0", "br", "identity", "gzip;q=0.5, identity", "gzip;q=2",
        "gzip;q=x", "*, gzip;q=0", "gzipp", "gzip;q=-1", "gzip;level=9", "," * 5000,
    ],
)  # fmt: skip
def test_gzip_is_for_nobody_else(accepted: str) -> None:
    assert not takes_gzip(accepted)


async def test_a_list_is_packed_for_who_takes_it(api: Gateway) -> None:
    done = await api.bulk(*({"kind": "noop", "labels": {"a": "b"}} for _ in range(200)))
    seq = str(max(line["seq"] for line in done))
    path = "/v1/jobs?limit=200"
    plain = await raw(api, path, Switchyard_Min_Seq=seq)
    packed = await raw(api, path, Accept_Encoding="gzip")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.raw) == plain.raw
    assert len(packed.raw) == int(packed.headers["Content-Length"]) < len(plain.raw) / 4
    assert len(orjson.loads(plain.raw)["jobs"]) == 200
    for answer in (plain, packed):
        assert "Accept-Encoding" in answer.headers.getall("Vary")
    assert plain.headers["ETag"] == packed.headers["ETag"]
    head = await raw(api, path, "HEAD", Accept_Encoding="gzip")
    assert (head.raw, head.headers["Content-Length"]) == (b"", packed.headers["Content-Length"])


async def test_what_is_small_a_stream_a_file_or_an_answer_to_a_post_is_not_packed(api: Gateway) -> None:
    small = await raw(api, "/healthz", Accept_Encoding="gzip")
    assert len(small.raw) < LEAST_BYTES
    body = b'{"a": "' + b"x" * 20_000 + b'"}'
    stored = await api.call("POST", "/v1/files", body, Accept_Encoding="gzip")
    file = await raw(api, f"/v1/files/{stored.json['id']}", Accept_Encoding="gzip")
    assert file.raw == body
    large: dict[str, Any] = {"kind": "noop", "labels": {f"l{n}": "x" * 200 for n in range(10)}}
    posted = await api.call("POST", "/v1/jobs", large, Accept_Encoding="gzip")
    assert len(posted.raw) > LEAST_BYTES
    for answer in (small, file, posted):
        assert "Content-Encoding" not in answer.headers
    assert subjects.NAME.fullmatch(posted.json["kind"])
