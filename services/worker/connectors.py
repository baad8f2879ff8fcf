"""The connectors of a worker: the instances that it was given, and its user's handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from switchyard._client.load import load
from switchyard.handlers import Handler, HandlersError
from switchyard.services.connectors import registry
from switchyard.services.connectors.handlers.connector import CustomConnector
from switchyard.services.connectors.protocol import Connector
from switchyard.services.connectors.registry import CONNECTORS
from switchyard.services.connectors.sections import ConnectorsError
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


def sections_of(names: Sequence[str], settings: Settings) -> dict[str, Mapping[str, Any]]:
    """By id, what the settings say of the instances that are named.

    Args:
        names: `kind:id`, or `kind` for an instance whose id is its kind's name.
        settings: `connectors` has the sections; an instance without one has the defaults of its kind.

    Raises:
        ConnectorsError: an id is named twice, or its section is of another kind.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        kind, colon, given = name.partition(":")
        instance = given if colon else kind
        if instance in found:
            raise ConnectorsError(f"connector {instance}: the id is given twice")
        section = settings.connectors.get(instance, {})
        if section.get("kind", kind) != kind:
            raise ConnectorsError(f"connector {instance}: its section is of kind {section['kind']!r}")
        found[instance] = {**section, "kind": kind}
    return found


def instances_of(names: Sequence[str], settings: Settings) -> list[Connector]:
    """The connectors that are named.

    Raises:
        ConnectorsError: as `sections_of`, or one of them cannot be made.
    """
    defaults = {
        "slots": settings.slots, "memory_bytes": settings.handler_memory_bytes,
        "fetch_networks": settings.server_networks or (),
    }  # fmt: skip
    sections = sections_of(names, settings)
    return [registry.instance(name, section, defaults) for name, section in sections.items()]


def connectors_of(names: Sequence[str], sources: Sequence[str], settings: Settings) -> list[Connector]:
    """A connector per instance that is named, and per handler.

    Args:
        names: as for `sections_of`.
        sources: where the handlers are.
        settings: those of the worker.

    Raises:
        HandlersError: as `handlers_of`, or a handler's kind has a connector too.
        ConnectorsError: as `instances_of`.
    """
    slots, memory_bytes = settings.slots, settings.handler_memory_bytes
    made = instances_of(names, settings)
    taken = {connector.kind for connector in made} | {connector.id for connector in made}
    custom = []
    for source, handler in handlers_of(sources):
        if handler.kind in taken:
            raise HandlersError(f"handlers {source}: {handler.kind!r} is the name of a connector")
        custom.append(
            CustomConnector(
                handler,
                source=source,
                slots=slots,
                memory_bytes=memory_bytes,
                jobs_per_process=settings.handler_process_jobs,
                idle=settings.handler_idle_processes,
                idle_s=settings.handler_idle_s,
            )
        )
    return [*made, *custom]
