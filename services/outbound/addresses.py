"""Which IP addresses may be connected to: public ones, those of allowed networks, and some never.

Addresses that carry an IPv4 address are judged by that one, or refused where nothing of use is known to stand
behind them.

Source: the registries of special-purpose addresses (RFC 6890); RFC 4291 (mapped), RFC 6052 and RFC 8215
(NAT64), RFC 3056 (6to4), RFC 4380 (Teredo), RFC 5214 (ISATAP); the metadata services of AWS, Azure, Google,
Alibaba and Oracle as their manuals give them.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

PRIVATE: Final[tuple[Network, ...]] = tuple(
    map(ip_network, ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"))
)
"""Loopback, and what RFC 1918 and RFC 4193 set aside for private networks."""

NEVER: Final[tuple[Network, ...]] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
            "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
            "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::254/128", "fd20:ce::254/128",
            "2001::/32", "2002::/16", "64:ff9b:1::/48",
        ),
    )
)  # fmt: skip
"""This host, link-local, multicast, reserved, metadata services, Teredo, 6to4 and NAT64 of local use."""

_NAT64: Final = IPv6Network("64:ff9b::/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_LOOPBACK: Final = IPv6Address("::1")
_ISATAP: Final = 0x5EFE


class AddressPolicy:
    """Judges addresses.

    Args:
        networks: whose addresses are allowed though they are not public; what is never allowed stays so.
    """

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self._networks = tuple(networks)

    def allows(self, address: Address) -> bool:
        """Whether it may be connected to."""
        if isinstance(address, IPv6Address):
            if address.scope_id is not None:
                return False
            if (carried := _carried(address)) is not None:
                return self.allows(carried)
            # The interface id of ISATAP, with or without the bit that marks it as unique.
            isatap = (int(address) >> 32) & 0xFDFFFFFF == _ISATAP
            if isatap or (address in _COMPATIBLE and address != _LOOPBACK):
                return False
        if any(address in network for network in NEVER):
            return False
        return address.is_global or any(address in network for network in self._networks)

    def allows_text(self, text: str) -> bool:
        """Whether an address as the resolver spells it may be connected to; what is none may not."""
        try:
            return self.allows(ip_address(text))
        except ValueError:
            return False


def _carried(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that is really spoken to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return IPv4Address(int(address) & 0xFFFFFFFF) if address in _NAT64 else None
