"""Watching workers, queues and batches: a state that is kept current, and outlives its connections."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Generic, Protocol, TypeVar

import msgspec

from switchyard._client import live
from switchyard._client.transport import Pauses, Transport
from switchyard.fleet import Queue, Watched, Worker


class HasId(Protocol):
    """What can be watched."""

    @property
    def id(self) -> str:
        """Unlike any other's."""


T = TypeVar("T", bound=HasId)
NAME: Final = "w"


class _Message(msgspec.Struct, Generic[T]):
    """A snapshot, or changes; one without a revision is continued by the next."""

    type: str
    items: list[T] = []
    added: list[T] = []
    changed: list[T] = []
    removed: list[str] = []
    revision: str | None = None


class _State(Generic[T]):
    """What is known, and what of it was shown to who watches."""

    def __init__(self) -> None:
        self.revision: str | None = None
        self._shown: dict[str, T] = {}
        self._items: dict[str, T] = {}
        self._is_first = True

    def begin(self) -> None:
        """Forget what came of a state that was not whole before its connection was lost."""
        self._items = dict(self._shown)

    def take(self, message: _Message[T]) -> Watched[T] | None:
        """Apply a message; the state, where that is whole now and news."""
        if message.type == "snapshot":
            self._items = {}
        self._items |= {item.id: item for item in (*message.items, *message.added, *message.changed)}
        for name in message.removed:
            self._items.pop(name, None)
        if message.revision is None:
            return None
        self.revision = message.revision
        before, self._shown = self._shown, dict(self._items)
        news = Watched(
            items=self._shown,
            added=[name for name in self._shown if name not in before],
            changed=[name for name, item in self._shown.items() if before.get(name, item) != item],
            removed=[name for name in before if name not in self._shown],
        )
        if not (self._is_first or news.added or news.changed or news.removed):
            return None
        self._is_first = False
        return news


async def watch(
    transport: Transport,
    kind: type[T],
    what: str,
    selection: Mapping[str, Any],
    *,
    final: Collection[str] = (),
) -> AsyncGenerator[Watched[T], None]:
    """The state at once, then again with every change, without end.

    Args:
        transport: to the gateway.
        kind: the model of what is watched.
        what: its name to the gateway.
        selection: the filter.
        final: codes of refusals that are not tried again.

    Raises:
        ApiError: the gateway refuses the connection or the filter.
        UnreachableError: it did not answer, after all tries.
    """
    state = _State[T]()
    decoder: msgspec.json.Decoder[_Message[T]] = msgspec.json.Decoder(_Message[kind])  # type: ignore[valid-type]

    async def connected(pauses: Pauses) -> AsyncGenerator[Watched[T], None]:
        def wish(_hello: Mapping[str, Any]) -> dict[str, Any]:
            state.begin()
            asked = {"type": "watch", "id": NAME, "what": what, "after": state.revision, **selection}
            return {name: value for name, value in asked.items() if value is not None}

        async with aclosing(live.frames(transport, wish)) as frames:
            async for head, raw in frames:
                if head["type"] in ("snapshot", "changes"):
                    pauses.reset()
                    news = state.take(decoder.decode(raw))
                    if news is not None:
                        yield news

    async with aclosing(live.resumed(transport, connected, final=final)) as states:
        async for news in states:
            yield news


class AsyncWatching:
    """The part of `AsyncClient` that watches workers and queues."""

    _transport: Transport

    async def watch_workers(
        self,
        *,
        ids: Sequence[str] = (),
        kinds: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        tenant: str | None = None,
    ) -> AsyncGenerator[Watched[Worker], None]:
        """The live workers at once, then again with every change, without end; the newest state alone.

        Args:
            ids: only these.
            kinds: only those that run one of these.
            labels: only those that declare all of these among their capabilities.
            tenant: as another tenant sees them; needs the role operator.
        """
        selection = {
            "ids": list(ids) or None, "kinds": list(kinds) or None, "labels": dict(labels or {}) or None,
            "tenant": tenant,
        }  # fmt: skip
        async with aclosing(watch(self._transport, Worker, "workers", selection)) as states:
            async for state in states:
                yield state

    async def watch_queues(
        self,
        *,
        ids: Sequence[str] = (),
        kinds: Sequence[str] = (),
        priorities: Sequence[int] = (),
        tenant: str | None = None,
    ) -> AsyncGenerator[Watched[Queue], None]:
        """The queues at once, then again with every change, without end; the newest state alone.

        Args:
            ids: only these, each `<lane>:<priority>`.
            kinds: only those of these kinds.
            priorities: only those of these priorities.
            tenant: those of another tenant, or `*` for all jobs; needs the role operator.
        """
        selection = {
            "ids": list(ids) or None, "kinds": list(kinds) or None, "priorities": list(priorities) or None,
            "tenant": tenant,
        }  # fmt: skip
        async with aclosing(watch(self._transport, Queue, "queues", selection)) as states:
            async for state in states:
                yield state
