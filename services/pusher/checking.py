"""One health check: a server is asked whether it is well, and whatever it does comes to one word."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final

import aiohttp
import structlog

from switchyard.services import clock
from switchyard.services.outbound.client import AnswerTooLargeError, bounded, is_forbidden
from switchyard.services.records.servers.condition import Check, Outcome

log = structlog.get_logger()

BODY_BYTES: Final = 64 * 1024
PAGES: Final = frozenset({"text/html", "application/xhtml+xml"})
_REDIRECTS: Final = range(300, 400)


async def check(
    session: aiohttp.ClientSession,
    url: str,
    headers: Mapping[str, str],
    *,
    timeout_s: float,
    most_bytes: int = BODY_BYTES,
    says: Callable[[bytes], Outcome] = lambda _: Outcome.PASSED,
    passed: Callable[[bytes], object] = lambda _: None,
) -> Check:
    """Ask a server.

    Args:
        session: one that `services/outbound/client.py` made.
        url: its health endpoint.
        headers: its credentials.
        timeout_s: within which its answer has to have come whole.
        most_bytes: the largest answer that is read.
        says: what a body comes to that came with a status of 2xx.
        passed: called with the body of a check that passed.
    """
    began = time.monotonic()
    status = None
    try:
        async with asyncio.timeout(timeout_s):
            async with session.get(url, headers=headers, allow_redirects=False) as answer:
                status = answer.status
                outcome = _judged(answer)
                if outcome is Outcome.PASSED:
                    raw = await bounded(answer, most_bytes)
                    outcome = says(raw)
                    if outcome is Outcome.PASSED:
                        passed(raw)
                else:
                    answer.close()  # what it says is of no use
    except AnswerTooLargeError:
        outcome = Outcome.TOO_LARGE
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        outcome = failure(error)
    except Exception:  # what a stranger's server sends may trip the client over anything
        log.exception("server_check_failed_oddly", url=url)
        outcome = Outcome.NOT_HTTP
    return Check(clock.now(), outcome, round(time.monotonic() - began, 4), status)


def failure(error: BaseException) -> Outcome:
    """What a request that failed came to."""
    if is_forbidden(error):
        return Outcome.ADDRESS
    match error:
        case TimeoutError():
            return Outcome.TIMEOUT
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Outcome.TLS
        case aiohttp.ClientConnectorDNSError():
            return Outcome.NAME
        case aiohttp.ClientConnectorError() if isinstance(error.os_error, ConnectionRefusedError):
            return Outcome.REFUSED
        case aiohttp.ClientConnectorError():
            return Outcome.UNREACHABLE
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientOSError() | aiohttp.ClientPayloadError():
            return Outcome.CLOSED
        case aiohttp.ClientError() | ValueError():
            return Outcome.NOT_HTTP
        case _:
            return Outcome.UNREACHABLE


def _judged(answer: aiohttp.ClientResponse) -> Outcome:
    """What status and headers say; a page of a proxy or a login says nothing of the server behind it."""
    if answer.status in _REDIRECTS:
        return Outcome.REDIRECT
    if not 200 <= answer.status < 300:
        return Outcome.STATUS
    return Outcome.HTML if answer.content_type in PAGES else Outcome.PASSED
