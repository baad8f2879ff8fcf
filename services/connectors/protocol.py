"""What a connector is, as `switchyard.connectors` says it to those who write one."""

from __future__ import annotations

from switchyard.connectors import (
    Attempt,
    BusyError,
    Connector,
    ConnectorError,
    FatalError,
    Outcome,
    RetryableError,
    traceback_of,
)

__all__ = [
    "Attempt", "BusyError", "Connector", "ConnectorError", "FatalError", "Outcome", "RetryableError",
    "traceback_of",
]  # fmt: skip
