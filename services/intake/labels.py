"""The labels of a job: names and values that submitters choose."""

from __future__ import annotations

import functools
from typing import Any, Final

from switchyard.events.errors import InvalidError
from switchyard.events.subjects import NAME
from switchyard.services.settings import Settings

SHOWN_NAME_CHARS: Final = 64
MAX_NAME_CHARS: Final = 63


# Names are few and come again and again, and a look into a table is cheaper than a pattern.
@functools.lru_cache(maxsize=4096)
def _is_name(text: str) -> bool:
    return NAME.fullmatch(text) is not None


def check_labels(labels: dict[str, Any], settings: Settings) -> None:
    """Judge labels.

    Raises:
        InvalidError: they are too many, or one has no name or no value that a label may have.
    """
    limit, longest = settings.labels, settings.label_value_chars
    if len(labels) > limit:
        raise InvalidError(f"labels: {len(labels)} of at most {limit}", field="labels")
    for name, value in labels.items():
        # The length first: the table of names must not fill with long ones.
        if len(name) > MAX_NAME_CHARS or not _is_name(name):
            rule = f"a label's name must match {NAME.pattern}"
        elif not isinstance(value, str) or len(value) > longest:
            rule = f"expected a string of at most {longest} characters"
        else:
            continue
        field = f"labels.{name[:SHOWN_NAME_CHARS]}"
        raise InvalidError(f"{field}: {rule}", field=field)
