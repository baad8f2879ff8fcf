"""What a connector is, as `switchyard.connectors` says it to those who write one."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from switchyard.connectors import (
    Attempt,
    Backend,
    BackendConnector,
    BackendLostError,
    BusyError,
    Connector,
    ConnectorError,
    FatalError,
    Outcome,
    RetryableError,
    traceback_of,
)

__all__ = [
    "Attempt", "Backend", "BackendConnector", "BackendLostError", "BusyError", "Connector", "ConnectorError",
    "FatalError", "Outcome", "RetryableError", "SwitchesModels", "traceback_of",
]  # fmt: skip


@runtime_checkable
class SwitchesModels(Protocol):
    """A connector that counts how often its back end had to load another model."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def switches(self) -> int:
        """Since it was made."""
