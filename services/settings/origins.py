"""Origins of web pages, as browsers send them. Source: RFC 6454, section 6.2; Fetch, section 3.2."""

from __future__ import annotations

import re
from typing import Annotated, Final

import pydantic

from switchyard.services.settings.values import listed

_ORIGIN: Final = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]{0,31})://"
    r"(?:[a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[1-9][0-9]{0,4}))?"
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}
_MOST_PORT: Final = 65535


def checked(origin: str) -> str:
    """An origin that a browser can send.

    Raises:
        ValueError: no browser sends it so, or it stands for many.
    """
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        raise ValueError(
            f"{origin[:80]!r} is no origin: scheme://host or scheme://host:port was expected, "
            "in small letters, without a path or last slash; * and null are not taken"
        )
    port = found["port"]
    if port is not None and int(port) > _MOST_PORT:
        raise ValueError(f"{origin[:80]!r} is no origin: a port of 1 to {_MOST_PORT} was expected")
    if port is not None and port == _DEFAULT_PORTS.get(found["scheme"]):
        raise ValueError(f"{origin[:80]!r}: browsers leave out the port {port} of {found['scheme']}")
    return origin


_URL: Final = re.compile(r"https?://[A-Za-z0-9._~:\[\]-]{1,255}(?:/[A-Za-z0-9._~/%-]{0,500})?")


def public_url(url: str) -> str:
    """Where others reach the gateways, without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    if _URL.fullmatch(url) is None:
        raise ValueError("http://host, https://host, with a port or a path, was expected, without ? and #")
    return url.rstrip("/")


PublicUrl = Annotated[str, pydantic.AfterValidator(public_url)]
Origins = Annotated[
    tuple[Annotated[str, pydantic.AfterValidator(checked)], ...], pydantic.BeforeValidator(listed)
]
