"""A gateway with nothing but its live half, on a real broker, and clients that speak to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web
from aiohttp.typedefs import Handler
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.commands import Submit
from switchyard.events.errors import UnavailableError
from switchyard.events.job import Job
from switchyard.events.values import JobSpec
from switchyard.events.vocabulary.ids import LaneId
from switchyard.projections.database import path_in
from switchyard.projections.reader import ReadModel
from switchyard.services.access.authenticator import Authenticator
from switchyard.services.access.browsers.standing import Standing
from switchyard.services.access.browsers.tickets import LiveTickets
from switchyard.services.access.identify import Identifiers, JwtIdentifier
from switchyard.services.access.jwt import TokenVerifier
from switchyard.services.access.rates import Rates
from switchyard.services.access.revocations import Revocations, revoke
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.server.server import NatsServer
from switchyard.services.gateway.doors.v1.live.sse import event_stream
from switchyard.services.gateway.doors.v1.live.websocket import websocket
from switchyard.services.gateway.http.connections import CONNECTIONS, Connections
from switchyard.services.gateway.http.edge.cors import CORS, Cors
from switchyard.services.gateway.http.freshness import Freshness
from switchyard.services.gateway.http.identity import Doorkeeper
from switchyard.services.gateway.http.problems import problem_of
from switchyard.services.gateway.live.admission import DOOR, LiveDoor
from switchyard.services.gateway.live.feed import LiveFeed
from switchyard.services.gateway.live.session import Session
from switchyard.services.gateway.live.watch.board import Boards
from switchyard.services.ids import new_id
from switchyard.services.records.keys import ApiKeys
from switchyard.services.settings import Settings
from tests import site as base

DEADLINE_S = 60.0
LIFE = ["submitted", "leased", "succeeded"]


def now() -> datetime:
    return datetime.now(UTC)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something that gives no signal is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.005)


def given_up(session: Session) -> asyncio.Event:
    """Set when the gateway has given up waiting for a reader to take what is sent."""
    event = asyncio.Event()
    break_off = session._break_off

    def breaking_off() -> None:
        break_off()
        event.set()

    session._break_off = breaking_off  # type: ignore[method-assign]
    return event


class Reader:
    """A WebSocket client that waits for messages with a deadline."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def send(self, type_: str, **fields: Any) -> None:
        await self.socket.send_str(orjson.dumps({"type": type_, **fields}).decode())

    async def receive(self) -> dict[str, Any]:
        frame = await self.socket.receive(timeout=DEADLINE_S)
        assert frame.type is aiohttp.WSMsgType.TEXT, (frame, self.socket.close_code)
        found: dict[str, Any] = orjson.loads(frame.data)
        return found

    async def until(self, type_: str) -> dict[str, Any]:
        """The next message of this type; those before it are dropped."""
        while (found := await self.receive())["type"] != type_:
            pass
        return found

    async def collect(self, until: str) -> list[dict[str, Any]]:
        """All messages up to and including the next one of this type."""
        found = [await self.receive()]
        while found[-1]["type"] != until:
            found.append(await self.receive())
        return found

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next events, as messages."""
        return [await self.until("event") for _ in range(count)]

    async def subscribe(self, id_: str = "s1", **fields: Any) -> list[dict[str, Any]]:
        """Subscribe and return everything up to `caught_up`."""
        await self.send("subscribe", id=id_, **fields)
        return await self.collect("caught_up")

    async def closed(self) -> tuple[int | None, str]:
        """Wait for the close frame: its code and reason."""
        while True:
            frame = await self.socket.receive(timeout=DEADLINE_S)
            if frame.type is aiohttp.WSMsgType.CLOSE:
                return frame.data, frame.extra or ""
            if frame.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return self.socket.close_code, ""


class LiveGateway(base.Site):
    """The server side, and the hands that write events."""

    def __init__(self, nats_url: str, nc: Client, publisher: Publisher, settings: Settings) -> None:
        super().__init__(nats_url, nc, publisher, settings)
        read_model = ReadModel(path_in(settings.data_dir))
        self.feed = LiveFeed(nc, settings, read_model, Freshness(nc, read_model, settings))
        self.revocations = Revocations(nc, timeout_s=settings.request_timeout_s)
        verifier = TokenVerifier(settings.data_dir, issuer=None, audience=None)
        self.authenticator = Authenticator(verifier, self.revocations, size=100)
        identifiers = Identifiers([JwtIdentifier(self.authenticator)])
        doorkeeper = Doorkeeper(identifiers, lambda _tenant: None, Rates(size=100))
        self.keys = ApiKeys(nc, publisher, settings)
        standing = Standing(verifier, self.revocations, self.keys)
        tickets = LiveTickets(nc, publisher, standing, timeout_s=settings.request_timeout_s)
        self.door = LiveDoor(self.feed, doorkeeper, Boards([], settings), tickets)
        self.url = ""
        self.http: aiohttp.ClientSession
        self.tasks: asyncio.TaskGroup
        self.responses: list[aiohttp.ClientResponse] = []

    # --- Access

    def token(self, tenant: str = "acme", *roles: str, ttl_s: float = 600) -> str:
        return self.minted(tenant=tenant, roles=roles or ("viewer",), ttl_s=ttl_s)

    async def revoke(self, token: str) -> None:
        principal = self.authenticator.authenticate_token(token)
        await revoke(self.publisher, principal.token_id, expires_at=principal.expires_at, by="test")

    async def open(self, token: str | None = None, **options: Any) -> Reader:
        headers = {"Authorization": f"Bearer {token or self.token()}"}
        return await self.connect(headers=headers, **options)

    async def connect(self, **options: Any) -> Reader:
        """A client without a token, unless the options bring one."""
        socket = await self.http.ws_connect(f"{self.url}/v1/ws", **options)
        self.responses.append(socket._response)  # a dropped one is a warning
        return Reader(socket)

    async def reader(self, token: str | None = None, **options: Any) -> Reader:
        """A client that has been greeted."""
        reader = await self.open(token, **options)
        await reader.until("hello")
        return reader

    # --- Writing

    async def submit(
        self, tenant: str = "acme", kind: str = "simulate", payload: Any = None, **labels: str
    ) -> Job:
        spec = JobSpec(kind=kind, tenant=tenant, lane=LaneId(f"{kind}-1"), payload=payload, labels=labels)
        job, _ = await self.store.transition(Job(id=new_id()), Submit(now=now(), job=spec), actor="user:a")
        return job

    async def complete(self, job: Job, result: Any = None, **fields: Any) -> Job:
        return await super().complete(job, {"n": 1} if result is None else result, **fields)

    async def live(self, tenant: str = "acme", kind: str = "simulate", **labels: str) -> Job:
        """A whole life: submitted, leased, succeeded."""
        return await self.complete(await self.lease(await self.submit(tenant, kind, **labels)))

    async def report(self, job: Job, fraction: float, **changes: Any) -> None:
        """What a worker publishes as progress."""
        assert job.lease is not None
        body = {
            "fence": job.lease.fence, "attempt": job.lease.attempt, "fraction": fraction, "stage": "pages",
            "message": "", "eta_s": None, "at": now(), "tenant": job.tenant, "kind": job.kind, **changes,
        }  # fmt: skip
        await self.nc.publish(subjects.progress(job.id), orjson.dumps(body))
        await self.nc.flush()

    async def say(self, job: Job, line: str) -> None:
        """What a worker publishes as a line of output."""
        assert job.lease is not None
        body = {
            "fence": job.lease.fence, "attempt": job.lease.attempt, "at": now(), "line": line,
            "tenant": job.tenant, "kind": job.kind,
        }  # fmt: skip
        await self.publisher.publish(subjects.log(job.id), orjson.dumps(body), {})

    async def reached(self, seq: int) -> None:
        """Wait until the feed has seen a sequence, by the feed's own reader."""
        await eventually(lambda: self.feed.head >= seq)


