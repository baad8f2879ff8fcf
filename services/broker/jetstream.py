"""The API of JetStream: its calls, what may answer a delivery, and what its refusals mean here.

Source of the codes: `server/errors.json` of nats-server 2.15.1, of which everything was looked through that a
publish or a call of ours may be answered with. What is not named here is a fault of the message, of the call
or of the stream's configuration, and another try does not help: 10054 a message that is too large, 10097 its
headers, 10060 and 10063 another stream or sequence than expected, 10109 a sealed stream, 10165 and 10166 its
TTL, 10188 to 10192, 10203, 10212 and 10223 its schedule; for a call, 10003 and 10025 what it says, 10013,
10100 and 10148 another consumer in its place, 10117 more subjects than an answer may hold.

An acknowledgement of a delivery (`$JS.ACK`) has no answer that anybody waits for: one that is lost is made
good by the redelivery, which is judged by the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

import nats.errors
import orjson
from nats.aio.client import Client

from switchyard.events.errors import UnavailableError

WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
"""Somebody wrote first."""

IN_PROCESS: Final = 10158
"""Replicas are storing a message with the same id. Whether they will have it is not known yet: wait, look."""

NO_ROOM: Final = frozenset({10002, 10005, 10023, 10028, 10047, 10053, 10076, 10077, 10104, 10122})
"""No server is there for it or has room; a consumer's store refused; a limit of the account, the server's
resources, its memory, its disk, a limit of the stream; JetStream is off (the server does that when its disk
is full); the stream's store refused; the stream's bytes."""

NOT_NOW: Final = frozenset(
    {10008, 10009, 10039, 10041, 10051, 10059, 10118, 10124, 10163, 10167, 10194, 10226}
)
"""No leader, or not the leader; the account is not there yet; the replicas cannot agree; the stream failed,
is not there, is offline, is moved; the guard cannot be checked yet; too many requests; offline with a reason;
another change of the stream is under way. Nothing was stored."""

NOT_NOW_API: Final = frozenset({10004, 10007, 10012, 10035, 10048, 10105, 10110, 10119, 10195, 10202})
"""For calls beside publishes: not all servers answered; not assigned yet; a consumer could not be made, as
where the one before it is being deleted; the account or the assignment is not there yet; the consumer before
is still in use; the store could not purge now; the consumer is offline, and with a reason; a server joins.
Tried: a cluster without its quorum, and a stream whose leader steps down, answer 10008."""

GONE: Final = frozenset({10014, 10037, 10043, 10059, 10149})
"""There is no such consumer, message, sequence or stream, so what was made is to be made again."""

NOTHING: Final = frozenset[int]()
"""For a caller that needs what it asks about: that it is gone is an error as well."""

DELETE_FAILED: Final = 10057
"""Of STREAM.MSG.DELETE: "no message found", "stream store EOF"; where deletes are denied, that they are."""

LEADERLESS: Final = 10009
"""Nobody leads."""

MAX_CONSUMERS: Final = 10026
"""The stream has as many consumers as it may."""

BUSY: Final = frozenset({429, 503})
"""The status of codes that other versions have for the same."""


class FaultError(UnavailableError):
    """The broker refused a call for a reason that stays.

    Its loops back off as they do while the broker is away, since an operator may remove it.

    Args:
        message: what was refused and why.
        code: the broker's `err_code`.
    """

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, retry_after_s=5.0)
        self.code = code


def leaderless(answer: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What is wrong with an answer about a stream or consumer of a cluster, if it is that nobody leads it.

    Tried on nats-server 2.15.1: one of three servers that is left alone answers STREAM.INFO after a while,
    out of what it last knew and without an error.
    """
    cluster = answer.get("cluster")
    if not isinstance(cluster, Mapping) or cluster.get("leader"):
        return None
    return {"code": 503, "err_code": LEADERLESS, "description": "it has no leader"}


def is_not_now(error: Mapping[str, Any]) -> bool:
    """Whether the same call may be answered otherwise in a moment."""
    code = error.get("err_code")
    if code in NO_ROOM or code in GONE:
        return False
    return code in NOT_NOW or code in NOT_NOW_API or error.get("code") in BUSY


