"""All hostile handlers, and how they run: on the loop, in a thread, in a process, and both over REST."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from switchyard.handlers import Handlers
from tests.handlers import crooked, hostile, odd, outlasting, untidy
from tests.handlers.odd import Case

MODES: Final = ("loop", "thread", "process")
REST: Final = "rest-"
MODULES: Final = (odd, hostile, crooked, untidy, outlasting)
SOURCES: Final = [f"{module.__name__}:handlers" for module in MODULES]


class Entry(NamedTuple):
    """A job of the table.

    Args:
        kind: that of the job.
        name: that of the case.
        case: what is to become of it.
        result: what it returns, where that is to be a certain one.
        timeout_s: that of the attempt.
    """

    kind: str
    name: str
    case: Case
    result: Any
    timeout_s: float | None


ANY: Final = object()
BLANK: Final[Mapping[str, Any]] = {}


def _of(module: Any, mode: str) -> tuple[str, Mapping[str, Case]]:
    kind: str = {"loop": module.ASYNC, "thread": module.THREAD, "process": module.PROCESS}[mode]
    if module is hostile:
        return kind, hostile.CASES[kind]
    if module is outlasting:
        return kind, outlasting.ON_THE_LOOP if mode == "loop" else outlasting.PLAIN
    own = getattr(module, "IN_A_PROCESS", BLANK) if mode == "process" else BLANK
    cases: Mapping[str, Case] = module.CASES
    return kind, {**cases, **own}


def table(mode: str, *, rest: bool = False) -> list[Entry]:
    """Every case of a mode."""
    entries = []
    for module in MODULES:
        kind, cases = _of(module, mode)
        results = hostile.RESULTS if module is hostile else BLANK
        timeout_s = outlasting.TIMEOUT_S if module is outlasting else None
        entries += [
            Entry(f"{REST}{kind}" if rest else kind, name, case, results.get(name, ANY), timeout_s)
            for name, case in cases.items()
        ]
    return entries


def over_rest() -> Handlers:
    """The same functions for a worker over REST."""
    own = Handlers()
    for module in MODULES:
        for kind in (module.ASYNC, module.THREAD):
            own.kind(f"{REST}{kind}")(module.handlers[kind].function)
    return own
