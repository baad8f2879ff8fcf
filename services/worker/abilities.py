"""What a worker can do: what its operator declares, and what its connectors and its machine have."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import structlog

from switchyard.events.encoding.json_value import encoded
from switchyard.events.errors import InvalidError
from switchyard.services.connectors.protocol import Connector
from switchyard.services.dispatch.dispatcher import Dispatcher
from switchyard.services.records.workers import Instance, declarable
from switchyard.services.worker.attempts import connector_calls
from switchyard.services.worker.hardware.machine import Machine, laid_over
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


class Found(NamedTuple):
    """What a worker declares.

    Args:
        capabilities: what jobs of every kind find.
        instances: what those of one kind find in each of its connectors beside that, or instead.
    """

    capabilities: dict[str, Any]
    instances: tuple[Instance, ...]


class Abilities:
    """What a worker can do, now and after changes.

    Args:
        connectors: asked for what they find; each may report changes.
        declared: by the operator, who has the last word.
        most_bytes: that all of it may take.
        machine: what finds what the machine has; what a connector says of its back end goes before that.
    """

    def __init__(
        self,
        connectors: Iterable[Connector],
        declared: Mapping[str, Any],
        *,
        most_bytes: int,
        machine: Machine | None = None,
    ) -> None:
        self._connectors = list(connectors)
        self._declared = declared
        self._most_bytes = most_bytes
        self._machine = machine or Machine({}, looks=False)
        self._found: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Event()
        self._has_looked = False

    def declare(self, declared: Mapping[str, Any]) -> None:
        """Change what the operator declares."""
        self._declared = declared
        self._changed.set()

    def watch(self) -> None:
        """Have connectors report changes."""
        for connector in self._connectors:
            connector_calls.watch(connector, self._changed.set)

    async def find(self) -> Found:
        """What the connectors find and the operator declares.

        Raises:
            InvalidError: it is no JSON, or too large.
        """
        found: dict[str, dict[str, Any]] = {}
        if not self._has_looked:
            self._has_looked = True
            await asyncio.to_thread(self._machine.look)
        for connector in self._connectors:
            before = self._found.get(connector.id, {})
            found_now = await connector_calls.capabilities_of(connector, before)
            found[connector.id] = declarable(found_now, self._most_bytes)
        together = self._together(found)
        self._found = found
        return together

    def _together(self, found: Mapping[str, dict[str, Any]]) -> Found:
        counts = Counter(connector.kind for connector in self._connectors)
        several = [connector for connector in self._connectors if counts[connector.kind] > 1]
        common = {
            kind: _common([found[one.id] for one in several if one.kind == kind])
            for kind in {one.kind for one in several}
        }

        def seen_by(kind: str, own: dict[str, Any]) -> dict[str, Any]:
            """What the operator says outdoes what is its own, and that what other kinds have."""
            seen = dict(self._machine.found)
            for one in self._connectors:
                seen |= own if one.kind == kind else common.get(one.kind, found[one.id])
            return laid_over(seen | own, self._machine.declared) | dict(self._declared)

        capabilities = declarable(seen_by("", {}), self._most_bytes)
        instances = tuple(
            Instance(one.id, one.kind, beside)
            for one in self._connectors
            if (beside := _beside(capabilities, seen_by(one.kind, found[one.id]))) or one in several
        )
        # All of it goes into one message.
        declarable({"": capabilities, **{one.id: one.capabilities for one in instances}}, self._most_bytes)
        return Found(capabilities, instances)

    async def follow_machine(self) -> None:
        """Notice what changes in the machine, until cancelled."""
        await self._machine.follow(self._changed.set)

    async def follow(self, registration: Registration, dispatcher: Dispatcher) -> None:
        """Publish when one is gained or lost, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                found = await self.find()
            except InvalidError as error:
                log.warning("capabilities_refused", error=str(error), effect="those declared before stay")
                continue
            record = registration.record
            if _said(found) != _said(Found(record.capabilities, record.instances)):
                registration.change(capabilities=found.capabilities, instances=found.instances)
                await dispatcher.rematch()
                log.info("capabilities_changed", revision=registration.record.revision)


def _said(found: Found) -> list[bytes]:
    return [encoded(each) for each in (found.capabilities, *(one.capabilities for one in found.instances))]


def _common(found: list[dict[str, Any]]) -> dict[str, Any]:
    """What all of them have, and all alike."""
    return {name: each for name, each in found[0].items() if all(_has(other, name, each) for other in found)}


def _beside(known: dict[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be put over what is known to get the whole; all that is known is in that, by name."""
    return {name: each for name, each in whole.items() if not _has(known, name, each)}


def _has(known: Mapping[str, Any], name: str, value: Any) -> bool:
    # 1 and True are equal in Python alone.
    return name in known and encoded({"": known[name]}) == encoded({"": value})
