"""The kinds that Switchyard runs itself, and their connectors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Final

import pydantic

from switchyard.services.connectors.protocol import Connector
from switchyard.services.distribution import Extra

# By name, so that a process holds only what it needs.
_CLASSES: Final = {
    "convert": "switchyard.services.connectors.convert.connector:ConvertConnector",
    "simulate": "switchyard.services.connectors.simulate:SimulateConnector",
}

EXTRAS: Final[dict[str, Extra]] = {"convert": "documents"}
"""What has to be installed for a kind beside a worker."""


def _class(kind: str) -> Any:
    module, _, name = _CLASSES[kind].partition(":")
    return getattr(import_module(module), name)


def _make(kind: str, **limits: int) -> Connector:
    connector: Connector = _class(kind)(**limits)
    return connector


CONNECTORS: Final[dict[str, Callable[..., Connector]]] = {kind: partial(_make, kind) for kind in _CLASSES}
"""The kinds that Switchyard runs itself; each makes its connector from `slots`, the attempts at once, and
`memory_bytes`, the address space of each of its child processes."""


def payload_model(kind: str) -> type[pydantic.BaseModel] | None:
    """What a payload of `kind` must look like, or None for a kind that Switchyard does not know."""
    model: type[pydantic.BaseModel] | None = _class(kind).payload_model if kind in _CLASSES else None
    return model
