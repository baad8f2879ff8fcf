"""Connections hold to the judgement of addresses, whatever a name does between check and use."""

from __future__ import annotations

import socket
from typing import Any

import aiohttp
import pytest

from switchyard.services.outbound import client as outbound
from switchyard.services.outbound.addresses import PRIVATE, AddressPolicy
from switchyard.services.outbound.client import client, is_forbidden
from tests.pusher.servers import Answering, Reply

NONE = AddressPolicy()
HERE = AddressPolicy(PRIVATE)


async def fetch(policy: AddressPolicy, url: str) -> int:
    async with (
        client(policy, connections=4, connect_s=5, total_s=10) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        return answer.status


async def test_an_address_in_a_url_is_judged_at_the_connection() -> None:
    async with Answering(Reply()) as server:
        assert await fetch(HERE, server.url) == 200
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await fetch(NONE, server.url)
        assert is_forbidden(refused.value)
        assert len(server.asked) == 1


async def test_a_name_that_turns_to_another_address_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["127.0.0.1"]

    def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with Answering(Reply()) as server:
        url = f"http://turning.example:{server.port}/"
        assert await fetch(HERE, url) == 200
        for turned in (["169.254.169.254"], ["127.0.0.1", "169.254.169.254"]):
            found[:] = turned
            with pytest.raises(aiohttp.ClientConnectorError) as refused:
                await fetch(HERE, url)
            assert is_forbidden(refused.value)
        assert len(server.asked) == 1


async def test_the_very_address_of_a_socket_is_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where what a name resolves to was let pass."""
    monkeypatch.setattr(outbound._Resolver, "resolve", _to_here)
    async with Answering(Reply()) as server:
        with pytest.raises(aiohttp.ClientConnectorError) as refused:
            await fetch(NONE, f"http://any.example:{server.port}/")
        assert is_forbidden(refused.value)
        assert server.asked == []


async def _to_here(_: Any, host: str, port: int = 0, family: Any = None) -> list[Any]:
    return [
        {
            "hostname": host,
            "host": "127.0.0.1",
            "port": port,
            "family": socket.AF_INET,
            "proto": 6,
            "flags": 0,
        }
    ]


async def test_a_name_that_leads_nowhere_is_no_forbidden_one() -> None:
    with pytest.raises(aiohttp.ClientConnectorError) as failed:
        await fetch(HERE, "http://nowhere.invalid/")
    assert not is_forbidden(failed.value)


async def test_neither_proxies_nor_cookies_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    reply = Reply(headers="Set-Cookie: a=b\r\n")
    async with Answering(reply) as server, client(HERE, connections=4, connect_s=5, total_s=10) as session:
        for _ in range(2):
            async with session.get(server.url) as answer:
                await answer.read()
        assert all("cookie" not in asked.lower() for asked in server.asked)
