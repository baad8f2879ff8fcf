"""One push: a task is sent to a server, and whatever the server does comes to one of five answers.

What counts is whether the server may have taken the task. Where it cannot have, the job goes elsewhere
uncounted; where it may have and says nothing that can be used, that was an attempt.
"""

from __future__ import annotations

import asyncio
import email.utils
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import aiohttp
import structlog
from aiohttp.abc import AbstractStreamWriter

from switchyard.events.values import JobError
from switchyard.services import clock
from switchyard.services.dispatch.push.report import Report
from switchyard.services.outbound.client import AnswerTooLargeError, bounded
from switchyard.services.pusher.checking import failure
from switchyard.services.pusher.profiles.news import News
from switchyard.services.records.servers.condition import MEANINGS, Outcome

log = structlog.get_logger()

EXCERPT_CHARS: Final = 200
EXCERPT_BYTES: Final = 2048
EXCERPT_S: Final = 2.0
MOST_REST_S: Final = 300.0
HIDDEN: Final = "***"
_UNSHOWABLE: Final = re.compile(r"[^\x20-\x7e]+")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_LONG_SECRET: Final = 4


class Said(NamedTuple):
    """What the server says of the task.

    Args:
        report: that.
        remote_id: what it calls the task, where it is at work.
        rest_s: how long it is to get nothing more, where it says that it takes no more for now.
    """

    report: Report
    remote_id: str
    rest_s: float | None = None


class Full(NamedTuple):
    """It takes no more for now; `rest_s` is how long, as far as it says."""

    rest_s: float | None


class NotTaken(NamedTuple):
    """It cannot have taken the task, for a reason that is the server's."""

    outcome: Outcome
    status: int | None = None


class Broken(NamedTuple):
    """It took the task and answers with a failure, or with what cannot be used.

    Args:
        error: what the attempt failed of.
        outcome: what that says of the server; None where it is the job's.
        status: that of the answer.
    """

    error: JobError
    outcome: Outcome | None
    status: int | None = None


class Unknown(NamedTuple):
    """It may have taken the task, and then nothing more was heard."""

    error: JobError
    outcome: Outcome


Answer = Said | Full | NotTaken | Broken | Unknown


class Statuses(NamedTuple):
    """What statuses of an answer mean.

    Args:
        full: the server takes no more for now.
        of_the_job: it refuses this job, which no other would take either.
    """

    full: frozenset[int]
    of_the_job: frozenset[int]


async def _unanswered(_url: str, _most_bytes: int) -> bytes | None:
    return None


class Reading(NamedTuple):
    """How an answer is read.

    Args:
        most_bytes: the largest that is.
        files_bytes: the largest that is where it holds files.
        hidden: what is not shown where the answer says it again.
        news: takes what is heard before its end.
        ask: what the server answers to a GET of a URL within so many bytes; None for no success.
    """

    most_bytes: int
    files_bytes: int
    hidden: list[str]
    news: News
    ask: Callable[[str, int], Awaitable[bytes | None]] = _unanswered


