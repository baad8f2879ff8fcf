"""`/docs`: open, all our own, with a policy of its own; and who the caller is."""

from __future__ import annotations

import re

import pytest

from switchyard.client import AsyncClient
from switchyard.services import distribution
from switchyard.services.gateway.explorer import FILES
from tests.gateway.rest import Gateway


@pytest.mark.parametrize(("path", "media"), [(path, media) for path, _, media, _ in FILES])
async def test_the_page_is_open_and_asks_no_other_host_for_anything(
    api: Gateway, path: str, media: str
) -> None:
    async with api.http.get(api.url + path) as answer:
        text = await answer.text()
        headers = answer.headers
    assert (answer.status, answer.content_type, answer.charset) == (200, media, "utf-8")
    assert "://" not in text
    assert not re.search(
        r"<script(?![^>]*\ssrc=)|<style|\son\w+=|\sstyle=|javascript:|innerHTML|eval\(", text
    )
    policy = headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    async with api.http.get(api.url + path, headers={"If-None-Match": headers["ETag"]}) as again:
        assert (again.status, await again.read()) == (304, b"")
        assert again.headers["Content-Security-Policy"] == policy


async def test_whoami_says_whom_a_token_stands_for(api: Gateway) -> None:
    async with AsyncClient(api.url, api.token("submitter")) as client:
        found = await client.whoami()
    assert (found.tenant, found.home, found.actor, found.name) == (api.tenant, api.tenant, "user:ann", "ann")
    assert (found.roles, found.identified_by, found.key) == (["submitter", "viewer"], "token", None)
    assert found.expires_at is not None


async def test_whoami_says_which_key_it_is(api: Gateway) -> None:
    async with AsyncClient(api.url, api.token("tenant-admin")) as admin:
        made = await admin.keys.create("ci", ["submitter"], kinds=["noop"])
    async with AsyncClient(api.url, made.key) as client:
        found = await client.whoami()
    assert (found.identified_by, found.key, found.kinds) == ("api_key", made.id, ["noop"])
    assert (found.actor, found.name, found.expires_at) == (f"key:{made.id}", "ci", None)


async def test_whoami_says_for_which_tenant_an_operator_acts(api: Gateway) -> None:
    answer = await api.get(f"/v1/whoami?tenant={api.stranger}", token=api.token("operator"))
    assert (answer.json["tenant"], answer.json["home"]) == (api.stranger, api.tenant)
    assert answer.headers["Cache-Control"] == "no-store"
    refused = await api.get(f"/v1/whoami?tenant={api.stranger}", token=api.token("viewer"))
    assert refused.status == 403


async def test_a_stranger_does_not_learn_the_version(api: Gateway) -> None:
    async with api.http.get(f"{api.url}/v1/version") as refused:
        assert refused.status == 401
    for role in ("viewer", "registrar"):
        answer = await api.get("/v1/version", token=api.token(role))
        assert answer.json == {"version": distribution.version()}
