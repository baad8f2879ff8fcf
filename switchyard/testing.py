"""Runs handlers without a broker, for tests of one's own; `docs/handlers.md` shows how.

```python
done = Harness(handlers).run_sync("shout", {"word": "hi"})
assert done.result == {"said": "HI"}
```
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from switchyard._client.json import body_json
from switchyard._worker import runner
from switchyard._worker.contained import StillRunning
from switchyard._worker.given.spawning import PartOutcome
from switchyard._worker.given.surroundings import Facts
from switchyard._worker.handler_errors import Fatal, HandlerError, Retry
from switchyard._worker.ready import Readiness
from switchyard._worker.run import run
from switchyard._worker.scratch import remove
from switchyard.events.outcome import TIMEOUT
from switchyard.handlers import Handlers

__all__ = ["Done", "Harness", "Report", "Running"]


class Stop(enum.Enum):
    """Why an attempt is stopped."""

    CANCEL = "cancel"
    DRAIN = "drain"
    TIMEOUT = "timeout"


class Report(NamedTuple):
    """A report of progress."""

    fraction: float
    stage: str
    message: str
    eta_s: float | None


@dataclass
class Done:
    """What an attempt did.

    Args:
        result: as the job would have it; None if there is an error.
        error: why the attempt failed: what the handler raised, or a `Fatal` for a bad payload or result.
        cancelled: whether it was stopped, as a cancelled job's.
        drained: whether it was stopped and its job given back, as by a worker that ends.
        still_runs: whether its code did not stop within `grace_s` when it was asked to.
        checks: those of a proposal; None for a result that needs no review.
        progress: all reports, in order.
        previews: all of them with their media types, in order.
        logs: all lines, in order.
        artifacts: bytes by name.
        usage: amounts by unit.
        spawned: the parts that it ended in: `{"name", "kind", "payload", "requires", "prefers"}`.
        policy: by which they are joined; "" where it ended in none.
    """

    result: Any = None
    error: Exception | None = None
    cancelled: bool = False
    drained: bool = False
    still_runs: bool = False
    checks: dict[str, bool] | None = None
    progress: list[Report] = field(default_factory=list)
    previews: list[tuple[bytes, str]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    spawned: tuple[dict[str, Any], ...] = ()
    policy: str = ""

    @property
    def retryable(self) -> bool:
        """Whether another attempt would follow the error."""
        return self.error is not None and (
            isinstance(self.error, Retry) or not isinstance(self.error, HandlerError)
        )


class _Surroundings:
    """Keeps what a handler says and stores."""

    def __init__(
        self,
        facts: Facts,
        scratch: Path,
        files: Mapping[str, bytes | Path],
        done: Done,
        parts: Mapping[str, PartOutcome],
    ) -> None:
        self._parts = parts
        self.facts = facts
        self.scratch = scratch
        self.stop: Stop | None = None
        self._files = files
        self._done = done
        self._changed = asyncio.Condition()
        self._notifying: set[asyncio.Task[None]] = set()

    def progress(self, fraction: float, *, stage: str, message: str, eta_s: float | None) -> None:
        self._done.progress.append(Report(fraction, stage, message, eta_s))
        self._notify()

    def log(self, line: str) -> None:
        self._done.logs.append(line)
        self._notify()

    def preview(self, data: bytes, media_type: str) -> None:
        self._done.previews.append((data, media_type))

    def previews_dropped(self, why: str, count: int) -> None:
        """A test drops none."""

    def _notify(self) -> None:
        async def notify() -> None:
            async with self._changed:
                self._changed.notify_all()

        task = asyncio.get_running_loop().create_task(notify())
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    def first(self, stage: str | None) -> Report | None:
        """The first report of a stage, or the first of all, if it is there."""
        return next((report for report in self._done.progress if stage in (None, report.stage)), None)

    async def until(self, stage: str | None) -> None:
        """Return when that report is there."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.first(stage))

    async def fetch(self, file_id: str, to: Path) -> dict[str, Any]:
        if file_id not in self._files:
            raise Fatal(f"there is no file {file_id}", code="file_not_found")
        given = self._files[file_id]
        data = given if isinstance(given, bytes) else await asyncio.to_thread(given.read_bytes)
        await asyncio.to_thread(to.write_bytes, data)
        name = file_id if isinstance(given, bytes) else given.name
        return {"id": file_id, "name": name, "type": "application/octet-stream"} | _measured(data)

    async def save(
        self, name: str, data: Path | bytes | AsyncIterator[bytes], *, media_type: str
    ) -> dict[str, Any]:
        if isinstance(data, Path):
            body = await asyncio.to_thread(data.read_bytes)
        elif isinstance(data, bytes):
            body = data
        else:
            body = b"".join([chunk async for chunk in data])
        self._done.artifacts[name] = body
        return {"file": str(uuid.uuid4()), "name": name, "type": media_type} | _measured(body)

    async def outcome(self, part_id: str) -> dict[str, Any]:
        return asdict(self._parts[part_id])