class Request(NamedTuple):
    """A request as it is sent.

    Args:
        method: how.
        url: where.
        headers: all of them.
        body: what.
        type: that of the body.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    type: str = "application/json"


class _Body(aiohttp.BytesPayload):
    """A body that knows whether some of it was sent."""

    is_sent = False

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        self._sends()
        await super().write_with_length(writer, content_length)

    async def write(self, writer: AbstractStreamWriter) -> None:
        self._sends()
        await super().write(writer)

    def _sends(self) -> None:
        """Send it once: the client repeats a PUT whose connection was closed, though the task may run."""
        if self.is_sent:
            raise ConnectionResetError("it was sent before")
        self.is_sent = True


async def push(
    session: aiohttp.ClientSession,
    request: Request,
    judged: Callable[[aiohttp.ClientResponse], Awaitable[Answer]],
    *,
    connect_s: float,
    total_s: float,
    most_bytes: int,
) -> Answer:
    """Send a task.

    Args:
        session: one that `services/outbound/client.py` made.
        request: what takes it there.
        judged: reads the answer, and judges it.
        connect_s: within which a connection has to stand.
        total_s: within which the answer has to have come whole.
        most_bytes: the largest answer that is read.
    """
    payload = _Body(request.body, content_type=request.type)
    times = aiohttp.ClientTimeout(total=total_s, connect=connect_s, sock_connect=connect_s)
    try:
        async with session.request(
            request.method, request.url, data=payload, headers=request.headers, allow_redirects=False,
            timeout=times,
        ) as answer:  # fmt: skip
            return await judged(answer)
    except AnswerTooLargeError:
        message = f"its answer has more than {most_bytes} bytes"
        return Broken(JobError("answer_too_large", message), Outcome.TOO_LARGE)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        outcome = failure(error)
    except Exception:  # what a stranger's server sends may trip the client over anything
        log.exception("server_push_failed_oddly", url=request.url)
        outcome = Outcome.NOT_HTTP
    if not payload.is_sent:
        return NotTaken(outcome)
    return Unknown(
        JobError(f"server_{outcome.value}", f"it was sent the task, and {MEANINGS[outcome]}"), outcome
    )


async def get(
    session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], most_bytes: int, *, total_s: float
) -> bytes | None:
    """What a server answers to a GET with a status of 2xx; None for anything else."""
    try:
        async with session.get(
            url, headers=headers, allow_redirects=False, timeout=aiohttp.ClientTimeout(total=total_s)
        ) as answer:
            return await bounded(answer, most_bytes) if 200 <= answer.status < 300 else None
    except (AnswerTooLargeError, aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        log.info("server_not_asked", url=url, error=type(error).__name__)
    except Exception:
        log.exception("server_get_failed_oddly", url=url)
    return None


async def cancel(session: aiohttp.ClientSession, request: Request, *, total_s: float) -> bool:
    """Ask a server to stop a task; whether it answers that it does."""
    try:
        async with session.request(
            request.method, request.url, headers=request.headers, allow_redirects=False,
            data=aiohttp.BytesPayload(request.body, content_type=request.type),
            timeout=aiohttp.ClientTimeout(total=total_s),
        ) as answer:  # fmt: skip
            answer.close()
            return 200 <= answer.status < 300
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        log.info("server_not_asked_to_stop", url=request.url, error=type(error).__name__)
    except Exception:
        log.exception("server_cancel_failed_oddly", url=request.url)
    return False


def hidden_in(headers: Mapping[str, str], *secrets: str) -> list[str]:
    """What no message may quote: the values of headers, and other secrets."""
    return [value for value in (*headers.values(), *secrets) if len(value) >= _LONG_SECRET]


async def refused(
    answer: aiohttp.ClientResponse, statuses: Statuses, reading: Reading
) -> Full | NotTaken | Broken | None:
    """What an answer comes to whose status is not 2xx; None for one that is to be read."""
    status = answer.status
    if 300 <= status < 400:
        answer.close()
        return NotTaken(Outcome.REDIRECT, status)
    if status in statuses.full:
        answer.close()
        return Full(rest_s(answer.headers.get("Retry-After")))
    if 200 <= status < 300:
        return None
    said = await _excerpt(answer, reading.hidden)
    message = f"it answered {status}{said}"
    if status in statuses.of_the_job:
        return Broken(JobError("server_refused", message, retryable=False), None, status)
    return Broken(JobError(f"server_status_{status}", message), Outcome.STATUS, status)


async def _excerpt(answer: aiohttp.ClientResponse, hidden: list[str]) -> str:
    """The beginning of what an answer says, for whoever looks for the reason."""
    try:
        async with asyncio.timeout(EXCERPT_S):
            raw = await answer.content.read(EXCERPT_BYTES)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        raw = b""
    answer.close()
    said = shown(raw.decode("utf-8", "replace"), hidden)
    return f": {said}" if said else ""


def without(text: str, hidden: list[str]) -> str:
    """What a server says, without what it was given in confidence."""
    for secret in hidden:
        for part in {secret, secret.removeprefix("Bearer ")}:
            text = text.replace(part, HIDDEN)
    return text


def shown(text: str, hidden: list[str]) -> str:
    """Some of what a server says, without what it was given in confidence."""
    plain = _UNSHOWABLE.sub(" ", without(text, hidden)).strip()
    return plain if len(plain) <= EXCERPT_CHARS else f"{plain[:EXCERPT_CHARS]}..."


def rest_s(header: str | None) -> float | None:
    """Seconds of a Retry-After, in either of its forms; None where there is none that can be read."""
    if header is None:
        return None
    text = header.strip()
    if _SECONDS.fullmatch(text):
        return min(MOST_REST_S, float(text))
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return _bounded_s(at)


def _bounded_s(at: datetime) -> float:
    return min(MOST_REST_S, max(0.0, (at - clock.now()).total_seconds()))
