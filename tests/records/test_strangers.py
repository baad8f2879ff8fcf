"""Buckets and queues that a stranger wrote into: what cannot be read stands for nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import NotFoundError
from switchyard.events.vocabulary.ids import JobId, Revision, WorkerId
from switchyard.services.broker import topology
from switchyard.services.broker.bucket import Bucket, Form, Mirror
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import read_range
from switchyard.services.dispatch.rest.idempotency import CLAIMS, ClaimKeys, Intent
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files
from switchyard.services.files.resumable.record import UPLOADS, Upload
from switchyard.services.gateway.doors.octopoid.keys.scopes import ScopeKeys
from switchyard.services.keeper.waits import Waits
from switchyard.services.records.batches.record import BATCHES, Batch
from switchyard.services.records.entries.documents import Documents
from switchyard.services.records.kinds import KINDS, KindDefaults, Kinds
from switchyard.services.records.limits import Limit, Limits
from switchyard.services.records.models.record import MODELS, Model
from switchyard.services.records.schedules import SCHEDULES, ScheduleStore
from switchyard.services.records.workflows.record import WORKFLOWS, Head
from switchyard.services.settings import Settings
from tests.files.test_files import put, read

JUNK = [b"hi", b"\xff", b"null", b"[]", b"{}", b'{"x":' * 3000, b"[" * 300 + b"]" * 300, b"1e400"]
PARENT, CHILD = (JobId(f"01940000-0000-7000-8000-{number:012}") for number in (1, 2))
SETTINGS = Settings()
NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
async def nc(nats_connection: Client) -> Client:
    await topology.apply(nats_connection)
    return nats_connection


@pytest.fixture
async def publisher(nc: Client) -> AsyncIterator[Publisher]:
    async with Publisher(nc, window=10, timeout_s=20) as publisher:
        yield publisher


async def store(nc: Client, subject: str, body: bytes) -> None:
    assert b'"seq"' in (await nc.request(subject, body, timeout=5)).data


async def set_aside(nc: Client, stream: str) -> int:
    """How many messages of a stream were set aside."""
    return len(await read_range(nc, subjects.QUARANTINE, subjects.all_quarantined(stream), timeout_s=20))


def meta(**other: Any) -> bytes:
    """A file record that somebody made up."""
    known = {
        "tenant": "acme", "name": "f", "type": "text/plain", "sha256": "0" * 64, "index": "[1]",
        "expires_at": "2999-01-01T00:00:00Z",
    }  # fmt: skip
    fields = {"name": "acme/f", "nuid": "N", "size": 2, "chunks": 1, "mtime": "2026-01-01T00:00:00Z"}
    metadata = known | {name: other.pop(name) for name in list(other) if name in known and name != "name"}
    return json.dumps({**fields, "metadata": metadata, **other}).encode()


ODD_METAS = [
    *JUNK, meta(nuid=">"), meta(nuid="a.b"), meta(size=10**30), meta(size=-1), meta(chunks=7),
    meta(index="[]"), meta(index="x"), meta(type="text/html\r\nX: y"), meta(mtime="yesterday"),
    meta(tenant="A/b"), meta(sha256="x"),
]  # fmt: skip


@pytest.mark.parametrize("body", ODD_METAS, ids=range(len(ODD_METAS)))
async def test_a_file_record_that_cannot_be_read_is_no_file_and_an_upload_takes_its_place(
    nc: Client, body: bytes
) -> None:
    files = Files(nc, timeout_s=20)
    other = await put(files, b"other")
    await store(nc, subjects.file_meta("acme", "f"), body)
    with pytest.raises(NotFoundError):
        await files.info("acme", "f")
    with pytest.raises(NotFoundError):
        await files.delete("acme", "f")
    assert await files.sweep(older_than_s=0) == 0
    assert await set_aside(nc, subjects.FILES) == 1
    repaired = await put(files, b"mine", file_id="f")
    assert await read(files, repaired) == b"mine"
    assert await read(files, other) == b"other"


async def test_a_file_whose_record_was_overwritten_keeps_its_bytes(nc: Client) -> None:
    files = Files(nc, timeout_s=20, upload_timeout_s=-60.0)
    info = await put(Files(nc, timeout_s=20), b"mine")
    await store(nc, subjects.file_meta("acme", info.id), b"hi")
    assert await files.sweep(older_than_s=-1) == 0
    assert await read_range(nc, subjects.FILES, subjects.file_chunks(info.nuid), timeout_s=20)


async def test_a_token_that_is_no_place_is_taken_away_and_the_others_stay(
    nc: Client, publisher: Publisher
) -> None:
    limits = Limits(nc, publisher, SETTINGS)
    for key in ("junk", "99999", "-1", "1x"):
        await store(nc, subjects.token("run", "acme.gpu", key), b"")
    await limits.put("acme.gpu", Limit(2, None, datetime.now(UTC)))
    tokens = await read_range(nc, subjects.TOKENS, subjects.token("run", "acme.gpu", "*"), timeout_s=20)
    assert sorted(token.subject.rpartition(".")[2] for token in tokens) == ["0", "1"]


async def test_a_wait_that_is_none_keeps_nobody_waiting(nc: Client, publisher: Publisher) -> None:
    waits = Waits(nc, publisher, SETTINGS)
    for child in ("junk", "a\x0bb", CHILD.replace("2", "A")):
        await store(nc, f"$KV.waits.{PARENT}.{child}", b"1")
    assert await waits.of([PARENT]) == []
    await waits.add(CHILD, [PARENT])
    assert await waits.of([PARENT]) == [(PARENT, CHILD)]


@pytest.mark.parametrize(
    "subject", ["$KV.schedules.*.x", "$KV.schedules.acme.>", "$KV.schedules.A.x", "$KV.schedules.a.b.c"]
)
def test_a_wildcard_is_nobodys_schedule(subject: str) -> None:
    """The timers under it would be purged with it."""
    with pytest.raises(ValueError, match="expected"):
        SCHEDULES.key_of(subject)
    with pytest.raises(ValueError, match="expected"):
        subjects.parse_schedule_due(subject.replace("$KV.schedules", "timer.due.schedule"))


@pytest.mark.parametrize("purpose", [">", "*", "a.b", "a.>", ""])
def test_a_wildcard_is_no_wake_up_of_a_job(purpose: str) -> None:
    with pytest.raises(ValueError, match="not that of a job"):
        subjects.parse_timer_due(subjects.timer_due(PARENT, purpose))


async def test_the_names_of_schedules_are_names(nc: Client, publisher: Publisher) -> None:
    schedules = ScheduleStore(nc, publisher, tries=3, timeout_s=20)
    for name in ("x", "A", "a\x0bb"):
        await store(nc, f"$KV.schedules.acme.{name}", b"hi")
    assert await schedules.names("acme") == ["x"]
    assert (await schedules.load("acme", "x")).schedule is None


@pytest.mark.parametrize("body", JUNK, ids=range(len(JUNK)))
async def test_a_claims_key_that_cannot_be_read_stands_for_no_claim(
    nc: Client, publisher: Publisher, body: bytes
) -> None:
    keys = ClaimKeys(nc, EventStore(nc, publisher, SETTINGS), timeout_s=20)
    fresh = await keys.find("acme", "ann", "k", "hash")
    later = datetime.now(UTC) + timedelta(minutes=1)
    await store(nc, CLAIMS.subject(fresh.place), body)
    found = await keys.find("acme", "ann", "k", "hash")
    assert found.intent is None
    await found.write(publisher, Intent("hash", WorkerId("w"), Revision(1), CHILD, 1, later))
    again = (await keys.find("acme", "ann", "k", "hash")).intent
    assert again is not None
    assert again.job == CHILD
    assert await set_aside(nc, "KV_claims") == 1


@pytest.mark.parametrize("body", [body for body in JUNK if body != b"{}"], ids=range(len(JUNK) - 1))
async def test_a_document_that_cannot_be_read_is_none_and_is_written_over(
    nc: Client, publisher: Publisher, body: bytes
) -> None:
    documents = Documents(nc, publisher, SETTINGS)
    await documents.create("acme", "flows", "one", {"id": "one"})
    await documents.create("acme", "flows", "two", {"id": "two"})
    taken = [message.subject for message in await read_range(nc, "KV_octopoid", ">", timeout_s=20)]
    await store(nc, taken[0], body)
    assert [found.document for found in await documents.all("acme", "flows")] == [{"id": "two"}]
    with pytest.raises(NotFoundError):
        await documents.get("acme", "flows", "one")
    revision = (await documents.find("acme", "flows", "one")).revision
    await documents.put("acme", "flows", "one", {"id": "new"}, revision)
    assert (await documents.get("acme", "flows", "one")).document == {"id": "new"}


@pytest.mark.parametrize("body", [*JUNK, b'{"scope":"evil","hash":"x","created_at":"2026-01-01T00:00:00Z"}'])
async def test_a_scope_whose_record_cannot_be_read_can_be_made_again(
    nc: Client, publisher: Publisher, body: bytes
) -> None:
    scopes = ScopeKeys(nc, publisher, SETTINGS)
    assert await scopes.create("team") is not None
    place = (await read_range(nc, "KV_keys", ">", timeout_s=20))[0].subject
    await store(nc, place, body)
    assert await scopes.exists("team") is False
    key = await scopes.create("team")
    assert key is not None
    assert await scopes.scope_of(key) == "team"


async def test_defaults_that_cannot_be_read_are_none_and_those_of_other_kinds_hold(
    nc: Client, publisher: Publisher
) -> None:
    writer = Kinds(nc, publisher, SETTINGS)
    for kind in ("good", "bad"):
        await writer.put(kind, KindDefaults(priority=80))
    for body in JUNK:
        await store(nc, KINDS.subject("bad"), body)
        await store(nc, "$KV.kinds.A_b", body)
    await store(nc, KINDS.subject("bad"), b'{"priority":1000}')
    reader = Kinds(nc, publisher, SETTINGS)
    await reader.load()
    assert reader.all() == {"good": KindDefaults(priority=80)}


MODEL = Model(
    folder="checkpoints", name="a.safetensors", url="https://models.example/a", sha256="0" * 64, size_bytes=1,
    created_at=NOW, created_by="user:ann", updated_at=NOW,
)  # fmt: skip
BATCH = Batch(
    tenant="acme", id=PARENT, created_at=NOW, created_by="user:ann", input=CHILD, window=1, deadline_at=NOW
)
UPLOAD = Upload(
    tenant="acme", id=PARENT, length=1, type="text/plain", ttl_s=60.0, created_at=NOW, expires_at=NOW
)
HEAD = Head(tenant="acme", name="w", latest=3, updated_at=NOW)
RECORDS: tuple[tuple[Form[Any], Any, str, tuple[dict[str, Any], ...]], ...] = (
    (MODELS, MODEL, "$KV.models.checkpoints.b=2Esafetensors", ({"size_bytes": -1},)),
    (
        BATCHES, BATCH, f"$KV.batches.acme.{CHILD}",
        ({"cursor": 10**9}, {"state": "rests"}, {"compat": {"form": "x", "endpoint": "/"}}, {"window": 0}),
    ),
    (
        UPLOADS, UPLOAD, f"$KV.uploads.acme.{CHILD}",
        ({"ttl_s": 1e300}, {"length": -1}, {"parts": [{"nuid": ">", "size_bytes": 1, "chunks": 1}]}),
    ),
    (WORKFLOWS, HEAD, "$KV.workflows.acme.workflow.v", ({"latest": "3"}, {"type": "other"})),
)  # fmt: skip


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record[0].name)
async def test_a_record_that_cannot_be_used_is_set_aside_and_the_others_are_read(
    nc: Client, publisher: Publisher, record: tuple[Form[Any], Any, str, tuple[dict[str, Any], ...]]
) -> None:
    form, good, subject, odd = record
    bucket, mirror = Bucket(nc, form, publisher, timeout_s=20), Mirror(Bucket(nc, form, timeout_s=20))
    body = form.values.encode(good)
    place = {"models": MODEL.key, "workflows": ("acme", "workflow", "w")}.get(form.name, ("acme", PARENT))
    await store(nc, form.subject(place), body)
    own = subject.rpartition(".")[2]
    as_its_own = {"id": own, "name": "b.safetensors" if form is MODELS else own}
    bodies = [json.dumps({**json.loads(body), **as_its_own, **one}).encode() for one in odd]
    bodies += [body, *JUNK, *([b'{"x":"%s"}' % (b"x" * form.max_bytes)] if form.max_bytes else ())]
    for one in bodies:
        await store(nc, subject, one)
        assert [entry.value for entry in await bucket.load() if entry.value is not None] == [good], one
    assert await set_aside(nc, form.stream) == len(bodies)
    await store(nc, f"$KV.{form.name}.A.b.c.d", body)
    await mirror.load()
    assert [entry.value for entry in mirror.entries.values()] == [good]
    assert await set_aside(nc, form.stream) == len(bodies) + 1


def test_fields_of_newer_versions_are_written_back_as_they_came() -> None:
    forms: tuple[tuple[Form[Any], Any], ...] = ((BATCHES, BATCH), (UPLOADS, UPLOAD))
    for form, good in forms:
        newer = {"folded": {"a": [1, 2.5, None]}, "beyond": {"state": "failed"}, "big": 2**70}
        read = form.values.decode(json.dumps({**json.loads(form.values.encode(good)), **newer}).encode())
        written = form.values.encode(msgspec.structs.replace(read, created_at=NOW + timedelta(days=1)))
        fields = json.loads(written)
        assert (fields["folded"], fields["big"]) == (newer["folded"], 2**70)
        assert ("beyond" in fields, "state" in fields) == (False, False)
        assert form.values.decode(written).created_at == NOW + timedelta(days=1)
