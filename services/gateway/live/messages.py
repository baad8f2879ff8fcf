"""The messages of a live connection, version 1: what a client may send and what it receives.

The WebSocket carries them as text frames, server-sent events as their data; `docs/live.md` shows each one.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import msgspec
import orjson

from switchyard.events.encoding.json_value import dumps
from switchyard.events.errors import InvalidError, RejectedError
from switchyard.events.events import EVENTS
from switchyard.events.subjects import NAME_PATTERN
from switchyard.services.gateway.live.cursor import parse_cursor
from switchyard.services.gateway.live.frames import Shown
from switchyard.services.intake.bodies import decoded

VERSION: Final = 1
JOBS_PER_SUBSCRIPTION: Final = 100
NAMES_PER_SUBSCRIPTION: Final = 64
LABELS_PER_SUBSCRIPTION: Final = 16
WORD_CHARS: Final = 256

SubscriptionId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
JobId = Annotated[
    str, msgspec.Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
]
Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
NameOrAll = Annotated[str, msgspec.Meta(pattern=rf"^(?:\*\Z|{NAME_PATTERN.removeprefix('^')})")]
JobIds = Annotated[tuple[JobId, ...], msgspec.Meta(min_length=1, max_length=JOBS_PER_SUBSCRIPTION)]
Names = Annotated[tuple[Name, ...], msgspec.Meta(min_length=1, max_length=NAMES_PER_SUBSCRIPTION)]
Word = Annotated[str, msgspec.Meta(min_length=1, max_length=WORD_CHARS)]
Words = Annotated[tuple[Word, ...], msgspec.Meta(min_length=1, max_length=JOBS_PER_SUBSCRIPTION)]
Priority = Annotated[int, msgspec.Meta(ge=0, le=100)]
Priorities = Annotated[tuple[Priority, ...], msgspec.Meta(min_length=1, max_length=NAMES_PER_SUBSCRIPTION)]
LabelValue = Annotated[str, msgspec.Meta(max_length=WORD_CHARS)]
Labels = Annotated[dict[Word, LabelValue], msgspec.Meta(min_length=1, max_length=LABELS_PER_SUBSCRIPTION)]


class _Message(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type", tag=str.lower
):
    """What a client sends; `type` names which."""


class Auth(_Message, frozen=True):
    """The first message of a client that could not send its token with the handshake."""

    token: str


class Subscribe(_Message, frozen=True):
    """Wish for the events of some jobs; exactly one of `jobs`, `kinds`, `tenants` and `all` says which.

    With `labels`, none of them stands for `all`.

    Args:
        id: the client's own name of the subscription.
        jobs: these jobs.
        kinds: every job of these kinds.
        tenants: every job of these tenants; another tenant than one's own needs the role admin.
        all: every job of one's own tenant; for the role admin, of every tenant.
        labels: only jobs that were submitted with all of these; not together with `jobs`.
        events: only events of these names.
        progress: whether progress is sent too.
        logs: whether log lines are sent too.
        previews: whether previews are sent too, as binary frames; with `jobs` alone.
        after: the cursor of the last event received; what came later is sent first.
    """

    id: SubscriptionId
    jobs: JobIds | None = None
    kinds: Names | None = None
    tenants: Names | None = None
    all: bool = False
    labels: Labels | None = None
    events: Names | None = None
    progress: bool = True
    logs: bool = False
    previews: bool = False
    after: str | None = None

    def check(self) -> None:
        """Judge what the types cannot.

        Raises:
            InvalidError: not exactly one selection, labels of jobs with a name, previews of jobs without
                one, an event that does not exist, or no cursor.
        """
        words = "jobs, kinds, tenants and all"
        chosen = [name for name in ("jobs", "kinds", "tenants", "all") if getattr(self, name)]
        if self.jobs and self.labels:
            raise InvalidError("labels: not together with jobs", field="labels")
        if len(chosen) != 1 and (chosen or not self.labels):
            raise InvalidError(
                f"exactly one of {words} is expected, not {' and '.join(chosen) or 'none'}",
                field=chosen[-1] if chosen else "all",
            )
        if self.previews and not self.jobs:
            raise InvalidError("previews: only together with jobs", field="previews")
        for index, name in enumerate(self.events or ()):
            if name not in EVENTS:
                raise InvalidError(f"there is no event named {name!r}", field=f"events[{index}]")
        if self.after is not None:
            parse_cursor(self.after)


class Watch(_Message, frozen=True):
    """Wish for a state and what changes in it; the filter narrows it, and each part of that has to hold.

    Args:
        id: the client's own name of the subscription.
        what: `workers`, `queues` or `batches`.
        ids: these.
        kinds: any of these.
        labels: all of these; of workers, what they declare as capabilities.
        priorities: any of these.
        tenant: another tenant's, or `*` for all of them, which needs the role operator.
        after: the revision of the state that the client has.
    """

    id: SubscriptionId
    what: Word
    ids: Words | None = None
    kinds: Names | None = None
    labels: Labels | None = None
    priorities: Priorities | None = None
    tenant: NameOrAll | None = None
    after: Word | None = None


class Unsubscribe(_Message, frozen=True):
    """No more messages for this subscription."""

    id: SubscriptionId


class Ping(_Message, frozen=True):
    """Ask for a `pong`."""


AnyMessage = Auth | Subscribe | Watch | Unsubscribe | Ping
ACCEPTED: Final = frozenset({"auth", "subscribe", "watch", "unsubscribe", "ping"})
_DECODER: Final = msgspec.json.Decoder(AnyMessage)


def decode(text: str) -> AnyMessage:
    """The message in a text frame.

    Raises:
        RejectedError: it is none; code `malformed_json` when it is not even JSON, `unknown_type` when it is
            no message that a client may send.
    """
    try:
        message: AnyMessage = decoded(text.encode(), _DECODER)
    except RejectedError as problem:
        if problem.field == "type":
            problem.code = "unknown_type"
        raise
    return message


def claimed_id(text: str) -> str | None:
    """The subscription that a refused message was about, as far as it can be found."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    found = value.get("id") if isinstance(value, dict) else None
    return found if isinstance(found, str) and len(found) <= 64 else None


class Item(NamedTuple):
    """One message on its way out.

    Args:
        type: the message's `type`.
        body: the message as JSON.
        cursor: where a reader that has seen it resumes; None when it does not move the cursor.
        shown: the preview that it is, in the place of a body.
    """

    type: str
    body: bytes
    cursor: str | None = None
    shown: Shown | None = None


def message(type_: str, /, *, cursor: str | None = None, **fields: Any) -> Item:
    """A message of one's own; fields that are None are left out, a cursor stands in it too."""
    body = {"type": type_, **{name: value for name, value in fields.items() if value is not None}}
    if cursor is not None:
        body["cursor"] = cursor
    return Item(type_, dumps(body), cursor)


def shared_message(type_: str, ids: list[str], fragment: bytes, cursor: str | None = None) -> Item:
    """A message that is the same for every reader but for its subscriptions.

    Args:
        type_: the message's `type`.
        ids: the reader's subscriptions that it belongs to.
        fragment: its other fields as JSON, without the braces; encoded once for all readers.
        cursor: as in `Item`.
    """
    return Item(type_, b'{"type":"%b","ids":%b,%b}' % (type_.encode(), orjson.dumps(ids), fragment), cursor)
