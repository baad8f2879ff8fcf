"""The connectors of a worker: of the built-in kinds it was given, and of its user's handlers."""

from __future__ import annotations

from collections.abc import Sequence

from switchyard._client.load import load
from switchyard.handlers import Handler, HandlersError
from switchyard.services.connectors.handlers.connector import CustomConnector
from switchyard.services.connectors.protocol import Connector
from switchyard.services.connectors.registry import CONNECTORS
from switchyard.services.settings import Settings


def handlers_of(sources: Sequence[str]) -> list[tuple[str, Handler]]:
    """The handlers of all `module:attribute` sources, each with its own.

    Raises:
        HandlersError: a source cannot be used, or a kind has two handlers or is built in.
    """
    found: dict[str, tuple[str, Handler]] = {}
    for source in dict.fromkeys(sources):
        for handler in load(source):
            if handler.kind in CONNECTORS:
                raise HandlersError(f"handlers {source}: the kind {handler.kind!r} is built in")
            if handler.kind in found:
                other = found[handler.kind][0]
                raise HandlersError(f"handlers {source}: {other} has a handler of {handler.kind!r} too")
            found[handler.kind] = source, handler
    return list(found.values())


def connectors_of(kinds: Sequence[str], sources: Sequence[str], settings: Settings) -> list[Connector]:
    """A connector per kind.

    Raises:
        HandlersError: as `handlers_of`.
    """
    slots, memory_bytes = settings.slots, settings.handler_memory_bytes
    built_in = [CONNECTORS[kind](slots=slots, memory_bytes=memory_bytes) for kind in kinds]
    custom = [
        CustomConnector(
            handler,
            source=source,
            slots=slots,
            memory_bytes=memory_bytes,
            jobs_per_process=settings.handler_process_jobs,
            idle=settings.handler_idle_processes,
            idle_s=settings.handler_idle_s,
        )
        for source, handler in handlers_of(sources)
    ]
    return [*built_in, *custom]
