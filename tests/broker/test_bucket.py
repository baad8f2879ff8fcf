"""A bucket on a real broker: what is written is read, by whoever was first, and what is odd stops nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import LimitError, UnavailableError, VersionConflictError
from switchyard.events.vocabulary.ids import Seq
from switchyard.services.broker.bucket import Bucket, Entry, Form, Gone, json_values
from switchyard.services.broker.bucket_use import Bounds, BucketUse
from switchyard.services.broker.connection import listen
from switchyard.services.broker.publisher import AckLostError, Publisher
from switchyard.services.broker.reader import Stored, last_message, read_range
from switchyard.services.broker.server.server import NatsServer
from tests.broker.notes import DOTTED, NOTES, ROLLED, TIMEOUT_S, Note, notes
from tests.broker.raw_nats import ODD_HEADERS, raw_publisher

ODD_NAMES = ["", " ", "a.b", "*", ">", "=", "=41", "ä", "\n", "\x7f", "a b", "x" * 300, "\udc80", "A-b_9"]
ACME = "acme"


@pytest.fixture
async def bucket(nats_connection: Client) -> AsyncIterator[Bucket[Note]]:
    async with notes(nats_connection) as bucket:
        yield bucket


async def raw(bucket: Bucket[Note], subject: str) -> tuple[dict[str, str], bytes]:
    found = await last_message(bucket.nc, bucket.form.stream, subject, timeout_s=TIMEOUT_S)
    assert found is not None
    ours = {
        name: value
        for name, value in found.headers.items()
        if name.startswith(("KV-", "Nats-Rollup", "Nats-TTL"))
    }
    return ours, found.data


async def reasons(nc: Client) -> list[str]:
    """Why each message that was set aside was."""
    found = await read_range(nc, "QUARANTINE", subjects.all_quarantined(), timeout_s=TIMEOUT_S)
    return [msgspec.json.decode(message.data)["reason"] for message in found]


# --- Keys


@given(st.lists(st.text(max_size=40), min_size=2, max_size=2))
def test_any_key_of_any_characters_comes_back_out_of_its_subject(key: list[str]) -> None:
    for form in (NOTES, DOTTED):
        subject = form.subject(tuple(key))
        assert form.key_of(subject) == tuple(key)
        assert subject.isascii()
        assert not set(subject) & set("*> \r\n\t")
        assert all(subject.split("."))


@given(st.text(), st.text())
def test_two_subjects_never_are_one_key(one: str, other: str) -> None:
    keys = [NOTES.find_key(f"$KV.notes.acme.{text}") for text in (one, other)]
    assert None in keys or one == other or keys[0] != keys[1]


def test_keys_of_names_stand_as_they_always_did() -> None:
    assert NOTES.subject(("acme", "a-b_9")) == "$KV.notes.acme.a-b_9"
    assert DOTTED.subject(("worker", "rest.acme.w1")) == "$KV.notes.dotted.worker.rest.acme.w1"
    assert DOTTED.key_of("$KV.notes.dotted.worker.rest.acme.w1") == ("worker", "rest.acme.w1")
    assert NOTES.filter(ACME) == "$KV.notes.acme.>"
    assert ROLLED.filter() == "$KV.notes.rolled.>"


@pytest.mark.parametrize(
    "subject", ["$KV.notes.a", "$KV.notes.a.b.c", "$KV.other.a.b", "$KV.notes.a b.c",
                "$KV.notes.a.=4", "$KV.notes.a.=61", f"$KV.notes.a.{'b' * 1024}",
                f"$KV.notes.{'a' * 3000}.b"],
)  # fmt: skip
def test_another_subject_is_no_key(subject: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        NOTES.key_of(subject)


@pytest.mark.parametrize("key", ["a", ("a",), ("a", "b", "c"), ("a", "x" * 2000)])
async def test_what_is_no_key_is_refused(bucket: Bucket[Note], key: Any) -> None:
    with pytest.raises(ValueError, match="expected"):
        await bucket.put(key, Note("x"))
    with pytest.raises(ValueError, match="expected"):
        await bucket.get(key)


# --- Writes and reads


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_an_entry_of_any_name_is_written_read_listed_and_removed(
    bucket: Bucket[Note], name: str
) -> None:
    key = (ACME, name)
    written = await bucket.create(key, Note("one"))
    assert await bucket.get(key) == written
    assert await bucket.get(key, leader=False) == written
    assert await bucket.load(ACME) == await bucket.load() == [written]
    assert await bucket.keys(ACME) == await bucket.keys_under([ACME, "other"]) == [key]
    assert await bucket.get(("other", name)) == Entry(("other", name), None, 0)
    gone = await bucket.delete(key, revision=written.revision)
    assert await bucket.get(key) == Entry(key, None, gone.revision)
    assert await bucket.load() == []
    assert await bucket.keys_under([ACME]) == []
    assert (await bucket.create(key, Note("two"))).revision > gone.revision


async def test_of_two_writers_of_a_revision_one_is_refused_and_changes_add_up(bucket: Bucket[Note]) -> None:
    key = (ACME, "n")
    made = await asyncio.gather(*(bucket.create(key, Note(str(n))) for n in range(8)), return_exceptions=True)
    assert sum(isinstance(one, VersionConflictError) for one in made) == 7
    first = await bucket.get(key)
    written = await asyncio.gather(
        *(bucket.put(key, Note(str(n)), revision=first.revision) for n in range(8)), return_exceptions=True
    )
    assert sum(isinstance(one, VersionConflictError) for one in written) == 7
    await bucket.put(key, Note("0"))

    def more(note: Note | None) -> Note:
        return Note(str(int(note.text if note else "0") + 1))

    await asyncio.gather(*(bucket.change(key, more, tries=8) for _ in range(40)))
    assert (await bucket.get(key)).value == Note("40")


async def test_a_change_of_nothing_writes_nothing_and_one_to_none_deletes(bucket: Bucket[Note]) -> None:
    first = await bucket.put((ACME, "n"), Note("x"))
    assert await bucket.change((ACME, "n"), lambda note: note) == first
    assert (await bucket.change((ACME, "n"), lambda _: None)).value is None
    assert (await bucket.get((ACME, "n"))).value is None
    with pytest.raises(UnavailableError, match="always faster"):
        await bucket.change((ACME, "n"), lambda _: Note("y"), tries=0)


GONE_HEADERS = [
    (Gone("DEL"), {"KV-Operation": "DEL"}),
    (Gone("DEL", ttl_s=3600), {"KV-Operation": "DEL", "Nats-TTL": "3600s"}),
    (Gone("PURGE", rolls_up=True), {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}),
    (Gone("PURGE", True, 60), {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": "60s"}),
]


@pytest.mark.parametrize(("gone", "headers"), GONE_HEADERS)
async def test_a_deletion_leaves_the_marker_of_its_form_and_a_purge_nothing(
    nats_connection: Client, gone: Gone, headers: dict[str, str]
) -> None:
    form = Form(name="notes", parts=("tenant", "name"), values=json_values(Note), gone=gone)
    async with notes(nats_connection), Publisher(nats_connection) as publisher:
        bucket = Bucket(nats_connection, form, publisher, timeout_s=TIMEOUT_S)
        for name in ("a", "b"):
            await bucket.put((ACME, name), Note(name))
        await bucket.delete((ACME, "a"))
        assert await raw(bucket, "$KV.notes.acme.a") == (headers, b"")
        await bucket.purge((ACME, "b"))
        await bucket.purge((ACME, "b"))
        assert await bucket.keys() == [(ACME, "a")]
        assert (await bucket.get((ACME, "b"))).revision == 0


async def test_values_and_times_to_live_stand_as_they_are_said(bucket: Bucket[Note]) -> None:
    for ttl_s, header in ((30, "30s"), (30.25, "30250ms"), (0, "1s"), (0.0, "1000ms")):
        await bucket.put((ACME, "n"), Note("x"), ttl_s=ttl_s)
        assert await raw(bucket, "$KV.notes.acme.n") == ({"Nats-TTL": header}, b'{"text":"x"}')


async def test_an_entry_goes_when_its_time_is_over_and_leaves_word(bucket: Bucket[Note]) -> None:
    went = asyncio.Event()
    written = await bucket.put((ACME, "n"), Note("x"), ttl_s=1)
    await listen(bucket.nc, "$KV.notes.>", lambda _: went.set())
    async with asyncio.timeout(TIMEOUT_S):
        while (found := await bucket.get((ACME, "n"))).value is not None:
            await asyncio.sleep(0.05)
    assert found.revision > written.revision


async def test_ten_thousand_entries_are_loaded_whole_and_by_tenant(bucket: Bucket[Note]) -> None:
    async with Publisher(bucket.nc, window=1000, timeout_s=60) as publisher:
        sent = [
            await publisher.send(NOTES.subject((f"t{n % 100}", str(n))), b'{"text":"x"}', {})
            for n in range(10_000)
        ]
        await asyncio.gather(*sent)
    whole = await bucket.load()
    assert [entry.revision for entry in whole] == list(range(1, 10_001))
    share = await bucket.load("t7")
    assert [entry.key for entry in share] == [("t7", str(n)) for n in range(7, 10_000, 100)]
    assert [entry async for entry in bucket.scan(page=999)] == whole
    assert len(await bucket.keys()) == 10_000
    assert len(await bucket.keys_under([f"t{n}" for n in range(100)])) == 10_000  # too many for one answer
    assert len(await bucket.keys_under(["t1", "t2"])) == 200


async def test_of_several_kept_revisions_the_last_counts(nats_connection: Client) -> None:
    async with notes(nats_connection, max_msgs_per_subject=5) as bucket:
        for text in ("1", "2"):
            for name in ("a", "b"):
                await bucket.put((ACME, name), Note(text))
        await bucket.delete((ACME, "b"))
        last = await bucket.put((ACME, "a"), Note("3"))
        await bucket.put(("other", "c"), Note("c"))
        assert await bucket.load(ACME) == await bucket.load(ACME, limit=100) == [last]
        assert [entry.key for entry in await bucket.load()] == [(ACME, "a"), ("other", "c")]
        assert await bucket.get((ACME, "a")) == last


async def test_forms_that_share_a_bucket_do_not_see_each_other(
    nats_connection: Client, bucket: Bucket[Note]
) -> None:
    async with Publisher(nats_connection) as publisher:
        rolled = Bucket(nats_connection, ROLLED, publisher, timeout_s=TIMEOUT_S)
        dotted = Bucket(nats_connection, DOTTED, publisher, timeout_s=TIMEOUT_S)
        one = await rolled.put("a", Note("rolled"))
        other = await dotted.put(("x", "a.b"), Note("dotted"))
        assert (await rolled.load(), await dotted.load()) == ([one], [other])
        assert (await rolled.keys(), await dotted.keys()) == ([("a",)], [("x", "a.b")])


async def test_a_bucket_without_a_stream_is_unavailable_and_whole_reads_are_empty(
    nats_connection: Client,
) -> None:
    bucket = Bucket(nats_connection, NOTES, timeout_s=1.0)
    for read in (bucket.get((ACME, "n")), bucket.keys(), bucket.keys_under([ACME]), bucket.load(ACME)):
        with pytest.raises(UnavailableError):
            await read
    assert await bucket.load() == []


# --- Strangers


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"hi", "malformed"), (b"\xff", "malformed"), (b"{}", "text"), (b"[" * 300 + b"]" * 300, "nested"),
        (b'{"text":"' + b"x" * 100_001 + b'"}', "at most 100000 bytes"), (b"null", "object"),
    ],
)  # fmt: skip
async def test_what_cannot_be_read_stands_for_nothing_is_set_aside_and_written_over(
    bucket: Bucket[Note], body: bytes, why: str
) -> None:
    other = await bucket.put((ACME, "other"), Note("x"))
    await bucket.nc.request("$KV.notes.acme.n", body, timeout=TIMEOUT_S)
    found = await bucket.get((ACME, "n"))
    assert (found.value, found.is_unreadable, found.revision) == (None, True, 2)
    assert await bucket.load() == await bucket.load(ACME) == [other]
    assert why in "".join(await reasons(bucket.nc))
    made = await bucket.create((ACME, "n"), Note("y"))
    assert await bucket.load() == [other, made]


@pytest.mark.parametrize("headers", ODD_HEADERS, ids=range(len(ODD_HEADERS)))
async def test_odd_headers_hide_no_entry(broker: NatsServer, bucket: Bucket[Note], headers: bytes) -> None:
    async with raw_publisher(broker.url) as publisher:
        await publisher.publish(b"$KV.notes.acme.n", b'{"text":"x"}', headers)
        await publisher.publish(b"$KV.notes.acme.\xff", b'{"text":"x"}', headers)
        await publisher.publish(b"$KV.notes.acme.a\x0bb.c", b'{"text":"x"}', headers)
    await bucket.put((ACME, "last"), Note("y"))
    assert [entry.key for entry in await bucket.load()] == [(ACME, "n"), (ACME, "last")]
    assert (await bucket.get((ACME, "n"))).value == Note("x")


async def test_a_value_that_is_too_large_is_refused(bucket: Bucket[Note]) -> None:
    with pytest.raises(LimitError, match="at most 100000 bytes") as refused:
        await bucket.put((ACME, "n"), Note("x" * 100_000))
    assert (refused.value.status, refused.value.code) == (413, "too_large")
    assert await bucket.keys() == []


async def test_a_tenant_that_has_as_much_as_it_may_is_refused(nats_connection: Client) -> None:
    async with notes(nats_connection), Publisher(nats_connection) as publisher:
        use = BucketUse(nats_connection, NOTES.stream, Bounds("notes", 2), timeout_s=TIMEOUT_S)
        bucket = Bucket(nats_connection, NOTES, publisher, timeout_s=TIMEOUT_S, use=use)
        for name in ("a", "b"):
            await bucket.put((ACME, name), Note(name))
        with pytest.raises(LimitError):
            await bucket.create((ACME, "c"), Note("c"))
        with pytest.raises(LimitError):
            bucket.check_room((ACME, "c"), 1)
        await bucket.put(("other", "c"), Note("c"))
        await bucket.put((ACME, "a"), Note("again"))
        await bucket.delete((ACME, "a"))
        await bucket.create((ACME, "c"), Note("c"))


# --- Lost acknowledgements


class Deaf(Publisher):
    """Loses as many acknowledgements as it is asked to, after the message was stored."""

    losses = 0

    async def publish(self, subject: str, body: bytes, headers: Any) -> int:
        seq = await super().publish(subject, body, headers)
        if self.losses:
            self.losses -= 1
            raise AckLostError("lost")
        return seq


async def test_a_write_whose_acknowledgement_is_lost_is_known_by_what_stands_there(
    nats_connection: Client,
) -> None:
    async with notes(nats_connection), Deaf(nats_connection) as publisher:
        once = Bucket(nats_connection, NOTES, publisher, timeout_s=TIMEOUT_S)
        bucket = Bucket(nats_connection, NOTES, publisher, timeout_s=TIMEOUT_S, tries=3)
        publisher.losses = 1
        made = await bucket.put((ACME, "n"), Note("mine"), revision=0)
        assert (made.revision, await bucket.get((ACME, "n"))) == (1, made)
        publisher.losses = 1
        gone = await bucket.delete((ACME, "n"), revision=made.revision)
        assert gone.revision == 2
        publisher.losses = 3
        with pytest.raises(UnavailableError, match="acknowledge"):
            await bucket.put((ACME, "n"), Note("other"))
        publisher.losses = 1
        with pytest.raises(AckLostError):
            await once.put((ACME, "n"), Note("third"))


def test_an_entry_says_what_it_is_of() -> None:
    message = Stored("$KV.notes.acme.n", {}, b'{"text":"x"}', Seq(7), 0)
    assert NOTES.entry_of(message) == Entry((ACME, "n"), Note("x"), 7, size_bytes=12)
