"""A mirror holds what its bucket holds, whatever happens to broker, stream and entries."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from nats.aio.client import Client

from switchyard.events.errors import UnavailableError
from switchyard.services.broker.bucket import Bucket, Entry, Mirror, follow
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.server.server import NatsServer
from tests.broker.notes import NOTES, TIMEOUT_S, Note, make_stream, notes
from tests.broker.test_bucket import reasons

ACME = "acme"
BOUND_S = 60.0


@pytest.fixture
async def bucket(nats_connection: Client) -> AsyncIterator[Bucket[Note]]:
    async with notes(nats_connection) as bucket:
        yield bucket


@asynccontextmanager
async def running(mirror: Mirror[Note]) -> AsyncIterator[Mirror[Note]]:
    task = asyncio.create_task(mirror.run())
    try:
        async with asyncio.timeout(BOUND_S):
            await mirror.synced.wait()
        yield mirror
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(mirror: Mirror[Note], holds: Callable[[], bool]) -> None:
    """Wait for changes until something holds."""
    async with asyncio.timeout(BOUND_S):
        while not holds():
            mirror.changed.clear()
            await mirror.changed.wait()


def texts(mirror: Mirror[Note]) -> dict[str, str]:
    return {".".join(key): entry.value.text for key, entry in mirror.entries.items() if entry.value}


async def test_a_mirror_holds_what_was_there_and_what_changes_and_says_each(bucket: Bucket[Note]) -> None:
    said: list[Entry[Note]] = []
    for name in ("a", "b"):
        await bucket.put((ACME, name), Note(name))
    await bucket.delete((ACME, "b"))
    mirror = Mirror(bucket, on_change=said.append)
    await mirror.load()
    assert mirror.synced.is_set()
    assert texts(mirror) == {"acme.a": "a"}
    await bucket.put((ACME, "c"), Note("c"))  # between the load and what follows
    async with running(mirror):
        await until(mirror, lambda: len(mirror.entries) == 2)
        await bucket.put((ACME, "a"), Note("again"))
        await bucket.delete((ACME, "c"))
        await until(mirror, lambda: texts(mirror) == {"acme.a": "again"})
    assert mirror.get((ACME, "a")) == Note("again")
    assert mirror.get((ACME, "c")) is None
    revisions = [entry.revision for entry in said]
    assert revisions == sorted(set(revisions))
    assert [(entry.key[1], entry.value) for entry in said[-2:]] == [("a", Note("again")), ("c", None)]


async def test_a_mirror_of_nothing_is_whole_at_once(bucket: Bucket[Note]) -> None:
    await bucket.put(("other", "a"), Note("a"))
    mirror = Mirror(bucket, ACME)
    await mirror.load()
    assert not mirror.entries
    async with running(mirror):
        await bucket.put((ACME, "a"), Note("mine"))
        await bucket.put(("other", "b"), Note("b"))
        await until(mirror, lambda: texts(mirror) == {"acme.a": "mine"})


async def test_own_writes_count_at_once_and_older_ones_never_replace_newer(bucket: Bucket[Note]) -> None:
    mirror = Mirror(bucket)
    async with running(mirror):
        first = await bucket.put((ACME, "a"), Note("1"))
        second = await bucket.put((ACME, "a"), Note("2"))
        mirror.note(second)
        assert texts(mirror) == {"acme.a": "2"}
        mirror.note(first)
        assert texts(mirror) == {"acme.a": "2"}
        gone = await bucket.delete((ACME, "a"))
        await bucket.put((ACME, "last"), Note("x"))
        await until(mirror, lambda: texts(mirror) == {"acme.last": "x"})
        mirror.note(second)  # its deletion was seen
        mirror.note(gone)
        assert texts(mirror) == {"acme.last": "x"}


async def test_a_restarted_broker_leaves_no_gap(broker: NatsServer, bucket: Bucket[Note]) -> None:
    said: list[Entry[Note]] = []
    await bucket.put((ACME, "a"), Note("before"))
    async with running(Mirror(bucket, on_change=said.append)) as mirror:
        await broker.restart()
        async with asyncio.timeout(BOUND_S):
            while True:
                with contextlib.suppress(UnavailableError, OSError):
                    await bucket.change((ACME, "b"), lambda _: Note("after"))
                    break
                await asyncio.sleep(0.1)
        await until(mirror, lambda: texts(mirror) == {"acme.a": "before", "acme.b": "after"})
    assert [entry.key[1] for entry in said] == ["a", "b"]  # nothing is read twice


async def purge_all(bucket: Bucket[Note]) -> None:
    await api(bucket.nc, f"STREAM.PURGE.{NOTES.stream}", timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("options", [{}, {"allow_msg_ttl": False, "subject_delete_marker_ttl": 0}])
async def test_what_was_purged_without_a_word_is_missed_with_the_next_consumer(
    broker: NatsServer, nats_connection: Client, options: dict[str, Any]
) -> None:
    async with notes(nats_connection, **options) as bucket:
        await purged_without_a_word(broker, bucket)


async def purged_without_a_word(broker: NatsServer, bucket: Bucket[Note]) -> None:
    said: list[Entry[Note]] = []
    for name in ("a", "b", "c"):
        await bucket.put((ACME, name), Note(name))
    async with running(Mirror(bucket, on_change=said.append)) as mirror:
        await bucket.purge((ACME, "a"))
        await broker.restart()
        await until(mirror, lambda: texts(mirror) == {"acme.b": "b", "acme.c": "c"})
        await purge_all(bucket)
        await broker.restart()
        await until(mirror, lambda: not mirror.entries)
    assert [entry.key[1] for entry in said if entry.value is None] == ["a", "b", "c"]


async def test_what_was_purged_between_load_and_run_is_missed(bucket: Bucket[Note]) -> None:
    for name in ("a", "b"):
        await bucket.put((ACME, name), Note(name))
    mirror = Mirror(bucket)
    await mirror.load()
    await bucket.purge((ACME, "b"))
    async with running(mirror):
        await until(mirror, lambda: texts(mirror) == {"acme.a": "a"})


@pytest.mark.parametrize("more", [0, 5])
async def test_a_stream_that_was_made_again_is_read_from_its_beginning(
    bucket: Bucket[Note], more: int
) -> None:
    said: list[Entry[Note]] = []
    for name in ("a", "b", "c"):
        await bucket.put((ACME, name), Note("old"))
    async with running(Mirror(bucket, on_change=said.append)) as mirror:
        await api(bucket.nc, f"STREAM.DELETE.{NOTES.stream}", timeout_s=TIMEOUT_S)
        await make_stream(bucket.nc)
        await bucket.put((ACME, "b"), Note("new"))
        wanted = {"acme.b": "new"}
        for n in range(more):  # as many as before, and more
            await bucket.put((ACME, f"x{n}"), Note("new"))
            wanted[f"acme.x{n}"] = "new"
        await until(mirror, lambda: texts(mirror) == wanted)
        await bucket.put((ACME, "last"), Note("last"))
        await until(mirror, lambda: "acme.last" in texts(mirror))
    assert (ACME, "b") not in [entry.key for entry in said if entry.value is None]


async def test_a_stream_that_was_made_again_and_is_empty_is_forgotten(bucket: Bucket[Note]) -> None:
    await bucket.put((ACME, "a"), Note("old"))
    async with running(Mirror(bucket)) as mirror:
        await api(bucket.nc, f"STREAM.DELETE.{NOTES.stream}", timeout_s=TIMEOUT_S)
        await make_stream(bucket.nc)
        await until(mirror, lambda: not mirror.entries)


async def test_an_entry_whose_time_is_over_leaves_the_mirror(bucket: Bucket[Note]) -> None:
    await bucket.put((ACME, "stays"), Note("x"))
    async with running(Mirror(bucket)) as mirror:
        await bucket.put((ACME, "goes"), Note("x"), ttl_s=1)
        await until(mirror, lambda: "acme.goes" in texts(mirror))
        await until(mirror, lambda: texts(mirror) == {"acme.stays": "x"})


async def test_what_cannot_be_read_stops_no_mirror_and_stands_for_nothing(bucket: Bucket[Note]) -> None:
    said: list[Entry[Note]] = []
    await bucket.put((ACME, "a"), Note("good"))
    async with running(Mirror(bucket, on_change=said.append)) as mirror:
        for subject, body in (
            ("$KV.notes.acme.a", b"hi"), ("$KV.notes.acme.a.b.c", b'{"text":"x"}'), ("$KV.notes.acme.*", b""),
            ("$KV.notes.acme.big", b'{"text":"' + b"x" * 200_000 + b'"}'), ("$KV.notes.acme", b"{}"),
        ):  # fmt: skip
            await bucket.nc.request(subject, body, timeout=TIMEOUT_S)
        await bucket.put((ACME, "last"), Note("x"))
        await until(mirror, lambda: texts(mirror) == {"acme.last": "x"})
    assert [entry.key for entry in said if entry.is_unreadable] == [(ACME, "a"), (ACME, "big")]
    assert len(await reasons(bucket.nc)) == 5


async def test_ten_thousand_entries_are_mirrored_while_others_write(bucket: Bucket[Note]) -> None:
    for n in range(10_000):
        await bucket.nc.publish(NOTES.subject((f"t{n % 10}", str(n))), b'{"text":"x"}')
    mirror = Mirror(bucket)

    async def write() -> None:
        for n in range(200):
            await bucket.put(("t3", str(n)), Note("new"))

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        await mirror.load()
    async with running(mirror):
        await until(mirror, lambda: len(mirror.entries) == 10_180)
        await until(mirror, lambda: sum(text == "new" for text in texts(mirror).values()) == 200)


@pytest.mark.parametrize("gone", [["a"], ["b"], ["a", "b"]])
async def test_a_load_does_not_wait_for_what_goes_before_it_comes(
    bucket: Bucket[Note], monkeypatch: pytest.MonkeyPatch, gone: list[str]
) -> None:
    for name in ("a", "b"):
        await bucket.put((ACME, name), Note(name))
    purge = f"STREAM.PURGE.{NOTES.stream}"
    info = bucket.info

    async def purged(query: dict[str, Any] | None = None) -> dict[str, Any]:
        for name in gone:  # the broker has counted them for the mirror's consumer
            await api(bucket.nc, purge, {"filter": NOTES.subject((ACME, name))}, timeout_s=TIMEOUT_S)
        return await info(query)

    monkeypatch.setattr(bucket, "info", purged)
    mirror = Mirror(bucket)
    await mirror.load()
    assert texts(mirror) == {f"acme.{name}": name for name in ("a", "b") if name not in gone}
    async with running(mirror):  # and nothing that comes later is missed
        await bucket.put((ACME, "c"), Note("c"))
        await until(mirror, lambda: mirror.get((ACME, "c")) == Note("c"))


async def test_a_load_ends_when_the_broker_does_not_answer(broker: NatsServer, bucket: Bucket[Note]) -> None:
    hurried = Bucket(bucket.nc, NOTES, timeout_s=0.5)
    await broker.stop()
    with pytest.raises(UnavailableError):
        await Mirror(hurried).load()


async def test_following_gives_every_entry_then_every_change(bucket: Bucket[Note]) -> None:
    await bucket.put((ACME, "a"), Note("1"))
    entries = follow(bucket, ACME)
    async with asyncio.timeout(BOUND_S), contextlib.aclosing(entries):
        assert (await anext(entries)).value == Note("1")
        await bucket.put((ACME, "a"), Note("2"))
        assert (await anext(entries)).value == Note("2")
        await bucket.delete((ACME, "a"))
        assert await anext(entries) == Entry((ACME, "a"), None, 3)
