"""The references to what cannot be read: a page of them, one with its message, how many there are.

References are messages too, and anybody who may publish can write one: nothing of them is believed but where
they stand.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
from nats.aio.client import Client

from switchyard.events import subjects
from switchyard.events.errors import NotFoundError, UnavailableError
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.quarantine import DECODER, REASON_CHARS, SUBJECT_CHARS, UNREADABLE, Reference
from switchyard.services.broker.reader import Stored, last_message, read_range
from switchyard.services.broker.topology_spec import load
from switchyard.services.broker.wire import LazyHeaders
from switchyard.services.concurrency import each

STREAM: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
WINDOW: Final = 1000
WINDOWS: Final = 10
COUNTS_AT_ONCE: Final = 8
MAX_BYTES: Final = 2**40
OTHER: Final = "other"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Page(NamedTuple):
    """Some references, and the place before which the next page begins; None when there is none."""

    references: list[Reference]
    before: int | None


class Found(NamedTuple):
    """A message of any stream."""

    subject: str
    headers: Mapping[str, str]
    data: bytes


async def page(
    nc: Client, *, tenant: str | None, stream: str | None, before: int | None, limit: int, timeout_s: float
) -> Page:
    """References, newest first; a page may have fewer than `limit` though more follow.

    Args:
        nc: an open connection.
        tenant: whose; None for all.
        stream: to messages of which stream; None for all.
        before: where the page before ended.
        limit: most references of the page.
        timeout_s: for each answer of the broker.

    Raises:
        UnavailableError: the broker does not answer.
    """
    first, last, _ = await _bounds(nc, timeout_s)
    low = last + 1 if before is None else min(before, last + 1)
    found: list[tuple[int, Reference]] = []
    # The broker reads forwards only: window after window from the end, and not too many for one request.
    for _ in range(WINDOWS):
        if low <= first or len(found) > limit:
            break
        high, low = low, max(first, low - WINDOW)
        stored = await read_range(
            nc, subjects.QUARANTINE, subjects.all_quarantined(stream or "*"),
            start=low, limit=WINDOW, timeout_s=timeout_s,
        )  # fmt: skip
        for message in reversed(stored):
            reference = parse(message) if message.seq < high else None
            if reference is not None and tenant in (None, reference.tenant):
                found.append((message.seq, reference))
    shown = [reference for _, reference in found[:limit]]
    if len(found) > limit:
        return Page(shown, found[limit - 1][0])
    return Page(shown, low if low > first else None)


async def reference_to(nc: Client, stream: str, seq: int, *, timeout_s: float) -> Reference:
    """The reference to a message.

    Raises:
        NotFoundError: there is none.
        UnavailableError: the broker does not answer.
    """
    stored = await last_message(
        nc, subjects.QUARANTINE, subjects.quarantined(stream, seq), timeout_s=timeout_s
    )
    reference = None if stored is None else parse(stored)
    if reference is None:
        raise NotFoundError(f"no message {seq} of {stream} is set aside", field="seq")
    return reference


async def message_at(nc: Client, stream: str, seq: int, *, timeout_s: float) -> Found | None:
    """A message of a stream by its sequence; None when it is gone, or there is no such stream.

    Raises:
        UnavailableError: the broker does not answer.
    """
    answer = await api(nc, f"STREAM.MSG.GET.{stream}", {"seq": seq}, timeout_s=timeout_s)
    if "error" in answer:
        if answer["error"].get("code") == 404:
            return None
        raise UnavailableError(f"the broker refused a read of {stream}: {answer['error'].get('description')}")
    found = answer["message"]
    raw = base64.b64decode(found.get("hdrs", ""))
    return Found(found["subject"], LazyHeaders(raw) if raw else {}, base64.b64decode(found.get("data", "")))


async def forget(nc: Client, stream: str, seq: int | None = None, *, timeout_s: float) -> int:
    """Drop the reference to a message, or those to all of a stream (`*` for every one); how many they were.

    Raises:
        UnavailableError: the broker does not answer.
    """
    filter_ = subjects.all_quarantined(stream) if seq is None else subjects.quarantined(stream, seq)
    if stream == "*":
        filter_ = subjects.ALL_QUARANTINED  # also what no reader of ours has written
    call = f"STREAM.PURGE.{subjects.QUARANTINE}"
    answer = await api(nc, call, {"filter": filter_}, timeout_s=timeout_s)
    if "error" in answer:
        raise UnavailableError(f"the broker did not drop references: {answer['error'].get('description')}")
    return int(answer["purged"])


async def counts(nc: Client, *, timeout_s: float) -> dict[str, int]:
    """How many messages are set aside, by stream; those of streams that are not ours under `other`.

    Raises:
        UnavailableError: the broker does not answer, or has no such stream.
    """
    _, _, total = await _bounds(nc, timeout_s)
    if not total:
        return {}

    async def count(stream: str) -> int:
        # One reference, which says how many come after it: a list of all subjects may be megabytes.
        first = await read_range(
            nc, subjects.QUARANTINE, subjects.all_quarantined(stream), limit=1, timeout_s=timeout_s
        )
        return first[0].pending + 1 if first else 0

    streams = [stream.name for stream in load().streams]
    counted = await each(count, streams, at_once=COUNTS_AT_ONCE)
    found = {stream: number for stream, number in zip(streams, counted, strict=True) if number}
    rest = total - sum(found.values())
    return found | {OTHER: rest} if rest > 0 else found


def parse(message: Stored) -> Reference | None:
    """The reference that a message of QUARANTINE is; None when its subject names no message."""
    try:
        stream, seq = subjects.parse_quarantined(message.subject)
    except ValueError:
        return None
    if STREAM.fullmatch(stream) is None or message.subject != subjects.quarantined(stream, seq):
        return None
    try:
        found = DECODER.decode(message.data)
    except UNREADABLE:
        reason = "the reference itself cannot be read"
        found = Reference(stream=stream, seq=seq, subject="", reason=reason, size_bytes=0, at=_EPOCH)
    return msgspec.structs.replace(
        found, stream=stream, seq=seq, subject=_cut(found.subject, SUBJECT_CHARS),
        reason=_cut(found.reason, REASON_CHARS), size_bytes=max(0, min(found.size_bytes, MAX_BYTES)),
        tenant=_name(found.tenant), kind=_name(found.kind),
        at=found.at if found.at.tzinfo else found.at.replace(tzinfo=UTC),
    )  # fmt: skip


def _cut(text: str, most: int) -> str:
    return text[:most].encode(errors="backslashreplace").decode()


def _name(text: str) -> str:
    return text if subjects.NAME.fullmatch(text) else ""


async def _bounds(nc: Client, timeout_s: float) -> tuple[int, int, int]:
    """First and last sequence of QUARANTINE, and how many messages it has."""
    info = await api(nc, f"STREAM.INFO.{subjects.QUARANTINE}", timeout_s=timeout_s)
    if "error" in info:
        raise UnavailableError(f"the broker has no stream {subjects.QUARANTINE}")
    state = info["state"]
    return max(1, int(state["first_seq"])), int(state["last_seq"]), int(state["messages"])
