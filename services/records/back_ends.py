"""Back ends that are down, as the workers who found that out declare it.

Among the capabilities, under the name of its kind: `state` is `down`, with `backend`, `since` and `why`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

DOWN: Final = "down"
CHARS: Final = 200


class Down(NamedTuple):
    """A back end that is down; `since` and `why` may be "".

    Args:
        backend: what the workers that see it call it.
        since: when it was found so, in ISO 8601.
        why: for people.
    """

    backend: str
    since: str
    why: str

    def __str__(self) -> str:
        """As a part of a sentence."""
        since = f" since {self.since}" if self.since else ""
        return f"back end {self.backend} has been down{since}" + (f" ({self.why})" if self.why else "")


def down_of(kind: str, capabilities: Mapping[str, Any]) -> Down | None:
    """The back end of a kind's connector, if what it declares says that it is down."""
    said = capabilities.get(kind)
    if not isinstance(said, Mapping) or said.get("state") != DOWN:
        return None
    backend, since, why = (_text(said.get(name)) for name in ("backend", "since", "why"))
    return Down(backend or kind, since, why)


def _text(value: Any) -> str:
    return value[:CHARS] if isinstance(value, str) and value.isprintable() else ""
