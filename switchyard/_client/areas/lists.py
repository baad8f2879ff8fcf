"""Which jobs a list is to have, and how that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, Literal, TypedDict

Sort = Literal["-created_at", "created_at", "-updated_at", "updated_at"]
PAGE_SIZE: Final = 100


class Listing(TypedDict, total=False):
    """Which jobs a list is to have.

    Args:
        state: one or several; `active`, `waiting` and `ended` stand for several.
        kind: one or several.
        labels: all must hold.
        key: the id of the API key that submitted them.
        created_after: from then on.
        created_before: until then.
        updated_after: with an event from then on.
        sort: in which order; `-created_at`, newest first, by default.
        full: whether each is to have all that is known of it, and not in brief.
        page_size: jobs per request, 1 to 500.
        min_seq: a `Job.seq` that the list must know of.
    """

    state: str | Sequence[str]
    kind: str | Sequence[str]
    labels: Mapping[str, str] | None
    key: str | None
    created_after: datetime | None
    created_before: datetime | None
    updated_after: datetime | None
    sort: Sort | None
    full: bool
    page_size: int
    min_seq: int | None


def query_of(which: Listing) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """The parameters and headers of a request for a page."""
    params = [("limit", str(which.get("page_size", PAGE_SIZE)))]
    params += [("state", one) for one in _several(which.get("state", ()))]
    params += [("kind", one) for one in _several(which.get("kind", ()))]
    params += [("label", f"{name}:{value}") for name, value in (which.get("labels") or {}).items()]
    times = {
        "created_after": which.get("created_after"),
        "created_before": which.get("created_before"),
        "updated_after": which.get("updated_after"),
    }
    params += [(name, at.astimezone(UTC).isoformat()) for name, at in times.items() if at is not None]
    if (key := which.get("key")) is not None:
        params.append(("key", key))
    if (sort := which.get("sort")) is not None:
        params.append(("sort", sort))
    if which.get("full"):
        params.append(("fields", "full"))
    min_seq = which.get("min_seq")
    return params, {} if min_seq is None else {"Switchyard-Min-Seq": str(min_seq)}


def _several(words: str | Sequence[str]) -> Sequence[str]:
    return [words] if isinstance(words, str) else words