def _measured(data: bytes) -> dict[str, Any]:
    return {"size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


class Running:
    """An attempt under way."""

    def __init__(self, task: asyncio.Task[None], surroundings: _Surroundings, done: Done) -> None:
        self._task = task
        self._surroundings = surroundings
        self._done = done

    async def progress(self, stage: str | None = None) -> Report:
        """The first report of progress, or the first of a stage, when it is there.

        Raises:
            AssertionError: the attempt ended without one.
        """
        waiting = asyncio.create_task(self._surroundings.until(stage))
        await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        found = self._surroundings.first(stage)
        if found is None:
            raise AssertionError(f"the attempt ended without a report of {stage or 'progress'}: {self._done}")
        return found

    async def cancel(self) -> Done:
        """Stop the attempt as a cancelled job's, and return what it did until then."""
        return await self._stop(Stop.CANCEL)

    async def drain(self) -> Done:
        """Stop the attempt as a worker does that ends before it, and return what it did until then."""
        return await self._stop(Stop.DRAIN)

    async def time_out(self) -> Done:
        """Stop the attempt as one that takes longer than it may, which is an error with code `timeout`."""
        return await self._stop(Stop.TIMEOUT)

    async def _stop(self, why: Stop) -> Done:
        if self._surroundings.stop is None:
            self._surroundings.stop = why
        self._task.cancel()
        return await self.done()

    async def done(self) -> Done:
        """What the attempt did, when it has ended."""
        await asyncio.wait([self._task])
        return self._done


class Harness:
    """Runs attempts of handlers in this process; one with `process=True` runs in a thread of it.

    Each attempt is set up and torn down by itself.

    Args:
        handlers: what is tested.
        files: input files by id: their bytes, or where they are.
        grace_s: how long a plain handler has to stop when it is asked to.
    """

    def __init__(
        self, handlers: Handlers, *, files: Mapping[str, bytes | Path] | None = None, grace_s: float = 10.0
    ) -> None:
        self._handlers = handlers
        self._files = files or {}
        self._grace_s = grace_s

    @asynccontextmanager
    async def start(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        attempt: int = 1,
        feedback: Any = None,
        parts: Mapping[str, PartOutcome] | None = None,
    ) -> AsyncIterator[Running]:
        """Begin an attempt; when the block ends it has ended, if need be by cancellation.

        Args:
            kind: which handler runs; KeyError if there is none.
            payload: as JSON would carry it.
            attempt: its number.
            feedback: what a reviewer said of the last proposal.
            parts: outcomes by name of the parts that it joins; None for an attempt that joins none.
        """
        handler = self._handlers[kind]
        done = Done()
        given = {str(uuid.uuid4()): (name, outcome) for name, outcome in (parts or {}).items()}
        known = tuple((name, part_id, "test") for part_id, (name, _) in given.items())
        joined = None if parts is None else known
        facts = Facts(str(uuid.uuid4()), "test", attempt, "test-worker", feedback, joined)
        scratch = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="switchyard-"))
        surroundings = _Surroundings(
            facts, scratch, self._files, done, {part_id: outcome for part_id, (_, outcome) in given.items()}
        )
        sent = orjson.loads(body_json(dict(payload or {}), "payload"))

        ready = Readiness(handler)

        async def work() -> None:
            try:
                await ready.wait()
                got = await run(handler, sent, surroundings, grace_s=self._grace_s)
            except asyncio.CancelledError as error:
                done.still_runs = isinstance(error, StillRunning)
                done.drained = surroundings.stop is Stop.DRAIN
                if surroundings.stop is Stop.TIMEOUT:
                    done.error = Retry("the attempt took longer than it may", code=TIMEOUT)
                done.cancelled = not done.drained and done.error is None
            except Exception as error:  # noqa: BLE001 - whatever a handler raises is what is tested
                done.error = error
            else:
                done.result, done.usage, done.checks = got.result, got.usage, got.checks
                if got.join is not None:
                    done.spawned, done.policy = got.join.parts, got.join.policy

        task = asyncio.create_task(work())
        try:
            yield Running(task, surroundings, done)
        finally:
            task.cancel()
            await asyncio.wait([task])
            await ready.close()
            await asyncio.to_thread(remove, scratch)

    async def run(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        attempt: int = 1,
        feedback: Any = None,
        parts: Mapping[str, PartOutcome] | None = None,
    ) -> Done:
        """Run an attempt to its end; the parameters are those of `start`."""
        async with self.start(kind, payload, attempt=attempt, feedback=feedback, parts=parts) as running:
            return await running.done()

    def run_sync(
        self,
        kind: str,
        payload: Mapping[str, Any] | None = None,
        *,
        attempt: int = 1,
        feedback: Any = None,
        parts: Mapping[str, PartOutcome] | None = None,
    ) -> Done:
        """As `run`, for tests without asyncio."""
        attempted = self.run(kind, payload, attempt=attempt, feedback=feedback, parts=parts)
        return runner.run(attempted, asyncio.new_event_loop)
