"""Uploads that can be resumed, through the client."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from switchyard.client import (
    AsyncClient,
    BrokenTransferError,
    Client,
    ConflictError,
    InvalidValueError,
    NotFoundError,
    Upload,
)
from switchyard.services.cli.client import Api
from switchyard.services.cli.commands.left.uploads import stored
from tests.gateway.rest import Gateway
from tests.switchyard.cable import cable

MIB = 1024**2


async def test_a_file_is_there_whatever_breaks_on_its_way(api: Gateway, tmp_path: Path) -> None:
    source = tmp_path / "in.bin"
    source.write_bytes(data := os.urandom(3 * MIB + 5))
    begun: list[Upload] = []
    seen: list[int] = []
    async with cable(api.url) as wire, AsyncClient(wire.url, api.token()) as shaky:

        def progress(sent: int, whole: int) -> None:
            seen.append(sent)
            if len(seen) in (4, 6):
                wire.cut()
            assert whole == len(data)

        done = await shaky.uploads.send(source, begun=begun.append, progress=progress)
        assert (done.is_done, done.offset, done.id) == (True, len(data), begun[0].id)
        assert begun[0].url.startswith(wire.url)
        assert max(seen) == len(data) > seen[4]
        assert (await shaky.download(done.id, tmp_path / "out")).read_bytes() == data
        wire.swallow = 1
        empty = tmp_path / "empty"
        empty.touch()
        assert (await shaky.uploads.send(empty, name="e", erasable=True, ttl_s=60)).is_done


async def test_somebody_else_goes_on_with_an_upload_by_its_url_alone(api: Gateway, tmp_path: Path) -> None:
    source, other = tmp_path / "in.bin", tmp_path / "other"
    source.write_bytes(data := os.urandom(MIB))
    async with AsyncClient(api.url, api.token()) as client:
        first = await client.uploads.create(len(data), name="für Anna.bin")
        second = await client.uploads.append(first, data[:1000])
        assert (second.offset, second.is_done) == (1000, False)
        with pytest.raises(ConflictError):
            await client.uploads.append(first, data[:1000])
        assert await client.uploads.get(first.url) == second
        for length, error in ((1, InvalidValueError), (len(data), BrokenTransferError)):
            again = await client.uploads.create(len(data))
            await client.uploads.append(again, data[:1000])
            other.write_bytes(bytes(length))
            with pytest.raises(error):
                await client.uploads.resume(again.id, other)
        gone = await client.uploads.create(5)
        await client.uploads.delete(gone.url)
        with pytest.raises(NotFoundError):
            await client.uploads.resume(gone.url, other)

    def use() -> None:
        with Client(api.url, api.token()) as plain:
            elsewhere = "https://another.example/v1/uploads/" + first.id
            assert plain.uploads.resume(elsewhere, source).is_done
            assert plain.download(first.id, tmp_path / "out").read_bytes() == data
            assert plain.uploads.get(first.id).is_done
            small = plain.uploads.create(3)
            assert plain.uploads.append(small, b"abc").is_done
            assert plain.uploads.send(source, name="x", media_type="text/plain").is_done
            plain.uploads.delete(small.id)

    await asyncio.to_thread(use)


async def test_a_large_file_of_a_submission_is_sent_so(
    api: Gateway, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in.bin"
    source.write_bytes(b"abc")
    async with Api(api.url, api.token()) as command:
        file = await stored(command, source, erasable=True)
        assert b"".join([chunk async for chunk in command.download(file)]) == b"abc"
    assert capsys.readouterr().err == f"{api.url}/v1/uploads/{file}\n"
