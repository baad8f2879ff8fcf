"""Values of the API as cells of a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from switchyard.services.visible import visible

TIMES: Final = frozenset({"at", "next_run", "last_run"})
AGES: Final = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
SIZES: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def cell(
    column: str,
    value: Any,
    json_of: Callable[[Any], str],
    *,
    is_seen: bool = False,
    now: datetime | None = None,
) -> str:
    """One line for a value.

    Args:
        column: its name, which says what a number or a text stands for.
        value: any JSON.
        json_of: writes JSON.
        is_seen: whether a person reads it, who sees ages and sizes; what is piped has each value whole.
        now: the gateway's time, where it is known.
    """
    if value is None:
        return ""
    if now is not None and (column.endswith("_at") or column in TIMES) and isinstance(value, str):
        return age(value, now)
    if is_seen and column.endswith("bytes") and type(value) in (int, float):
        return size(value)
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return visible(", ".join(value))
    return json_of(value)


def age(at: str, now: datetime) -> str:
    """How long ago a time was, or in how long it comes: `12s`, `3m`, `in 2h`."""
    try:
        then = datetime.fromisoformat(at)
    except ValueError:
        return visible(at)
    seconds = round((now - then.replace(tzinfo=then.tzinfo or UTC)).total_seconds())
    unit, length = next((one for one in AGES if abs(seconds) >= one[1]), AGES[-1])
    text = f"{abs(seconds) // length}{unit}"
    return f"in {text}" if seconds < 0 else text


def size(size_bytes: float) -> str:
    """Bytes with three digits or so: `0 B`, `1.2 KiB`, `640 MiB`."""
    number, unit = float(size_bytes), 0
    while abs(number) >= 1000 and unit < len(SIZES) - 1:
        number, unit = number / 1024, unit + 1
    return f"{number:.1f} {SIZES[unit]}" if unit and abs(number) < 10 else f"{number:.0f} {SIZES[unit]}"
