"""URLs that users give us to call: only those that every parser reads alike."""

from __future__ import annotations

import asyncio
import functools
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Final

from yarl import URL

from switchyard.events.errors import InvalidError
from switchyard.services.outbound.addresses import AddressPolicy

MAX_CHARS: Final = 2048
RESOLVE_S: Final = 3.0
_POOL: Final = ThreadPoolExecutor(8, thread_name_prefix="registered")
"""Names that do not resolve keep threads for long: not those that others wait for."""
_PLAIN: Final = re.compile(r"[\x21-\x5b\x5d-\x7e]+")
"""Visible ASCII without the backslash, which some parsers take for a slash."""
_NAME: Final = re.compile(
    r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
)
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that the resolver reads as part of an IPv4 address. Source: the URL standard, section 3.5."""
BAD_PORTS: Final = frozenset({
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103,
    104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514,
    515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723,
    2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
})  # fmt: skip
"""Ports of other protocols, which an HTTP request could be taken for. Source: the Fetch standard, 2.9."""


def endpoint_url(text: str, field: str, policy: AddressPolicy) -> str:
    """A URL as it is called, once nothing in it can be read in two ways.

    Args:
        text: as the user gave it.
        field: what a refusal names.
        policy: judges an address that stands in it.

    Raises:
        InvalidError: it breaks a rule; code `address_not_allowed` for its address or port.
    """
    if len(text) > MAX_CHARS or _PLAIN.fullmatch(text) is None:
        raise _invalid(field, f"a URL of at most {MAX_CHARS} visible ASCII characters without backslash")
    try:
        url = URL(text)
        port, host = url.port, url.raw_host
    except ValueError:
        raise _invalid(field, "a URL") from None
    if url.scheme not in ("http", "https"):
        raise _invalid(field, "a URL that begins with http:// or https://")
    if url.raw_user is not None or url.raw_password is not None or "@" in _authority(text):
        raise _invalid(field, "a URL without user and password; credentials have a field of their own")
    if "#" in text:
        raise _invalid(field, "a URL without fragment")
    if not host:
        raise _invalid(field, "a URL with a host")
    if port in BAD_PORTS:
        raise InvalidError(
            f"{field}: port {port} belongs to another protocol", code="address_not_allowed", field=field
        )
    _check_host(host, field, policy)
    return str(url)


def _authority(text: str) -> str:
    """What stands between the scheme and the path, as it is written."""
    return re.split(r"[/?#]", text.partition("://")[2], maxsplit=1)[0]


def _check_host(host: str, field: str, policy: AddressPolicy) -> None:
    try:
        address = ip_address(host)
    except ValueError:
        if _NAME.fullmatch(host) is None or _NUMBER.fullmatch(host.rpartition(".")[2]):
            expected = "a host name without dot at its end, or an IP address in its usual spelling"
            raise _invalid(field, expected) from None
    else:
        if not policy.allows(address):
            raise _not_allowed(field)


async def check_resolved(url: str, field: str, policy: AddressPolicy) -> None:
    """Refuse a host name that leads to an address which may not be called, as far as is known now.

    A name that cannot be resolved here passes: what counts is what a connection finds.

    Raises:
        InvalidError: code `address_not_allowed`.
    """
    host = URL(url).raw_host or ""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(RESOLVE_S):
            look_up = functools.partial(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM)
            found = await loop.run_in_executor(_POOL, look_up)
    except (OSError, UnicodeError, TimeoutError):
        return
    if not all(policy.allows_text(str(place[4][0])) for place in found):
        raise _not_allowed(field)


def origins(urls: Iterable[str | None]) -> tuple[str, ...]:
    """The origins of URLs, each once and in order: where credentials may be sent."""
    return tuple(sorted({str(URL(url).origin()) for url in urls if url is not None}))


def _invalid(field: str, expected: str) -> InvalidError:
    return InvalidError(f"{field}: {expected} was expected", field=field)


def _not_allowed(field: str) -> InvalidError:
    message = (
        f"{field}: its address is not one that may be called: public, or in a network that the setting "
        "server_networks names; link-local and metadata addresses never"
    )
    return InvalidError(message, code="address_not_allowed", field=field)
