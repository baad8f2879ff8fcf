"""What a worker can do: what its operator declares, and what its connectors find."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import structlog

from switchyard.events.encoding.json_value import encoded
from switchyard.events.errors import InvalidError
from switchyard.services.connectors.protocol import Connector
from switchyard.services.dispatch.dispatcher import Dispatcher
from switchyard.services.records.workers import declarable
from switchyard.services.worker.attempts import connector_calls
from switchyard.services.worker.registration import Registration

log = structlog.get_logger()


def declared(file: Path | None, pairs: tuple[str, ...]) -> dict[str, Any]:
    """The abilities of a JSON file, then those of `key=value` pairs; a value that is not JSON is a string.

    Raises:
        InvalidError: the file cannot be read or holds no object, or a pair has no `=`.
    """
    found: dict[str, Any] = {}
    if file is not None:
        try:
            read = orjson.loads(file.read_bytes())
        except (OSError, orjson.JSONDecodeError) as error:
            raise InvalidError(f"{file}: {error}", field="capabilities") from None
        if not isinstance(read, dict):
            raise InvalidError(f"{file}: expected a JSON object", field="capabilities")
        found = read
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not key:
            raise InvalidError(f"{pair!r}: expected key=value", field="capability")
        try:
            found[key] = orjson.loads(value)
        except orjson.JSONDecodeError:
            found[key] = value
    return found


class Abilities:
    """What a worker can do, now and after changes.

    Args:
        connectors: asked for what they find; each may report changes.
        declared: by the operator, who has the last word.
        most_bytes: that all of it may take.
    """

    def __init__(
        self, connectors: Iterable[Connector], declared: Mapping[str, Any], *, most_bytes: int
    ) -> None:
        self._connectors = list(connectors)
        self._declared = declared
        self._most_bytes = most_bytes
        self._found: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Event()

    def declare(self, declared: Mapping[str, Any]) -> None:
        """Change what the operator declares."""
        self._declared = declared
        self._changed.set()

    def watch(self) -> None:
        """Have connectors report changes."""
        for connector in self._connectors:
            connector_calls.watch(connector, self._changed.set)

    async def find(self) -> dict[str, Any]:
        """What the connectors find and the operator declares.

        Raises:
            InvalidError: it is no JSON, or too large.
        """
        capabilities: dict[str, Any] = {}
        for connector in self._connectors:
            before = self._found.get(connector.kind, {})
            self._found[connector.kind] = await connector_calls.capabilities_of(connector, before)
            capabilities.update(self._found[connector.kind])
        return declarable(capabilities | dict(self._declared), self._most_bytes)

    async def follow(self, registration: Registration, dispatcher: Dispatcher) -> None:
        """Publish when one is gained or lost, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                capabilities = await self.find()
            except InvalidError as error:
                log.warning("capabilities_refused", error=str(error), effect="those declared before stay")
                continue
            if encoded(capabilities) != encoded(registration.record.capabilities):
                registration.change(capabilities=capabilities)
                await dispatcher.rematch()
                log.info("capabilities_changed", revision=registration.record.revision)
