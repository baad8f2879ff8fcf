"""Requests one after the other over one connection, without an event loop.

Most commands ask once and print: for them alone the library of the live updates would be half of their time.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any, Final
from urllib.parse import urlencode, urlsplit

from switchyard.errors import InvalidValueError, UnreachableError, api_error
from switchyard.services.cli.shown import now

CONNECT_S: Final = 5.0
READ_S: Final = 60.0
"""Without a byte."""
CHUNK_BYTES: Final = 256 * 1024
PROBLEM_BYTES: Final = 1024 * 1024
REDIRECTS: Final = 3
WHY_CHARS: Final = 200
GET: Final = "GET"
AGAIN: Final = frozenset({GET, "PUT", "DELETE"})
"""What may be sent twice, where a connection was lost that had been idle."""
CONTROL: Final = re.compile("[\x00-\x1f\x7f]")
LOST: Final = (OSError, http.client.HTTPException)


class Plain:
    """A connection to the gateway, opened when first used and again when it was lost.

    Args:
        url: that of the gateway, without a slash at its end.
        token: what it lets us do.
        hint: what else is said where it cannot be reached.

    Raises:
        UnreachableError: the URL is none.
    """

    def __init__(self, url: str, token: str, hint: str = "") -> None:
        self._url = url
        self._hint = hint
        self._headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}
        try:
            parts = urlsplit(url)
            self._host, self._port, self._base = parts.hostname, parts.port, parts.path
        except ValueError:
            raise not_url(url) from None
        if parts.scheme not in ("http", "https") or not self._host or CONTROL.search(url):
            raise not_url(url)
        self._secure = parts.scheme == "https"
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def open(
        self,
        method: str,
        path: str,
        *,
        params: Any = None,
        body: bytes | IO[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """An answer that is no refusal, to be read within the block; a GET follows to where it is sent.

        Raises:
            InvalidValueError: a header cannot be sent.
            ApiError: the gateway refuses.
            UnreachableError: it does not answer, or with what is no HTTP.
        """
        target = self._base + path + (f"?{urlencode(params)}" if params else "")
        sent = {name: _header(name, value) for name, value in (self._headers | dict(headers or {})).items()}
        with self._lost():
            answer = self._sent(method, target, body, sent)
            for _ in range(REDIRECTS):
                moved = answer.getheader("Location", "")
                if method != GET or not 300 <= answer.status < 400 or not moved.startswith("/"):
                    break
                answer.read(PROBLEM_BYTES)
                answer = self._sent(method, moved, None, sent)
        try:
            if answer.status >= 400:
                raise self._refusal(answer)
            with self._lost():
                yield answer
        finally:
            if not answer.isclosed():  # its rest would be taken for the next answer
                self.close()

    def _sent(
        self, method: str, target: str, body: bytes | IO[bytes] | None, headers: Mapping[str, bytes]
    ) -> http.client.HTTPResponse:
        is_idle = self._connection is not None
        try:
            return self._try(method, target, body, headers)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            self.close()
            if not is_idle or method not in AGAIN or not isinstance(body, bytes | None):
                raise
        return self._try(method, target, body, headers)

    def _try(
        self, method: str, target: str, body: bytes | IO[bytes] | None, headers: Mapping[str, bytes]
    ) -> http.client.HTTPResponse:
        if self._connection is None:
            sort = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
            self._connection = sort(str(self._host), self._port, timeout=CONNECT_S)
            self._connection.connect()
            self._connection.sock.settimeout(READ_S)
        # The headers are bytes: text of other alphabets is sent as UTF-8.
        self._connection.request(method, target, body, dict(headers))
        answer = self._connection.getresponse()
        now.hear(answer.getheader("Date", ""))
        return answer

    @contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            self.close()
            raise
        except LOST as error:
            self.close()
            why = " ".join(str(error).split())[:WHY_CHARS] or type(error).__name__
            why = "no answer in time" if isinstance(error, TimeoutError) else why
            raise UnreachableError(
                f"the gateway at {self._url} cannot be reached ({why}){self._hint}"
            ) from error

    def _refusal(self, answer: http.client.HTTPResponse) -> Exception:
        import orjson  # noqa: PLC0415 - what succeeds and is printed as it came does without

        with self._lost():
            raw = answer.read(PROBLEM_BYTES)
        try:
            problem = orjson.loads(raw)
        except orjson.JSONDecodeError:
            problem = None
        if not isinstance(problem, dict):
            what = f"{answer.status} {answer.reason}"
            return UnreachableError(
                f"what is at {self._url} answered {what}, not as a gateway of Switchyard's"
            )
        asked = answer.getheader("Retry-After", "")
        return api_error(answer.status, problem, retry_after_s=float(asked) if asked.isdecimal() else None)


def read_all(answer: http.client.HTTPResponse, *, most_bytes: int, within_s: float) -> bytes:
    """A whole answer.

    Raises:
        TimeoutError: it takes longer.
        HTTPException: it is larger, or ends too soon.
    """
    parts, size, until = list[bytes](), 0, time.monotonic() + within_s
    while part := answer.read1(CHUNK_BYTES):
        parts.append(part)
        size += len(part)
        if size > most_bytes:
            raise http.client.HTTPException(f"an answer of more than {most_bytes} bytes")
        if time.monotonic() > until:
            raise TimeoutError
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    return b"".join(parts)


def not_url(url: str) -> UnreachableError:
    """The error for what is no URL."""
    return UnreachableError(f"{url} is not the URL of a gateway: http:// or https:// was expected")


def _header(name: str, value: str) -> bytes:
    if CONTROL.search(value):
        what = "SWITCHYARD_TOKEN" if name == "Authorization" else name
        raise InvalidValueError(f"{what}: a control character, such as a line break, is in it", field=what)
    return value.encode(errors="surrogateescape")
