"""What all readers with the same filter see, and what of it has changed since any of them looked.

Every change gets the next stamp, and the entries stand in the order of their stamps, so what a reader lacks
is the end of one table however long it was away. A revision is named by what is in it: a sum of the digests
of all entries. So a reader may come back to any gateway, which knows the state if it has been in it itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple, Protocol

import orjson

from switchyard.services.gateway.live.messages import Item, Watch
from switchyard.services.gateway.live.watch.source import Thing, selects

PART_BYTES: Final = 128 * 1024
GONE: Final = 4096
"""How many that are gone are remembered; a reader who lacks more gets a snapshot."""
REVISIONS: Final = 256
"""How many states are remembered by name."""
ENCODED: Final = 16
BITS: Final = 128
NOTHING: Final = "0"
"""The revision of a reader who has no whole state: no state has this name."""


class _Entry(NamedTuple):
    body: bytes
    digest: int
    since: int
    stamp: int


class Place(NamedTuple):
    """Where a reader is.

    Args:
        stamp: the last change that it has.
        base: the last one at which everything that it has was still there, or is known to it as removed.
    """

    stamp: int
    base: int


class Part(NamedTuple):
    """A message, or the first of several.

    Args:
        fragment: the fields that it has for all readers, as JSON without braces.
        place: where its reader is with it.
        is_snapshot: whether it replaces what its reader has.
        revision: the state that its reader has with it; None where more has to come first.
    """

    fragment: bytes
    place: Place
    is_snapshot: bool
    revision: str | None


class Outlet(Protocol):
    """The connection that a watcher belongs to."""

    def nudge(self, watcher: Watcher) -> None:
        """Call its `take` when there is room for a message."""


class Watcher:
    """One reader's place in a view: nothing waits for the reader but the word that there is something new.

    Args:
        outlet: the connection.
        name: the client's own.
        view: what it watches; ready.
        after: the revision that the reader has; None for none.
    """

    def __init__(self, outlet: Outlet, name: str, view: View, after: str | None) -> None:
        self.view = view
        self._outlet = outlet
        self._head = b'"id":%b' % orjson.dumps(name)
        self._place = view.place_of(after)
        self._reason = "new" if after is None else "unknown"
        self._is_over = self._waits = False

    def wake(self) -> None:
        """Have the next message sent."""
        if not self._waits and not self._is_over:
            self._waits = True
            self._outlet.nudge(self)

    def take(self) -> Item | None:
        """The next message, of the state as it is now; None when nothing is watched any more."""
        self._waits = False
        if self._is_over:
            return None
        part = self.view.part(self._place)
        self._place = part.place
        head = self._head
        if part.is_snapshot:
            head += b',"reason":"%b"' % self._reason.encode()
            self._reason = "behind"
        type_ = "snapshot" if part.is_snapshot else "changes"
        if part.revision is None:
            self.wake()
        body = b'{"type":"%b",%b,%b}' % (type_.encode(), head, part.fragment)
        return Item(type_, body, NOTHING if part.is_snapshot and part.revision is None else part.revision)

    def end(self) -> None:
        """Watch no more."""
        self._is_over = True
        self.view.leave(self)


class View:
    """A state that is watched.

    Args:
        what: the name of its source.
        scope: whose things are in it; None for all.
        wish: which of those.
    """

    def __init__(self, what: str, scope: str | None, wish: Watch) -> None:
        self.what = what
        self.scope = scope
        self.watchers: dict[Watcher, None] = {}
        self.left_at = 0.0
        self.ready = asyncio.Event()
        self._wish = wish
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._floor = 0
        self._stamp = 0
        self._sum = 0
        self._revisions: OrderedDict[str, int] = OrderedDict()
        self._encoded: dict[Place | None, Part] = {}
        self._what = orjson.dumps(what)

    # --- Its readers

    def join(self, watcher: Watcher) -> None:
        """Let a reader in; its first message is sent at once."""
        self.watchers[watcher] = None
        watcher.wake()

    def leave(self, watcher: Watcher) -> None:
        """See a reader out."""
        self.watchers.pop(watcher, None)
        self.left_at = asyncio.get_running_loop().time()

    def place_of(self, revision: str | None) -> Place | None:
        """Where a reader is who has the state of this name; None where that was never seen here."""
        stamp = None if revision is None else self._revisions.get(revision)
        return None if stamp is None else Place(stamp, stamp)

    # --- What there is

    @property
    def revision(self) -> str:
        """The name of its state."""
        return f"{self._sum:0{BITS // 4}x}"

    def update(self, things: Mapping[str, Thing]) -> None:
        """Take in all that there is now, and wake the readers if that is not what there was."""
        found = dict(self._selected(things))
        before = self._stamp
        for gone in [name for name in self._entries if name not in found]:
            self._sum -= self._entries.pop(gone).digest
            self._stamp += 1
            self._gone[gone] = self._stamp
        for name, thing in found.items():
            known = self._entries.get(name)
            if known is None or known.body != thing.body:
                self._put(thing, known)
        while len(self._gone) > GONE:
            _, self._floor = self._gone.popitem(last=False)
        self._sum %= 1 << BITS
        if self._stamp == before and self.ready.is_set():
            return
        self._encoded.clear()
        self._revisions[self.revision] = self._stamp
        self._revisions.move_to_end(self.revision)
        if len(self._revisions) > REVISIONS:
            self._revisions.popitem(last=False)
        self.ready.set()
        for watcher in self.watchers:
            watcher.wake()

    def _selected(self, things: Mapping[str, Thing]) -> Iterator[tuple[str, Thing]]:
        wanted = things.values() if self._wish.ids is None else map(things.get, self._wish.ids)
        for thing in wanted:
            if thing is not None and selects(self._wish, thing):
                yield thing.id, thing

    def _put(self, thing: Thing, known: _Entry | None) -> None:
        self._stamp += 1
        if known is not None:
            self._sum -= known.digest
        self._gone.pop(thing.id, None)
        digest = _digest(self.what, thing)
        since = self._stamp if known is None else known.since
        self._entries[thing.id] = _Entry(thing.body, digest, since, self._stamp)
        self._entries.move_to_end(thing.id)
        self._sum += digest

    # --- What a reader lacks

    def part(self, place: Place | None) -> Part:
        """The next message for a reader at a place; None for one without a state to go on from."""
        if place is not None and place.base < self._floor:
            place = None  # what it has may be gone without anybody knowing it any more
        part = self._encoded.get(place)
        if part is None:
            part = self._snapshot() if place is None else self._changes(place)
            if len(self._encoded) < ENCODED:
                self._encoded[place] = part
        return part

    def _snapshot(self) -> Part:
        bodies, stamp, is_whole = self._bodies(0)
        fields = b'"items":[%b]' % b",".join(body for _, body in bodies)
        # Nothing in it is gone at this moment, though it may have come long before others that are.
        return self._part(fields, Place(stamp, self._stamp), is_snapshot=True, is_whole=is_whole)

    def _changes(self, place: Place) -> Part:
        bodies, stamp, is_whole = self._bodies(place.stamp)
        added = b",".join(body for is_new, body in bodies if is_new)
        changed = b",".join(body for is_new, body in bodies if not is_new)
        removed: list[str] = []
        for name, at in reversed(self._gone.items()):
            if at <= place.base:
                break
            removed.append(name)
        fields = b'"added":[%b],"changed":[%b],"removed":%b' % (added, changed, orjson.dumps(removed[::-1]))
        return self._part(fields, Place(stamp, self._stamp), is_snapshot=False, is_whole=is_whole)

    def _bodies(self, after: int) -> tuple[list[tuple[bool, bytes]], int, bool]:
        """What changed after a stamp, as far as it goes into a message: whether it is new, and what it is."""
        found: list[_Entry] = []
        for entry in reversed(self._entries.values()):
            if entry.stamp <= after:
                break
            found.append(entry)
        bodies: list[tuple[bool, bytes]] = []
        size_bytes, stamp = 0, after
        while found and size_bytes < PART_BYTES:
            entry = found.pop()
            bodies.append((entry.since > after, entry.body))
            size_bytes += len(entry.body)
            stamp = entry.stamp
        return bodies, stamp if found else self._stamp, not found

    def _part(self, fields: bytes, place: Place, *, is_snapshot: bool, is_whole: bool) -> Part:
        revision = self.revision if is_whole else None
        if revision is not None:
            fields += b',"revision":"%b"' % revision.encode()
        return Part(b'"what":%b,%b' % (self._what, fields), place, is_snapshot, revision)


def _digest(what: str, thing: Thing) -> int:
    text = b"\0".join((what.encode(), thing.id.encode(), thing.body))
    return int.from_bytes(hashlib.blake2b(text, digest_size=BITS // 8).digest(), "big")
