"""Handlers that hand over what nobody can use, for every way in which handlers run."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NamedTuple

from switchyard.handlers import Artifact, Context, Fatal, HandlerError, Handlers, Proposal, Retry, SyncContext

handlers: Final = Handlers()
ASYNC: Final = "odd-on-the-loop"
THREAD: Final = "odd-in-a-thread"
PROCESS: Final = "odd-in-a-process"


class Mute:
    """An object whose text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class BareError(HandlerError):
    """One that was never initialised."""

    def __init__(self) -> None:
        pass


class Case(NamedTuple):
    """What a handler does, and what becomes of its job.

    Args:
        act: does it; what it gives is the result.
        code: that of the failure; None for a job that succeeds.
        says: a part of the failure's message.
        retryable: whether another attempt may follow.
    """

    act: Callable[[Any], Any]
    code: str | None = None
    says: str = ""
    retryable: bool = False


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def endless() -> list[Any]:
    items: list[Any] = []
    items.append(items)
    return items


def fails(error: BaseException) -> Any:
    raise error


def uses(context: Any, **usage: Any) -> None:
    context.usage.update(usage)


def sets_usage(context: Any, usage: Any) -> None:
    context.usage = usage


def reports(context: Any, *said: Any, **more: Any) -> str:
    context.progress(*said, **more)
    return "reported"


def says(context: Any, line: Any) -> str:
    context.log(line)
    return "said"


def result(value: Any, says: str = "result: ") -> Case:
    return Case(lambda _: value, "invalid_result", says)


def usage(value: Any, says: str = "usage.x: ") -> Case:
    return Case(lambda context: uses(context, x=value), "invalid_usage", says)


def checks(value: Any, says: str = "checks") -> Case:
    return Case(lambda _: Proposal("draft", checks=value), "invalid_checks", says)


def error(raised: BaseException, code: str, says: str, *, retryable: bool = False) -> Case:
    return Case(lambda _: fails(raised), code, says, retryable)


def progress(*said: Any, says: str, **more: Any) -> Case:
    return Case(lambda context: reports(context, *said, **more), "invalid_progress", says)


def reported(*said: Any, **more: Any) -> Case:
    return Case(lambda context: reports(context, *said, **more))


def saved(name: Any, data: Any, code: str, says: str, **more: Any) -> Case:
    return Case(lambda context: context.save(name, data, **more), code, says)


