"""Query parameters: read strictly, so that a mistyped one is never taken for no filter at all."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from aiohttp import hdrs, web

from switchyard.events.subjects import NAME
from switchyard.services.access.principal import Caller, Role
from switchyard.services.intake.faults import MalformedError

MAX_SEQ: Final = 2**63 - 1
SHOWN_CHARS: Final = 80
SINGLE: Final = (
    hdrs.AUTHORIZATION, "X-API-Key", hdrs.CONTENT_TYPE, hdrs.CONTENT_ENCODING, "Idempotency-Key",
    "Switchyard-Lease-Token", "Switchyard-Min-Seq", "Switchyard-TTL",
)  # fmt: skip
"""Headers of which only one can count: whoever sends two may be read in two ways."""
SECONDS: Final = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?")
"""In plain digits: what Python takes for a number beside them, nobody means."""
H_MIN_SEQ: Final = "Switchyard-Min-Seq"
ALL_TENANTS: Final = "*"
TENANT: Final = "tenant"


def check_form(request: web.Request) -> None:
    """Refuse what could be read in two ways.

    Raises:
        MalformedError: a header stands twice, or the query is not UTF-8.
    """
    for name in SINGLE:
        if len(request.headers.getall(name, ())) > 1:
            raise MalformedError(f"{name} is given more than once", field=str(name))
    _check_utf8(request)


def _check_utf8(request: web.Request) -> None:
    """Refuse a query whose text is none, before other characters take the place of what is wrong in it.

    Raises:
        MalformedError: it is not UTF-8.
    """
    query = request.raw_path.partition("?")[2]
    if "%" not in query and query.isascii():
        return
    for pair in query.split("&"):
        try:
            unquote_to_bytes(pair.encode("utf-8", "surrogateescape")).decode()
        except UnicodeDecodeError:
            name = pair.partition("=")[0][:SHOWN_CHARS]
            shown = name if name.isascii() else None
            message = f"{shown or 'a parameter'}: UTF-8 was expected"
            raise MalformedError(message, code="invalid_parameter", field=shown) from None


def wrong(name: str, value: str, expected: str) -> MalformedError:
    """The error of a parameter whose value breaks a rule."""
    message = f"{name}: {expected} was expected, not {value[:SHOWN_CHARS]!r}"
    return MalformedError(message, code="invalid_parameter", field=name)


class Query:
    """The parameters of a request.

    Every route takes `tenant`, for whom the request acts: who may name one is judged before it comes to its
    route, and only routes that list it can be asked for all tenants.

    Args:
        request: the request.
        single: names that may stand once.
        repeated: names that may stand more than once.
        acting: whether the request may act for another tenant.
        lenient: whether others are passed over, and the last of two counts.

    Raises:
        MalformedError: there is another parameter, or one stands too often.
    """

    def __init__(
        self,
        request: web.Request,
        *single: str,
        repeated: tuple[str, ...] = (),
        lenient: bool = False,
        acting: bool = True,
    ) -> None:
        self._values = request.query
        if lenient:
            return
        for name in self._values.keys():  # noqa: SIM118 - a multidict's keys, each as often as it stands
            if acting and name == TENANT and name not in single and name not in repeated:
                values = self._values.getall(name)
                if len(values) > 1:
                    raise MalformedError(
                        f"{name} is given more than once", code="invalid_parameter", field=name
                    )
                if NAME.fullmatch(values[0]) is None:
                    raise wrong(name, values[0], f"a name that matches {NAME.pattern}")
                continue
            if name not in single and name not in repeated:
                known = ", ".join((*single, *repeated)) or "none"
                message = f"there is no parameter {name[:SHOWN_CHARS]!r} here; known: {known}"
                raise MalformedError(message, code="unknown_parameter", field=name[:SHOWN_CHARS])
            if name in single and len(self._values.getall(name)) > 1:
                raise MalformedError(f"{name} is given more than once", code="invalid_parameter", field=name)

    def text(self, name: str) -> str | None:
        """The value as it stands."""
        return self._values.get(name)

    def all(self, name: str) -> list[str]:
        """All values of a repeated parameter."""
        return self._values.getall(name, [])

    def flag(self, name: str) -> bool:
        """Whether it is `true`; it is not without a value."""
        value = self._values.get(name, "false")
        if value not in ("true", "false"):
            raise wrong(name, value, "true or false")
        return value == "true"

    def integer(self, name: str, *, default: int, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self._values.get(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,19}", value) or not least <= int(value) <= most:
            raise wrong(name, value, f"a whole number of {least} to {most}")
        return int(value)

    def seconds(self, name: str, *, most: float) -> float | None:
        """A time span; a longer one than `most` is cut to it."""
        value = self._values.get(name)
        if value is None:
            return None
        if SECONDS.fullmatch(value) is None:
            raise wrong(name, value, "a number of seconds")
        return min(float(value), most)

    def time(self, name: str) -> datetime | None:
        """A point in time with its zone, in UTC."""
        value = self._values.get(name)
        return None if value is None else parse_time(name, value)


def parse_time(name: str, value: str) -> datetime:
    """An RFC 3339 time in UTC.

    Raises:
        MalformedError: it is none.
    """
    try:
        # A plus sign in a query stands for a blank.
        time = msgspec.convert(value.replace(" ", "+"), datetime)
        if time.tzinfo is None:
            raise wrong(name, value, "a time with its zone, as in 2026-01-31T12:00:00Z,")
        return time.astimezone(UTC)
    except (msgspec.ValidationError, OverflowError):
        raise wrong(name, value, "an RFC 3339 time") from None


def scope(caller: Caller, query: Query, *, wide: Role = Role.ADMIN) -> str:
    """The tenant that a request concerns: the caller's own, or the one that somebody of role `wide` names.

    Raises:
        ForbiddenError: the caller may not name another tenant.
    """
    named = query.text("tenant")
    if named is None or named == caller.tenant:
        return caller.tenant
    caller.check(wide)
    if NAME.fullmatch(named) is None:
        raise wrong("tenant", named, f"a name that matches {NAME.pattern}")
    return named


def wide_scope(caller: Caller, query: Query, *, wide: Role = Role.ADMIN) -> str | None:
    """As `scope`; None for all tenants, whose name is `*`.

    Raises:
        ForbiddenError: the caller may not name another tenant.
    """
    if query.text("tenant") == ALL_TENANTS:
        caller.check(wide)
        return None
    return scope(caller, query, wide=wide)


def min_seq(request: web.Request) -> int:
    """The header `Switchyard-Min-Seq`, or 0.

    Raises:
        MalformedError: it is not a sequence.
    """
    value = request.headers.get(H_MIN_SEQ)
    if value is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", value):
        raise wrong(H_MIN_SEQ, value, "an event's sequence")
    return int(value)
