"""What a stranger with a connection to the broker may publish: in every stream and bucket."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

from switchyard.services.broker.topology_spec import load
from tests.broker.raw_nats import ODD_ENDS, ODD_HEADERS

UNKNOWN = "0194aaaa-0000-7000-8000-{:012}"
OURS = b"NATS/1.0\r\nSwitchyard-Tenant: acme\r\nSwitchyard-Kind: simulate\r\nNats-Msg-Id: w-%d\r\n\r\n"
BODIES = (
    b"", b"hi", b"\xff\xfe", b"null", b"[]", b"{}", b'"x"', b"1e400", b"[" * 300 + b"]" * 300,
    b'{"x":' * 5000, b'{"v":99,"at":"2026-01-02T03:04:05Z"}',
    b'{"name":"x","nuid":">","size":1' + b"0" * 30 + b"}",
    b'{"fence":1' + b"0" * 30 + b',"attempt":1' + b"0" * 30 + b',"tenant":"acme","kind":"simulate"}',
    b'{"fence":1,"tenant":"acme","kind":"simulate","at":"\\u0000","line":"\\r\\n\\r\\n","stage":"\xc3\xbc"}',
)  # fmt: skip


class Message(NamedTuple):
    """One message, as it goes on the wire."""

    subject: bytes
    body: bytes
    headers: bytes | None = None


def messages(victims: list[str], lane: str, worker: str) -> Iterator[Message]:
    """All of them.

    Args:
        victims: jobs that may be damaged.
        lane: one that jobs run in, at priority 50.
        worker: one that runs.
    """
    yield from _events(victims, lane)
    yield from _reports(victims)
    yield from _timers(victims)
    yield from _tokens()
    yield from _buckets(worker)
    yield from _objects()
    for subject in ("x", "JOBS.junk", "JOBS.999999", "JOBS.1.2", "NOSUCH.1"):
        for body in BODIES[1:4]:
            yield Message(f"quarantine.{subject}".encode(), body)


def _events(victims: list[str], lane: str) -> Iterator[Message]:
    numbers = itertools.count()

    def unknown() -> str:
        return UNKNOWN.format(next(numbers))

    at = '"at":"2026-01-02T03:04:05Z"'
    for body in BODIES:
        yield Message(b"job.hello", body)
        yield Message(b"job.not-an-id.submitted.%b.50" % lane.encode(), body)
        yield Message(f"job.{unknown()}.submitted.{lane}.50".encode(), body, OURS % next(numbers))
        yield Message(f"job.{unknown()}.succeeded".encode(), body)
        yield Message(f"job.{unknown()}.repaired.{lane}.50".encode(), body)
        yield Message(f"job.{unknown()}.archived".encode(), body, OURS % next(numbers))
    for tokens in range(8):
        yield Message(".".join(["job", unknown(), *"abcdef"[:tokens]]).encode(), b"hi")
    queued = '{"v":1,%s,"cause":"requeued","lane":"%s","priority":%d}'
    for name, priority in ((lane, 50), ("*", 50), (">", 50), (lane, 101), (lane, -1)):
        body = (queued % (at, name, priority)).encode()
        yield Message(f"job.{unknown()}.queued.{name}.{priority}".encode(), body, OURS % next(numbers))
        yield Message(f"job.{unknown()}.queued.{name}.{priority}".encode(), body)
    blocked = '{"v":1,%s,"depends_on":["*"],"job":{"kind":"simulate","tenant":"acme","lane":"%s"}}'
    yield Message(f"job.{unknown()}.blocked".encode(), (blocked % (at, lane)).encode(), OURS % next(numbers))
    state = '{"status":"queued","tenant":"acme\\r\\nNats-Rollup: all","kind":"simulate"}'
    repaired = f'{{"v":1,{at},"by":"x","state":{state},"lane":"{lane}"}}'
    yield Message(f"job.{unknown()}.repaired.{lane}.50".encode(), repaired.encode())
    for end in ODD_ENDS:
        yield Message(b"job." + end, b"hi")
        yield Message(b"job.%b.%b" % (unknown().encode(), end), b"hi")
        yield Message(b"job.%b.queued.%b.50" % (unknown().encode(), end), b"hi")
        place = b"%b.%b.50" % (end, lane.encode())
        yield Message(b"job.%b.%b" % (unknown().encode(), place), b"hi", OURS % next(numbers))
    for headers in (*ODD_HEADERS, b"NATS/1.0\r\nNats-Stream-Source: junk\r\n\r\n"):
        yield Message(f"job.{unknown()}.submitted.{lane}.50".encode(), b"hi", headers)
        yield Message(f"job.{unknown()}.dead".encode(), b"", headers)
    names = ("hello", "succeeded", f"queued.{lane}.50", "archived", "cancel_requested", "a\x0bb")
    for victim, name in zip(victims, itertools.cycle(names), strict=False):
        yield Message(f"job.{victim}.{name}".encode(), b"hi", ODD_HEADERS[6])
    newer = b'{"v":99,"at":"2026-01-02T03:04:05Z","sort":"unheard of"}'
    yield Message(f"job.{unknown()}.submitted.{lane}.50".encode(), newer, OURS % next(numbers))
    yield Message(f"job.{unknown()}.dreamt".encode(), newer.replace(b"99", b"1"), OURS % next(numbers))


def _reports(victims: list[str]) -> Iterator[Message]:
    ends = (b"x", b"a.b", b'x","type":"event', *ODD_ENDS, *(victim.encode() for victim in victims[:2]))
    for kind in (b"progress.", b"log."):
        for end in ends:
            for body in BODIES:
                yield Message(kind + end, body)
        for headers in ODD_HEADERS:
            yield Message(kind + victims[0].encode(), b'{"fence":1}', headers)


def _timers(victims: list[str]) -> Iterator[Message]:
    due = (b"x", b"schedule.*.x", b"schedule.acme.>", b"schedule.a", b"schedule.acme.tick.x", b"schedule.A B")
    ends = (*due[:5], *ODD_ENDS, victims[0].encode() + b".>", victims[0].encode() + b".x.y")
    for end in ends:
        yield Message(b"timer.due." + end, b"hi")
        yield Message(b"timer.set." + end, b"hi")
    for number, what in enumerate(
        ("@at 2020-01-01T00:00:00Z", "@every 1s", "junk", "@at 9999-12-31T23:59:59Z")
    ):
        for target in ("timer.due.junk", "job.x.y", "timer.due.schedule.*.*", "timer.set.x"):
            headers = f"NATS/1.0\r\nNats-Schedule: {what}\r\nNats-Schedule-Target: {target}\r\n\r\n"
            yield Message(f"timer.set.stranger{number}.{target}".encode(), b"hi", headers.encode())


def _tokens() -> Iterator[Message]:
    for end in (
        b"x",
        b"run.acme.gpu.junk",
        b"run.acme.gpu.99999",
        b"start.acme.gpu.-1",
        b"run.a.b.c.d",
        *ODD_ENDS,
    ):
        yield Message(b"token." + end, b"hi")


def _buckets(worker: str) -> Iterator[Message]:
    buckets = [stream.name for stream in load().streams if stream.name.startswith("KV_")]
    keys = (
        b"x",
        b"a.b",
        b"acme.x",
        b"a.b.c.d",
        b"lane.-5",
        b"kind.x",
        b"octopoid.x",
        b"revoked.x",
        *ODD_ENDS,
    )
    for bucket in buckets:
        prefix = f"$KV.{bucket.removeprefix('KV_')}.".encode()
        for key in keys:
            for body in BODIES:
                yield Message(prefix + key, body)
        for headers in ODD_HEADERS:
            yield Message(prefix + b"headed", b"hi", headers)
    parent = UNKNOWN.format(10**9)
    for child in (parent, "x", "*", ">"):
        yield Message(f"$KV.waits.{parent}.{child}".encode(), b"1")
    yield Message(f"$KV.controls.worker.{worker}".encode(), b"hi")


def _objects() -> Iterator[Message]:
    metas = [base64.urlsafe_b64encode(name).rstrip(b"=") for name in (b"acme/x", b"acme/", b"/", b"\xff")]
    file = {
        "name": "acme/f", "nuid": ">", "size": 10**30, "chunks": 1, "mtime": "2026-01-01T00:00:00Z",
        "metadata": {
            "tenant": "acme", "name": "f", "type": "text/html\r\nX: y", "sha256": "0" * 64,
            "expires_at": "2999-01-01T00:00:00Z", "index": "[1]",
        },
    }  # fmt: skip
    for key in (b"junk", *metas, *ODD_ENDS):
        for body in (*BODIES, json.dumps(file).encode(), json.dumps({**file, "size": -1}).encode()):
            yield Message(b"$O.files.M." + key, body)
        yield Message(b"$O.files.C." + key, b"hi")
        yield Message(
            b"$O.files.C." + key, b"hi", b"NATS/1.0\r\nSwitchyard-File: x\r\nSwitchyard-Chunk: y\r\n\r\n"
        )
