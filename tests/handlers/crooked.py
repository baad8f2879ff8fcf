"""Handlers that raise and return odd things."""

from __future__ import annotations

import dataclasses
import enum
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import pydantic

from switchyard.handlers import Fatal, Handlers, Retry
from tests.handlers.odd import Case, fails, register, result

handlers: Final = Handlers()
ASYNC: Final = "crooked-on-the-loop"
THREAD: Final = "crooked-in-a-thread"
PROCESS: Final = "crooked-in-a-process"


def bug(act: Callable[[Any], Any], says: str) -> Case:
    return Case(act, "internal", says, retryable=True)


def stops(act: Callable[[Any], Any], says: str) -> Case:
    return Case(act, "stopped", says, retryable=True)


def fine(act: Callable[[Any], Any]) -> Case:
    return Case(act)


# --- Raised


def deep(levels: int) -> Any:
    return deep(levels + 1)


def chained(links: int) -> Any:
    error: BaseException = ValueError("the first")
    for number in range(links):
        following = ValueError(number)
        following.__cause__ = error
        error = following
    raise error


def circular() -> Any:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    raise one


def noted() -> Any:
    error = ValueError("noted")
    for number in range(10_000):
        error.add_note(f"{number}" * 1_000)
    raise error


class ReducedError(Exception):
    def __reduce__(self) -> Any:
        sys.exit(9)


class LoopingError(Exception):
    def __str__(self) -> str:
        return str(self)


class NumberError(Exception):
    def __str__(self) -> Any:
        return 5  # noqa: PLE0307 - the point of it


class Named(type):
    @property
    def __name__(cls) -> Any:  # type: ignore[override]
        sys.exit(9)


class LyingError(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        sys.exit(9)

    @property
    def traceback(self) -> Any:
        sys.exit(9)


def from_liar() -> Any:
    raise ValueError("from a liar") from LyingError("cause")


class OddNameError(Exception, metaclass=Named):
    pass


class EqualError(Exception):
    def __eq__(self, _: object) -> bool:
        sys.exit(9)

    __hash__ = None  # type: ignore[assignment]


LongNameError: Final = type("N" * 1_000_000, (Exception,), {})


def in_finally() -> Any:
    try:
        raise ValueError("in the body")
    finally:
        sys.exit(4)


# --- Returned


class OddDict(dict[str, Any]):
    def items(self) -> Any:
        sys.exit(9)

    def __iter__(self) -> Iterator[str]:
        sys.exit(9)


class OddList(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        sys.exit(9)


class OddText(str):
    __slots__ = ()

    def __str__(self) -> str:  # noqa: PLE0307 - it returns nothing
        sys.exit(9)

    def encode(self, *_: Any) -> bytes:
        sys.exit(9)


class OddNumber(int):
    def __int__(self) -> int:
        sys.exit(9)

    def __index__(self) -> int:  # noqa: PLE0305 - the point of it
        sys.exit(9)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int = 1


class Model(pydantic.BaseModel):
    x: Any = None


class OddModel(Model):
    def model_dump(self, **_: Any) -> Any:
        sys.exit(9)


class LyingResult:
    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        sys.exit(9)

    def __await__(self) -> Any:
        sys.exit(9)


def numbers() -> Iterator[int]:
    yield 1


CASES: Final = {
    # Raised
    "recursion": bug(lambda _: deep(0), "RecursionError"),
    "memory": bug(lambda _: bytearray(1 << 62), "MemoryError"),
    "chain": bug(lambda _: chained(5_000), "ValueError: 4999"),
    "circle": bug(lambda _: circular(), "ValueError: one"),
    "notes": bug(lambda _: noted(), "ValueError: noted"),
    "reduced": bug(lambda _: fails(ReducedError("r")), "ReducedError: r"),
    "looping text": bug(lambda _: fails(LoopingError("l")), "LoopingError"),
    "text is a number": bug(lambda _: fails(NumberError("n")), "NumberError"),
    "lies about its class": bug(lambda _: fails(LyingError("class")), "LyingError: class"),
    "its cause lies": bug(lambda _: from_liar(), "ValueError: from a liar"),
    "name exits": bug(lambda _: fails(OddNameError("odd")), "OddNameError: odd"),
    "name is long": bug(lambda _: fails(LongNameError("long")), "NNN"),
    "equal exits": bug(lambda _: fails(EqualError("equal")), "EqualError: equal"),
    "no exception": bug(lambda _: fails(5), "TypeError: exceptions must"),  # type: ignore[arg-type]
    "exit in finally": stops(lambda _: in_finally(), "SystemExit: 4"),
    "exit of many": stops(lambda _: sys.exit("x" * 5_000_000), "SystemExit: xxx"),
    "group of many": bug(lambda _: fails(ExceptionGroup("g", [ValueError("x")] * 20_000)), "ExceptionGroup"),
    "fatal group": bug(lambda _: fails(ExceptionGroup("g", [Fatal("f")])), "ExceptionGroup"),
    "retry of none": Case(lambda _: fails(Retry(None)), "handler_failed", "", retryable=True),  # type: ignore[arg-type]
    "unicode": bug(lambda _: "\ud800".encode(), "UnicodeEncodeError"),
    "system error": bug(lambda _: fails(SystemError("s")), "SystemError: s"),
    "os error": bug(lambda _: fails(OSError(24, "Too many open files")), "Too many open files"),
    # Returned
    "odd dict": fine(lambda _: OddDict(a=1)),
    "odd list": fine(lambda _: OddList([1])),
    "odd text": fine(lambda _: OddText("a")),
    "odd number": fine(lambda _: OddNumber(1)),
    "enum": fine(lambda _: Colour.RED),
    "dataclass": fine(lambda _: Point()),
    "model": fine(lambda _: Model(x=[1, {"a": 2}])),
    "model of an object": result(Model(x=object())),
    "odd model": stops(lambda _: OddModel(), "SystemExit: 9"),
    "model NaN": fine(lambda _: Model(x=float("nan"))),
    "lying result": stops(lambda _: LyingResult(), "SystemExit: 9"),
    "generator": result(numbers()),
    "class": result(dict),
    "context": Case(lambda context: context, "invalid_result", "result: "),
    "function": result(print),
    "descriptor": result(io.StringIO()),
    "not implemented": result(NotImplemented),
    "exception": result(ValueError("returned")),
    "bytearray": result(bytearray(b"x")),
    "2 MB": fine(lambda _: "x" * 2_000_000),
    "wide": fine(lambda _: list(range(100_000))),
    "float max": fine(lambda _: [sys.float_info.max, 5e-324, -0.0]),
    "nul": fine(lambda _: "\0\x1b[2J\u202e"),
    "fine": Case(lambda _: {"fine": True}),
}  # fmt: skip

IN_A_PROCESS: Final = {
    # There the lack of memory has a name of its own.
    "memory": Case(lambda _: bytearray(1 << 62), "memory_exceeded", "memory"),
}  # fmt: skip

register(handlers, CASES, (ASYNC, THREAD, PROCESS))
