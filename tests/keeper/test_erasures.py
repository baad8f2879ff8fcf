"""A keeper finishes erasures, repeats those that a restore has undone, and overwrites expired keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import ConflictError, UnavailableError
from switchyard.events.job import Job
from switchyard.events.vocabulary.ids import JobId
from switchyard.services import clock
from switchyard.services.broker import topology
from switchyard.services.broker.bucket import Bucket
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.reader import read_range
from switchyard.services.clock import Estimate
from switchyard.services.event_store import EventStore
from switchyard.services.files import Files, artifact_id
from switchyard.services.files.erasures import ERASURES, Copy, Erasure
from switchyard.services.files.keys import KEYS
from switchyard.services.ids import new_id
from switchyard.services.intake.erasing import Eraser
from switchyard.services.intake.vault import Vault
from switchyard.services.keeper.kept.erasures import Erasures
from switchyard.services.settings import Settings
from tests.files.test_files import put


class Place:
    """A keeper's erasures on a broker, and what it needs."""

    def __init__(self, nc: Client, publisher: Publisher, settings: Settings) -> None:
        self.nc, self.settings, self.publisher = nc, settings, publisher
        self.files = Files(nc, timeout_s=20)
        self.eraser = Eraser(nc, EventStore(nc, publisher, settings), self.files, publisher, settings)
        self.erasures = self.started()

    def started(self) -> Erasures:
        return Erasures(self.nc, self.eraser, self.files, every_s=60)

    async def artifact(self, job: str) -> None:
        await put(self.files, b"text", file_id=artifact_id(job, 3, "text"), erasable=True)

    async def keys(self) -> int:
        return len([entry async for entry in self.files.keys.all()])


@pytest.fixture
async def place(nats_connection: Client, tmp_path: Path) -> AsyncIterator[Place]:
    await topology.apply(nats_connection)
    settings = Settings(data_dir=tmp_path / "data")
    async with Publisher(nats_connection, window=64, timeout_s=20) as publisher:
        yield Place(nats_connection, publisher, settings)


def erasure(job: str, **other: Any) -> Erasure:
    return Erasure(
        tenant="acme",
        job=job,
        kind="convert",
        scopes=(job,),
        by="user:ann",
        requested_at=datetime.now(UTC),
        **other,
    )


async def test_an_erasure_that_was_broken_off_is_finished(place: Place) -> None:
    job = new_id()
    await place.artifact(job)
    await place.eraser.bucket.put(("acme", job), erasure(job))
    await place.erasures.once()
    assert not await place.keys()
    found = (await place.eraser.bucket.get(("acme", job))).value
    assert found is not None
    assert (found.keys, found.erased_at is None) == (1, False)
    assert place.eraser.copy.read()["acme", job] == found


async def test_an_erasure_that_was_broken_off_at_its_end_is_said_to_be_done(place: Place) -> None:
    job = new_id()
    await place.eraser.bucket.put(("acme", job), erasure(job))
    await place.erasures.once()
    found = (await place.eraser.bucket.get(("acme", job))).value
    assert found is not None
    assert (found.keys, found.erased_at is None) == (0, False)
    await place.erasures.once()
    assert place.erasures.repeated == 1


async def test_what_a_restored_broker_does_not_know_of_is_erased_by_the_copy_of_the_host(
    place: Place,
) -> None:
    job, other = new_id(), new_id()
    await place.artifact(job)
    await place.artifact(other)
    place.eraser.copy.add([erasure(job, erased_at=datetime.now(UTC), keys=1)])
    assert await place.erasures.once()
    assert await place.keys() == 1
    found = (await place.eraser.bucket.get(("acme", job))).value
    assert found is not None
    assert found.keys == 2


async def test_a_key_that_comes_after_the_erasure_goes_at_the_next_look(place: Place) -> None:
    job = new_id()
    await place.eraser.bucket.put(("acme", job), erasure(job, erased_at=datetime.now(UTC)))
    assert await place.erasures.once()
    await place.artifact(job)
    assert not await place.erasures.once()
    assert not await place.keys()
    await place.erasures.once()
    assert place.erasures.repeated == 1


