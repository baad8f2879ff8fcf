"""Many jobs in one request: answers in order, errors per line, and what a broken-off submission leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import orjson

from switchyard.services.broker.server.server import NatsServer
from tests.broker.shared import SharedBroker
from tests.gateway.rest import DEADLINE_S, Gateway, gateway

NDJSON = "application/x-ndjson"


async def jobs_of(api: Gateway) -> int:
    """How many jobs of the tenant the log holds, by the read model once it has read all of it."""
    marker = await api.submit(kind="marker")
    admin = api.token("admin")
    count = 0
    answer = await api.get("/v1/jobs?kind=noop&limit=500", token=admin, Switchyard_Min_Seq=str(marker["seq"]))
    while True:
        count += len(answer.json["jobs"])
        if answer.json["cursor"] is None:
            return count
        answer = await api.get(f"/v1/jobs?kind=noop&limit=500&cursor={answer.json['cursor']}", token=admin)


class Raw:
    """A client that sends and reads bit by bit, and breaks off when it likes."""

    def __init__(self, api: Gateway) -> None:
        self._api = api

    async def __aenter__(self) -> Self:
        place = urlsplit(self._api.url)
        self.reader, self.writer = await asyncio.open_connection(place.hostname, place.port)
        head = (
            f"POST /v1/jobs/bulk HTTP/1.1\r\nHost: test\r\nContent-Type: {NDJSON}\r\n"
            f"Authorization: Bearer {self._api.token()}\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        self.writer.write(head.encode())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    async def send(self, data: bytes) -> None:
        self.writer.write(b"%x\r\n%b\r\n" % (len(data), data))
        await self.writer.drain()

    async def status(self) -> bytes:
        async with asyncio.timeout(DEADLINE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
        return head.split(b" ", 2)[1]

    async def answers(self, count: int) -> list[dict[str, Any]]:
        """The next answers, out of their chunks."""
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(DEADLINE_S):
            while len(found) < count:
                line = await self.reader.readuntil(b"\n")
                if line.startswith(b"{"):
                    found.append(orjson.loads(line))
        return found


def line(**fields: Any) -> bytes:
    return orjson.dumps({"kind": "noop", **fields}) + b"\n"


async def test_every_line_gets_its_answer_in_order(api: Gateway) -> None:
    answers = await api.bulk(*({"kind": "noop", "payload": {"n": n}} for n in range(1200)))
    assert [answer["index"] for answer in answers] == list(range(1200))
    assert {answer["status"] for answer in answers} == {201}
    seqs = [answer["seq"] for answer in answers]
    assert seqs == sorted(seqs)
    assert len({answer["id"] for answer in answers}) == 1200
    (event,) = await api.store.history(answers[700]["id"])
    assert event.event.job.payload == {"n": 700}  # type: ignore[union-attr]
    assert await jobs_of(api) == 1200


async def test_bad_line_is_answered_and_the_others_are_taken(api: Gateway) -> None:
    answers = await api.bulk(
        {"kind": "noop"},
        b"{",
        {"kind": "noop", "priority": 101},
        b"",
        b"  ",
        {"priority": 5},
        {"kind": "noop", "colour": "red"},
        {"kind": "noop", "payload": {"x": "y" * 524_288}},
        {"kind": "convert", "payload": {"file": "no-such-file"}},
        {"kind": "noop", "idempotency_key": "with blank"},
        b'{"kind": "noop", "payload": {"x": "' + b"y" * 700_000 + b'"}}',
        {"kind": "noop"},
    )
    errors = {answer["index"]: answer["error"] for answer in answers if "error" in answer}
    outcomes = [(answer["status"], answer.get("error", {}).get("field")) for answer in answers]
    assert outcomes == [
        (201, None), (400, None), (422, "priority"), (422, "kind"), (422, "colour"), (413, "payload"),
        (422, "payload.file"), (422, "idempotency_key"), (413, None), (201, None),
    ]  # fmt: skip
    assert [answer["index"] for answer in answers] == list(range(10))
    assert set(errors[2]) == {"code", "message", "field"}
    assert errors[8]["code"] == "line_too_large"
    assert await jobs_of(api) == 2


async def test_last_line_needs_no_line_end(api: Gateway) -> None:
    answer = await api.call("POST", "/v1/jobs/bulk", line() + line().rstrip(), Content_Type=NDJSON)
    assert len(answer.raw.splitlines()) == 2
    empty = await api.call("POST", "/v1/jobs/bulk", b"", Content_Type=NDJSON)
    assert (empty.status, empty.raw) == (200, b"")


async def test_key_of_a_line_stands_for_one_job(api: Gateway) -> None:
    single = await api.call("POST", "/v1/jobs", {"kind": "noop", "priority": 7}, Idempotency_Key="a")
    answers = await api.bulk(
        {"kind": "noop", "priority": 7, "idempotency_key": "a"},
        {"kind": "noop", "priority": 8, "idempotency_key": "a"},
        {"kind": "noop", "idempotency_key": "b"},
        {"kind": "noop", "idempotency_key": "b"},
    )
    assert [answer["status"] for answer in answers] == [200, 409, 201, 200]
    assert answers[0]["id"] == single.json["id"]
    assert answers[0]["seq"] == single.json["seq"]
    assert answers[1]["error"]["code"] == "idempotency_conflict"
    assert answers[2]["id"] == answers[3]["id"]


async def test_repeated_submission_makes_nothing_new(api: Gateway) -> None:
    lines = [{"kind": "noop", "idempotency_key": f"k{n}"} for n in range(700)]
    first = await api.bulk(*lines)
    again = await api.bulk(*lines)
    assert {answer["status"] for answer in again} == {200}
    assert [answer["id"] for answer in again] == [answer["id"] for answer in first]
    assert await jobs_of(api) == 700


async def test_answers_come_while_lines_are_still_sent(api: Gateway) -> None:
    async with Raw(api) as raw:
        await raw.send(line() + line())
        assert await raw.status() == b"200"
        assert [answer["index"] for answer in await raw.answers(2)] == [0, 1]
        half = line()
        await raw.send(half[:5])
        await raw.send(half[5:])
        assert [answer["index"] for answer in await raw.answers(1)] == [2]
        await raw.send(b"")
        async with asyncio.timeout(DEADLINE_S):
            await raw.reader.readuntil(b"\r\n0\r\n\r\n")


async def test_client_that_breaks_off_has_submitted_what_was_answered_and_little_more(
    shared_broker: SharedBroker, tmp_path: Path
) -> None:
    in_flight, sent = 32, 8000
    async with gateway(shared_broker.url, tmp_path, bulk_in_flight=in_flight) as api, Raw(api) as raw:
        # The end of the connection comes before the end of the body, and what is answered can still be read.
        answers = asyncio.create_task(raw.reader.read())
        async with asyncio.timeout(DEADLINE_S):
            await raw.send(line(payload={"text": "x" * 120}) * sent)
            raw.writer.write_eof()
            answered = (await answers).count(b'"status":201')
        assert 0 < answered < sent
        assert answered <= await jobs_of(api) <= answered + in_flight


async def test_no_more_than_the_limit_is_on_its_way_unanswered(broker: NatsServer, tmp_path: Path) -> None:
    in_flight = 32
    async with gateway(broker.url, tmp_path, bulk_in_flight=in_flight) as api:
        await api.submit()  # so that the lane is there
        async with Raw(api) as raw:
            assert await raw.status() == b"200"
            os.kill(broker.pid, signal.SIGSTOP)  # nothing is acknowledged from now on
            try:
                await raw.send(line() * 1000)
                raw.writer.write_eof()
                async with asyncio.timeout(DEADLINE_S):
                    assert b'"status":201' not in await raw.reader.read()
            finally:
                os.kill(broker.pid, signal.SIGCONT)
        assert await jobs_of(api) - 1 == in_flight


async def test_lost_client_is_forgotten_and_its_answered_lines_are_kept(api: Gateway) -> None:
    async with Raw(api) as raw:
        await raw.send(line() * 200)
        assert await raw.status() == b"200"
        answers = await raw.answers(100)
        raw.writer.transport.abort()
        assert 100 <= await jobs_of(api) <= 200
        for answer in answers:
            assert (await api.get(f"/v1/jobs/{answer['id']}")).status == 200


async def test_client_that_stays_silent_is_notified(shared_broker: SharedBroker, tmp_path: Path) -> None:
    async with gateway(shared_broker.url, tmp_path, bulk_idle_s=0.1) as api, Raw(api) as raw:
        await raw.send(line())
        assert await raw.status() == b"200"
        answers = await raw.answers(2)
        assert [answer["status"] for answer in answers] == [201, 408]
        async with asyncio.timeout(DEADLINE_S):
            await raw.reader.read()


async def test_lines_are_answered_while_the_broker_is_away(broker: NatsServer, tmp_path: Path) -> None:
    async with gateway(broker.url, tmp_path, request_timeout_s=0.5, append_tries=2) as api, Raw(api) as raw:
        await raw.send(line())
        assert await raw.status() == b"200"
        await raw.answers(1)
        await broker.kill()
        await raw.send(line() * 3 + b"{\n")
        answers = await raw.answers(4)
        assert [answer["status"] for answer in answers] == [503, 503, 503, 400]
        assert answers[0]["error"]["code"] == "unavailable"
        await broker.restart()


async def test_only_a_submitter_with_lines_is_let_in(api: Gateway) -> None:
    viewer = await api.call("POST", "/v1/jobs/bulk", line(), token=api.token("viewer"), Content_Type=NDJSON)
    assert (viewer.status, viewer.json["code"]) == (403, "forbidden")
    form = await api.call("POST", "/v1/jobs/bulk", line(), Content_Type="application/x-www-form-urlencoded")
    assert (form.status, form.json["field"]) == (415, "Content-Type")
    query = await api.call("POST", "/v1/jobs/bulk?wait=1", line(), Content_Type=NDJSON)
    assert (query.status, query.json["field"]) == (400, "wait")
    assert await jobs_of(api) == 0
