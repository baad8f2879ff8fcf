"""The event loop of the commands that run a part of Switchyard."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import uvloop

from switchyard._worker import runner


def run(main: Coroutine[Any, Any, Any], *, contain: bool = False) -> Any:
    """Run a command's coroutine.

    Args:
        main: the coroutine.
        contain: whether foreign code runs on its loop, which is not to end it.
    """
    return runner.run(main, uvloop.new_event_loop) if contain else uvloop.run(main)
