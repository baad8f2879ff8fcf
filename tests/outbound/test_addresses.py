"""Which addresses may be called, however they are spelled or carried."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchyard.events.errors import InvalidError
from switchyard.services.outbound.addresses import NEVER, PRIVATE, AddressPolicy
from switchyard.services.outbound.urls import endpoint_url, origins

EVERYTHING: Final = AddressPolicy((ip_network("0.0.0.0/0"), ip_network("::/0")))
PUBLIC: Final = AddressPolicy()
HERE: Final = AddressPolicy(PRIVATE)

METADATA: Final = (
    "169.254.169.254", "169.254.0.1", "fe80::1", "febf::1", "fd00:ec2::254", "fd20:ce::254",
    "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1",
    "2001:0:a9fe:a9fe::1", "::169.254.169.254", "fd00::5efe:169.254.169.254", "2a00::200:5efe:a9fe:a9fe",
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "0.0.0.0", "::", "255.255.255.255", "224.0.0.1",
    "ff02::1", "fe80::1%lo",
)  # fmt: skip


@pytest.mark.parametrize("address", METADATA)
def test_link_local_and_metadata_addresses_are_never_called_whatever_is_allowed(address: str) -> None:
    assert not EVERYTHING.allows_text(address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.0.1", "::1", "fd12::1", "::ffff:10.0.0.1"]
)
def test_private_addresses_are_called_where_a_network_names_them(address: str) -> None:
    assert HERE.allows_text(address)
    assert not PUBLIC.allows_text(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_called(address: str) -> None:
    assert PUBLIC.allows_text(address)


@pytest.mark.parametrize(
    "address", ["100.64.0.1", "198.18.0.1", "192.0.2.1", "2001:db8::1", "172.32.0.1x", ""]
)
def test_other_addresses_that_are_not_public_are_refused(address: str) -> None:
    assert not HERE.allows_text(address)


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_an_address_is_judged_alike_however_it_is_carried(address: IPv4Address) -> None:
    for policy in (PUBLIC, HERE, EVERYTHING):
        for carried in (f"::ffff:{address}", f"64:ff9b::{address}"):
            assert policy.allows(ip_address(carried)) == policy.allows(address)


@given(st.integers(0, 2**128 - 1).map(IPv6Address) | st.integers(0, 2**32 - 1).map(IPv4Address))
def test_nothing_of_what_is_never_called_is(address: IPv4Address | IPv6Address) -> None:
    if any(address in network for network in NEVER):
        assert not EVERYTHING.allows(address)


ODD: Final = (
    "http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://127.1/", "http://017700000001/",
    "http://0177.0.0.1/", "http://0/", "http://127.0.0.1./", "http://localhost./", "http://a..b/",
    "http://[fe80::1%25lo]/", "http://①②⑦.⓪.⓪.①/", "http://bücher.example/", "http:///x", "http://",
    "ftp://a/", "file:///etc/passwd", "//a/b", "a", "", "http://user@a/", "http://user:p@a/", "http://@a/",
    "http://a\\@b/", "http://a/#f", "http://a/#", "http://a b/", "http://a/\n", "http://a:99999/",
    "http://a:x/", "http://[::1", "http://a%2eb/", "http://-a/", "http://a.0x/", "http://a.1/",
    "http://" + "a" * 64 + "/", "http://a/" + "x" * 2048, "HTTP://169.254.169.254/", "http://[::ffff:a9fe:a9fe]/",
    "http://127.0.0.1:22/", "https://a:6667/", "http://a:0/", "javascript:alert(1)", "http://a/\ud800",
)  # fmt: skip


@pytest.mark.parametrize("url", ODD)
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(InvalidError) as refused:
        endpoint_url(url, "endpoints.predict", HERE)
    assert refused.value.field == "endpoints.predict"
    refused.value.message.encode()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8080/predict", "https://gpu-1.example.com/predict?model=a", "http://localhost/",
        "http://[::1]:5000/x", "http://a_b.internal:5000/", "https://xn--bcher-kva.example/",
    ],
)  # fmt: skip
def test_an_ordinary_url_is_taken_as_it_is(url: str) -> None:
    assert endpoint_url(url, "endpoints.predict", HERE) == url


@given(st.text() | st.text(alphabet="http:/[]@%.0123456789abcdefx#?\\", max_size=40).map("http://".__add__))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        url = endpoint_url(text, "f", HERE)
    except InvalidError:
        return
    assert endpoint_url(url, "f", HERE) == url
    assert len(origins([url])) == 1
