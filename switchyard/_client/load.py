"""Handlers by name: `module:attribute`."""

from __future__ import annotations

import importlib
import sys
import traceback
from pathlib import Path

from switchyard.handlers import Handlers, HandlersError


def load(name: str) -> Handlers:
    """The handlers that `module:attribute` names.

    Raises:
        HandlersError: there are none; one line says why and where.
    """
    module, separator, attribute = name.partition(":")
    if not separator or not module or not attribute:
        raise HandlersError(f"handlers {name}: module:attribute was expected")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # as `python -m` has it
    try:
        imported = importlib.import_module(module)
    except Exception as error:  # a user's module may fail in any way
        raise HandlersError(f"handlers {name}: {_described(error)}") from error
    found = getattr(imported, attribute, None)
    if not isinstance(found, Handlers):
        what = "is not there" if found is None else f"is a {type(found).__name__}"
        raise HandlersError(
            f"handlers {name}: {attribute} {what}; a switchyard.handlers.Handlers was expected"
        )
    if not found:
        raise HandlersError(f"handlers {name}: no kind is registered")
    return found


def _described(error: BaseException) -> str:
    """What went wrong, on one line, with the place in the user's own code."""
    if isinstance(error, SyntaxError):
        return f"{Path(error.filename or '?').name}, line {error.lineno}: {error.msg}"
    text = " ".join(f"{type(error).__name__}: {error}".split())
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and "site-packages" not in frame.filename
        and Path(__file__).parents[1] not in Path(frame.filename).parents
    ]  # fmt: skip
    return f"{Path(own[-1].filename).name}, line {own[-1].lineno}: {text}" if own else text
