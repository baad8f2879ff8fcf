"""A converter that some page makes crash, as it is called in a child process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from switchyard.services.connectors.convert import engine
from switchyard.services.documents.trail import Trail

CRASHES = (1, 4)
"""Pages, from 0."""


def convert(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """As `engine.convert`, but for those pages."""
    return _crashing(engine.convert, arguments, report)


def read_part(arguments: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """As `engine.read_part`, but for those pages."""
    return _crashing(engine.read_part, arguments, report)


def _crashing(
    function: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    report: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        real = Trail.at

        def at(trail: Trail, number: int) -> None:
            real(trail, number)
            if number in CRASHES:
                os.kill(os.getpid(), signal.SIGSEGV)

        patch.setattr(Trail, "at", at)
        return function(arguments, report)
