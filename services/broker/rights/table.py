"""What each part may do at the broker: the table that its file, the docs and the tests come from.

Every part but the workers is a user of the account that has the streams. Each worker is a user of an account
of its own, which imports what the table gives it, and nothing else. Permissions alone would not hold a
worker: the broker sends answers to whatever subject a request names, without asking whether its sender may
publish there, and so stores what was read from one stream in another (tried on nats-server 2.15.1).
Between accounts it keeps an answer in the account that asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from switchyard.events import subjects
from switchyard.services.broker.jetstream import api_subject
from switchyard.services.broker.rights import runners, servers
from switchyard.services.broker.rights.grants import (
    EVERYBODY,
    Right,
    Rights,
    covers,
    follow,
    purge,
    put,
    read,
    streams,
    write,
)

Part = Literal["topology", "gateway", "projector", "keeper", "pusher", "operator", "worker"]
PARTS: Final[tuple[Part, ...]] = (
    "topology",
    "gateway",
    "projector",
    "keeper",
    "pusher",
    "operator",
    "worker",
)


def operator() -> Rights:
    """A person with commands, who looks at everything and changes little."""
    seen = [
        Right(api_subject(call), "look at streams and consumers")
        for call in (
            "INFO",
            "STREAM.NAMES",
            "STREAM.LIST",
            "CONSUMER.NAMES.*",
            "CONSUMER.LIST.*",
            "CONSUMER.INFO.*.*",
        )
    ]
    by_command = [
        Right(api_subject(f"CONSUMER.CREATE.{name}.>"), f"follow {name} with the `nats` command")
        for name in streams()
    ]
    revoked = f"$KV.{subjects.BUCKET_KEYS}.revoked.>"
    publish = [
        *EVERYBODY,
        *seen,
        *follow(
            *(name for name in streams() if name not in (subjects.WORK, subjects.TIMERS, subjects.TOKENS))
        ),
        *read(subjects.WORK, subjects.TIMERS, subjects.TOKENS),
        *by_command,
        *purge(subjects.QUARANTINE),
        put(revoked, "`switchyard token revoke`"),
        *write(subjects.BUCKET_SERVERS),
        put(subjects.rebuild("*"), "`switchyard rebuild`"),
    ]
    heard = (
        subjects.ALL_JOBS,
        subjects.ALL_PROGRESS,
        "log.>",
        "preview.>",
        "timer.>",
        "ledger.>",
        "token.>",
        "work.>",
        subjects.ALL_QUARANTINED,
        "$KV.>",
        "$O.>",
        "offer.>",
        subjects.projected("*"),
        "$JS.EVENT.ADVISORY.>",
    )
    return Rights(tuple(publish), tuple(Right(subject, "`nats sub`") for subject in heard))


def rights_of(part: Part) -> Rights:
    """What a part may do."""
    match part:
        case "topology":
            rights = servers.topology()
        case "gateway":
            rights = servers.gateway()
        case "projector":
            rights = servers.projector()
        case "keeper":
            rights = servers.keeper()
        case "pusher":
            rights = runners.pusher()
        case "operator":
            rights = operator()
        case "worker":
            rights = runners.worker()
    return Rights(_distinct(rights.publish), _distinct(rights.subscribe))


def _distinct(rights: Sequence[Right]) -> tuple[Right, ...]:
    """Each subject once, without those that another one covers."""
    found = {right.subject: right for right in reversed(rights)}
    kept = [
        right
        for right in found.values()
        if not any(covers(other, right.subject) for other in found if other != right.subject)
    ]
    return tuple(sorted(kept))