async def test_a_key_that_has_expired_is_overwritten(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    await place.artifact(new_id())
    await place.erasures.once()
    assert await place.keys() == 1
    later = datetime.now(UTC) + timedelta(days=2)
    monkeypatch.setattr(clock, "now", lambda: later)
    monkeypatch.setattr(clock.CLOCK, "_best", None)
    await place.started().once()  # by the host's clock alone, which may be ahead
    assert await place.keys() == 1
    monkeypatch.setattr(clock.CLOCK, "_best", Estimate(ahead_s=0.0, error_s=0.0, at_s=0.0))
    await place.started().once()
    assert not await place.keys()


def test_a_copy_that_was_cut_is_read_and_written_on(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    one, two = erasure(new_id()), erasure(new_id())
    assert copy.read() == {}
    copy.add([one])
    path = tmp_path / "erasures"
    assert path.stat().st_mode & 0o077 == 0
    path.write_bytes(path.read_bytes() + b'{"tenant": "acm')
    copy.add([two])
    assert list(copy.read()) == [("acme", one.job), ("acme", two.job)]


async def test_two_that_erase_at_once_count_each_key_once(place: Place) -> None:
    job = new_id()
    for _ in range(2):
        for number in range(4):
            name = f"{number}.txt"
            await put(place.files, b"text", file_id=artifact_id(job, 3, name), erasable=True)
    keys = await place.keys()
    one, two = (
        Eraser(place.nc, place.eraser._store, place.files, place.publisher, place.settings) for _ in range(2)
    )
    wanted = erasure(job)
    await asyncio.gather(one.finish(wanted), two.finish(wanted))
    found = (await one.bucket.get(("acme", job))).value
    assert found is not None
    assert (found.keys, await place.keys()) == (keys, 0)
    assert one.copy.read()["acme", job].erased_at is not None


async def test_without_room_for_its_copy_nothing_is_erased(place: Place) -> None:
    job = new_id()
    await place.artifact(job)
    place.settings.data_dir.parent.mkdir(exist_ok=True)
    place.settings.data_dir.write_text("no folder")
    with pytest.raises(UnavailableError, match="erasures"):
        await place.eraser._erase(Job(id=JobId(job), tenant="acme", kind="convert"), by="ann", reason="")
    assert await place.keys() == 1
    assert (await place.eraser.bucket.get(("acme", job))).value is None


def test_a_copy_with_odd_bytes_gives_what_can_be_read(tmp_path: Path) -> None:
    copy, one = Copy(tmp_path), erasure(new_id())
    (tmp_path / "erasures").write_bytes(
        b'\xff\xfe\x00\n{"tenant": "\xff"}\n[]\n{}\nnull\n' + b"[" * 9999 + b"\n"
    )
    copy.add([one])
    assert list(copy.read()) == [("acme", one.job)]


async def test_a_file_that_was_deleted_is_deleted_again_after_a_restore_and_no_later_one(
    place: Place,
) -> None:
    info = await put(place.files, b"text", erasable=True)
    artifact = await put(place.files, b"text", file_id=artifact_id(new_id(), 3, "text"), erasable=True)
    before = [entry async for entry in place.files.keys.all()]
    for one in (info, artifact):
        done = await place.eraser.erase_file(one, by="user:ann")
        assert (done.kind, done.keys, done.erased_at is None) == ("file", 1, False)
        assert not await place.files.exists("acme", one.id)
    assert await place.keys() == 0
    async with Publisher(place.nc, window=8, timeout_s=20) as publisher:  # as a backup does
        for entry in before:
            assert entry.value is not None
            await Bucket.writer(KEYS, publisher).put(entry.key, entry.value)
        for key in (("acme", info.id), ("acme", artifact.id)):
            await Bucket(place.nc, ERASURES, publisher, timeout_s=20).delete(key)
    later = await put(place.files, b"later", file_id=info.id, erasable=True)
    assert await place.keys() == 3
    await place.started().once()
    assert [entry.key[-1] async for entry in place.files.keys.all()] == [later.nuid]
    found = (await place.eraser.bucket.get(("acme", info.id))).value
    assert found is not None
    assert (found.keys, found.scopes) == (2, (f"{info.id}/{info.nuid}",))


async def test_one_id_is_deleted_as_often_as_its_certificate_holds(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("switchyard.services.intake.erasing.MOST_OF_FILE", 2)
    for _ in range(2):
        info = await put(place.files, b"text", file_id="same", erasable=True)
        await place.eraser.erase_file(info, by="user:ann")
    info = await put(place.files, b"text", file_id="same", erasable=True)
    with pytest.raises(ConflictError, match="2 times"):
        await place.eraser.erase_file(info, by="user:ann")
    assert await place.files.exists("acme", "same")


@pytest.mark.parametrize(
    "body", [b'{"format": 9, "tenant": "acme", "scopes": {"all": true}}', b"\xff", b"[]"]
)
async def test_what_a_newer_version_wrote_is_set_aside_and_stops_nothing(place: Place, body: bytes) -> None:
    job, other, again = new_id(), new_id(), new_id()
    for one in (job, other, again):
        await place.artifact(one)
    subject = ERASURES.subject(("acme", job))
    await place.publisher.publish(subject, body, {})
    await place.eraser.bucket.put(("acme", other), erasure(other))
    place.eraser.copy.add([erasure(job, erased_at=datetime.now(UTC)), erasure(again)])
    assert await place.erasures.once()
    assert await place.keys() == 0
    found = await place.eraser.bucket.get(("acme", other))
    assert found.value is not None
    assert found.value.erased_at is not None
    (kept,) = await read_range(place.nc, ERASURES.stream, subject, timeout_s=20)
    assert kept.data == body
    aside = await read_range(
        place.nc, subjects.QUARANTINE, subjects.all_quarantined(ERASURES.stream), timeout_s=20
    )
    assert len(aside) == 1
    assert {one.job for one in (await place.eraser.page("acme", 1, 10))[0]} == {other, again}
    await place.artifact(job)  # by an attempt that was lost, or a backup
    await place.started().once()
    assert await place.keys() == 0
    vault = Vault(place.nc, place.files, place.settings)
    with pytest.raises(ConflictError, match="was erased"):
        await vault.keep(JobId(job), "acme", b"{}")
