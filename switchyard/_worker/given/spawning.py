"""Parts of a job: noted while a planning attempt runs, and read by the one that joins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import orjson

from switchyard.events.encoding.json_written import type_named, written
from switchyard.events.errors import InvalidError
from switchyard.events.rules import parts as rules
from switchyard.events.vocabulary.causes import JoinPolicy
from switchyard.events.vocabulary.refusals import RefusalCode

PLAN: Final = "parts.json"
"""The artifact in which a planning attempt leaves what its parts are to do."""
PAYLOAD_BYTES: Final = 512 * 1024
PLAN_BYTES: Final = 32 * 1024 * 1024
NOT_JOINED: Final = "not_joined"
Policy = Literal["all", "collect"]


class PartFacts(NamedTuple):
    """Which job is a part: its name, its id and its kind."""

    name: str
    id: str
    kind: str


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """How a part ended.

    Args:
        status: `succeeded`, `dead`, `cancelled` or `expired`.
        result: what it came to; read from its file where it was too large for an event.
        artifacts: what it stored; `file` is the id to fetch it by.
        error: `{"code", "message"}` where it is dead, or its result is not there any more; else None.
    """

    status: str
    result: Any = None
    artifacts: tuple[dict[str, Any], ...] = ()
    error: dict[str, Any] | None = None


class Part:
    """A part that has ended, as the joining attempt sees it."""

    def __init__(self, facts: PartFacts, load: Callable[[str], Awaitable[dict[str, Any]]]) -> None:
        self.name, self.id, self.kind = facts
        self._load = load

    async def outcome(self) -> PartOutcome:
        """How it ended; read when it is asked for, and at each call again."""
        return outcome_of(await self._load(self.id))


class SyncPart:
    """The same for a plain handler."""

    def __init__(self, facts: PartFacts, load: Callable[[str], dict[str, Any]]) -> None:
        self.name, self.id, self.kind = facts
        self._load = load

    def outcome(self) -> PartOutcome:
        """As `Part.outcome`."""
        return outcome_of(self._load(self.id))


def outcome_of(fields: Mapping[str, Any]) -> PartOutcome:
    """An outcome as it is passed on between processes."""
    return PartOutcome(fields["status"], fields["result"], tuple(fields["artifacts"]), fields["error"])


@dataclass(frozen=True, slots=True)
class Join:
    """The end of a planning attempt; a handler returns it in the place of a result.

    Args:
        policy: a `JoinPolicy`.
        parts: what each part is to do, in order: `{"name", "kind", "payload", "requires", "prefers"}`.
        kept: ids of parts that have succeeded before a redrive, by name; filled in by the worker.
    """

    policy: str
    parts: tuple[dict[str, Any], ...]
    kept: dict[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """The plan as it is stored."""
        return orjson.dumps(list(self.parts))


class Spawns:
    """What a planning attempt has spawned so far; nothing of it is submitted before the attempt ends.

    Args:
        joins: whether the attempt joins parts, and so can spawn none.
        depth: how many jobs are above its own, each a part of the next.
    """

    def __init__(self, *, joins: bool, depth: int) -> None:
        self._joins = joins
        self._depth = depth
        self._parts: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self._bytes = 0

    def __len__(self) -> int:
        """How many there are."""
        return len(self._parts)

    def add(
        self,
        kind: str,
        payload: Mapping[str, Any],
        name: str | None,
        requires: Mapping[str, Any] | None,
        prefers: Mapping[str, Any] | None,
    ) -> str:
        """Note a part; its name.

        Raises:
            InvalidError: code `parted_before`, `too_deep`, `too_many_parts` or `invalid_part`.
        """
        if self._joins:
            message = "spawn: the job has ended in parts before, and this attempt joins them"
            raise InvalidError(message, code=RefusalCode.PARTED_BEFORE)
        if self._depth >= rules.MAX_DEPTH:
            message = f"spawn: the job is {self._depth} levels deep, of at most {rules.MAX_DEPTH}"
            raise InvalidError(message, code=RefusalCode.TOO_DEEP)
        rules.check_number(len(self._parts) + 1)
        for what, text in (("kind", kind), ("name", "" if name is None else name)):
            if not isinstance(text, str):
                _refuse(what, f"expected a string, not {type_named(text)}")
        name = str(len(self._parts)) if name is None else name
        rules.check_part(name, kind, self._names, field="spawn")
        part: dict[str, Any] = {"name": name, "kind": kind}
        size = len(name) + len(kind)
        given: dict[str, Any] = {"payload": payload, "requires": requires, "prefers": prefers}
        for what, value in given.items():
            if value is None and what != "payload":
                continue
            if not isinstance(value, Mapping):
                _refuse(what, f"expected an object, not {type_named(value)}")
            body = _written(what, dict(value))
            if len(body) > PAYLOAD_BYTES:
                rule = f"{len(body)} bytes as JSON, of at most {PAYLOAD_BYTES}; larger input goes into a file"
                _refuse(what, rule)
            part[what] = orjson.loads(body)  # what the handler changes later is not meant
            size += len(body)
        if self._bytes + size > PLAN_BYTES:
            _refuse("payload", f"the parts have more than {PLAN_BYTES} bytes together; use files")
        self._bytes += size
        self._names.add(name)
        self._parts.append(part)
        return name

    def join(self, policy: str) -> Join:
        """The end of the attempt.

        Raises:
            InvalidError: code `no_parts`, or `invalid_part` where there is no such policy.
        """
        if policy not in tuple(JoinPolicy):
            _refuse("policy", f"expected one of {', '.join(JoinPolicy)}")
        rules.check_number(len(self._parts))
        return Join(policy, tuple(self._parts))

    def check_joined(self) -> None:
        """Refuse the result of an attempt that has spawned parts and forgets them.

        Raises:
            InvalidError: code `not_joined`.
        """
        if self._parts:
            message = f"result: the attempt has spawned {len(self._parts)} parts: return what `join` gives"
            raise InvalidError(message, code=NOT_JOINED, field="result")


def parts_of(facts: Sequence[Sequence[str]]) -> tuple[PartFacts, ...]:
    """Which parts there are, as they are passed on between processes."""
    return tuple(PartFacts(*each) for each in facts)


def _written(what: str, value: Any) -> bytes:
    try:
        return written(value, what)
    except InvalidError as error:
        error.code = RefusalCode.INVALID_PART
        raise


def _refuse(what: str, rule: str) -> None:
    raise InvalidError(f"{what}: {rule}", code=RefusalCode.INVALID_PART, field=what)
