"""A bucket of notes, for the tests of buckets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import msgspec
from nats.aio.client import Client

from switchyard.services.broker.bucket import Bucket, Form, Gone, json_values
from switchyard.services.broker.jetstream import api
from switchyard.services.broker.publisher import Publisher
from switchyard.services.broker.quarantine import UNREADABLE
from switchyard.services.broker.reader import Stored

T = TypeVar("T")

TIMEOUT_S: Final = 20.0


class Note(msgspec.Struct, frozen=True):
    """What somebody wants to remember."""

    text: str


NOTES: Final = Form(
    name="notes", parts=("tenant", "name"), values=json_values(Note), gone=Gone("DEL"), max_bytes=100_000
)  # fmt: skip
ROLLED: Final = Form(
    name="notes", parts=("name",), values=json_values(Note), under=("rolled",), gone=Gone("PURGE", True, 3600)
)  # fmt: skip
DOTTED: Final = Form(
    name="notes", parts=("sort", "place"), values=json_values(Note), under=("dotted",), is_dotted=True
)  # fmt: skip


async def make_stream(nc: Client, **other: Any) -> None:
    """Lay the bucket out as `streams.json` has others."""
    config = {
        "name": NOTES.stream, "subjects": ["$KV.notes.>"], "storage": "file", "retention": "limits",
        "discard": "new", "max_msgs_per_subject": 1, "allow_direct": True, "allow_rollup_hdrs": True,
        "allow_msg_ttl": True, "subject_delete_marker_ttl": int(60e9), **other,
    }  # fmt: skip
    await api(nc, f"STREAM.CREATE.{NOTES.stream}", config, timeout_s=TIMEOUT_S)
    # Where what cannot be read is referred to.
    quarantine = {"name": "QUARANTINE", "subjects": ["quarantine.>"], "allow_direct": True}
    await api(nc, "STREAM.CREATE.QUARANTINE", quarantine, timeout_s=TIMEOUT_S)


@asynccontextmanager
async def notes(nc: Client, **other: Any) -> AsyncIterator[Bucket[Note]]:
    """The bucket, laid out and empty."""
    await make_stream(nc, **other)
    async with Publisher(nc, timeout_s=TIMEOUT_S) as publisher:
        yield Bucket(nc, NOTES, publisher, timeout_s=TIMEOUT_S)


def value_in(form: Form[T], message: Stored) -> T | None:
    """The value in a message of a bucket; None where it is gone or cannot be read."""
    try:
        return form.entry_of(message).value
    except UNREADABLE:
        return None
