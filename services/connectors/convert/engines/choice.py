"""Which engine converts a document: the one that its job names, or the first that can."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from switchyard.services.connectors.convert.engines.breaker import Breaker
from switchyard.services.connectors.convert.engines.local import Local
from switchyard.services.connectors.convert.engines.protocol import (
    REFUSED,
    AwayError,
    Engine,
    HeldError,
    LeavesWork,
    Made,
    Request,
    UnsuitedError,
)
from switchyard.services.connectors.convert.payload import BATCHES, why_not
from switchyard.services.connectors.protocol import (
    Attempt,
    BusyError,
    ConnectorError,
    FatalError,
    RetryableError,
)

log = structlog.get_logger()

HERE: Final = "local"


class Engines:
    """The engines of a converter.

    Args:
        engines: in the order in which they are asked.
        failures, pause_s: see `Breaker`.
        timeout_s: seconds for a document in an engine elsewhere; the one here counts its own work alone.
        changed: called when one is left alone, or may be asked again.
    """

    def __init__(
        self, engines: Sequence[Engine], *, failures: int, pause_s: float, timeout_s: float,
        changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self._timeout_s = timeout_s
        self._engines = {engine.name: engine for engine in engines}
        self._breakers = {
            engine.name: Breaker(failures=failures, pause_s=pause_s, changed=changed) for engine in engines
        }

    def usable(self) -> list[str]:
        """The names of those that may be asked now."""
        return [name for name, breaker in self._breakers.items() if not breaker.is_open]

    def down(self) -> dict[str, str]:
        """Those that are left alone, each with why."""
        return {name: breaker.why for name, breaker in self._breakers.items() if breaker.is_open}

    async def convert(self, request: Request) -> tuple[str, Made]:
        """Convert a document; by which engine, and what it made.

        Raises:
            ConnectorError: as the engine raised it.
            FatalError: no engine reads such a document.
            RetryableError: code `engine_failed`: all that were asked failed.
            BusyError: code `engine_away`: none could be asked.
        """
        passed: list[str] = []
        unsuited: UnsuitedError | None = None
        failed = False
        for name in self._wanted(request):
            breaker = self._breakers[name]
            if not breaker.allows():
                passed.append(f"{name}: {breaker.why or 'it is being tried'}")
                continue
            try:
                made = await self._asked(name, breaker, request)
            except UnsuitedError as error:
                unsuited = error
                continue
            except HeldError as error:
                passed.append(f"{name}: {error.why}")
                continue
            except AwayError as error:
                failed = failed or error.asked
                passed.append(f"{name}: {error.why}")
                continue
            said = {
                **made.said,
                "warnings": [*made.said["warnings"], *(f"not used: {why}" for why in passed)],
            }
            return name, made._replace(said=said)
        if passed:
            why = "; ".join(passed)
            raise RetryableError("engine_failed", why) if failed else BusyError("engine_away", why)
        if unsuited is not None:
            raise FatalError(unsuited.code, unsuited.why)
        raise FatalError("unsupported_format", "no engine of this worker makes what was asked for")

    async def attached(self, name: str, request: Request) -> tuple[str, Made]:
        """Watch work that was left to an engine; by which engine, and what it made.

        Raises:
            ConnectorError: as the engine raised it.
            RetryableError: code `engine_failed`.
        """
        engine = self._engines.get(name)
        if engine is None:
            raise BusyError("engine_away", f"this worker has no engine {name}")
        try:
            return name, await engine.convert(request)
        except UnsuitedError as error:
            raise FatalError(error.code, error.why) from None
        except (AwayError, HeldError) as error:
            raise RetryableError("engine_failed", f"{name}: {error.why}") from None

    async def stop(self, name: str, attempt: Attempt, remote_id: str) -> None:
        """Stop work that was left to an engine.

        Raises:
            RetryableError: it cannot be stopped now.
        """
        engine = self._engines.get(name)
        if isinstance(engine, LeavesWork):
            await engine.stop(attempt, remote_id)

    def here(self) -> Local:
        """The converter's own engine.

        Raises:
            BusyError: this worker has none.
        """
        engine = self._engines.get(HERE)
        if not isinstance(engine, Local):
            raise BusyError("engine_away", f"this worker has no engine {HERE}")
        return engine

    def _wanted(self, request: Request) -> list[str]:
        payload = request.payload
        if payload.engine is None:
            return [name for name in self._engines if not why_not(name, payload.formats, payload.ocr)]
        if payload.engine not in self._engines:
            raise BusyError("engine_away", f"this worker has no engine {payload.engine}")
        return [payload.engine]

    async def _asked(self, name: str, breaker: Breaker, request: Request) -> Made:
        with breaker.trial():
            own_time = name == HERE or (request.in_batch and name in BATCHES)
            request.answered = breaker.succeeded
            try:
                async with asyncio.timeout(None if own_time else self._timeout_s):
                    made = await self._engines[name].convert(request)
            except TimeoutError:
                raise RetryableError("timeout", f"the work was stopped after {self._timeout_s:g} s") from None
            except AwayError as error:
                log.warning("engine_failed", engine=name, job=request.attempt.job_id, why=error.why)
                breaker.failed(error.kind, for_long=error.for_long)
                raise
            except HeldError as error:
                log.info("engine_held", engine=name, job=request.attempt.job_id, seconds=error.seconds)
                breaker.hold(error.why, error.seconds)
                raise
            except ConnectorError as error:
                if isinstance(error, FatalError) and error.code == REFUSED:
                    breaker.succeeded()  # it has looked at the document
                raise
            breaker.succeeded()
            return made

    async def close(self) -> None:
        """Release what the engines hold."""
        for breaker in self._breakers.values():
            breaker.close()
        for engine in self._engines.values():
            await engine.close()
