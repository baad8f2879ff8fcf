"""Tracebacks as they stand in a job's error: where it failed, without a value of the job's."""

from __future__ import annotations

import linecache
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from switchyard.events.encoding.json_written import type_name

MAX_CHARS: Final = 8_000
MAX_TEXT_CHARS: Final = 2_000
MAX_ERRORS: Final = 8  # of a chain or a group
MAX_FRAMES: Final = 100  # of one error, the innermost
MAX_FORGOTTEN: Final = 1_000  # errors of a chain or a group
MAX_FILES: Final = 500  # whose lines are kept for tracebacks

_ROOT: Final = Path(__file__).parents[2]
_LIBRARY: Final = Path(traceback.__file__).parent
# What runs handlers stands above them in every traceback and says nothing.
_RUNNERS: Final = (
    *(
        f"{_ROOT}/{name}"
        for name in (
            "switchyard/services/worker/", "switchyard/services/connectors/handlers/",
            "switchyard/services/connectors/isolation/",
            "switchyard/_worker/", "switchyard/handlers.py",
        )
    ),
    *(f"{_LIBRARY}/{name}" for name in ("asyncio/", "concurrent/", "contextlib.py", "threading.py")),
)  # fmt: skip
_TRACEBACK: Final[Any] = BaseException.__dict__["__traceback__"]
_CAUSE: Final[Any] = BaseException.__dict__["__cause__"]
_CONTEXT: Final[Any] = BaseException.__dict__["__context__"]
_MEMBERS: Final[Any] = BaseExceptionGroup.__dict__["exceptions"]
_IMPORTING: Final = ("<frozen importlib", f"{_LIBRARY}/importlib/")


def formatted(error: BaseException, *, always: bool = True) -> str:
    """The error and what led to it: files, lines, functions and the errors' texts, innermost last.

    At most `MAX_CHARS`: what is further from the failure is left out.

    Args:
        error: as it was caught.
        always: whether an error that did not come about in a handler has a traceback too.
    """
    given = getattr(error, "traceback", "")
    if isinstance(given, str) and given:  # of another process
        return _bounded(given)
    try:
        blocks = _blocks(error, set())
    except BaseException:  # noqa: BLE001 - a cause of a foreign class may raise anything when it is looked at
        blocks = []
    if not blocks and always:
        blocks = [_block(error, _frames(error.__traceback__, runners=True))]
    return _bounded("\n".join(blocks).encode("utf-8", "replace").decode())


def forget(error: BaseException | None) -> None:
    """Let go of all that an error and those that led to it hold, once it has been formatted.

    An error that a handler raises again and again, such as a constant of its module, would gather the frames
    of every attempt, with their payloads and contexts. One that is raised afresh is in a cycle with its
    frames, which would live until the next search for cycles. Nothing of the errors' own classes is called.
    """
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left and len(seen) < MAX_FORGOTTEN:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        left += [_CAUSE.__get__(each), _CONTEXT.__get__(each)]
        if issubclass(type(each), BaseExceptionGroup):
            left += _MEMBERS.__get__(each)
        _TRACEBACK.__set__(each, None)
    if len(linecache.cache) > MAX_FILES:  # files that jobs have made, and that are gone
        linecache.clearcache()


def _blocks(error: BaseException, seen: set[int]) -> list[str]:
    """One block for each error of the chain that came about in a handler, the first cause first."""
    if id(error) in seen or len(seen) >= MAX_ERRORS:
        return []
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    blocks = _blocks(before, seen) if before is not None else []
    inner = getattr(error, "exceptions", ()) if issubclass(type(error), BaseExceptionGroup) else ()
    for each in inner:
        blocks += _blocks(each, seen)
    frames = _frames(error.__traceback__)
    if frames:
        blocks.append(_block(error, frames))
    return blocks


def _block(error: BaseException, frames: list[str]) -> str:
    return "\n".join(["Traceback (most recent call last):", *frames, _line(error)])


def _frames(where: TracebackType | None, *, runners: bool = False) -> list[str]:
    found: list[tuple[str, int, str]] = []
    for frame, line in traceback.walk_tb(where):
        file = frame.f_code.co_filename
        if file.startswith(_IMPORTING) or (not runners and not found and file.startswith(_RUNNERS)):
            continue
        found.append((file, line, frame.f_code.co_name))
    lines = [f'  File "{file}", line {line}, in {name}' for file, line, name in found[-MAX_FRAMES:]]
    return ["  …", *lines] if len(found) > MAX_FRAMES else lines


def _line(error: BaseException) -> str:
    text = text_of(error)
    return f"{type_name(error)}: {text}" if text else type_name(error)


def text_of(error: BaseException) -> str:
    """What an error says, without the input that pydantic's errors repeat."""
    try:
        if type(error).__module__.startswith("pydantic_core") and hasattr(error, "errors"):
            found = error.errors(include_url=False, include_context=False, include_input=False)
            text = "; ".join(
                f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in found[:MAX_ERRORS]
            )
        else:
            text = str(error)
    except BaseException:  # noqa: BLE001 - a foreign class's method, which may raise an exit as well
        text = "(its text cannot be read)"
    return text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS] + "…"


def _bounded(text: str) -> str:
    if len(text) <= MAX_CHARS:
        return text
    kept = text[-MAX_CHARS:].partition("\n")[2] or text[-MAX_CHARS:]
    return "…\n" + kept