CASES: Final = {
    "result NaN": result(math.nan),
    "result infinite": result({"a": [0, 1, 2, math.inf]}, "result.a[3]: "),
    "result 10**30": result([10**30], "result[0]: "),
    "result 65 levels": result(nested(65), "result[0][0]"),
    "result 3000 levels": result(nested(3000), "result[0][0]"),
    "result 64 levels": Case(lambda _: nested(64)),
    "result in itself": result(endless(), "result[0][0]"),
    "result set": result({"a": {1}}, "result.a: "),
    "result object": result(object(), "result: "),
    "result mute": result([Mute()], "result[0]: "),
    "result bytes": result(b"x", "result: "),
    "result half a pair": result({"a": "\ud800"}, "result.a: "),
    "result key": result({"a": {1: 2}}, "result.a: "),
    "result key of half a pair": result({"\ud800": 2}, "result: "),
    "result decimal": result(Decimal(1)),
    "proposal object": Case(lambda _: Proposal(object()), "invalid_result", "result: "),
    "proposal number": checks({"a": 1}, "checks.a: "),
    "proposal five": checks(5),
    "proposal none": checks(None),
    "proposal name": checks({"No Name": True}),
    "usage NaN": usage(math.nan),
    "usage infinite": usage(-math.inf),
    "usage text": usage("3"),
    "usage decimal": usage(Decimal(3)),
    "usage true": usage(True),
    "usage none": usage(None),
    "usage 10**30": usage(10**30),
    "usage five": Case(lambda context: sets_usage(context, 5), "invalid_usage", "usage: "),
    "usage key": Case(lambda context: sets_usage(context, {1: 1}), "invalid_usage", "usage: "),
    "usage many": Case(
        lambda context: sets_usage(context, {str(n): n for n in range(1000)}), "invalid_usage", "usage: "
    ),
    "code none": error(Fatal("failed", code=None), "invalid_error", "failed"),  # type: ignore[arg-type]
    "code number": error(Fatal("failed", code=404), "invalid_error", "404"),  # type: ignore[arg-type]
    "code long": error(Fatal("failed", code="x" * 2_000_000), "invalid_error", "failed"),
    "code blank": error(Retry("failed", code="a b"), "invalid_error", '"a b"'),
    "code missing": error(BareError(), "invalid_error", "BareError"),
    "message exception": error(Retry(ValueError()), "handler_failed", "Retry", retryable=True),  # type: ignore[arg-type]
    "message mute": error(Fatal(Mute(), code="mute"), "mute", "Mute"),  # type: ignore[arg-type]
    "message half a pair": error(Fatal("a \ud800 b", code="half"), "half", "a \\ud800 b"),
    "message long": error(Fatal("m" * 1_000_000, code="long"), "long", "cut; 1000000 bytes"),
    "message bytes": error(Fatal(b"\xff", code="bytes"), "bytes", "xff"),  # type: ignore[arg-type]
    "exception half a pair": error(ValueError("\ud800"), "internal", "ValueError: \\ud800", retryable=True),
    "exception mute": error(MuteError(), "internal", "MuteError", retryable=True),
    "exception long": error(ValueError("m" * 1_000_000), "internal", "cut; ", retryable=True),
    "progress text": progress("x", says="fraction: "),
    "progress none": progress(None, says="fraction: "),
    "progress stage": progress(0.1, object(), says="stage: "),
    "progress message": progress(0.1, "s", 5, says="message: "),
    "progress eta": progress(0.1, eta_s="soon", says="eta_s: "),
    "progress NaN": reported(math.nan),
    "progress 10**400": reported(10**400, eta_s=-(10**400)),
    "progress decimal": reported(Decimal("0.5"), eta_s=Decimal("NaN")),
    "progress eta infinite": reported(0.5, eta_s=math.inf),
    "progress 5 MB": reported(0.5, "s" * 5_000_000, "m" * 5_000_000),
    "progress half a pair": reported(0.5, "\ud800", "\udfff" * 2_000),
    "log none": Case(lambda context: says(context, None), "invalid_log", "line: "),
    "log bytes": Case(lambda context: says(context, b"x"), "invalid_log", "line: "),
    "log 2 MB": Case(lambda context: says(context, "x" * 2_000_000)),
    "log half a pair": Case(lambda context: says(context, "\ud800" * 16_384)),
    "save number": saved(5, b"", "artifact_name", "name: "),
    "save no name": saved("", b"", "artifact_name", "name: "),
    "save path": saved("../a", b"", "artifact_name", "name: "),
    "save long": saved("x" * 2_000_000, b"", "artifact_name", "name: "),
    "save object": saved("a", 5, "invalid_call", "data: "),
    "save half a pair": saved("a", "\ud800", "invalid_call", "data: "),
    "save type": saved("a", b"", "invalid_call", "media_type: ", media_type="a\r\nb: c"),
    "save type number": saved("a", b"", "invalid_call", "media_type: ", media_type=5),
    "save missing": Case(
        lambda context: context.save("a", Path("/no/such/file")), "internal", "No such file", retryable=True
    ),
    "fetch number": Case(lambda context: context.fetch(5), "invalid_call", "file_id: "),
    "fetch to": Case(lambda context: context.fetch("a", 5), "invalid_call", "to: "),
    "fetch half a pair": Case(lambda context: context.fetch("\ud800"), "file_not_found", "\\ud800"),
    "fetch long": Case(lambda context: context.fetch("x" * 2_000_000), "file_not_found", "xxx"),
    "saved": Case(
        lambda context: setattr(context, "saved", {"a": {"name": 5}}), "invalid_artifacts", "artifacts[0]: "
    ),
    "fine": Case(lambda _: {"fine": [None, (1, 2.5)]}),
}  # fmt: skip


LARGE: Final = "saves more than a file may have"
CASES_OF_FILES: Final = {
    LARGE: Case(lambda context: context.save("large", b"x" * 5_000), "file_too_large", "4000"),
}


def register(into: Handlers, cases: Mapping[str, Case], kinds: tuple[str, str, str]) -> None:
    """Make the cases jobs of three kinds, run on the loop, in a thread and in a process."""

    @into.kind(kinds[0])
    async def on_the_loop(payload: dict[str, Any], context: Context) -> Any:
        given = cases[payload["case"]].act(context)
        given = await given if inspect.isawaitable(given) else given
        return given.name if isinstance(given, Artifact) else given

    @into.kind(kinds[1])
    def in_a_thread(payload: dict[str, Any], context: SyncContext) -> Any:
        return cases[payload["case"]].act(context)

    @into.kind(kinds[2], process=True)
    def in_a_process(payload: dict[str, Any], context: SyncContext) -> Any:
        return cases[payload["case"]].act(context)


register(handlers, CASES | CASES_OF_FILES, (ASYNC, THREAD, PROCESS))
