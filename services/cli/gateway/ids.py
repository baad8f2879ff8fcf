"""Jobs by the beginning of their id."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from switchyard.errors import ApiError
from switchyard.events.errors import RejectedError

BEGINNING: Final = re.compile(r"[0-9a-f-]{4,35}")
SHOWN: Final = 3
UNKNOWN: Final = frozenset({400, 404, 405})
"""What a gateway of a version before answers to the question."""


class Asker(Protocol):
    """What asks a gateway."""

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of an answer."""
        ...


async def whole_id(api: Asker, text: str) -> str:
    """The id of the one job whose id begins like this; the text itself where there is none.

    Raises:
        RejectedError: several do.
    """
    if BEGINNING.fullmatch(text.lower()) is None:
        return text
    try:
        found = await api.call("GET", "/v1/job-ids", params={"prefix": text.lower(), "limit": SHOWN + 1})
    except ApiError as error:
        if error.status not in UNKNOWN:
            raise
        return text
    ids = found.get("ids") if isinstance(found, dict) else None
    if not isinstance(ids, list) or not ids:
        return text
    if len(ids) > 1 or found.get("more"):
        named = ", ".join(map(str, ids[:SHOWN]))
        more = " and more" if len(ids) > SHOWN or found.get("more") else ""
        raise RejectedError(f"several jobs begin with {text}: {named}{more}")
    return str(ids[0])


async def counted(api: Asker, query: list[tuple[str, str]]) -> str:
    """How many jobs a list has in all, as `231` or `more than 1000`; `more` where the gateway cannot say."""
    asked = [(name, value) for name, value in query if name not in ("limit", "cursor")]
    try:
        found = await api.call("GET", "/v1/job-ids", params=[*asked, ("limit", "1")])
        return f"more than {found['total']}" if found["more"] else str(found["total"])
    except (ApiError, KeyError, TypeError):
        return "more"
