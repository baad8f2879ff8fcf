"""A worker as emp-redis's Python generation has it: deaf while it handles a job in its receive loop."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import aiohttp
import orjson

from tests.gateway.emp.site import TOKEN
from tests.gateway.rest import DEADLINE_S, Gateway

FRAME_BYTES: Final = 2**20
QUEUE: Final = 32
"""Frames that it takes without reading them; one more, and its own pongs are behind them."""
STATUS_EVERY: Final = 5

Doing = Callable[["Worker", dict[str, Any]], Awaitable[Any]]


class FailedError(Exception):
    """A job is to fail."""


async def at_once(_worker: Worker, assigned: dict[str, Any]) -> Any:
    """Do nothing, and say what was asked for."""
    return {"echo": assigned["params"]}


class Worker:
    """One process of it, from its start to its end.

    Args:
        api: whose door it comes to.
        id_: what it calls itself.
        doing: how it handles a job; what it raises fails the job.
        types: those of the jobs that it takes.
        beat_s: seconds between heartbeats.
        splits: whether it sends large results in chunks.
        capabilities: others that it has.
    """

    def __init__(
        self,
        api: Gateway,
        id_: str = "",
        *,
        doing: Doing = at_once,
        types: tuple[str, ...] = ("simulation",),
        beat_s: float = 20.0,
        token: str = TOKEN,
        path: str = "",
        splits: bool = True,
        **capabilities: Any,
    ) -> None:
        self.api = api
        self.id = id_ or f"worker-gpu0-{secrets.token_hex(8)}"
        self.types = types
        self.capabilities = {
            "version": "1.0.0", "supported_job_types": list(types), "cpu": True, "memory": "16GB",
            "simulation_version": "1.0.0", **capabilities,
        }  # fmt: skip
        self.status = "idle"
        self.seen: list[dict[str, Any]] = []
        self.unread = 0
        self.died: str | None = None
        self._doing = doing
        self._beat_s = beat_s
        self._token = token
        self._splits = splits
        self._path = path or f"/ws/worker/{self.id}"
        self._chunks: dict[str, dict[int, str]] = {}
        self._queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._changed = asyncio.Condition()
        self.socket: aiohttp.ClientWebSocketResponse

    async def send(self, type_: str, **fields: Any) -> None:
        """Send a message, with what is not given as null."""
        await self.raw(
            orjson.dumps({"type": type_, "worker_id": self.id, **fields, "timestamp": time.time()}).decode()
        )

    async def raw(self, text: str) -> None:
        """Send a frame."""
        await self.socket.send_str(text)

    async def report(self, job_id: str, progress: float, status: str, message: str = "") -> None:
        """Say how far a job is."""
        await self.send(
            "update_job_progress", job_id=job_id, progress=progress, status=status, message=message,
            connector_details=None,
        )  # fmt: skip

    async def in_chunks(self, type_: str, **fields: Any) -> None:
        """Send a message in chunks."""
        text = orjson.dumps(
            {"type": type_, "worker_id": self.id, **fields, "timestamp": time.time()}
        ).decode()
        parts = [text[first : first + 900_000] for first in range(0, len(text), 900_000)]
        digest = hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
        for number, part in enumerate(parts):
            await self.raw(
                orjson.dumps(
                    {
                        "type": "chunked_message", "chunk_id": number, "total_chunks": len(parts),
                        "message_id": digest, "message_hash": digest, "original_type": type_,
                        "job_id": fields.get("job_id"), "content": part,
                    }
                ).decode()
            )  # fmt: skip

    # --- Its life

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Worker]:
        """Let it work until the block ends, which kills it."""
        async with self.connected(), asyncio.TaskGroup() as tasks:
            life = [tasks.create_task(each) for each in (self._beats(), self._takes(), self._reads())]
            try:
                yield self
            finally:
                for task in life:
                    task.cancel()

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[Worker]:
        """Its connection, after it has said who it is."""
        async with self.api.http.ws_connect(
            self.api.url + self._path, params={"token": self._token}, max_msg_size=FRAME_BYTES, autoping=True
        ) as self.socket:
            await self.send(
                "register_worker", capabilities=self.capabilities, subscribe_to_jobs=True, status=self.status
            )
            yield self

    async def _beats(self) -> None:
        counter = 0
        with contextlib.suppress(ConnectionError):
            while self.died is None:
                counter += 1
                if counter % STATUS_EVERY == 0:
                    statuses = {"simulation": {"connected": True, "service": "simulation", "at": counter}}
                    capabilities = {**self.capabilities, "connector_statuses": statuses}
                    await self.send(
                        "worker_status", message_id=None, status=self.status, capabilities=capabilities,
                        connector_statuses=None,
                    )  # fmt: skip
                await self.send("worker_heartbeat", status=self.status, load=0.0)
                await asyncio.sleep(self._beat_s)

    async def _takes(self) -> None:
        """Take frames off the wire: more than its queue holds, and it is dead."""
        async for frame in self.socket:
            if self.died is not None:
                return
            self.unread += 1
            if self.unread > QUEUE:
                await self.die(1011, "keepalive ping timeout")
                return
            self._queue.put_nowait(orjson.loads(frame.data))
        await self.die(self.socket.close_code or 1006, "closed")

    async def die(self, code: int, why: str) -> None:
        """End, as its process does."""
        async with self._changed:
            self.died = self.died or f"{code} {why}"
            self._changed.notify_all()
        self._queue.put_nowait(None)
        await self.socket.close(code=code)

    async def _reads(self) -> None:
        while (message := await self._queue.get()) is not None:
            self.unread -= 1
            if message["type"] == "chunked_message":
                parts = self._chunks.setdefault(message["message_id"], {})
                parts[message["chunk_id"]] = message["content"]
                if len(parts) < message["total_chunks"]:
                    continue
                message = orjson.loads("".join(parts[number] for number in sorted(parts)))
            async with self._changed:
                self.seen.append(message)
                self._changed.notify_all()
            with contextlib.suppress(ConnectionError):
                await self._handle(message)

    async def _handle(self, message: dict[str, Any]) -> None:
        match message["type"]:
            case "job_available":
                if self.status == "idle" and message["job_type"] in self.types:
                    await self.send("claim_job", job_id=message["job_id"], claim_timeout=30)
            case "job_assigned":
                await self._work(message)
            case "error" if "claim job" in message["error"].lower():
                self.status = "idle"
            case "job_failed_ack":
                self.status = "idle"

    async def _work(self, assigned: dict[str, Any]) -> None:
        job_id = assigned["job_id"]
        self.status = "busy"
        await self.send("worker_status", status="busy", capabilities={"job_id": job_id})
        await self.report(job_id, 0, "started", "Starting job with SimulationConnector")
        try:
            result = await self._doing(self, assigned)
        except FailedError as error:
            await self.report(job_id, 0, "error", str(error))
            await self.send("fail_job", job_id=job_id, error=str(error))
        else:
            await self.report(job_id, 100, "completed", "Job completed successfully")
            if self._splits and len(orjson.dumps(result)) > FRAME_BYTES // 2:
                await self.in_chunks("complete_job", job_id=job_id, result=result)
            else:
                await self.send("complete_job", job_id=job_id, result=result)
        self.status = "idle"
        await self.send("worker_status", status="idle", capabilities=None)

    # --- What it has read

    async def until(self, type_: str, **fields: Any) -> dict[str, Any]:
        """The first message of a type with these fields that it reads or has read."""

        def found() -> dict[str, Any] | None:
            wanted = {"type": type_, **fields}.items()
            return next((each for each in self.seen if wanted <= each.items()), None)

        async with asyncio.timeout(2 * DEADLINE_S), self._changed:
            await self._changed.wait_for(lambda: found() is not None or self.died is not None)
        message = found()
        assert message is not None, (self.died, self.seen[-5:])
        return message

    def count(self, type_: str, **fields: Any) -> int:
        """How many such messages it has read."""
        wanted = {"type": type_, **fields}.items()
        return sum(wanted <= each.items() for each in self.seen)
