"""How connectors run code in child processes, and what becomes of its failures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from switchyard.services.connectors.isolation.output import OnOutput
from switchyard.services.connectors.isolation.processes import (
    ProcessCrashed,
    ProcessMemoryExceeded,
    ProcessPool,
    ProcessTimedOut,
)
from switchyard.services.connectors.protocol import Attempt, FatalError, RetryableError


async def run_isolated(
    pool: ProcessPool,
    function: str,
    arguments: dict[str, Any],
    *,
    attempt: Attempt,
    timeout_s: float,
    on_progress: Callable[[dict[str, Any]], None],
    output: OnOutput | None = None,
    owner: str = "",
) -> Any:
    """Call a function in a child process on behalf of an attempt.

    The children of a pool run for all tenants, unless `owner` says whose the attempt is.

    Raises:
        ConnectorError: as the function raised it.
        RetryableError: code `timeout` or `handler_crashed`.
        FatalError: code `memory_exceeded`.
    """
    try:
        return await pool.run(
            function, arguments, timeout_s=timeout_s, grace_s=attempt.grace_s, on_progress=on_progress,
            output=output, owner=owner,
        )  # fmt: skip
    except ProcessTimedOut as error:
        raise RetryableError("timeout", f"the work was stopped after {timeout_s:g} s") from error
    except ProcessMemoryExceeded as error:
        raise FatalError("memory_exceeded", "the work needs more memory than a job may have") from error
    except ProcessCrashed as error:
        raise RetryableError("handler_crashed", str(error)) from error
