"""Every test finds the logs as they were before the others: some configure those of their process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest
import structlog

CONFIGURE: Final = structlog.configure


def _configure(*args: Any, **options: Any) -> None:
    """As structlog's own, but no logger keeps for ever the configuration under which it wrote first."""
    CONFIGURE(*args, **{**options, "cache_logger_on_first_use": False})


structlog.configure = _configure


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    now = structlog.get_config()
    if now == before:
        return
    structlog.configure(**before)
    lines = getattr(now["logger_factory"], "_file", None)
    stream = getattr(lines, "_stream", sys.stderr)  # that of `switchyard.services.log`
    if stream is not None and stream not in (sys.stderr, sys.__stderr__):
        stream.close()
