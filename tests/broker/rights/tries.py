"""What is tried with a key: everything that anybody could write, ask or hear."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from nats.aio.client import Client

from switchyard.events.events import EVENTS
from switchyard.services.broker import connection
from switchyard.services.broker.jetstream import LOCAL_API, api_subject
from switchyard.services.broker.rights import files, users
from switchyard.services.broker.rights.grants import WHO, covers, streams
from switchyard.services.broker.rights.nkeys import inbox_prefix
from switchyard.services.broker.rights.table import PARTS, Part, rights_of
from tests.broker.rights.site import Site

ON_STREAMS: Final = (
    "STREAM.CREATE",
    "STREAM.UPDATE",
    "STREAM.DELETE",
    "STREAM.PURGE",
    "STREAM.INFO",
    "STREAM.MSG.GET",
    "STREAM.MSG.DELETE",
    "STREAM.SNAPSHOT",
    "STREAM.RESTORE",
    "STREAM.PEER.REMOVE",
    "STREAM.LEADER.STEPDOWN",
    "DIRECT.GET",
    "CONSUMER.CREATE",
    "CONSUMER.LIST",
    "CONSUMER.NAMES",
)
ON_CONSUMERS: Final = (
    "CONSUMER.CREATE",
    "CONSUMER.DURABLE.CREATE",
    "CONSUMER.DELETE",
    "CONSUMER.INFO",
    "CONSUMER.MSG.NEXT",
    "CONSUMER.PAUSE",
    "CONSUMER.RESET",
    "CONSUMER.UNPIN",
    "CONSUMER.LEADER.STEPDOWN",
)
ON_ALL: Final = (
    "INFO",
    "STREAM.NAMES",
    "STREAM.LIST",
    "SERVER.REMOVE",
    "META.LEADER.STEPDOWN",
    "ACCOUNT.PURGE.SWITCHYARD",
    "ACCOUNT.STREAM.MOVE.SWITCHYARD.JOBS",
)
REFUSED: Final = re.compile(r'/nkey:(U[A-Z0-9]+)" - (Publish|Subscription) Violation - Subject "([^"]+)"')


def concrete(subject: str) -> str:
    """One that a pattern stands for."""
    return subject.replace("*", "x1").replace(">", "x1")


def publishable(prefixes: list[str]) -> list[str]:
    """Everywhere that anybody could have something to write, ask or answer."""
    found = {concrete(right.subject) for part in PARTS for right in rights_of(part).publish}
    calls = [f"{call}.{stream}" for call in ON_STREAMS for stream in streams()]
    calls += [f"{call}.{stream}.x1" for call in ON_CONSUMERS for stream in streams()]
    calls += [f"DIRECT.GET.{stream}.x1.x2" for stream in streams()]
    calls += [f"CONSUMER.CREATE.{stream}.x1.x2" for stream in streams()]
    found |= {api_subject(call) for call in (*calls, *ON_ALL)}
    found |= {f"job.x1.{name}" for name in EVENTS} | {f"job.x1.{name}.x2.50" for name in EVENTS}
    found |= {f"$JS.ACK.{stream}.x1.1.1.1.1.0" for stream in streams()}
    found |= {f"$KV.{stream.removeprefix('KV_')}.x1" for stream in streams() if stream.startswith("KV_")}
    found |= {f"quarantine.{stream}.1" for stream in streams()}
    found |= {f"{prefix}.x1.x2" for prefix in prefixes}
    return sorted(
        found
        | {
            "timer.due.x1.x2",
            "timer.set.x1.x2",
            "work.x1.50",
            "ledger.line.1",
            "token.run.x1.1",
            "$O.files.C.x1",
            "$SYS.REQ.SERVER.PING",
            "$SYS.REQ.ACCOUNT.PING",
            "$JS.FC.JOBS.x1.x2",
            "_R_.x1.x2",
            "_INBOX.x1.x2",
            "a",
            "a.b.c",
            "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.WORK.x1",
            "$SRV.PING",
        }
    )


def audible(prefixes: list[str]) -> list[str]:
    """Everything that anybody could like to hear."""
    found = {right.subject for part in PARTS for right in rights_of(part).subscribe}
    found |= {concrete(right.subject) for part in PARTS for right in rights_of(part).publish}
    found |= {f"{prefix}.>" for prefix in prefixes}
    return sorted(
        found
        | {
            ">",
            "*",
            "*.>",
            "job.>",
            "job.*.*",
            "job.*.*.*.*",
            "$KV.>",
            "$O.>",
            "$JS.>",
            "$JS.API.>",
            "$JS.ACK.>",
            "$SYS.>",
            "_INBOX.>",
            "_INBOX*.>",
            "_R_.>",
            "timer.>",
            "quota.>",
            f"{LOCAL_API}>",
        }
    )


async def settled(nc: Client) -> None:
    """Return when the broker has judged all that was sent: nats-py's `flush` overtakes it."""
    await nc.request(WHO, b"", timeout=60)


async def refused(
    site: Site, key: Path, publish: list[str], subscribe: list[str]
) -> tuple[set[str], set[str]]:
    """What the broker refuses, by its log, of what is tried with a key."""
    credentials = files.read(key)
    before = len(site.log.read_text())
    nc = await connection.connect(site.url, name="tries", credentials=credentials)
    for subject in publish:
        # Nobody is to act on it: the answer goes nowhere, and a call of this form is none.
        await nc.publish(subject, b"{")
    for subject in subscribe:
        await nc.subscribe(subject)
    await settled(nc)
    await nc.close()
    found: dict[str, set[str]] = {"Publish": set(), "Subscription": set()}
    for public, what, subject in REFUSED.findall(site.log.read_text()[before:]):
        assert public == credentials.public
        found[what].add(subject.replace(LOCAL_API, api_subject("")) if what == "Publish" else subject)
    return found["Publish"], found["Subscription"]


def not_for(site: Site, part: Part, worker: str = "") -> tuple[list[str], list[str]]:
    """What a part may neither publish to nor hear. What it may is not tried: it would be done."""
    there = users.read(site.users)
    prefixes = [inbox_prefix(key) for key in (*there.parts.values(), *there.workers.values())]
    rights = rights_of(part)

    def is_mine(subject: str, granted: list[str]) -> bool:
        return any(covers(one, subject) for one in granted)

    publish = [
        one for one in publishable(prefixes) if not is_mine(one, [right.subject for right in rights.publish])
    ]
    mine = files.read(site.key(part, worker)).inbox_prefix
    granted = [*(right.subject for right in rights.subscribe), f"{mine}.>"]
    # The broker takes a `>` for a token like any other, and lets `preview.>` be heard
    # where `preview.*` may be.
    hear = [one for one in audible(prefixes) if not is_mine(one.replace(">", "x1"), granted)]
    assert len(publish) > 300
    return publish, hear
