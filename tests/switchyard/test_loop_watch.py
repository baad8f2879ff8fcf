"""Who looks at a blocked loop lets go of what it has seen."""

from __future__ import annotations

import os
import time
import weakref

import pytest

from switchyard._vigil.loop_watch import LoopWatch

DEADLINE_S = 60.0


class Held:
    """What a variable of a blocking function holds."""


def blocked(watch: LoopWatch) -> tuple[weakref.ref[Held], str]:
    """Go on until the stack has been written; what it says."""
    held = Held()
    said = os.read(watch.stacks_fd, 65_536).decode()
    return weakref.ref(held), said


def test_the_stack_of_a_blocked_loop_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("switchyard._vigil.loop_watch.LOOK_S", 0.01)
    monkeypatch.setattr("switchyard._vigil.loop_watch.BLOCKED_S", 0.05)
    with LoopWatch(with_faulthandler=False) as watch:
        watch.beat()
        held, said = blocked(watch)
        watch.beat()
        assert "in blocked" in said
        until = time.monotonic() + DEADLINE_S
        while held() is not None and time.monotonic() < until:
            watch.beat()
            time.sleep(0.01)
        assert held() is None
