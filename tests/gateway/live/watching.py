"""Whole gateways whose workers and queues are watched, and readers who fold what they are sent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import msgspec
import orjson

from switchyard.events.vocabulary.ids import WorkerId
from switchyard.services.broker.bucket import Bucket
from switchyard.services.records.tenancy import tenancy_of
from switchyard.services.records.workers import HEARTBEATS, WorkerRecord, new_record
from tests.gateway.live.site import DEADLINE_S, Reader
from tests.gateway.rest import Gateway, now

Items = dict[str, dict[str, Any]]


class Folded:
    """A reader's state: what the messages say, applied as `docs/live.md` says."""

    def __init__(self, reader: Reader, name: str = "w") -> None:
        self.reader = reader
        self.name = name
        self.items: dict[str, dict[str, Any]] = {}
        self.revision: str | None = None
        self.said: list[dict[str, Any]] = []

    async def watch(self, what: str, **fields: Any) -> dict[str, Any]:
        """Watch, and return the first message."""
        await self.reader.send("watch", id=self.name, what=what, **fields)
        return await self.next()

    async def next(self) -> dict[str, Any]:
        """Take one message in."""
        while (message := await self.reader.receive()).get("id") != self.name:
            pass
        self.take(message)
        return message

    def take(self, message: dict[str, Any]) -> None:
        self.said.append(message)
        if message["type"] == "snapshot":
            self.items = {item["id"]: item for item in message["items"]}
        else:
            assert message["type"] == "changes", message
            self.items |= {item["id"]: item for item in (*message["added"], *message["changed"])}
            for name in message["removed"]:
                self.items.pop(name, None)
        self.revision = message.get("revision")

    async def until(
        self, condition: Callable[[dict[str, dict[str, Any]]], bool]
    ) -> dict[str, dict[str, Any]]:
        """Take messages in until the whole state is as wanted."""
        while self.revision is None or not condition(self.items):
            await self.next()
        return self.items


@contextlib.asynccontextmanager
async def watching(api: Gateway, token: str | None = None, name: str = "w") -> AsyncIterator[Folded]:
    """A reader over a WebSocket that has been greeted."""
    headers = {"Authorization": f"Bearer {token or api.token()}"}
    async with (
        asyncio.timeout(DEADLINE_S),
        api.http.ws_connect(f"{api.url}/v1/ws", headers=headers) as socket,
    ):
        reader = Reader(socket)
        await reader.until("hello")
        yield Folded(reader, name)


@contextlib.asynccontextmanager
async def streamed(
    api: Gateway, path: str, token: str | None = None, **headers: str
) -> AsyncIterator[AsyncIterator[tuple[str | None, dict[str, Any]]]]:
    """The events of a stream: the id that stands with each, and its message."""
    sent = {"Authorization": f"Bearer {token or api.token()}"}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}

    async def events(answer: aiohttp.ClientResponse) -> AsyncIterator[tuple[str | None, dict[str, Any]]]:
        id_: str | None = None
        async for raw in answer.content:
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name == "id":
                id_ = value
            elif name == "data":
                yield id_, orjson.loads(value)
                id_ = None

    async with asyncio.timeout(DEADLINE_S), api.http.get(api.url + path, headers=sent) as answer:
        assert answer.status == 200, await answer.text()
        yield events(answer)


class Hands:
    """Writes what workers say of themselves."""

    def __init__(self, api: Gateway) -> None:
        self._api = api

    async def come(
        self, name: str, *, kind: str = "noop", tenant: str | None = None, **abilities: Any
    ) -> WorkerRecord:
        """A worker that was not there."""
        record = new_record(
            worker_id=WorkerId(name),
            kinds=(kind,),
            capabilities=abilities,
            slots=2,
            lease_s=600,
            tenancy=tenancy_of([tenant] if tenant else [], []),
        )
        return await self.beat(record)

    async def beat(self, record: WorkerRecord, *, ttl_s: int = 3600, **changes: Any) -> WorkerRecord:
        """A heartbeat, which expires after its time."""
        record = msgspec.structs.replace(record, at=now(), **changes)
        body = msgspec.json.encode(record)
        await self._api.publisher.publish(HEARTBEATS.subject(record.id), body, {"Nats-TTL": f"{ttl_s}s"})
        return record

    async def go(self, record: WorkerRecord) -> None:
        """The end of a worker that says so."""
        bucket = Bucket(self._api.nc, HEARTBEATS, self._api.publisher, timeout_s=20)
        await bucket.delete(record.id)
