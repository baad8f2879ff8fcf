"""Where the embedded broker takes WebSocket connections too: of workers that get out through HTTPS alone."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Final, NamedTuple

from switchyard.services.broker.server.files import BrokerError

MOST_PORT: Final = 65535


class WebSocket(NamedTuple):
    """The listener.

    Args:
        host: an address.
        port: that it listens on.
        certificate: PEM file with the certificate and its chain; None for plain ws://, on loopback alone.
        key: PEM file with its key.
    """

    host: str
    port: int
    certificate: Path | None = None
    key: Path | None = None

    def config(self) -> str:
        """What the broker's configuration says of it."""
        secure = "no_tls: true"
        if self.certificate is not None:
            key = self.key or self.certificate
            files = [json.dumps(str(file.absolute())) for file in (self.certificate, key)]
            secure = f"tls {{ cert_file: {files[0]}, key_file: {files[1]} }}"
        return f"websocket {{ host: {json.dumps(self.host)}, port: {self.port}, {secure} }}\n"


def websocket_of(listen: str | None, certificate: Path | None, key: Path | None) -> WebSocket | None:
    """The listener that settings ask for.

    Args:
        listen: `ADDRESS:PORT`, an IPv6 address in brackets; None for none.
        certificate: as `WebSocket`.
        key: as `WebSocket`.

    Raises:
        BrokerError: it is no address, or what travels there could be read by others.
    """
    if listen is None:
        if certificate is not None or key is not None:
            raise BrokerError("a certificate for WebSocket connections needs SWITCHYARD_BROKER_WEBSOCKET")
        return None
    host, _, port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        said = f"ADDRESS:PORT was expected, not {listen[:80]!r}"
        raise BrokerError(f"SWITCHYARD_BROKER_WEBSOCKET: {said}") from None
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= MOST_PORT):
        raise BrokerError(f"SWITCHYARD_BROKER_WEBSOCKET: a port of 1 to {MOST_PORT} was expected")
    if certificate is None and key is not None:
        raise BrokerError("SWITCHYARD_BROKER_WEBSOCKET_KEY needs SWITCHYARD_BROKER_WEBSOCKET_CERT")
    if certificate is None and not address.is_loopback:
        raise BrokerError(
            f"SWITCHYARD_BROKER_WEBSOCKET: {listen} is not loopback, and a password would be seen: "
            "name a certificate in SWITCHYARD_BROKER_WEBSOCKET_CERT, or put a proxy with TLS before loopback"
        )
    return WebSocket(str(address), int(port), certificate, key)
