from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any
from unittest import mock

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from switchyard.services.gateway.live.messages import Watch
from switchyard.services.gateway.live.watch import view as module
from switchyard.services.gateway.live.watch.source import Thing
from switchyard.services.gateway.live.watch.view import View, Watcher
from tests.sizes import examples

WISH = Watch(id="w", what="servers")
States = dict[str, int]


def things(state: States) -> dict[str, Thing]:
    return {name: Thing(name, orjson.dumps({"id": name, "n": n})) for name, n in state.items()}


def view_of(state: States) -> View:
    view = View("servers", None, WISH)
    view.update(things(state))
    return view


class Outlet:
    """A connection that sends when the test says so, and its client."""

    def __init__(self) -> None:
        self.waiting: deque[Watcher] = deque()
        self.state: States = {}
        self.revision: str | None = None
        self.said: list[dict[str, Any]] = []

    def nudge(self, watcher: Watcher) -> None:
        self.waiting.append(watcher)
        assert len(self.waiting) <= 1

    def send(self) -> None:
        """One message, if any waits."""
        if not self.waiting or (item := self.waiting.popleft().take()) is None:
            return
        message = orjson.loads(item.body)
        self.said.append(message)
        if message["type"] == "snapshot":
            self.state = {each["id"]: each["n"] for each in message["items"]}
        else:
            added, changed = ({each["id"]: each["n"] for each in message[of]} for of in ("added", "changed"))
            assert not added.keys() & changed.keys()
            assert not (added.keys() | changed.keys()) & set(message["removed"])
            self.state |= added | changed
            for name in message["removed"]:
                self.state.pop(name, None)
        self.revision = message.get("revision")

    def drain(self) -> None:
        for _ in range(100):
            self.send()
        assert not self.waiting


def joined(view: View, after: str | None = None) -> Outlet:
    outlet = Outlet()
    view.join(Watcher(outlet, "w", view, after))
    return outlet


STATE = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 2))
STEPS = st.lists(st.one_of(STATE, st.integers(0, 3)), max_size=30)


@given(first=STATE, steps=STEPS, part=st.sampled_from([1, 30, 10_000]), gone=st.sampled_from([0, 1, 2, 100]))
@settings(max_examples=examples(200), deadline=None)
def test_a_reader_however_slow_has_the_state_whenever_that_is_said_to_be_whole(
    first: States, steps: list[States | int], part: int, gone: int
) -> None:
    with mock.patch.multiple(module, PART_BYTES=part, GONE=gone):
        view, state = view_of(first), first
        outlet = joined(view)
        seen: list[tuple[str, States]] = []
        for step in steps:
            if isinstance(step, dict):
                state = step
                view.update(things(state))
                continue
            for _ in range(step):
                outlet.send()
                if outlet.revision is not None:
                    assert outlet.state == state
                    seen.append((outlet.revision, dict(state)))
        outlet.drain()
        assert outlet.state == state
        # Whoever comes back with any state that it had has the newest one afterwards, here and elsewhere.
        for revision, had in seen[-5:]:
            for place in (view, view_of(state)):
                again = joined(place, revision)
                again.state = dict(had)
                again.drain()
                assert again.state == state
                assert again.revision == outlet.revision


def test_a_revision_names_the_state_and_not_the_way_there() -> None:
    view = view_of({"a": 1, "b": 1})
    first = view.revision
    view.update(things({"a": 2}))
    assert view.revision != first
    view.update(things({"b": 1, "a": 1}))
    assert view.revision == first == view_of({"b": 1, "a": 1}).revision
    assert view_of({}).revision == "0" * 32 != module.NOTHING
    assert view_of({"a": 1}).revision != view_of({"b": 1}).revision


def test_who_has_the_state_already_hears_so_in_few_words() -> None:
    view = view_of({"a": 1})
    outlet = joined(view, view.revision)
    outlet.drain()
    assert outlet.said == [
        {
            "type": "changes", "id": "w", "what": "servers", "added": [], "changed": [], "removed": [],
            "revision": view.revision,
        }
    ]  # fmt: skip


def test_who_lacks_more_than_is_remembered_gets_a_snapshot() -> None:
    with mock.patch.object(module, "GONE", 1):
        view = view_of({"a": 1, "b": 1, "c": 1})
        outlet = joined(view)
        outlet.drain()
        view.update(things({"c": 1}))
        outlet.drain()
    assert [(said["type"], said.get("reason")) for said in outlet.said] == [
        ("snapshot", "new"), ("snapshot", "behind"),
    ]  # fmt: skip
    assert outlet.state == {"c": 1}


def test_a_long_snapshot_ends_though_much_has_gone_since_its_first_part_came() -> None:
    with mock.patch.multiple(module, PART_BYTES=1, GONE=1):
        view = view_of({"a": 1, "b": 1, "x": 1, "y": 1, "z": 1})
        view.update(things({"a": 1, "b": 1}))
        outlet = joined(view)
        outlet.drain()
    assert [said["type"] for said in outlet.said] == ["snapshot", "changes"]
    assert outlet.state == {"a": 1, "b": 1}


def test_readers_at_the_same_place_share_what_is_encoded() -> None:
    view = view_of({"a": 1})
    outlets = [joined(view) for _ in range(3)]
    encoded: list[object] = []
    with mock.patch.object(view, "_part", side_effect=_counted(view._part, encoded)):
        for outlet in outlets:
            outlet.drain()
        view.update(things({"a": 2}))
        for outlet in outlets:
            outlet.drain()
    assert len(encoded) == 2


def _counted(real: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    def part(*given: Any, **named: Any) -> Any:
        calls.append(given)
        return real(*given, **named)

    return part


async def test_who_has_left_is_sent_nothing() -> None:
    view = view_of({"a": 1})
    outlet = Outlet()
    watcher = Watcher(outlet, "w", view, None)
    view.join(watcher)
    watcher.end()
    outlet.drain()
    view.update(things({"a": 2}))
    await asyncio.sleep(0)
    assert not outlet.said
    assert not outlet.waiting