async def crash(gateway: LiveGateway, broker: NatsServer) -> None:
    """Kill the broker, start it again, and wait until its streams can be written."""
    await broker.kill()
    await broker.start()
    async with asyncio.timeout(DEADLINE_S):
        for stream in (subjects.JOBS, subjects.LOGS):
            while True:
                with contextlib.suppress(UnavailableError):
                    await gateway.feed.log_state(stream)
                    break


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 -- as the gateway does for every route
        return problem_of(error).response(request)


@contextlib.asynccontextmanager
async def live_gateway(
    url: str, data_dir: Path, *, dozing: bool = False, **limits: Any
) -> AsyncIterator[LiveGateway]:
    """Run one until the block ends.

    Args:
        url: that of the broker.
        data_dir: for the secret.
        dozing: whether the feed reads only while somebody needs it, as it does outside of tests.
        limits: settings that differ from the defaults.
    """
    values = {"data_dir": data_dir, "request_timeout_s": 10.0, **limits}
    timeout_s = values["request_timeout_s"]
    async with (
        base.opened(LiveGateway, url, name="gateway", timeout_s=timeout_s, **values) as gateway,
        asyncio.TaskGroup() as tasks,
        contextlib.AsyncExitStack() as awake,
    ):
        if not dozing:
            awake.enter_context(gateway.feed.needed())
        gateway.tasks = tasks
        await gateway.revocations.load()
        background = [tasks.create_task(gateway.feed.run()), tasks.create_task(gateway.revocations.run())]
        async with asyncio.timeout(DEADLINE_S):
            if not dozing:
                await gateway.feed.ready.wait()
        app = web.Application(middlewares=[problems])
        app[DOOR] = gateway.door
        app[CORS] = Cors(gateway.settings.cors_origins, ())
        app[CONNECTIONS] = Connections(gateway.settings, 10_000)
        app.router.add_get("/v1/ws", websocket)
        app.router.add_get("/v1/events/stream", event_stream)

        async def close(_: web.Application) -> None:
            gateway.door.close()

        app.on_shutdown.append(close)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        gateway.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession() as gateway.http:
            yield gateway
            for response in gateway.responses:
                response.close()
        await runner.cleanup()
        for task in background:
            task.cancel()


def names(messages: Iterable[dict[str, Any]]) -> list[str]:
    return [message["event"]["type"] for message in messages if message["type"] == "event"]


def seqs(messages: Iterable[dict[str, Any]]) -> list[int]:
    return [message["event"]["seq"] for message in messages if message["type"] == "event"]
