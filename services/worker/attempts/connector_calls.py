"""What a worker asks of its connectors beside attempts: foreign code, which fails for itself alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from switchyard._worker.contained import Foreign
from switchyard._worker.traceback import forget
from switchyard.events.outcome import trace_of
from switchyard.services.connectors.protocol import Connector

log = structlog.get_logger()

ANSWER_S: Final = 60.0
CLOSE_S: Final = 10.0


async def capabilities_of(connector: Connector, before: dict[str, Any]) -> dict[str, Any]:
    """What a connector finds; what it found before where it fails, or takes longer than a minute."""

    def ask() -> Any:
        try:
            return dict(connector.capabilities())
        except BaseException as error:  # noqa: BLE001 - foreign code: none of it may end the worker
            return error

    try:
        async with asyncio.timeout(ANSWER_S):
            found = await asyncio.to_thread(ask)
    except TimeoutError as error:
        found = error
    if isinstance(found, BaseException):
        _failed(connector, "capabilities", found, "what it found before stays")
        return before
    answer: dict[str, Any] = found
    return answer


def watch(connector: Connector, changed: Callable[[], None]) -> None:
    """Have a connector report changes, if it can."""
    try:
        connector.watch(changed)
    except BaseException as error:  # noqa: BLE001 - as above
        _failed(connector, "watch", error, "no change of what it finds is seen")


async def close(connector: Connector) -> None:
    """Have a connector release what it holds, as far as it does within ten seconds."""
    work = Foreign(connector.close)
    await asyncio.wait([work.task], timeout=CLOSE_S)
    if not await work.stop(1.0) or work.error is not None:
        error = work.error or TimeoutError(f"it took longer than {CLOSE_S:g} s")
        _failed(connector, "close", error, "what it holds is not released")


def _failed(connector: Connector, call: str, error: BaseException, effect: str) -> None:
    log.error(
        "connector_failed", connector=connector.id, kind=connector.kind, call=call, effect=effect,
        exception=trace_of(error),
    )  # fmt: skip
    forget(error)
