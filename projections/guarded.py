"""Readers of the file that find it damaged, gone or locked report what it is: an outage that will pass."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import msgspec

from switchyard.events.errors import UnavailableError
from switchyard.projections.database import damage_of


class _Reader(Protocol):
    def on_damage(self, reason: str) -> None: ...


_Class = TypeVar("_Class", bound=type[_Reader])


def guarded(cls: _Class) -> _Class:
    """Have every public method of a reader raise `UnavailableError` for what is wrong with its file."""
    for name, method in vars(cls).items():
        if callable(method) and not name.startswith("_") and name not in ("on_damage", "close"):
            setattr(cls, name, _guarded(method))
    return cls


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def ask(self: _Reader, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except (sqlite3.Error, msgspec.MsgspecError, KeyError, ValueError, TypeError) as error:
            reason = damage_of(error)
            if reason is None and not isinstance(error, sqlite3.Error):
                raise
            if reason is None:
                raise UnavailableError(f"the read model cannot be read now: {error}") from error
            self.on_damage(reason)
            raise UnavailableError(
                "the read model is damaged; a running projector rebuilds it", retry_after_s=2.0
            ) from error

    return ask
