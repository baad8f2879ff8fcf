"""Outputs of Cog servers that are URLs: fetched within bounds, or the attempt fails and says which."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from tests.gateway.push.file_server import GIB, METADATA, PICTURE, FileServer
from tests.gateway.push.test_cog import MODES, ONCE, register
from tests.gateway.push.test_pushing import forget, job_of, pushers, submit
from tests.gateway.rest import Gateway
from tests.gateway.shared import SharedGateway
from tests.pusher.cog_server import CogServer

MOST: Final = 4 * 1024 * 1024
LIMITS: Final = {"push_fetch_s": 12.0, "file_bytes": MOST}


@pytest.fixture
async def api(loopback_gateway: SharedGateway) -> AsyncIterator[Gateway]:
    """A gateway that allows servers on loopback, and files of 4 MiB."""
    async with loopback_gateway.visited() as running:
        yield running
        await forget(running)


async def ended(api: Gateway, server: CogServer, mode: str, output: Any, **options: Any) -> dict[str, Any]:
    """The job whose output this was, once it has ended."""
    await register(api, server, options={"mode": mode, **options}, credentials={"bearer": "sk-0123456789"})
    server.output = output
    job = await submit(api, payload={"text": "a"}, **ONCE)
    await api.final(job)
    return await job_of(api, job)


@MODES
async def test_files_are_stored_and_named_in_their_places(api: Gateway, mode: str) -> None:
    async with FileServer() as files, CogServer("c1") as server, pushers(api):
        output = {
            "image": f"{files.url}/good.png", "more": [{"a": f"{files.url}/moved"}, f"{files.url}/good.png"],
            "own": f"{server.url}/files/x", "typed": f"{files.url}/untyped.png?sig=1", "note": "see http://a",
        }  # fmt: skip
        found = await ended(api, server, mode, output)
        assert found["state"] == "succeeded", found
        said = found["result"]["output"]
        assert said["note"] == "see http://a"
        assert said["image"]["sha256"] == hashlib.sha256(PICTURE).hexdigest()
        assert said["more"][1] == said["image"]  # the same URL is one file
        assert said["typed"]["type"] == said["more"][0]["a"]["type"] == "image/png"
        assert {one["file"] for one in found["artifacts"]} == {
            one["file"] for one in (said["image"], said["own"], said["more"][0]["a"], said["typed"])
        }
        for one, data in ((said["image"], PICTURE), (said["own"], b"its own")):
            assert (await api.get(f"/v1/files/{one['file']}")).raw == data
        # The credentials go where the server is, and nowhere else.
        assert {one.get("Authorization") for one in server.fetched} == {"Bearer sk-0123456789"}
        assert all("Authorization" not in headers for _, headers in files.asked)


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("metadata", "output_url_refused"),
        ("round", "output_not_fetched"),
        ("broken", "output_not_fetched"),
        ("missing", "output_not_fetched"),
        ("short", "output_not_fetched"),
        ("slow", "output_not_fetched"),
        ("announced", "output_too_large"),
        ("endless", "output_too_large"),
    ],
)
async def test_what_cannot_be_fetched_ends_the_attempt_and_says_where(
    api: Gateway, mode: str, path: str, code: str
) -> None:
    async with FileServer() as files, CogServer("c1") as server, pushers(api):
        found = await ended(api, server, mode, {"images": [f"{files.url}/good.png", f"{files.url}/{path}"]})
        assert (found["state"], found["error"]["code"]) == ("dead", code)
        assert found["error"]["message"].startswith("output.images[1]: ")
        assert "secret" not in found["error"]["message"]
        assert files.sent_bytes < GIB / 8  # what the sockets and the bound let through
        assert not found.get("artifacts")


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize(
    "url",
    [
        METADATA, "http://[fe80::1]/a", "http://169.254.1.1/a", "http://user:word@127.0.0.1/a",
        "http://2852039166/a", "http://127.0.0.1:22/a", "https://[::ffff:169.254.169.254]/a",
    ],
)  # fmt: skip
async def test_a_url_that_may_not_be_called_ends_the_attempt(api: Gateway, mode: str, url: str) -> None:
    async with CogServer("c1") as server, pushers(api):
        found = await ended(api, server, mode, url)
        assert found["error"]["code"] == "output_url_refused"
        assert found["error"]["message"].startswith("output: ")


@MODES
async def test_urls_stay_where_the_owner_wants_that(api: Gateway, mode: str) -> None:
    async with FileServer() as files, CogServer("c1") as server, pushers(api):
        output = [METADATA, f"{files.url}/good.png"]
        found = await ended(api, server, mode, output, fetch_outputs=False)
        assert (found["state"], found["result"]["output"]) == ("succeeded", output)
        assert not files.asked


async def test_urls_beyond_the_bound_stay_as_they_came(api: Gateway) -> None:
    async with FileServer() as files, CogServer("c1") as server, pushers(api):
        output = [f"{files.url}/good.png?{number}" for number in range(55)]
        found = await ended(api, server, "async", output)
        assert found["state"] == "succeeded", found
        assert found["result"]["output"][50:] == output[50:]
        assert len(files.asked) == len(found["artifacts"]) == 50
