"""What may be done with a stream, a bucket or a subject: the words that the table is written in."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from switchyard.events import subjects
from switchyard.events.events import EVENTS
from switchyard.services.broker.jetstream import api_subject, get_subject, pull_subject
from switchyard.services.broker.topology_spec import load


class Right(NamedTuple):
    """One thing that a part may do.

    Args:
        subject: where; it may hold wildcards.
        why: what for, for whoever reads the table.
        answers: whether many answers come to one request.
    """

    subject: str
    why: str
    answers: bool = False


class Rights(NamedTuple):
    """What a part may do; answers to it come to an inbox of its own beside that.

    Args:
        publish: where it may write or ask.
        subscribe: what it may hear.
    """

    publish: tuple[Right, ...]
    subscribe: tuple[Right, ...]


def kv(bucket: str) -> str:
    """The stream of a bucket."""
    return f"KV_{bucket}"


def streams() -> tuple[str, ...]:
    """All that are declared."""
    return tuple(stream.name for stream in load().streams)


def covers(wide: str, narrow: str) -> bool:
    """Whether a subject with wildcards stands for all that another one does."""
    theirs = narrow.split(".")
    ours = wide.split(".")
    for at, word in enumerate(ours):
        if word == ">":
            return len(theirs) > at
        if at >= len(theirs) or theirs[at] == ">":
            return False
        if word not in ("*", theirs[at]):
            return False
    return len(ours) == len(theirs)


# --- What is done with a stream


def info(*names: str) -> list[Right]:
    """How full streams are."""
    return [Right(api_subject(f"STREAM.INFO.{name}"), f"how full {name} is") for name in names]


def read(*names: str) -> list[Right]:
    """Any of its messages, and a reference to each that cannot be read."""
    rights = info(*names)
    for name in names:
        rights += [
            Right(get_subject(name), f"read {name}", answers=True),
            Right(api_subject(f"STREAM.MSG.GET.{name}"), f"read {name} as its leader has it"),
            Right(
                subjects.quarantined(name, 0).removesuffix("0") + "*",
                f"set aside what of {name} is unreadable",
            ),
        ]
    return rights


def follow(*names: str) -> list[Right]:
    """Its messages as they come, by a consumer of one's own that is gone with the connection."""
    rights = read(*names)
    for name in names:
        rights += [
            Right(api_subject(f"CONSUMER.CREATE.{name}"), f"follow {name}"),
            Right(pull_subject(name, "*"), f"follow {name}", answers=True),
            Right(api_subject(f"CONSUMER.DELETE.{name}.*"), f"follow {name} no more"),
        ]
    return rights


def take(name: str) -> list[Right]:
    """What its durable consumers give out."""
    return [
        Right(api_subject(f"CONSUMER.INFO.{name}.*"), f"what waits in {name}"),
        Right(pull_subject(name, "*"), f"take from {name}", answers=True),
        Right(f"$JS.ACK.{name}.>", f"say what became of it, to {name}"),
    ]


def durable(name: str) -> list[Right]:
    """Make its durable consumers."""
    return [Right(api_subject(f"CONSUMER.DURABLE.CREATE.{name}.*"), f"make consumers of {name}")]


def purge(*names: str) -> list[Right]:
    """Remove from it by subject."""
    return [Right(api_subject(f"STREAM.PURGE.{name}"), f"remove from {name} by subject") for name in names]


def delete(*names: str) -> list[Right]:
    """Remove single messages of it."""
    return [
        Right(api_subject(f"STREAM.MSG.DELETE.{name}"), f"remove single messages of {name}") for name in names
    ]


def write(*buckets: str) -> list[Right]:
    """Write buckets."""
    return [Right(f"$KV.{bucket}.>", f"write the bucket {bucket}") for bucket in buckets]


def put(subject: str, why: str) -> Right:
    """Write to a subject."""
    return Right(subject, why)


def events(names: Iterable[str], claimable: Iterable[str]) -> list[Right]:
    """Append events to the log."""
    plain = [Right(f"job.*.{name}", f"append `{name}`") for name in names]
    return plain + [Right(f"job.*.{name}.*.*", f"append `{name}`, into a lane") for name in claimable]


def files() -> list[Right]:
    """Store, read and remove files, and the keys of those that can be erased."""
    return [
        *read(subjects.FILES, kv(subjects.BUCKET_FILE_KEYS)),
        put(subjects.ALL_FILE_CHUNKS, "store files"),
        put(subjects.ALL_FILE_METAS, "store files"),
        *purge(subjects.FILES),
        *write(subjects.BUCKET_FILE_KEYS),
    ]


def output() -> list[Right]:
    """What jobs print and show while they run."""
    return [
        put(subjects.ALL_PROGRESS, "report progress"),
        put("log.>", "write log lines"),
        put("preview.>", "show previews"),
    ]


# --- What several parts have

WHO: Final = "$SYS.REQ.USER.INFO"
"""Where the broker says what a user may do."""
EVERYBODY: Final = (
    Right(WHO, "what it may do, asked at its start"),
    Right(api_subject(f"STREAM.INFO.{subjects.TIMERS}"), "the broker's time"),
)
ALL_EVENTS: Final = tuple(EVENTS)
INTO_LANES: Final = ("submitted", "queued", "rejected", "repaired")
PAUSES: Final = Right(subjects.ALL_LANE_PAUSES, "hear that a lane is paused or goes on")
CANCELS: Final = Right(subjects.ALL_CANCEL_REQUESTS, "hear that a job is to be cancelled")
KEEPERS: Final = {
    subjects.KEEPER_EVENTS: subjects.JOBS,
    subjects.KEEPER_FINALS: subjects.JOBS,
    subjects.KEEPER_PARTS: subjects.JOBS,
    subjects.KEEPER_LEDGER: subjects.JOBS,
    subjects.KEEPER_TIMERS: subjects.TIMERS,
    subjects.KEEPER_SCHEDULES: subjects.SCHEDULES,
}


def keepers_info() -> list[Right]:
    """How far the consumers of keepers are."""
    return [
        Right(api_subject(f"CONSUMER.INFO.{stream}.{name}"), f"how far {name} is")
        for name, stream in KEEPERS.items()
    ]


def lanes() -> list[Right]:
    """Look at what waits, make lanes, take jobs, and remove what was taken by its name."""
    return [*read(subjects.WORK), *take(subjects.WORK), *durable(subjects.WORK), *delete(subjects.WORK)]


def places() -> list[Right]:
    """The places under limits: make them, take them, give them back."""
    return [
        *read(subjects.TOKENS),
        *take(subjects.TOKENS),
        *durable(subjects.TOKENS),
        *delete(subjects.TOKENS),
        Right(api_subject(f"CONSUMER.DELETE.{subjects.TOKENS}.*"), "a limit is gone"),
        put("token.>", "make places under limits"),
    ]