def refusal_of(call: str, error: Mapping[str, Any]) -> UnavailableError:
    """The error of a call's answer, for whoever asked."""
    code = int(error.get("err_code") or 0)
    why = f"{error.get('description')} (code {code})"
    if code in NO_ROOM:
        return UnavailableError(f"the broker has no room for {call}: {why}", retry_after_s=5.0)
    if code in GONE:
        return UnavailableError(f"the broker has not what {call} asks for: {why}")
    if is_not_now(error):
        return UnavailableError(f"the broker is not ready for {call}: {why}")
    return FaultError(f"the broker refused {call}: {why}", code)


# --- Calls


def api_subject(call: str) -> str:
    """Where a call is asked.

    Args:
        call: its name, and what it is about: `STREAM.INFO.JOBS`.
    """
    return f"$JS.API.{call}"


LOCAL_API: Final = "switchyard.api."
"""Where the account of a worker has the API that another account's streams are asked by. Each account has its
own at `$JS.API.`; a mapping of the account leads from there to here."""


def pull_subject(stream: str, consumer: str) -> str:
    """Where a consumer is asked for its next messages."""
    return api_subject(f"CONSUMER.MSG.NEXT.{stream}.{consumer}")


def get_subject(stream: str) -> str:
    """Where any replica of a stream is asked for stored messages."""
    return api_subject(f"DIRECT.GET.{stream}")


NOT_NOW_PAUSE_S = 0.05


MAX_NOT_NOW_PAUSE_S = 0.5


async def api(
    nc: Client,
    call: str,
    body: Mapping[str, Any] | None = None,
    *,
    timeout_s: float,
    expected: Collection[int] = GONE,
) -> dict[str, Any]:
    """Ask the JetStream API, again while the broker answers that it is not ready.

    Args:
        nc: an open connection.
        call: as for `api_subject`.
        body: what is asked.
        timeout_s: seconds for all of it.
        expected: the codes that the caller takes itself: their answer is returned, and holds `error`.

    Raises:
        FaultError: it refused for a reason that stays.
        UnavailableError: no answer in time, not ready in time, or no room.
    """
    data = orjson.dumps(body) if body else b""
    shown = ".".join(call.split(".", 2)[0:2])
    loop = asyncio.get_running_loop()
    until, pause_s = loop.time() + timeout_s, NOT_NOW_PAUSE_S
    left_s = timeout_s
    while True:
        try:
            reply = await nc.request(api_subject(call), data, timeout=left_s)
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError(f"the broker does not answer {shown}: {error}") from error
        answer: dict[str, Any] = orjson.loads(reply.data)
        refusal = answer.get("error") or leaderless(answer)
        if refusal is None or refusal.get("err_code") in expected:
            return answer
        left_s = until - loop.time() - pause_s
        if not is_not_now(refusal) or left_s <= 0:
            raise refusal_of(shown, refusal)
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, MAX_NOT_NOW_PAUSE_S)


async def consumers_of(nc: Client, stream: str, *, timeout_s: float) -> list[dict[str, Any]]:
    """What the broker says of each consumer of a stream; 256 in one answer.

    Args:
        nc: an open connection.
        stream: the stream.
        timeout_s: seconds to wait for each answer.

    Raises:
        UnavailableError: the broker does not answer, or not for all of them.
    """
    found: list[dict[str, Any]] = []
    while True:
        answer = await api(nc, f"CONSUMER.LIST.{stream}", {"offset": len(found)}, timeout_s=timeout_s)
        if answer.get("missing"):  # the servers that lead them did not answer in time
            raise UnavailableError(f"the broker does not report on {len(answer['missing'])} consumers")
        page = answer.get("consumers") or []
        found += page
        if not page or len(found) >= answer.get("total", 0):
            return found


# --- Answers to deliveries

ACK: Final = b"+ACK"
"""It is done with."""
WORKING: Final = b"+WPI"
"""It is being worked at: its time begins again."""
NAK: Final = b"-NAK"
"""It is to be delivered again."""
TERM: Final = b"+TERM"
"""It is never to be delivered again."""
GROUP: Final = "workers"
"""The one group of a consumer whose pulls have a rank."""


def answered(stream: str) -> str:
    """What the subjects begin with at which the deliveries of a stream are answered."""
    return f"$JS.ACK.{stream}."


def later(delay_s: float, answer: bytes = NAK) -> bytes:
    """The answer to a message that is to be delivered again, but not at once."""
    return answer + b" " + orjson.dumps({"delay": int(delay_s * 1e9)}) if delay_s else answer
